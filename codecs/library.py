"""The codecs that FFmpeg decodes, through PyAV. It is loaded with the first decoder, never before: a recorder
of G.711 and Opus does without.

A payload is cut into frames (:mod:`recorderd.codecs.packing`), each frame is a packet to FFmpeg. What it
cannot decode is concealed, and time goes on as the frames say, whatever it gives.
"""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.comfort_noise import Noise
from recorderd.codecs.packing import Frame, Unpack
from recorderd.codecs.payload import PayloadError

if TYPE_CHECKING:  # what nothing but annotations names
    from av.audio.codeccontext import AudioCodecContext

HIDDEN: Final = 5
"""Frames in a row that a decoder makes up, where the sender did not say that it is silent."""


@cache
def _av() -> ModuleType:
    import av
    import av.logging

    # What peers send wrong is counted; FFmpeg would tell the world of each packet.
    av.logging.set_level(None)
    return av


class LibraryCodec(NamedTuple):
    """A codec as the registry knows it."""

    name: str
    native_rate: int
    clock_rate: int
    """Of RTP, in Hz."""
    unpack: Unpack
    decoders: tuple[str, ...]
    """What FFmpeg calls its decoders, the best first; which there are depends on how it was built."""
    bits: int = 0
    """Bits a sample, where the decoder must be told."""
    lost: Callable[[Frame], bytes] | None = None
    """After a frame, what tells the decoder that the next one is missing; None where it conceals nothing."""

    @property
    def rates(self) -> tuple[int, ...]:
        """Its own rate."""
        return (self.native_rate,)

    def decoder(self, rate: int | None = None, channels: int | None = None) -> "LibraryDecoder":
        """Make a decoder; more channels than one get the same sound.

        Raises:
            ValueError: another rate than its own.
        """
        if rate not in (None, self.native_rate):
            raise ValueError(f"{self.name} has no rate of {rate} Hz")
        return LibraryDecoder(self, channels or 1)

    def durations(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Tell each packet's duration in units of the RTP clock; costs Python a packet."""
        coded, at, out = payload.tobytes(), 0, []
        for size in sizes.tolist():
            out.append(self._duration(coded[at : at + size]))
            at += size
        return np.array(out, np.int32)

    def _duration(self, payload: bytes) -> int:
        try:
            samples = sum(frame.samples for frame in self.unpack(payload)) if payload else 0
        except PayloadError:
            return 0
        return samples * self.clock_rate // self.native_rate

    def channels_of(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Tell each packet's channels: 1, or 0 for an empty one."""
        return (sizes > 0).astype(np.uint8)


class LibraryDecoder:
    """The state of one stream."""

    def __init__(self, codec: LibraryCodec, channels: int) -> None:
        self.rate, self.channels = codec.native_rate, channels
        self._codec = codec
        self._context: AudioCodecContext | None = None
        self._last: Frame | None = None
        self._noise = Noise()

    @property
    def resting(self) -> bool:
        """Whether the sender has said that it is silent until its next packet."""
        return self._last is not None and self._last.rests

    def decode(self, payload: bytes) -> NDArray[np.int16]:
        """Decode the payload of one packet to samples of shape (n, channels).

        Raises:
            PayloadError: it holds no frame, or none that FFmpeg decodes.
        """
        if not payload:
            raise PayloadError(f"{self._codec.name}: empty payload")
        frames = self._codec.unpack(payload)
        pieces: list[NDArray[np.int16]] = []
        good = 0
        for frame in frames:
            samples = self._frame(frame)
            good += samples is not None
            pieces.append(self._made_up(frame) if samples is None else samples)
        if not good:
            raise PayloadError(f"{self._codec.name}: FFmpeg decodes none of {len(payload)} bytes")
        return self._wide(pieces)

    def conceal(self, samples: int, following: bytes | None) -> NDArray[np.int16]:
        """Make up for ``samples`` lost ones: shape (samples, channels).

        Comfort noise where the sender is silent; else a few frames as the decoder knows how, then zeros.
        """
        last = self._last
        if last is None or not samples:
            return np.zeros((samples, self.channels), np.int16)
        most = -(-samples // last.samples)
        pieces = [self._made_up(last) for _ in range(most if last.rests else min(most, HIDDEN))]
        return self._wide([_fitted(np.concatenate(pieces), samples)])

    def _frame(self, frame: Frame) -> NDArray[np.int16] | None:
        """One frame's samples; None where FFmpeg does not decode it."""
        before, self._last = self._last, frame
        if frame.noise_dbov is not None:
            return self._noise.samples(frame.samples, frame.noise_dbov)
        if self._context is None or (before is not None and before.bit_rate != frame.bit_rate):
            self._context = self._opened(frame)
        return self._coded(frame.coded, frame.samples)

    def _made_up(self, after: Frame) -> NDArray[np.int16]:
        if after.noise_dbov is not None:
            return self._noise.samples(after.samples, after.noise_dbov)
        lost = self._codec.lost
        samples = self._coded(lost(after), after.samples) if lost is not None else None
        return np.zeros(after.samples, np.int16) if samples is None else samples

    def _coded(self, coded: bytes, count: int) -> NDArray[np.int16] | None:
        av = _av()
        if self._context is None:
            return None
        try:
            found = [_as_int16(frame.to_ndarray()) for frame in self._context.decode(av.Packet(coded))]
        except (av.FFmpegError, ValueError):
            return None
        return _fitted(np.concatenate(found), count) if found else None

    def _opened(self, frame: Frame) -> "AudioCodecContext | None":
        """A decoder for frames like this one; None where FFmpeg was built without it."""
        av, codec = _av(), self._codec
        name = next((name for name in codec.decoders if name in av.codecs_available), None)
        if name is None:
            return None
        context = av.CodecContext.create(name, "r")
        context.sample_rate, context.layout = self.rate, "mono"
        context.thread_count = 1
        if frame.bit_rate:
            context.bit_rate = frame.bit_rate
        if codec.bits:
            context.options = {"bits_per_coded_sample": str(codec.bits)}
        context.open()
        return cast("AudioCodecContext", context)

    def _wide(self, pieces: list[NDArray[np.int16]]) -> NDArray[np.int16]:
        return np.repeat(np.concatenate(pieces)[:, None], self.channels, axis=1)


def _as_int16(samples: NDArray[Any]) -> NDArray[np.int16]:
    """Mono samples as FFmpeg gives them, (1, n), to int16 (n)."""
    line = samples.reshape(-1)
    if line.dtype == np.int16:
        return line.astype(np.int16, copy=False)
    whole: NDArray[np.int16] = np.clip(np.rint(line * np.float32(32768)), -32768, 32767).astype(np.int16)
    return whole


def _fitted(samples: NDArray[np.int16], count: int) -> NDArray[np.int16]:
    """Exactly ``count`` samples: what is too much left out, what is missing zeros."""
    if len(samples) == count:
        return samples
    out = np.zeros(count, np.int16)
    out[: len(samples)] = samples[:count]
    return out
