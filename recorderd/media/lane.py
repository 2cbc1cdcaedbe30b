"""A lane: one stream's part in one recording, followed on its clock.

The live engine and the export both drive lanes, a stretch of packets at a time, and both read the answer to
"where does this sound" from :meth:`Lane.segments`.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.formats import Format
from recorderd.codecs.registry import codec
from recorderd.errors import PeerError
from recorderd.media.clock import Segment, Standing, StreamClock, segments, set_back
from recorderd.media.drift import Low
from recorderd.media.sequence import MAX_HOLES, Hole

TONES = "telephone-event"

_TURN: Final = 1 << 32
"""RTP timestamps begin anew after so many units."""

PACKETS_PER_S: Final = 50
"""What nearly all phones send."""


class Span(NamedTuple):
    """A stretch of wall-clock time in microseconds since the epoch."""

    start_us: float
    end_us: float


class _Break(NamedTuple):
    """Where numbers are missing: ``missing`` from ``first``, the first of them due at ``timestamp``."""

    first: int
    missing: int
    timestamp: int
    step: float
    """Timestamp units a missing packet stands for."""


class Lane:
    """The clock of one stream of a recording."""

    def __init__(self, formats: Mapping[int, Format]) -> None:
        """``formats`` maps payload types to what signalling said they carry; nobody changes it."""
        self.formats = formats
        self._clock = StreamClock()
        self._last_seq = -1
        self._last: tuple[int, int] = (0, 0)
        """Timestamp of the newest packet, and how long it sounds in units of its clock."""
        self._breaks: list[_Break] = []
        self._cache: list[Segment] | None = None
        self._span: Span | None = None
        """Goes with the segments."""

    def learn(self, formats: Mapping[int, Format]) -> None:
        """Signalling said what further payload types carry, or said of some something else."""
        self.formats = {**self.formats, **formats}

    def format(self, payload_type: int) -> Format | None:
        """What a payload type carries; None where signalling never said."""
        return self.formats.get(payload_type)

    def is_audio(self, payload_type: int) -> bool:
        """Whether packets of this type are sound: all are that are not RFC 4733 events."""
        known = self.formats.get(payload_type)
        return known is None or known.name != TONES

    @property
    def standing(self) -> Standing:
        """Where its clock stands."""
        return self._clock.standing

    @property
    def sounds(self) -> int:
        """How long the newest packet sounds, in units of its clock."""
        return self._last[1]

    def begin(self, seq: int, timestamp: int, clock_rate: int, start_us: float, skew_us: float) -> None:
        """Begin with the first packet, which is sound, and whose timestamp is on 64 bits; somebody else
        follows the clock from there (:meth:`go_on`).
        """
        self._cache = None
        self._clock.begin(seq, timestamp, clock_rate, start_us, skew_us)

    def go_on(self, there: Standing, sounds: int) -> None:
        """Go on from where somebody else followed it to; ``sounds`` is how long the newest packet does."""
        self._cache = None
        self._clock.go_on(there)
        self._last_seq, self._last = there.seq, (there.timestamp, sounds)

    def keep(self, lows: Iterable[Low]) -> None:
        """Note the lows of stretches that are over (see :mod:`recorderd.media.drift`)."""
        self._cache = None
        self._clock.keep(lows)

    def follow(
        self,
        seq: NDArray[np.int64],
        timestamp: NDArray[np.uint32],
        time_us: NDArray[np.int64],
        payload_type: NDArray[np.uint8],
        payload: Callable[[int], bytes],
        *,
        one_type: bool = False,
    ) -> NDArray[np.int64]:
        """Take in packets sorted by extended number; ``payload(i)`` gives the coded bytes of one of them.

        ``one_type`` says that all are known to have one payload type. Returns their timestamps on 64 bits.
        """
        self._cache = None
        full = self._clock.unwrap(seq, timestamp)
        self._find_breaks(seq, full, payload_type, payload)
        first, last = int(payload_type[0]), int(payload_type[-1])
        if int(seq[0]) > self._last_seq and first == last and (one_type or (payload_type == first).all()):
            self._follow_type(first, seq, full, time_us)
        else:
            # Packets that come too late tell nothing of the clock.
            keep = np.flatnonzero(seq > self._last_seq)
            edges = np.flatnonzero(np.diff(payload_type[keep])) + 1
            for part in np.split(keep, edges):
                if len(part):
                    self._follow_type(int(payload_type[part[0]]), seq[part], full[part], time_us[part])
        if int(seq[-1]) > self._last_seq:
            self._last_seq = int(seq[-1])
            self._last = (int(full[-1]), self._duration(last, payload(len(seq) - 1)))
        return full

    def _follow_type(
        self, payload_type: int, seq: NDArray[np.int64], full: NDArray[np.int64], time_us: NDArray[np.int64]
    ) -> None:
        if self.is_audio(payload_type):
            self._clock.follow(seq, full, time_us, self.clock_rate(payload_type))

    def _find_breaks(
        self,
        seq: NDArray[np.int64],
        full: NDArray[np.int64],
        payload_type: NDArray[np.uint8],
        payload: Callable[[int], bytes],
    ) -> None:
        before = int(seq[0]) - 1 if self._last_seq < 0 else self._last_seq
        if int(seq[-1]) - before == len(seq) and int(seq[0]) > before:
            return  # numbers ascend, so with as many as there should be none is missing
        steps = np.diff(seq, prepend=before)
        for at in np.flatnonzero(steps > 1).tolist():
            count = int(steps[at]) - 1
            timestamp, usual = self._last
            if at:
                timestamp = int(full[at - 1])
                usual = self._duration(int(payload_type[at - 1]), payload(at - 1))
            self.missing(int(seq[at]) - count, count, timestamp, usual, int(full[at]))

    def missing(self, first: int, count: int, before: int, usual: int, after: int) -> None:
        """Note that ``count`` packets are missing from number ``first`` on, behind all that were noted.

        ``before`` and ``after`` are the timestamps around them, ``usual`` is how long the packet before them
        sounds.
        """
        due = before + usual
        if not usual:
            # Nobody knows how long what says that there is silence lasts: what is missing is what comes next.
            usual = self._clock.rate // PACKETS_PER_S
            due = max(before, after - count * usual)
        step = (after - due) / count
        # Silence suppression next to a loss, or a restarted clock: the hole is as long as its packets were.
        if not 0 < step <= 1.5 * usual:
            step = float(usual)
        if len(self._breaks) < MAX_HOLES:
            self._breaks.append(_Break(first, count, due, step))

    def _duration(self, payload_type: int, payload: bytes) -> int:
        """How long a packet sounds, in units of its RTP clock; 0 where that cannot be told."""
        known = self.formats.get(payload_type)
        how = codec(known) if known else None
        if how is None or not payload:
            return 0
        try:
            return int(how.durations(np.frombuffer(payload, np.uint8), np.array([len(payload)], np.int32))[0])
        except PeerError:
            return 0

    def clock_rate(self, payload_type: int) -> int:
        """RTP clock of a payload type in Hz; 8000 (RFC 3551 section 4.1) where signalling never said."""
        known = self.formats.get(payload_type)
        return known.clock_rate if known and known.clock_rate > 0 else 8000

    def segments(self) -> list[Segment]:
        """The stretches of this lane, each on one clock, in order."""
        if self._cache is None:
            self._cache = segments(self._clock.runs)
            self._span = self._measured(self._cache)
        return self._cache

    @property
    def clock_ppm(self) -> float | None:
        """By how much the sender's clock is fast, in ppm, for most of the lane; None where it is not seen to
        be."""
        found = [segment for segment in self.segments() if segment.drift]
        if not found:
            return None
        longest = max(found, key=lambda segment: self._lasts(segment))
        return round(-longest.drift / (1 + longest.drift) * 1e6, 1)

    def _lasts(self, segment: Segment) -> int:
        """How many packet numbers a segment has."""
        later = [other.first_seq for other in self.segments() if other.first_seq > segment.first_seq]
        return min(later, default=self._last_seq + 1) - segment.first_seq

    def set_back_us(self, seq: NDArray[np.int64]) -> NDArray[np.float64]:
        """By how much the clock of the host was set back before each packet, in microseconds."""
        runs = self._clock.runs
        if not runs:
            return np.zeros(len(seq))
        firsts = np.array([run.first_seq for run in runs])
        at = np.maximum(np.searchsorted(firsts, seq, side="right") - 1, 0)
        return np.array(set_back(runs))[at]

    def span(self) -> Span | None:
        """From the first sample's time to the end of the last; None where nothing sounded."""
        self.segments()
        return self._span

    def _measured(self, found: list[Segment]) -> Span | None:
        if not found:
            return None
        last = found[-1]
        # The newest packet may be an event, whose timestamp may be anything.
        newest, rate = self._clock.newest, last.clock_rate
        due = min(max(sum(self._last), newest - rate // 5), newest + rate)
        ticks = float(max(due, last.first_timestamp) - last.first_timestamp)
        return Span(found[0].anchor_us, last.anchor_us + ticks * last.tick_us)

    def when(self, seq: int, timestamp: int, near_us: float) -> float | None:
        """When the sample of a timestamp of 32 bits sounded, in microseconds since the epoch; ``seq`` is its
        packet, which came at about ``near_us``. None where nothing sounded."""
        found = self.segments()
        if not found:
            return None
        firsts = [segment.first_seq for segment in found]
        segment = found[max(0, bisect_right(firsts, seq) - 1)]
        ticks = (timestamp - segment.first_timestamp) % _TURN
        due = (near_us - segment.anchor_us) / segment.tick_us
        return segment.anchor_us + (ticks + _TURN * round((due - ticks) / _TURN)) * segment.tick_us

    def gaps(self, holes: list[Hole]) -> list[Span]:
        """When the given holes in the numbers sounded (or would have), in order."""
        out: list[Span] = []
        found = self.segments()
        if not found:
            return out
        firsts = [segment.first_seq for segment in found]
        breaks = [lost.first for lost in self._breaks]
        for hole in holes:
            at = bisect_right(breaks, hole.first) - 1
            lost = self._breaks[at] if at >= 0 else None
            if lost is None or hole.first >= lost.first + lost.missing:
                continue
            start = lost.timestamp + (hole.first - lost.first) * lost.step
            segment = found[max(0, bisect_right(firsts, hole.first) - 1)]
            tick = segment.tick_us
            begin = segment.anchor_us + (start - segment.first_timestamp) * tick
            out.append(Span(begin, begin + hole.count * lost.step * tick))
        return out
