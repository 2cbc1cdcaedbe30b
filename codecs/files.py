"""Samples to files that players open: WAV, FLAC, Ogg Opus, Matroska; written by FFmpeg through PyAV.

Everything streams: blocks of samples come from iterators and only a few of them are held at a time. A file
appears under its name when it is whole; until then it has a temporary name beside it.
"""

import heapq
import io
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

import av
import numpy as np
from av.codec.context import Flags
from numpy.typing import NDArray

if TYPE_CHECKING:  # what nothing but annotations names
    from _typeshed import ReadableBuffer
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

FileFormat = Literal["wav", "flac", "opus", "mka"]
Blocks = Iterable[NDArray[np.int16]]
"""Samples in order, in arrays of shape (n, channels), or (n) for mono."""

_MUXERS: Final = {"wav": "wav", "flac": "flac", "opus": "opus", "mka": "matroska"}
_ENCODERS: Final = {"wav": "pcm_s16le", "flac": "flac", "opus": "libopus", "mka": "flac"}
_LAYOUTS: Final = {1: "mono", 2: "stereo"}
_OPUS_RATE: Final = 48_000

_NEVER_EMPTY: Final = {"opus", "matroska"}
"""Muxers that make files which nothing reads if they are given nothing: they get 20 ms of silence."""


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """One speaker's part of a file: what players call the track, samples a second, and the samples."""

    title: str
    rate: int
    blocks: Blocks
    tags: Mapping[str, str] = field(default_factory=dict)


def write_audio(
    path: Path, fmt: FileFormat, rate: int, blocks: Blocks, *, tags: Mapping[str, str] | None = None
) -> None:
    """Write one track of 1 or 2 channels to ``path``; what was there is replaced.

    WAV, FLAC and Matroska (with FLAC in it) keep every sample; Opus is encoded at 48 kHz, from any rate. A
    WAV that outgrows 4 GB becomes RF64. Without samples, Opus and Matroska get 20 ms of silence. ``tags`` are
    for the whole file: ``title``, ``artist``, ``date``.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    _write(path, fmt, _ENCODERS[fmt], [AudioTrack("", rate, blocks)], tags or {}, ())


def write_tracks(
    path: Path,
    tracks: Sequence[AudioTrack],
    *,
    codec: Literal["flac", "opus"] = "flac",
    tags: Mapping[str, str] | None = None,
    chapters: Sequence[tuple[float, str]] = (),
) -> None:
    """Write a Matroska file that holds each track on its own, all starting together.

    ``chapters`` are (seconds from the start, title), each lasting to the next. ``flac`` keeps every sample.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    _write(path, "mka", _ENCODERS[codec], tracks, tags or {}, chapters)


def _write(
    path: Path,
    fmt: FileFormat,
    encoder: str,
    tracks: Sequence[AudioTrack],
    tags: Mapping[str, str],
    chapters: Sequence[tuple[float, str]],
) -> None:
    # bitexact: no version, random number or date in the file, so that the same samples give the same bytes.
    options = {"fflags": "+bitexact"} | ({"rf64": "auto"} if fmt == "wav" else {})
    with _appearing(path) as sink:
        try:
            container = av.open(sink, "w", format=_MUXERS[fmt], options=options)
            container.metadata.update(tags)
            encoders = [_Encoder(container, encoder, track) for track in tracks]
            container.start_encoding()  # the header, of a file without samples too
            _mux(container, encoders, chapters)
            container.close()
        except av.FFmpegError:
            # FFmpeg's own words for it are poorer than the error that made it stop.
            if sink.failed:
                raise sink.failed from None
            raise
        # FFmpeg does not look at every write's result.
        if sink.failed:
            raise sink.failed


