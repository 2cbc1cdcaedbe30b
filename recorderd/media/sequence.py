"""Sequence numbers: which packets are new, late, doubled or lost (RFC 3550 sections A.1 and A.3), a window at
a time.

A packet is *late* when it fills a hole that an earlier window had already closed over; it is kept all the
same. It is a
*duplicate* when its place is taken. What a sender's restart does to its numbers is hidden from everything
after this module: numbering goes on.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.media.streams import FIRST_CYCLE, UNBOUND, StreamTable
from recorderd.media.table import Packets

MAX_DROPOUT: Final = 3000
MAX_MISORDER: Final = 100
"""RFC 3550 section A.1: what lies outside is a restarted sender or a stray packet."""

MAX_HOLES: Final = 10_000
"""Holes remembered a stream; later ones are counted only."""


@dataclass(slots=True)
class Hole:
    """Packets that did not arrive: ``count`` from extended sequence number ``first`` on."""

    first: int
    count: int


class Holes:
    """The holes of one stream, in order."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[Hole] = []

    def add(self, first: int, count: int) -> None:
        """Note a hole after all earlier ones."""
        if len(self.items) < MAX_HOLES:
            self.items.append(Hole(first, count))

    def fill(self, seq: int) -> bool:
        """Take one number out of its hole; False where there is none."""
        for position in range(len(self.items) - 1, -1, -1):
            hole = self.items[position]
            if seq >= hole.first + hole.count:
                return False
            if seq < hole.first:
                continue
            before, after = seq - hole.first, hole.first + hole.count - seq - 1
            pieces = [Hole(hole.first, before)] if before else []
            pieces += [Hole(seq + 1, after)] if after else []
            self.items[position : position + 1] = pieces
            return True
        return False


@dataclass(frozen=True, slots=True)
class Order:
    """What leaves a window, sorted by (session, lane, extended sequence number).

    ``position`` indexes the packets that were looked at; ``seq`` is the extended number, ``late`` a mask,
    ``starts`` the position in these columns at which each stream begins, ``previous`` the number before each
    stream's first.
    """

    position: NDArray[np.intp]
    seq: NDArray[np.int64]
    stream: NDArray[np.int32]
    late: NDArray[np.bool_]
    starts: NDArray[np.intp]


