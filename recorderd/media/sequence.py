"""Sequence numbers: which packets are new, late, doubled or lost (RFC 3550 sections A.1 and A.3), a window at
a time.

A packet is *late* when it fills a hole that an earlier window had already closed over; it is kept all the
same. It is a
*duplicate* when its place is taken. What a sender's restart does to its numbers is hidden from everything
after this module: numbering goes on.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.media.columns import counts, leading
from recorderd.media.streams import ASIDE, EXCLUDED, FIRST_CYCLE, UNBOUND, StreamTable
from recorderd.media.table import Packets

MAX_DROPOUT: Final = 3000
MAX_MISORDER: Final = 100
"""RFC 3550 section A.1: what lies outside is a restarted sender or a stray packet."""

WIDE: Final = 1024
"""Bytes of a payload beyond what nearly every voice packet has."""

SPARSE: Final = 8
"""Numbers from a stream's lowest to its highest in a window, in proportion to its packets, that still pay."""

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


class Order(NamedTuple):
    """What leaves a window, sorted by (session, lane, extended sequence number).

    ``position`` indexes the packets that were looked at; ``seq`` is the extended number. ``starts`` is where
    each stream begins in these columns, ``rows`` its row of the stream table, and ``plain`` whether its
    packets follow the earlier ones and each other, with none missing, late or new to the table.
    """

    position: NDArray[np.intp]
    seq: NDArray[np.int64]
    starts: NDArray[np.intp]
    rows: NDArray[np.intp]
    plain: NDArray[np.bool_]

    def by_width(self, size: NDArray[np.int32]) -> list["Order"]:
        """Streams of long packets apart from the others; ``size`` is by position.

        One such packet would make the matrix of everybody's payloads as wide as it is.
        """
        if int(size.max(initial=0)) <= WIDE or not len(self.position):
            return [self]
        wide = np.maximum.reduceat(size[self.position], self.starts) > WIDE
        return [self._where(which) for which in (~wide, wide) if which.any()]

    def _where(self, which: NDArray[np.bool_]) -> "Order":
        count = counts(self.starts, len(self.position))
        mine = np.repeat(which, count)
        starts = np.cumsum(count[which]) - count[which]
        return Order(self.position[mine], self.seq[mine], starts, self.rows[which], self.plain[which])

    @property
    def stream(self) -> NDArray[np.intp]:
        """The row of each packet's stream."""
        return np.repeat(self.rows, counts(self.starts, len(self.position)))


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

    def recovered(self, stream: int, seq: int) -> bool:
        """A packet's content came by another one; False where it was not missing."""
        holes = self._holes.get(stream)
        if holes is None or not holes.fill(seq):
            return False
        self.streams.lost[stream] -= 1
        return True

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
        stream, time, seq16 = packets.stream.astype(np.intp), packets.time_us, packets.seq
        bound = (self.streams.owner >= 0).take(stream)
        ascending = not (time[1:] < time[:-1]).any()
        look: NDArray[np.intp] | None = None
        if ascending and bound.all():
            # What nearly every window is: those looked at are the first to come, and so need no picking.
            first = slice(int(np.searchsorted(time, horizon_us)))
            stay = np.ones(len(time), np.bool_)
            stay[first] = False
            stream, time, seq16 = stream[first], time[first], seq16[first]
        else:
            owner, soon = self.streams.owner[stream], time < horizon_us
            look = np.flatnonzero(bound & soon)
            stay = (bound | (owner == EXCLUDED)) & ~soon
            stay |= (owner == UNBOUND) & (time >= expired_us)
            stay |= (owner == ASIDE) & (time >= end_us)  # by then it may be wanted
            if not ascending:
                # Arrival order decides which of two copies is the duplicate, whatever order the batches came
                # in.
                look = look[np.argsort(time[look], kind="stable")]
            stream, time, seq16 = stream[look], time[look], seq16[look]
        late_from = int(np.searchsorted(time, end_us))
        seq, onward = self._extend(seq16, stream, late_from)
        if not onward and (undecided := seq < 0).any():
            look = np.arange(len(seq)) if look is None else look
            waiting = look[undecided & (time >= end_us - 1_000_000)]
            stay[waiting] = True
            self.strays += int(undecided.sum()) - len(waiting)
            late_from -= int(np.count_nonzero(undecided[:late_from]))
            look, stream, seq = look[~undecided], stream[~undecided], seq[~undecided]
        # Of each stream there leaves what is not behind the highest number that came in time.
        last = np.full(len(self.streams.owner), -1, np.int64)
        np.maximum.at(last, stream[:late_from], seq[:late_from])
        if late_from < len(seq):
            leaves = self._leaves(stream, seq, last, late_from)
            leaving = leading(leaves)
            if leaving is not None and look is None:
                stay[leaving.stop : len(seq)] = True
                stream, seq = stream[leaving], seq[leaving]
            elif not leaves.all():
                look = np.arange(len(seq)) if look is None else look
                stay[look[~leaves]] = True
                look, stream, seq = look[leaves], stream[leaves], seq[leaves]
        return self._account(look, stream, seq, last, onward), stay

    def _leaves(
        self, stream: NDArray[np.intp], seq: NDArray[np.int64], last: NDArray[np.int64], late_from: int
    ) -> NDArray[np.bool_]:
        """Which packets leave, of which those from ``late_from`` on came in the grace; ``last`` has the
        highest number of each stream that came in time.
        """
        # What came in the grace and is behind earlier windows is no straggler of this one: the next one
        # sees to it, for by then it may be known as the beginning of another call.
        of, number = stream[late_from:], seq[late_from:]
        new = (self.streams.packets[of] == 0) | (number > self.streams.highest[of])
        leaves = np.ones(len(seq), np.bool_)
        leaves[late_from:] = new & (number <= last[of])
        return leaves

    def _extend(
        self, seq16: NDArray[np.uint16], stream: NDArray[np.intp], late_from: int
    ) -> tuple[NDArray[np.int64], bool]:
        """Extended sequence numbers; -1 for packets whose number fits nothing yet. Also whether all are known
        to be beyond the highest of their streams so far.

        Packets are in the order of their arrival; from ``late_from`` on they came after the window's end.
        """
        table = self.streams
        reference = table.highest.take(stream)
        fresh = reference == 0
        if fresh.any():
            rows, first = np.unique(stream[fresh], return_index=True)
            # The number before the first packet's; lower ones in the same window still come before it.
            table.highest[rows] = FIRST_CYCLE + seq16[fresh][first].astype(np.int64) - 1
            reference = table.highest.take(stream)
        # The lower 16 bits of a difference tell the step, forward or back.
        step = seq16 - reference.astype(np.uint16)
        if table.shift.any():
            step += table.shift[stream].astype(np.uint16)
        step = step.view(np.int16)
        seq = reference + step
        least = int(step.min(initial=1))
        if least >= -MAX_MISORDER and step.max(initial=0) <= MAX_DROPOUT:
            return seq, least > 0
        odd = (step > MAX_DROPOUT) | (step < -MAX_MISORDER)
        for row in np.unique(stream[odd]).tolist():
            mine = np.flatnonzero(stream == row)
            in_time = int(np.searchsorted(mine, late_from))
            seq[mine] = self._resequence(row, seq16[mine].tolist(), in_time)
        return seq, False

    def _resequence(self, row: int, numbers: list[int], early: int) -> list[int]:
        """RFC 3550 section A.1, packet by packet, for a stream whose numbers jump: two in a row are a
        restart.

        A restart after the first ``early`` packets is the next window's to remember: all from there on are
        looked at again, and so is what came before it.
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
                if candidate < early:
                    table.shift[row] = shift
                out[candidate] = highest + 1
                out.append(highest + 2)
                highest += 2
                candidate = None
            else:
                out.append(-1)
                candidate = index
        return out

    def _account(
        self,
        look: NDArray[np.intp] | None,
        stream: NDArray[np.intp],
        seq: NDArray[np.int64],
        last: NDArray[np.int64],
        onward: bool,
    ) -> Order:
        """Sort, and keep the account; ``look`` is None for the first packets, ``last`` the highest by row;
        ``onward`` says that all are beyond the highest of their streams so far.
        """
        table = self.streams
        rows = np.flatnonzero(last >= 0)
        rows = rows[np.argsort(table.owner[rows].astype(np.int64) << 8 | table.lane[rows])]
        known, highest = table.packets[rows] > 0, table.highest[rows]
        if onward:
            low = highest + 1  # or more
        else:
            lowest = np.full(len(last), np.iinfo(np.int64).max)
            np.minimum.at(lowest, stream, seq)
            low = lowest[rows]
        position, count = _sort(stream, seq, rows, low, last[rows])
        if len(position) < len(seq):
            table.duplicates[rows] += np.bincount(stream, minlength=len(last))[rows] - count
        seq = seq.take(position)
        plain = known & (low == highest + 1) & (count == last[rows] - highest)
        if not plain.all():
            behind = known & (low <= highest)
            if behind.any():
                fresh = self._without_doubles(rows, seq, count, behind)
                position, seq = position[fresh], seq[fresh]
                left = count > 0
                rows, count, plain = rows[left], count[left], plain[left]
            self._find_holes(rows, seq, count, plain)
        starts = np.cumsum(count) - count
        table.lowest[rows] = np.where(table.packets[rows] == 0, seq[starts], table.lowest[rows])
        table.packets[rows] += count
        table.highest[rows] = np.maximum(table.highest[rows], seq[starts + count - 1])
        return Order(position if look is None else look[position], seq, starts, rows, plain)

    def _without_doubles(
        self,
        rows: NDArray[np.intp],
        seq: NDArray[np.int64],
        count: NDArray[np.intp],
        behind: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Account for packets that come too late; ``behind`` tells the streams that have any.

        False for those whose place is taken, which leave ``count``.
        """
        keep = np.ones(len(seq), np.bool_)
        index = np.repeat(np.arange(len(rows)), count)
        highest = np.where(behind, self.streams.highest[rows], -1)
        for at in np.flatnonzero(seq <= highest[index]).tolist():
            if not self._late(int(rows[index[at]]), int(seq[at])):
                keep[at] = False
                count[index[at]] -= 1
                self.streams.duplicates[rows[index[at]]] += 1
        return keep

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
        rows: NDArray[np.intp],
        seq: NDArray[np.int64],
        count: NDArray[np.intp],
        plain: NDArray[np.bool_],
    ) -> None:
        """Note what is missing in the streams that are not plain."""
        table = self.streams
        odd = np.repeat(~plain, count)
        row, seq = np.repeat(rows[~plain], count[~plain]), seq[odd]
        before = np.empty_like(seq)
        before[1:] = seq[:-1]
        first = np.flatnonzero(np.diff(row, prepend=-1))
        known = table.packets[row] > 0
        before[first] = np.where(known[first], table.highest[row[first]], seq[first] - 1)
        # A stream's late packets come first; the first punctual one follows the highest number of earlier
        # windows.
        before = np.where(known, np.maximum(before, table.highest[row]), before)
        for at in np.flatnonzero(seq - before > 1).tolist():
            number, start, missing = int(row[at]), int(before[at]) + 1, int(seq[at] - before[at]) - 1
            self._holes.setdefault(number, Holes()).add(start, missing)
            table.lost[number] += missing


