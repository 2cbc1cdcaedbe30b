"""Recorded packets to samples on one clock: what a listener hears, each speaker in the right place.

A track is laid out from its lanes' segments. Where packets follow one another, their samples do too, exactly;
where nothing arrived there is concealment as the codec has it (G.711: silence), then silence. No fill is
longer than the time that really passed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.formats import Format
from recorderd.codecs.registry import Decoder, codec
from recorderd.codecs.resample import resample
from recorderd.errors import PeerError
from recorderd.media.lane import Lane
from recorderd.media.stretch import Stretch

CONCEAL_S: Final = 1.0
"""Longest concealment; what is missing beyond it is silent."""

PAUSE_S: Final = 0.2
"""A pause of a lane in which another one may sound."""

NOISE_S: Final = 60.0
"""Longest background noise after a sender said that it is silent, without another word of it."""

BLOCK_S: Final = 1.0
"""Longest block of silence handed out at once."""

AHEAD_US: Final = 1_000_000.0
"""No packet sounds later than this after it arrived, whatever its timestamp says."""

Samples = NDArray[np.int16]


@dataclass(slots=True)
class LanePackets:
    """All packets of one lane, gathered from the records of a recording."""

    lane: Lane
    seq: list[NDArray[np.int64]] = field(default_factory=list)
    timestamp: list[NDArray[np.int64]] = field(default_factory=list)
    time_us: list[NDArray[np.int64]] = field(default_factory=list)
    payload_type: list[NDArray[np.uint8]] = field(default_factory=list)
    size: list[NDArray[np.int32]] = field(default_factory=list)
    payload: list[bytes] = field(default_factory=list)

    def add(
        self,
        seq: NDArray[np.int64],
        timestamp: NDArray[np.uint32],
        time_us: NDArray[np.int64],
        payload_type: NDArray[np.uint8],
        size: NDArray[np.int32],
        payload: bytes,
    ) -> None:
        """Take in the lane's packets of one record, sorted by number, payloads one after the other."""
        ends = np.cumsum(size)
        full = self.lane.follow(
            seq, timestamp, time_us, payload_type, lambda i: payload[int(ends[i] - size[i]) : int(ends[i])]
        )
        self.seq.append(seq)
        self.timestamp.append(full)
        self.time_us.append(time_us)
        self.payload_type.append(payload_type)
        self.size.append(size)
        self.payload.append(payload)


@dataclass(frozen=True, slots=True)
class _Placed:
    """Packets of one lane with their place on the track, in samples.

    Where the sender's clock drifts the places count its samples; ``stretch`` tells which of the track's those
    are.
    """

    lane: Lane
    position: NDArray[np.int64]
    payload_type: NDArray[np.uint8]
    start: NDArray[np.int64]
    size: NDArray[np.int32]
    payload: bytes
    stretch: Stretch | None

    @property
    def begin(self) -> int:
        """Where the first packet belongs on the track."""
        first = int(self.position[0])
        return first if self.stretch is None else round(self.stretch.placed(first))


class TrackAudio:
    """One speaker's sound, decoded on demand."""

    def __init__(self, lanes: list[LanePackets]) -> None:
        """Of the lanes that a speaker was heard on, in the order in which they appeared."""
        self.lanes = [lane for lane in lanes if lane.seq]

    def formats(self) -> list[Format]:
        """The formats whose packets were recorded, in order of first appearance, events apart."""
        out: list[Format] = []
        for packets in self.lanes:
            for payload_type in dict.fromkeys(np.concatenate(packets.payload_type).tolist()):
                known = packets.lane.format(payload_type)
                if known and known not in out and packets.lane.is_audio(payload_type):
                    out.append(known)
        return out

    def undecodable(self) -> list[Format]:
        """Those of its formats that no codec here opens: their time is silent."""
        return [known for known in self.formats() if codec(known) is None]

    def rate(self) -> int:
        """The highest native sample rate among its formats, in Hz; 8000 where nothing can be decoded."""
        rates = [how.native_rate for how in (codec(known) for known in self.formats()) if how]
        return max(rates, default=8000)

    def span_us(self) -> tuple[float, float] | None:
        """When the track begins and ends, in microseconds since the epoch."""
        spans = [span for span in (packets.lane.span() for packets in self.lanes) if span]
        return (min(s.start_us for s in spans), max(s.end_us for s in spans)) if spans else None

    def stereo(self) -> bool:
        """Whether the speaker was sent in two channels."""
        return any(_is_stereo(packets) for packets in self.lanes)

    def blocks(self, start_us: float, rate: int, channels: int = 1) -> Iterator[Samples]:
        """The track's samples from ``start_us`` on: blocks of shape (n, channels), int16, at ``rate`` Hz."""
        pieces: list[tuple[_Placed, dict[int, Decoder | None]]] = []
        for lane in self.lanes:
            decoders: dict[int, Decoder | None] = {}
            for placed in _place(lane, start_us, rate):
                # Where there are several lanes, one may sound in another's pause.
                parts = _cut(placed, int(PAUSE_S * rate)) if len(self.lanes) > 1 else [placed]
                pieces += [(part, decoders) for part in parts]
        cursor = 0
        for placed, decoders in sorted(pieces, key=lambda piece: piece[0].begin):
            renderer, stretch = _Renderer(placed, rate, channels, decoders), placed.stretch
            if stretch is None:
                blocks = renderer.blocks(cursor)
            else:
                blocks = stretch.blocks(renderer.blocks(stretch.first(cursor)), cursor)
            for block in blocks:
                cursor += len(block)
                yield block


def _is_stereo(packets: LanePackets) -> bool:
    for payload_type in set(np.concatenate(packets.payload_type).tolist()):
        known = packets.lane.format(payload_type)
        how = codec(known) if known else None
        if how is not None and known is not None and known.channels == 2:
            mask = np.concatenate(packets.payload_type) == payload_type
            size = np.concatenate(packets.size)
            keep = np.repeat(mask, size)
            payload = np.frombuffer(b"".join(packets.payload), np.uint8)[keep]
            if (how.channels_of(payload, size[mask]) == 2).any():
                return True
    return False


def _place(packets: LanePackets, start_us: float, rate: int) -> list[_Placed]:
    """Put each audio packet of a lane on the track; one value for each segment."""
    seq = np.concatenate(packets.seq)
    timestamp = np.concatenate(packets.timestamp)
    time_us = np.concatenate(packets.time_us)
    payload_type = np.concatenate(packets.payload_type)
    size = np.concatenate(packets.size)
    start = np.cumsum(size, dtype=np.int64) - size
    payload = b"".join(packets.payload)
    audio = np.zeros(128, np.bool_)
    audio[[pt for pt in range(128) if packets.lane.is_audio(pt)]] = True
    order = np.flatnonzero(audio[payload_type])
    order = order[np.argsort(seq[order], kind="stable")]
    segments = packets.lane.segments()
    firsts = np.array([segment.first_seq for segment in segments], np.int64)
    member = np.maximum(np.searchsorted(firsts, seq[order], side="right") - 1, 0)
    out: list[_Placed] = []
    for index, segment in enumerate(segments):
        mine = order[member == index]
        if not len(mine):
            continue
        # Whole samples within a segment, so that packets which follow one another touch exactly.
        anchor = round((segment.anchor_us - start_us) * rate / 1e6)
        position = anchor + (timestamp[mine] - segment.first_timestamp) * rate // segment.clock_rate
        arrival_us = time_us[mine] + packets.lane.set_back_us(seq[mine])
        latest = ((arrival_us + AHEAD_US - start_us) * rate / 1e6).astype(np.int64)
        stretch = Stretch(anchor, segment.drift) if segment.drift else None
        if stretch is not None:
            latest = stretch.sent(latest).astype(np.int64)
        position = np.minimum(position, latest)
        out.append(
            _Placed(packets.lane, position, payload_type[mine], start[mine], size[mine], payload, stretch)
        )
    return out