class Sequencer:
    """Orders packets and keeps each stream's account of them."""

    def __init__(self, streams: StreamTable) -> None:
        self.streams = streams
        self.strays = 0
        self._holes: dict[int, Holes] = {}

    def holes(self, stream: int) -> list[Hole]:
        """The holes of a stream that nothing has filled."""
        known = self._holes.get(stream)
        return known.items if known else []

    def forget(self, stream: int) -> None:
        """Drop what is known of a stream."""
        self._holes.pop(stream, None)

    def order(
        self, packets: Packets, end_us: int, horizon_us: int, expired_us: int
    ) -> tuple[Order, NDArray[np.bool_]]:
        """Choose and sort what leaves at the close of the window that ends at ``end_us``.

        Packets up to ``horizon_us`` (the end plus the grace for reordering) are looked at; of each stream
        everything up to the highest number that arrived before ``end_us`` leaves. Returns that, and a mask of
        what stays waiting: what is younger, and unexplained packets that arrived after ``expired_us``.
        """
        owner = self.streams.owner[packets.stream]
        look = np.flatnonzero((owner >= 0) & (packets.time_us < horizon_us))
        stay = (packets.time_us >= horizon_us) & (owner >= 0)
        stay |= (owner == UNBOUND) & (packets.time_us >= expired_us)
        # Arrival order decides which of two copies is the duplicate, whatever order the batches came in.
        time = packets.time_us[look]
        if len(time) and (np.diff(time) < 0).any():
            look = look[np.argsort(time, kind="stable")]
        stream = packets.stream[look]
        seq = self._extend(packets, look, stream, end_us)
        undecided = seq < 0
        if undecided.any():
            waiting = look[undecided & (packets.time_us[look] >= end_us - 1_000_000)]
            stay[waiting] = True
            self.strays += int(undecided.sum()) - len(waiting)
            look, stream, seq = look[~undecided], stream[~undecided], seq[~undecided]
        lane = (owner[look].astype(np.int64) << 40) | (self.streams.lane[stream].astype(np.int64) << 32)
        sort = np.argsort(lane + seq, kind="stable")
        look, stream, seq = look[sort], stream[sort], seq[sort]
        starts = _starts(stream)
        early = packets.time_us[look] < end_us
        leaves = _up_to_last(early, starts)
        stay[look[~leaves]] = True
        look, stream, seq = look[leaves], stream[leaves], seq[leaves]
        return self._account(look, stream, seq), stay

    def _extend(
        self, packets: Packets, look: NDArray[np.intp], stream: NDArray[np.int32], end_us: int
    ) -> NDArray[np.int64]:
        """Extended sequence numbers; -1 for packets whose number fits nothing yet."""
        table = self.streams
        seq16 = packets.seq[look]
        fresh = table.highest[stream] == 0
        if fresh.any():
            rows, first = np.unique(stream[fresh], return_index=True)
            # The number before the first packet's; lower ones in the same window still come before it.
            table.highest[rows] = FIRST_CYCLE + seq16[fresh][first].astype(np.int64) - 1
        reference = table.highest[stream]
        step = (seq16 + table.shift[stream] - reference).astype(np.int16)
        seq = reference + step
        odd = (step > MAX_DROPOUT) | (step < -MAX_MISORDER)
        for row in np.unique(stream[odd]).tolist():
            mine = np.flatnonzero(stream == row)
            seq[mine] = self._resequence(row, seq16[mine].tolist())
        return seq

    def _resequence(self, row: int, numbers: list[int]) -> list[int]:
        """RFC 3550 section A.1, packet by packet, for a stream whose numbers jump: two in a row are a
        restart.
        """
        table = self.streams
        highest, shift = int(table.highest[row]), int(table.shift[row])
        out: list[int] = []
        candidate: int | None = None
        for index, number in enumerate(numbers):
            step = (number + shift - highest + 0x8000) % 0x10000 - 0x8000
            if -MAX_MISORDER <= step <= MAX_DROPOUT:
                out.append(highest + step)
                highest = max(highest, highest + step)
            elif candidate is not None and number == (numbers[candidate] + 1) & 0xFFFF:
                shift = (highest + 2 - number) % 0x10000
                out[candidate] = highest + 1
                out.append(highest + 2)
                highest += 2
                candidate = None
            else:
                out.append(-1)
                candidate = index
        table.shift[row] = shift
        return out

    def _account(self, look: NDArray[np.intp], stream: NDArray[np.int32], seq: NDArray[np.int64]) -> Order:
        table = self.streams
        double = np.zeros(len(seq), np.bool_)
        double[1:] = (seq[1:] == seq[:-1]) & (stream[1:] == stream[:-1])
        late = (seq <= table.highest[stream]) & (table.packets[stream] > 0) & ~double
        for at in np.flatnonzero(late).tolist():
            if not self._late(int(stream[at]), int(seq[at])):
                double[at], late[at] = True, False
        if double.any():
            np.add.at(table.duplicates, stream[double], 1)
            look, stream, seq, late = look[~double], stream[~double], seq[~double], late[~double]
        starts = _starts(stream)
        self._find_holes(stream, seq, late, starts)
        if len(stream):
            rows = stream[starts]
            counts = np.diff(starts, append=len(stream))
            table.lowest[rows] = np.where(table.packets[rows] == 0, seq[starts], table.lowest[rows])
            table.packets[rows] += counts
            table.highest[rows] = np.maximum(table.highest[rows], seq[starts + counts - 1])
        return Order(look, seq, stream, late, starts)

    def _late(self, row: int, seq: int) -> bool:
        """Account for a packet behind the highest number; False where its place is taken."""
        table = self.streams
        holes = self._holes.get(row)
        if seq < table.lowest[row]:
            # Older than the first packet: the stream began earlier than it seemed.
            if table.lowest[row] - seq > 1:
                holes = self._holes.setdefault(row, Holes())
                holes.items.insert(0, Hole(seq + 1, int(table.lowest[row]) - seq - 1))
                table.lost[row] += table.lowest[row] - seq - 1
            table.lowest[row] = seq
        elif holes and holes.fill(seq):
            table.lost[row] -= 1
        else:
            return False
        table.late[row] += 1
        return True

    def _find_holes(
        self,
        stream: NDArray[np.int32],
        seq: NDArray[np.int64],
        late: NDArray[np.bool_],
        starts: NDArray[np.intp],
    ) -> None:
        table = self.streams
        before = np.empty_like(seq)
        before[1:] = seq[:-1]
        rows = stream[starts]
        before[starts] = np.where(table.packets[rows] > 0, table.highest[rows], seq[starts] - 1)
        # A stream's late packets come first; the first punctual one follows the highest number of earlier
        # windows.
        before = np.where(table.packets[stream] > 0, np.maximum(before, table.highest[stream]), before)
        for at in np.flatnonzero((seq - before > 1) & ~late).tolist():
            row, first, count = int(stream[at]), int(before[at]) + 1, int(seq[at] - before[at]) - 1
            self._holes.setdefault(row, Holes()).add(first, count)
            table.lost[row] += count


def _starts(stream: NDArray[np.int32]) -> NDArray[np.intp]:
    """Positions at which a new stream begins in a sorted column."""
    if not len(stream):
        return np.empty(0, np.intp)
    return np.concatenate([[0], np.flatnonzero(stream[1:] != stream[:-1]) + 1]).astype(np.intp)


def _up_to_last(mask: NDArray[np.bool_], starts: NDArray[np.intp]) -> NDArray[np.bool_]:
    """True for every row that is at or before the last True row of its stream."""
    if not len(starts):
        return mask
    index = np.arange(len(mask))
    last = np.maximum.reduceat(np.where(mask, index, -1), starts)
    out: NDArray[np.bool_] = index <= np.repeat(last, np.diff(starts, append=len(mask)))
    return out
