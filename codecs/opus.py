"""Opus through libopus (RFC 6716, in RTP RFC 7587).

opuslib-next finds and loads the library; the three functions that matter are called directly, since its own
decode() costs more than libopus does (docs/adr/0004-opus-binding.md). ctypes gives up the interpreter lock
for each call.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from itertools import pairwise, repeat
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs import opus_toc
from recorderd.codecs.payload import PayloadError
from recorderd.errors import RecorderError


class LibopusError(RecorderError):
    """The system has no libopus."""

    hint = "apt install libopus0"


class Libopus(NamedTuple):
    """Its functions, with the types of their arguments."""

    get_size: Callable[[int], int]
    init: Callable[[int, int, int], int]
    decode: Callable[[int, bytes | None, int, int, int, int], int]
    """State, packet (None for a lost one), its length, where the samples go (interleaved), room for so many a
    channel, whether to decode the FEC data."""
    decode_at: Callable[[int, int, int, int, int, int], int]
    """The same by address, for packets that lie in a matrix."""


@cache
def libopus() -> Libopus:
    """Find and load libopus, once: it takes longer than recording a short call does.

    Raises:
        LibopusError: the system has none.
    """
    try:
        from opuslib_next.api import libopus as library
    except Exception as error:  # it raises nothing narrower
        raise LibopusError(f"libopus: {error}") from error
    number, length, at = ctypes.c_int, ctypes.c_int32, ctypes.c_void_p

    def function(name: str, *arguments: type[Any]) -> Callable[..., int]:
        # Looked up with [...], which makes a prototype of its own each time: opuslib-next keeps its types.
        found = library[name]
        found.argtypes, found.restype = arguments, number
        return cast(Callable[..., int], found)

    return Libopus(
        get_size=function("opus_decoder_get_size", number),
        init=function("opus_decoder_init", at, length, number),
        decode=function("opus_decode", at, ctypes.c_char_p, length, at, number, number),
        decode_at=function("opus_decode", at, at, length, at, number, number),
    )


RATES: Final = (8000, 12_000, 16_000, 24_000, 48_000)

LONGEST_CONCEALED_S: Final = 1.0
"""How long libopus carries on without packets; it has faded out long before. The rest is zeros."""


class OpusDecoder:
    """The state of one Opus stream."""

    resting: Final = False

    def __init__(self, rate: int, channels: int) -> None:
        """Decode to ``rate`` Hz and ``channels`` (1 or 2), whatever the packets hold.

        Raises:
            ValueError: libopus has no such rate or number of channels.
        """
        if rate not in RATES or channels not in (1, 2):
            raise ValueError(f"opus has no {rate} Hz with {channels} channels")
        self.rate = rate
        self.channels = channels
        self._step = rate // 400  # 2.5 ms, the shortest frame: what is concealed is a multiple of it
        self._room = rate * 120 // 1000
        library = libopus()
        self._decode = library.decode
        # Memory of ours rather than opus_decoder_create(): it goes when the decoder goes, without a
        # finalizer.
        self._state = ctypes.create_string_buffer(library.get_size(channels))
        self._at = ctypes.addressof(self._state)
        if library.init(self._at, rate, channels):
            raise ValueError(f"libopus refuses {rate} Hz with {channels} channels")
        self._samples = np.empty((self._room, channels), np.int16)
        self._out = self._samples.ctypes.data

    def decode(self, payload: bytes) -> NDArray[np.int16]:
        """Decode one packet to samples of shape (n, channels); a DTX one (one or two bytes) to comfort noise.

        Raises:
            PayloadError: the packet is malformed; the decoder goes on from where it was.
        """
        if not payload:
            # libopus would take it for a lost packet of unknown length and make up 120 ms.
            raise PayloadError("opus: empty payload")
        count = self._decode(self._at, payload, len(payload), self._out, self._room, 0)
        if count < 0:
            raise PayloadError(f"opus: malformed packet of {len(payload)} bytes (libopus error {count})")
        return self._samples[:count].copy()

    def conceal(self, samples: int, following: bytes | None) -> NDArray[np.int16]:
        """Make up for ``samples`` lost ones: shape (samples, channels).

        The end of the hole comes from the FEC data of the packet right after it where it has any (RFC 6716
        section 2.1.7), the rest from libopus' concealment; after a second there are zeros. ``following`` is
        decoded normally afterwards.
        """
        out = np.zeros((samples, self.channels), np.int16)
        aim = -(-min(samples, int(LONGEST_CONCEALED_S * self.rate)) // self._step) * self._step
        # FEC belongs to the hole's end: where the hole is longer than is concealed, there is none to use.
        fec = following if following and aim >= samples else None
        done = 0
        while aim > done:
            # The last piece is the longest possible: libopus uses FEC data only where a whole frame of it
            # fits.
            left = aim - done
            last = left <= self._room
            piece = left if last else min(left - self._room, self._room)
            self._conceal_piece(piece, fec if last else None)
            got = out[done : done + piece]
            got[:] = self._samples[: len(got)]
            done += piece
        return out

    def _conceal_piece(self, count: int, fec: bytes | None) -> None:
        if fec and self._decode(self._at, fec, len(fec), self._out, count, 1) == count:
            return
        if self._decode(self._at, None, 0, self._out, count, 0) != count:
            self._samples[:count] = 0


class OpusRuns:
    """Decodes runs of packets to ``rate`` Hz and mono, each as if it were the first of its stream.

    All memory is one decoder's, however many streams there are.
    """

    def __init__(self, rate: int) -> None:
        """Decode to ``rate`` Hz, one of RATES."""
        self._rate = rate
        self._state = ctypes.create_string_buffer(libopus().get_size(1))

    def decode(
        self,
        payload: NDArray[np.uint8],
        sizes: NDArray[np.int32],
        samples: NDArray[np.int64],
        starts: NDArray[np.int64],
    ) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """Decode n packets in m runs.

        ``payload`` (n, w) holds a packet a row, contiguous in itself, of which ``sizes`` (n) bytes count;
        ``samples`` (n) is what each decodes to, by its first bytes. A run begins at each of ``starts`` (m),
        which are in order, the first of them 0.

        Returns the samples of all packets, one after the other, and which packets (n) are malformed: their
        samples are 0.
        """
        out = np.zeros(int(samples.sum()), np.int16)
        state = ctypes.addressof(self._state)
        packets = (payload.ctypes.data + payload.strides[0] * np.arange(len(payload))).tolist()
        places = (out.ctypes.data + out.itemsize * (np.cumsum(samples) - samples)).tolist()
        lengths, rooms = sizes.tolist(), samples.tolist()
        counts: list[int] = []
        init, decode = libopus().init, libopus().decode_at
        for begin, end in pairwise([*starts.tolist(), len(payload)]):
            init(state, self._rate, 1)
            run = slice(begin, end)
            counts += map(
                decode, repeat(state), packets[run], lengths[run], places[run], rooms[run], repeat(0)
            )
        malformed = np.array(counts, np.int64) != samples
        for at in np.flatnonzero(malformed).tolist():
            end = int(samples[: at + 1].sum())
            out[end - rooms[at] : end] = 0
        return out, malformed


class Opus:
    """The codec as the registry knows it."""

    name: Final = "opus"
    native_rate: Final = 48_000
    rates: Final = RATES

    def decoder(self, rate: int | None = None, channels: int | None = None) -> OpusDecoder:
        """Make a decoder: 48000 Hz and mono unless told otherwise (a track is one speaker).

        Raises:
            ValueError: libopus has no such rate or number of channels.
        """
        return OpusDecoder(rate or self.native_rate, channels or 1)

    def durations(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Tell each packet's duration in 1/48000 s; see :func:`recorderd.codecs.opus_toc.durations`."""
        return opus_toc.durations(payload, sizes)

    def channels_of(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Tell each packet's channels (0 for an empty packet)."""
        return opus_toc.channels(payload, sizes)


OPUS: Final = Opus()
