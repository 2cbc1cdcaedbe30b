"""Packets that came and are in no file: which they were, so that their track can say so.

Only where the disk did not take something is anything done here.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from recorderd.media.lane import Lane, Span
from recorderd.spool.container import PACKET_ROW, Rows

MAX_RUNS: Final = 1000
"""Runs of packets remembered of a recording; what comes then makes the newest of its stream longer."""

MAX_CUTS: Final = 64
"""A record whose numbers are torn more often than this counts as one run of each stream."""


class _Packet(NamedTuple):
    seq: int
    timestamp: int
    time_us: int


class _Run(NamedTuple):
    """Packets whose numbers follow one another."""

    first: _Packet
    last: _Packet
    step: int
    """Timestamp units from one to the next; 0 where there is only one."""

    def then(self, other: "_Run") -> "_Run":
        steps = (self.step, other.step, _ahead(self.last, other.first))
        return _Run(self.first, other.last, min((step for step in steps if step), default=0))


class Unwritten:
    """What of one recording is in no file, by the numbers of its streams."""

    def __init__(self) -> None:
        self.packets: Counter[int] = Counter()
        """How many of each stream."""
        self._runs: dict[int, list[_Run]] = {}
        self._count = 0

    def add(self, base_us: int, rows: Rows | bytes | memoryview) -> None:
        """Note the packets of a media record, given as :class:`RecordingWriter` gets them."""
        if not len(rows):
            return
        table = np.frombuffer(rows, PACKET_ROW)
        for stream in np.unique(table["stream"]).tolist():
            mine = table[table["stream"] == stream]
            self.packets[stream] += len(mine)
            cuts = np.flatnonzero(np.diff(mine["seq"].astype(np.int64)) != 1) + 1
            for part in np.split(mine, cuts if len(cuts) <= MAX_CUTS else []):
                ends = [
                    _Packet(int(part["seq"][at]), int(part["timestamp"][at]), base_us + int(part["time"][at]))
                    for at in (0, -1)
                ]
                # The shortest step is the length of a packet; a longer one has suppressed silence in it.
                steps = np.diff(part["timestamp"])
                self._add_run(stream, _Run(ends[0], ends[1], int(min(steps[steps > 0], default=0))))

    def _add_run(self, stream: int, run: _Run) -> None:
        runs = self._runs.setdefault(stream, [])
        if runs and (run.first.seq == runs[-1].last.seq + 1 or self._count >= MAX_RUNS):
            runs[-1] = runs[-1].then(run)
        else:
            runs.append(run)
            self._count += 1

    def take(self, other: "Unwritten") -> None:
        """Note what another has noted."""
        if not other.packets:
            return  # as nearly always
        self.packets.update(other.packets)
        for stream, runs in other._runs.items():
            for run in runs:
                self._add_run(stream, run)

    def gaps(self, stream: int, lane: Lane) -> Iterator[Span]:
        """When the packets of a stream would have sounded, on its clock."""
        for run in self._runs.get(stream, ()):
            lasts = run.step or lane.sounds
            begin = lane.when(*run.first)
            end = lane.when(run.last.seq, run.last.timestamp + lasts, run.last.time_us)
            if begin is not None and end is not None and end > begin:
                yield Span(begin, end)


def _ahead(before: _Packet, after: _Packet) -> int:
    """By how many units the second is ahead; 0 where the clock went back."""
    step = (after.timestamp - before.timestamp) & 0xFFFF_FFFF
    return step if step < 1 << 31 else 0
