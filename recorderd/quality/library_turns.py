"""Hears the codecs that are decoded packet by packet, in turns and within a budget.

G.722, G.729, AMR and their like are kept as they came, like all others; only to be judged must they be
decoded, at 10 to 110 us a packet. A stream is heard for its first ten seconds, then for four of every twelve
(:mod:`recorderd.quality.turns`), and all streams together for so many packets a window and no more: who has
waited longest is first. A second heard stands for those that went by since the last. It begins with a decoder
that knows nothing of what came before, and is right after a tenth of it.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.formats import Format
from recorderd.codecs.payload import PayloadError
from recorderd.codecs.registry import Codec, codec
from recorderd.media.streams import KINDS, OTHER
from recorderd.quality.coded import FRAME, Loudness
from recorderd.quality.decoded import loudness, together
from recorderd.quality.turns import in_turn

MOST_PACKETS: Final = 1500
"""Packets decoded of a window: 30 streams with all of their second, in 20 to 160 ms."""

MOST_OF_ONE: Final = 200
"""Packets decoded of one stream in a window: a second of the shortest there are."""

LEAST_FRAMES: Final = 14
"""Fewer at a time tell nothing: too little follows the first ones."""

FRAMES_A_SECOND: Final = 50

Places = NDArray[np.int64]


class Heard(NamedTuple):
    """What there was in m stretches, and what of it was heard: k runs of frames."""

    decodable: NDArray[np.int32]
    """Packets that a codec here opens (m), as far as was tried."""
    samples: Places
    """How much there was, at 8 kHz (m)."""
    loudness: Loudness | None
    starts: Places
    """Where each run begins (k)."""
    stretches: Places
    """Which stretch each run is of (k)."""


class Stretch(NamedTuple):
    """The packets of one stream in a window that are of these codecs, in order."""

    number: int
    stream: int
    second: int
    """How many seconds of the stream went before."""
    packets: int
    rows: slice | Places
    """Which rows of the window they are."""


class Packets(NamedTuple):
    """The packets of a window, a row each."""

    payload: NDArray[np.uint8]
    size: NDArray[np.int32]
    kind: NDArray[np.uint8]
    payload_type: NDArray[np.uint8]


class LibraryTurns:
    """Decides who is heard, and hears them."""

    def __init__(self) -> None:
        self._formats: dict[int, Mapping[int, Format]] = {}
        self._heard: dict[int, int] = {}
        """The second of each stream in which it was last heard."""
        self._waited: dict[int, int] = {}
        """Packets of each stream that was not heard yet."""

    def describe(self, stream: int, formats: Mapping[int, Format]) -> None:
        """Say what the payload types of a stream are."""
        self._formats[stream] = formats

    def _codec(self, stream: int, payload_type: int) -> Codec | None:
        known = self._formats.get(stream, {}).get(payload_type)
        return codec(known) if known is not None and known.name not in KINDS else None

    def forget(self, stream: int) -> None:
        """The stream is over."""
        self._formats.pop(stream, None)
        self._heard.pop(stream, None)
        self._waited.pop(stream, None)

    def unheard(self, stream: int) -> int:
        """How many packets of a stream went by of which not even a part was heard, for lack of time."""
        return self._waited.get(stream, 0)

    def hear(
        self,
        packets: Packets,
        starts: NDArray[np.integer],
        ends: NDArray[np.integer],
        stream: NDArray[np.integer],
        seconds: NDArray[np.int32],
    ) -> Heard:
        """Take in a window: packets in m stretches that follow one another, as in
        :meth:`recorderd.quality.meters.Meters.window`. Only those of the kind OTHER are looked at.
        """
        decodable, samples = np.zeros(len(starts), np.int32), np.zeros(len(starts), np.int64)
        stretches = self._stretches(packets, starts, ends, stream, seconds)
        for one in stretches:
            decodable[one.number], samples[one.number] = one.packets, self._length(packets, one)
            if one.stream not in self._heard:
                self._waited[one.stream] = self._waited.get(one.stream, 0) + one.packets
        parts: list[Loudness] = []
        of: list[int] = []
        for one in self._chosen(stretches):
            self._waited.pop(one.stream, None)
            measured, malformed = self._decode(packets, one)
            # What was tried stands for what was not.
            decodable[one.number] -= malformed * one.packets // min(one.packets, MOST_OF_ONE)
            if measured is not None:
                parts.append(measured)
                of.append(one.number)
        lengths = [len(part.power) for part in parts]
        begin = np.cumsum([0, *lengths[:-1]], dtype=np.int64) if parts else np.zeros(0, np.int64)
        return Heard(decodable, samples, together(parts) if parts else None, begin, np.array(of, np.int64))

    def _stretches(
        self,
        packets: Packets,
        starts: NDArray[np.integer],
        ends: NDArray[np.integer],
        stream: NDArray[np.integer],
        seconds: NDArray[np.int32],
    ) -> list[Stretch]:
        other = packets.kind == OTHER
        types = packets.payload_type
        alike = np.minimum.reduceat(types, starts) == np.maximum.reduceat(types, starts)
        found: list[Stretch] = []
        for at in np.flatnonzero(np.logical_or.reduceat(other, starts)).tolist():
            row, first, last = int(stream[at]), int(starts[at]), int(ends[at])
            if alike[at]:
                rows: slice | Places = slice(first, last)
                count = last - first if self._codec(row, int(types[first])) is not None else 0
            else:
                mixed = types[first:last][other[first:last]]
                known = [pt for pt in np.unique(mixed).tolist() if self._codec(row, pt) is not None]
                rows = first + np.flatnonzero(np.isin(types[first:last], known))
                count = len(rows)
            if count:
                found.append(Stretch(at, row, int(seconds[at]), count, rows))
        return found

    def _length(self, packets: Packets, one: Stretch) -> int:
        """How long a stretch sounds, at 8 kHz, as its first packet tells."""
        first = one.rows.start if isinstance(one.rows, slice) else int(one.rows[0])
        number, size = int(packets.payload_type[first]), packets.size[first : first + 1]
        how, clock = self._codec(one.stream, number), self._formats[one.stream][number].clock_rate
        assert how is not None
        ticks = int(how.durations(packets.payload[first, : size[0]], size)[0])
        return ticks * one.packets * FRAME * FRAMES_A_SECOND // clock

    def _chosen(self, stretches: list[Stretch]) -> Iterator[Stretch]:
        """Who is heard this second."""
        if not stretches:
            return
        seconds = np.array([one.second for one in stretches], np.int32)
        streams = np.array([one.stream for one in stretches])
        turn = in_turn(seconds, streams, np.ones(len(stretches), np.bool_))
        due = [one for one, now in zip(stretches, turn.tolist(), strict=True) if now]
        left = MOST_PACKETS
        for one in sorted(due, key=lambda one: (self._heard.get(one.stream, -1) - one.second, one.stream)):
            left -= min(one.packets, MOST_OF_ONE)
            if left < 0:
                return
            self._heard[one.stream] = one.second
            yield one

    def _decode(self, packets: Packets, one: Stretch) -> tuple[Loudness | None, int]:
        """Decode a stretch: how loud its frames are (None for too few), how many packets are malformed."""
        types = packets.payload_type[one.rows][:MOST_OF_ONE].tolist()
        sizes, payload = packets.size[one.rows].tolist(), packets.payload[one.rows]
        found = {pt: self._codec(one.stream, pt) for pt in dict.fromkeys(types)}
        decoders = {pt: how.decoder() for pt, how in found.items() if how is not None}
        pieces: dict[int, list[NDArray[np.int16]]] = {pt: [] for pt in decoders}
        malformed = 0
        for at, payload_type in enumerate(types):
            try:
                decoded = decoders[payload_type].decode(payload[at, : sizes[at]].tobytes())
                pieces[payload_type].append(decoded[:, 0])
            except PayloadError:
                malformed += 1
        parts: list[Loudness] = []
        for payload_type, lines in pieces.items():
            length = decoders[payload_type].rate // FRAMES_A_SECOND
            line = np.concatenate(lines) if lines else np.zeros(0, np.int16)
            if len(line) >= LEAST_FRAMES * length:
                parts.append(loudness(line[: len(line) // length * length].reshape(-1, length)))
        return (together(parts) if parts else None), malformed