def _sort(
    stream: NDArray[np.intp],
    seq: NDArray[np.int64],
    rows: NDArray[np.intp],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions in the order of ``rows`` and of the numbers, the first to come of equal ones; and how many of
    each row. None of a row's numbers is below ``low`` or above ``high``.
    """
    width = high - low + 1
    total = int(width.sum())
    rank = np.zeros(int(rows.max(initial=-1)) + 1, np.int64)
    if total > SPARSE * len(seq) + 4096:
        rank[rows] = np.arange(len(rows))
        order = np.lexsort((seq, rank[stream]))
        new = np.ones(len(order), np.bool_)
        new[1:] = (np.diff(seq[order]) != 0) | (np.diff(stream[order]) != 0)
        order = order[new]
        return order, np.bincount(rank[stream[order]], minlength=len(rows))
    # Numbers hardly ever leave gaps: each packet's number tells its place, without any sorting.
    ends = np.cumsum(width)
    rank[rows] = ends - width - low
    place = np.full(total, -1, np.intp)
    index = rank.take(stream)
    index += seq
    place[index] = np.arange(len(seq))
    taken = place >= 0
    found = int(np.count_nonzero(taken))
    if found < len(seq):
        # From the last to the first: of several for one place the first to come stays.
        place[index[::-1]] = np.arange(len(seq) - 1, -1, -1)
    if found == total:
        return place, width
    return place[taken], np.add.reduceat(taken, ends - width, dtype=np.intp)