def _cut(placed: _Placed, pause: int) -> list[_Placed]:
    """Pieces without a pause of more than ``pause`` samples between two packets."""
    edges = [0, *(np.flatnonzero(np.diff(placed.position) > pause) + 1).tolist(), len(placed.position)]
    return [
        replace(
            placed,
            position=placed.position[first:last],
            payload_type=placed.payload_type[first:last],
            start=placed.start[first:last],
            size=placed.size[first:last],
        )
        for first, last in pairwise(edges)
    ]


class _Renderer:
    """Decodes the packets of one segment, in order."""

    def __init__(
        self, placed: _Placed, rate: int, channels: int, decoders: dict[int, Decoder | None]
    ) -> None:
        """``decoders`` by payload type are the lane's: they go on from piece to piece."""
        self.placed, self.rate, self.channels, self._decoders = placed, rate, channels, decoders

    def blocks(self, cursor: int) -> Iterator[Samples]:
        """Samples from ``cursor`` (samples from the start of the track) to the end of the segment."""
        placed = self.placed
        decoder: Decoder | None = None
        for at, position in enumerate(placed.position.tolist()):
            coded = self._coded(at)
            if position > cursor:
                missing = position - cursor
                if decoder is not None and at:
                    for hidden in self._hidden(decoder, missing, coded, at):
                        cursor += len(hidden)
                        yield hidden
                for block in self._silence(position - cursor):
                    cursor += len(block)
                    yield block
            decoder = self._decoder(int(placed.payload_type[at]))
            if decoder is None or not coded:
                continue
            samples = self._decode(decoder, coded)
            if position < cursor:
                samples = samples[cursor - position :]
            cursor += len(samples)
            if len(samples):
                yield samples

    def _coded(self, at: int) -> bytes:
        start = int(self.placed.start[at])
        return self.placed.payload[start : start + int(self.placed.size[at])]

    def _decoder(self, payload_type: int) -> Decoder | None:
        if payload_type not in self._decoders:
            known = self.placed.lane.format(payload_type)
            how = codec(known) if known else None
            self._decoders[payload_type] = (
                how.decoder(self._native(known), self.channels) if how and known else None
            )
        return self._decoders[payload_type]

    def _native(self, known: Format | None) -> int | None:
        """The rate to decode at: the track's own where the codec can, else the codec's."""
        how = codec(known) if known else None
        return self.rate if how is not None and self.rate in how.rates else None

    def _decode(self, decoder: Decoder, coded: bytes) -> Samples:
        try:
            return resample(decoder.decode(coded), decoder.rate, self.rate)
        except PeerError:
            # A payload that is none: what the codec does about a lost packet is the best that can be done.
            return resample(decoder.conceal(decoder.rate // 50, None), decoder.rate, self.rate)

    def _hidden(self, decoder: Decoder, missing: int, following: bytes, at: int) -> Iterator[Samples]:
        """What is heard where nothing arrived: concealment, or as long as the sender is silent, noise."""
        left = min(missing, int((NOISE_S if decoder.resting else CONCEAL_S) * self.rate))
        while left > 0:
            step = min(left, int(BLOCK_S * self.rate))
            left -= step
            yield self._conceal(decoder, step, b"" if left else following, at)

    def _conceal(self, decoder: Decoder, missing: int, following: bytes, at: int) -> Samples:
        same = self._decoder(int(self.placed.payload_type[at])) is decoder
        wanted = missing * decoder.rate // self.rate
        hidden = resample(decoder.conceal(wanted, following if same else None), decoder.rate, self.rate)
        return hidden[:missing]

    def _silence(self, count: int) -> Iterator[Samples]:
        while count > 0:
            step = min(count, int(BLOCK_S * self.rate))
            yield np.zeros((step, self.channels), np.int16)
            count -= step