def _mux(
    container: "OutputContainer", encoders: list["_Encoder"], chapters: Sequence[tuple[float, str]]
) -> None:
    """Take from the track that is furthest behind, again and again, so that none waits in memory."""
    behind = [(0.0, index) for index in range(len(encoders))]
    while behind:
        _, index = heapq.heappop(behind)
        if encoders[index].step():
            heapq.heappush(behind, (encoders[index].at_s, index))
    if chapters:
        # Matroska takes them at the end as well as at the start, and only now is the end known.
        container.set_chapters(_chapters(chapters, max((encoder.at_s for encoder in encoders), default=0.0)))


class _Encoder:
    """One track on its way into a container."""

    def __init__(self, container: "OutputContainer", encoder: str, track: AudioTrack) -> None:
        self._container = container
        self._rate = track.rate
        blocks = iter(track.blocks)
        first = next(blocks, np.zeros((0, 1), np.int16))
        self._blocks: Iterator[NDArray[np.int16]] = chain([first], blocks)
        channels = 1 if first.ndim == 1 else first.shape[1]
        self._layout = _LAYOUTS[channels]
        opus = encoder == "libopus"
        stream = container.add_stream(encoder, rate=_OPUS_RATE if opus else track.rate, layout=self._layout)
        self._stream = cast("AudioStream", stream)
        self._stream.codec_context.flags |= Flags.bitexact
        self._stream.metadata.update({"title": track.title} if track.title else {}, **track.tags)
        self._resampler: av.AudioResampler | None = None
        if opus:
            # More than RFC 7587 section 3.1.1 asks for (8 to 12 kbit/s for narrowband, 28 to 40 fullband).
            self._stream.bit_rate = (32_000 if track.rate <= 8000 else 48_000) * channels
            self._resampler = av.AudioResampler("flt", self._layout, _OPUS_RATE)
        self._samples = 0

    @property
    def at_s(self) -> float:
        """How much of the track was taken, in seconds."""
        return self._samples / self._rate

    def step(self) -> bool:
        """Take the next block; False after the last, when the encoder is emptied as well."""
        block = next(self._blocks, None)
        if block is None:
            if not self._samples and self._container.format.name in _NEVER_EMPTY:
                self._take(np.zeros((self._rate // 50, len(self._stream.layout.channels)), np.int16))
            if self._resampler is not None and self._samples:
                self._encode(self._resampler.resample(None))
            self._container.mux(self._stream.encode(None))
            return False
        if len(block):
            self._take(block)
        return True

    def _take(self, block: NDArray[np.int16]) -> None:
        packed = np.ascontiguousarray(block, np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, "s16", self._layout)
        frame.sample_rate = self._rate
        frame.pts, frame.time_base = self._samples, Fraction(1, self._rate)
        self._samples += len(block)
        self._encode([frame] if self._resampler is None else self._resampler.resample(frame))

    def _encode(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            self._container.mux(self._stream.encode(frame))


def _chapters(chapters: Sequence[tuple[float, str]], end_s: float) -> list["av.container.Chapter"]:
    starts = [round(at_s * 1000) for at_s, _ in chapters]
    ends = [*starts[1:], max(round(end_s * 1000), starts[-1])]
    return [
        {
            "id": number,
            "start": start,
            "end": max(start, end),
            "time_base": Fraction(1, 1000),
            "metadata": {"title": title},
        }
        for number, (start, end, (_, title)) in enumerate(zip(starts, ends, chapters, strict=True), 1)
    ]


class _Sink(io.FileIO):
    """The file that FFmpeg writes to; remembers what went wrong."""

    failed: OSError | None = None

    def write(self, data: "ReadableBuffer") -> int:
        """Write all of ``data``, unlike the raw file, which may write a part."""
        left = memoryview(data)
        size = len(left)
        try:
            while left:
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self.failed = self.failed or error
            raise
        return size


@contextmanager
def _appearing(path: Path) -> Iterator[_Sink]:
    """Give a file that gets its name when the block ends well, and vanishes when an exception ends it.

    It is its owner's alone: what was sealed is clear in it.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    sink = _Sink(temporary, "x")
    os.fchmod(sink.fileno(), 0o600)
    try:
        with sink:
            yield sink
            os.fsync(sink.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise
