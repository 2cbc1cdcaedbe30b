"""Where a packet's audio belongs in time: RTP timestamps anchored to the wall clock.

A packet's *skew* is its arrival minus its timestamp's time. Network delay only ever adds to it, so the least
skew of a stretch tells where the stretch really lies. A stream is cut into *runs* wherever the skew leaps (a
timestamp jump, a pause, a stall); once the packets after the leap are known, :func:`segments` decides whether
the clock really moved or the network merely stalled. The live engine and the export run this same code on the
same packets, so both put every sample in the same place.

Times are microseconds since the epoch (float64: exact to a quarter of one); timestamps are unwrapped to 64
bits.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.media.drift import LOW_US, MAX_LOWS, Low, drift_of, low_of, thinned

LEAP_US: Final = 200_000.0
"""A change of skew beyond this needs an explanation; jitter stays below it."""

SETTLE_US: Final = 2_000_000.0
"""How much of a run is looked at to find its least skew."""

MAX_LOOK_AHEAD: Final = 100
"""Runs that may explain a leap before them; a stream that leaps more often explains nothing."""

FIRST_TURN: Final = 1 << 32
"""Timestamps start one turn up, so that packets from before the first one stay positive."""

MAX_RUNS: Final = 10_000
"""Runs remembered a stream."""


@dataclass(slots=True)
class Run:
    """A stretch of a stream without a leap of its skew."""

    first_seq: int
    first_timestamp: int
    clock_rate: int
    start_us: float
    least_skew_us: float
    """Least skew of the packets that arrived within SETTLE_US of the start."""
    lasts_us: float = 0.0
    last_skew_us: float = 0.0
    stretch: int = -1
    """The stretch of LOW_US that the newest packets arrived in."""
    low_us: float = 0.0
    """Their least skew."""
    lows: list[Low] = field(default_factory=list)
    """Those of earlier stretches."""

    def keep(self, low: Low) -> None:
        """Keep the low of a stretch that is over."""
        if len(self.lows) >= MAX_LOWS:
            self.lows = thinned(self.lows)
        self.lows.append(low)


class Segment(NamedTuple):
    """A stretch of a stream on one clock: the sample of timestamp ``t`` sounds at
    ``anchor_us + (t - first_timestamp) / clock_rate``, by the sender's seconds."""

    first_seq: int
    first_timestamp: int
    clock_rate: int
    anchor_us: float
    drift: float = 0.0
    """By which part of it the sender's second is longer than the host's."""

    @property
    def tick_us(self) -> float:
        """How long a unit of the RTP clock lasts, in microseconds."""
        return 1e6 / self.clock_rate * (1 + self.drift)

    def time_us(self, timestamp: NDArray[np.int64]) -> NDArray[np.float64]:
        """The wall-clock time of unwrapped timestamps, in microseconds."""
        return self.anchor_us + (timestamp - self.first_timestamp).astype(np.float64) * self.tick_us


class Standing(NamedTuple):
    """Where a clock stands: the newest packet, and what of its run still moves."""

    seq: int
    timestamp: int
    """Unwrapped."""
    clock_rate: int
    """Of the run; 0 before the first."""
    start_us: float
    least_skew_us: float
    lasts_us: float
    last_skew_us: float
    stretch: int
    low_us: float


class StreamClock:
    """Follows the clock of one stream, a window of its packets at a time."""

    __slots__ = ("_last_raw", "_last_seq", "_timestamp", "runs")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._last_raw = 0
        self._last_seq = -1
        self._timestamp = 0

    def unwrap(self, seq: NDArray[np.int64], timestamp: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Timestamps of packets sorted by number, on 64 bits; shape (n,)."""
        first = int(timestamp[0])
        if self._last_seq < 0:
            self._last_raw, self._timestamp = first, first + FIRST_TURN
        # Unsigned differences wrap as the timestamps do; read as signed they are the steps, forward or back.
        steps = np.empty(len(timestamp), np.int32)
        steps[0] = (first - self._last_raw + (1 << 31)) % (1 << 32) - (1 << 31)
        np.subtract(timestamp[1:], timestamp[:-1], out=steps[1:].view(np.uint32))
        full = np.cumsum(steps, dtype=np.int64)
        full += self._timestamp
        if int(seq[-1]) > self._last_seq:
            self._last_seq, self._last_raw, self._timestamp = int(seq[-1]), int(timestamp[-1]), int(full[-1])
        return full

    @property
    def standing(self) -> Standing:
        """Where it stands now."""
        if not self.runs:
            return Standing(self._last_seq, self._timestamp, 0, 0.0, 0.0, 0.0, 0.0, -1, 0.0)
        run = self.runs[-1]
        skews = (
            run.start_us,
            run.least_skew_us,
            run.lasts_us,
            run.last_skew_us,
            run.stretch,
            run.low_us,
        )
        return Standing(self._last_seq, self._timestamp, run.clock_rate, *skews)

    @property
    def rate(self) -> int:
        """Of the newest run, in Hz; 8000 before the first."""
        return self.runs[-1].clock_rate if self.runs else 8000

    @property
    def newest(self) -> int:
        """About the timestamp of the newest audio packet: no more than LEAP_US off. For one with runs."""
        run = self.runs[-1]
        return round((run.start_us + run.lasts_us - run.last_skew_us) * run.clock_rate / 1e6)

    def go_on(self, there: Standing) -> None:
        """Go on from where somebody else followed it to, without a new run in between."""
        self._last_seq, self._timestamp = there.seq, there.timestamp
        self._last_raw = there.timestamp & 0xFFFF_FFFF
        if self.runs:
            run = self.runs[-1]
            run.least_skew_us, run.lasts_us = there.least_skew_us, there.lasts_us
            run.last_skew_us = there.last_skew_us
            run.stretch, run.low_us = there.stretch, there.low_us

    def begin(self, seq: int, timestamp: int, clock_rate: int, start_us: float, skew_us: float) -> None:
        """Begin the first run with its first packet, whose timestamp is on 64 bits; somebody else follows it
        from there (:meth:`go_on`).
        """
        self.runs.append(Run(seq, timestamp, clock_rate, start_us, skew_us))

    def keep(self, lows: Iterable[Low]) -> None:
        """Somebody else saw stretches of the newest run end, whose lows these are."""
        for low in lows:
            self.runs[-1].keep(low)

    def follow(
        self,
        seq: NDArray[np.int64],
        timestamp: NDArray[np.int64],
        time_us: NDArray[np.int64],
        clock_rate: int,
    ) -> None:
        """Take in audio packets of one clock rate, sorted by number, timestamps unwrapped."""
        skew = time_us - timestamp * (1e6 / clock_rate)
        run = self.runs[-1] if self.runs else None
        if run is not None and run.clock_rate == clock_rate:
            # Nearly always: all skews lie together, so none can leap.
            least = min(float(skew.min()), run.last_skew_us)
            if max(float(skew.max()), run.last_skew_us) - least <= LEAP_US:
                self._extend(run, skew, time_us)
                return
        leaps = np.flatnonzero(np.abs(np.diff(skew)) > LEAP_US) + 1
        edges = [0, *leaps.tolist(), len(skew)]
        for first, last in pairwise(edges):
            run = self.runs[-1] if self.runs else None
            joins = (
                run is not None
                and run.clock_rate == clock_rate
                and abs(skew[first] - run.last_skew_us) <= LEAP_US
            )
            if run is None or (not joins and len(self.runs) < MAX_RUNS):
                run = Run(
                    int(seq[first]),
                    int(timestamp[first]),
                    clock_rate,
                    float(time_us[first]),
                    float(skew[first]),
                )
                self.runs.append(run)
            self._extend(run, skew[first:last], time_us[first:last])

    @staticmethod
    def _extend(run: Run, skew: NDArray[np.float64], time_us: NDArray[np.int64]) -> None:
        if run.lasts_us < SETTLE_US:
            near = skew[time_us < run.start_us + SETTLE_US]
            run.least_skew_us = min(run.least_skew_us, float(near.min(initial=np.inf)))
        run.lasts_us = max(run.lasts_us, float(time_us[-1]) - run.start_us)
        run.last_skew_us = float(skew[-1])
        first, last = int(time_us.min()) // LOW_US, int(time_us.max()) // LOW_US
        if first == last:
            _lower(run, first, float(skew.min()))
            return
        # Numbers ascend, arrivals nearly: what was overtaken by a later stretch tells nothing.
        stretch = time_us // LOW_US
        for number in range(max(first, run.stretch), last + 1) if last - first < MAX_LOWS else ():
            mine = (stretch == number) & (np.maximum.accumulate(stretch) == number)
            if mine.any():
                _lower(run, number, float(skew[mine].min()))


def _lower(run: Run, stretch: int, skew_us: float) -> None:
    """Packets of a run arrived in a stretch, the least of their skews this."""
    if stretch == run.stretch:
        run.low_us = min(run.low_us, skew_us)
    elif stretch > run.stretch:
        if run.stretch >= 0:
            run.keep(low_of(run.stretch, run.low_us))
        run.stretch, run.low_us = stretch, skew_us


def segments(runs: list[Run]) -> list[Segment]:
    """Join the runs that lie on one clock; what is left are the stream's segments, in order."""
    out: list[Segment] = []
    lows: list[list[Low]] = []
    skew = 0.0
    for index, (run, back) in enumerate(zip(runs, set_back(runs), strict=True)):
        least = _settled(runs, index) + back
        mine = [*run.lows, low_of(run.stretch, run.low_us)]
        if back:
            mine = [Low(low.time_us + back, low.skew_us + back) for low in mine]
        if out and run.clock_rate == out[-1].clock_rate and abs(least - skew) <= LEAP_US:
            # A long run may drift slowly; what comes next is compared with where it ended up.
            skew = min(run.last_skew_us + back, least) if run.lasts_us >= SETTLE_US else skew
            lows[-1] += mine
            continue
        # A leap that the following packets take back belongs to the packets, not to the clock.
        skew = least
        # The first packet may have been late, but not by more than a stall; a timestamp that says so lies.
        skew = max(skew, _first_skew(run) + back - SETTLE_US)
        anchor = skew + run.first_timestamp * (1e6 / run.clock_rate)
        out.append(Segment(run.first_seq, run.first_timestamp, run.clock_rate, anchor))
        lows.append(mine)
    for at, drift in enumerate(map(drift_of, lows)):
        if drift:
            out[at] = out[at]._replace(drift=drift)
    return out


def set_back(runs: list[Run]) -> list[float]:
    """By how many microseconds the clock of the host was set back before each run, all in all.

    What follows sounds after what came before it, whatever that clock says from then on.
    """
    out = [0.0] * min(len(runs), 1)
    for before, run in pairwise(runs):
        step = before.last_skew_us - _first_skew(run) if _is_set_back(before, run) else 0.0
        out.append(out[-1] + step)
    return out


def _settled(runs: list[Run], index: int) -> float:
    """The least skew within SETTLE_US of a run's start, on the run's own clock, following runs included."""
    first = before = runs[index]
    least = first.least_skew_us
    for run in runs[index + 1 : index + 1 + MAX_LOOK_AHEAD]:
        if run.start_us >= first.start_us + SETTLE_US or run.clock_rate != first.clock_rate:
            break
        if _is_set_back(before, run):
            break
        before = run
        # A stall explains how late packets were, up to a point; beyond it the timestamps have leapt.
        if run.least_skew_us >= first.least_skew_us - SETTLE_US:
            least = min(least, run.least_skew_us)
    return least


def _first_skew(run: Run) -> float:
    """The skew of a run's first packet."""
    return run.start_us - run.first_timestamp * (1e6 / run.clock_rate)


def _is_set_back(before: Run, run: Run) -> bool:
    """Whether the clock of the host was set back between two runs: the timestamps go on, and the packets
    arrive before those that went before them.
    """
    end_us = before.start_us + before.lasts_us
    if run.clock_rate != before.clock_rate or run.start_us >= end_us - LEAP_US:
        return False
    pause_us = run.first_timestamp * (1e6 / run.clock_rate) - (end_us - before.last_skew_us)
    return -LEAP_US <= pause_us <= SETTLE_US and _first_skew(run) < before.least_skew_us - LEAP_US
