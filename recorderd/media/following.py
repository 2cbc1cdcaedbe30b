"""Follows the clocks of all streams of a window at once.

Nearly every stream goes on as it did: no packet too late, one payload type, arrivals near where its
timestamps say. What that does to its clock is told by the extremes of its packets, and so it is done in
columns of the stream table, for all such streams together. The others are followed packet by packet on their
lanes, which take over from the columns (:func:`take_over`) and give back to them (:func:`give_back`). Both
ways compute the same.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs import opus_toc
from recorderd.media.clock import LEAP_US, SETTLE_US, Standing
from recorderd.media.columns import counts
from recorderd.media.drift import LOW_US, Low
from recorderd.media.jitter import note_jitter
from recorderd.media.lane import Lane
from recorderd.media.sequence import Order
from recorderd.media.streams import OPUS, PCMA, PCMU, ROOM_FOR_LOWS, TONE, StreamTable
from recorderd.media.table import Packets


class Missing(NamedTuple):
    """Packets that are missing from one of an order's streams, ``at``: the arguments of
    :meth:`recorderd.media.lane.Lane.missing`."""

    at: int
    first: int
    packets: int
    before: int
    usual: int
    after: int


def take_over(table: StreamTable, row: int, lane: Lane) -> None:
    """Bring a lane to where its stream's columns stand."""
    if table.run_rate.item(row):
        hand_lows(table, row, lane)
        there = Standing(
            table.followed.item(row),
            table.timestamp.item(row),
            table.run_rate.item(row),
            table.run_start_us.item(row),
            table.least_skew_us.item(row),
            table.run_lasts_us.item(row),
            table.last_skew_us.item(row),
            table.stretch.item(row),
            table.low_us.item(row),
        )
        lane.go_on(there, table.sounds.item(row))


def give_back(table: StreamTable, row: int, lane: Lane) -> None:
    """Bring a stream's columns to where its lane stands."""
    there = lane.standing
    table.followed[row], table.timestamp[row] = there.seq, there.timestamp
    table.sounds[row] = lane.sounds
    table.run_rate[row] = there.clock_rate
    table.run_start_us[row] = there.start_us
    table.least_skew_us[row] = there.least_skew_us
    table.run_lasts_us[row] = there.lasts_us
    table.last_skew_us[row] = there.last_skew_us
    table.stretch[row], table.low_us[row] = there.stretch, there.low_us


def hand_lows(table: StreamTable, row: int, lane: Lane) -> None:
    """Tell a lane the lows of its stream that are kept in the columns."""
    kept = table.lows_kept.item(row)
    if kept:
        lane.keep(map(Low._make, table.lows[row, :kept].tolist()))
        table.lows_kept[row] = 0


def follow_steady(
    table: StreamTable, order: Order, packets: Packets, one_type: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], list[Missing], list[int]]:
    """Follow the streams that go on as they did; returns which of the order's streams those are, what is
    missing from them, of which their lanes have to be told, and for which of them there is no more room for
    lows: these have to be handed to their lanes (:func:`hand_lows`).

    ``packets`` are sorted as ``order`` says; ``one_type`` tells the streams whose packets have one payload
    type.
    """
    rows, starts = order.rows, order.starts
    count = counts(starts, len(packets))
    ends = starts + count - 1
    payload_type = packets.payload_type[starts]
    kind, rate = table.kind[rows, payload_type], table.clock[rows, payload_type]
    # How long these sound is told by their size or their first byte, for all at once.
    steady: NDArray[np.bool_] = one_type & ((kind == PCMU) | (kind == PCMA) | (kind == OPUS))
    # Packets that come too late tell nothing of the clock.
    followed = table.followed[rows]
    steady &= (rate == table.run_rate[rows]) & (order.seq[starts] > followed)
    full = _full(table.timestamp[rows], packets.timestamp, starts, count)
    skew: NDArray[np.float64] = np.subtract(packets.time_us, full * np.repeat(1e6 / rate, count))
    sounding = one_type & (kind != TONE)
    if sounding.all():
        note_jitter(table, rows, starts, count, skew, rate == table.run_rate[rows])
    elif sounding.any():
        first = np.cumsum(count[sounding]) - count[sounding]
        its, mine = rows[sounding], skew[np.repeat(sounding, count)]
        note_jitter(table, its, first, count[sounding], mine, rate[sounding] == table.run_rate[its])
    least, most = np.minimum.reduceat(skew, starts), np.maximum.reduceat(skew, starts)
    lowest, last_skew = least, table.last_skew_us[rows]
    steady &= np.maximum(most, last_skew) - np.minimum(least, last_skew) <= LEAP_US
    stretch, single = _stretches(packets, starts)
    steady &= single & (stretch >= table.stretch[rows])
    begun, lasts = table.run_start_us[rows], table.run_lasts_us[rows]
    young, settled = lasts < SETTLE_US, begun + SETTLE_US
    if (young & (np.maximum.reduceat(packets.time_us, starts) >= settled)).any():
        near = packets.time_us < np.repeat(settled, count)
        least = np.minimum.reduceat(np.where(near, skew, np.inf), starts)
    least = np.where(young, np.minimum(table.least_skew_us[rows], least), table.least_skew_us[rows])
    lasts = np.maximum(lasts, packets.time_us[ends] - begun)
    # Numbers ascend: with as many as there should be none is missing, as from a stream that has just begun.
    gaps = steady & ~order.plain & (order.seq[ends] - followed != count)
    missing = _missing(table, order, packets, full, kind, gaps) if gaps.any() else []
    full_up = _lower(table, rows, stretch, lowest, steady)
    mine, at = rows[steady], ends[steady]
    table.least_skew_us[mine] = least[steady]
    table.run_lasts_us[mine] = lasts[steady]
    table.last_skew_us[mine] = skew[at]
    table.followed[mine], table.timestamp[mine] = order.seq[at], full[at]
    table.sounds[mine] = _sounds(kind[steady], packets, at)
    return steady, missing, full_up


def _stretches(packets: Packets, starts: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The stretch that each stream's packets arrived in, and whether it is one for all of them."""
    first, last = int(packets.time_us.min()) // LOW_US, int(packets.time_us.max()) // LOW_US
    if first == last:
        return np.full(len(starts), first), np.ones(len(starts), np.bool_)
    earliest = np.minimum.reduceat(packets.time_us, starts) // LOW_US
    return earliest, earliest == np.maximum.reduceat(packets.time_us, starts) // LOW_US


def _lower(
    table: StreamTable,
    rows: NDArray[np.intp],
    stretch: NDArray[np.int64],
    lowest: NDArray[np.float64],
    steady: NDArray[np.bool_],
) -> list[int]:
    """Keep the least skew of the stretch, and of those that are over; returns whose room is full now."""
    before, low = table.stretch[rows], table.low_us[rows]
    new = stretch != before
    over = np.flatnonzero(new & steady & (before >= 0))
    mine = rows[steady]
    table.stretch[mine] = stretch[steady]
    table.low_us[mine] = np.where(new, lowest, np.minimum(low, lowest))[steady]
    if not len(over):
        return []
    its = rows[over]
    kept = table.lows_kept[its]
    table.lows[its, kept, 0], table.lows[its, kept, 1] = (before[over] + 0.5) * LOW_US, low[over]
    table.lows_kept[its] += 1
    full: list[int] = over[kept == ROOM_FOR_LOWS - 1].tolist()
    return full


def _missing(
    table: StreamTable,
    order: Order,
    packets: Packets,
    full: NDArray[np.int64],
    kind: NDArray[np.uint8],
    which: NDArray[np.bool_],
) -> list[Missing]:
    """What is missing in the streams ``which``, whose timestamps on 64 bits are ``full``. The table still
    tells where they stood before."""
    number = np.repeat(np.arange(len(order.rows)), counts(order.starts, len(packets)))
    step = np.diff(order.seq, prepend=0)
    step[order.starts] = order.seq[order.starts] - table.followed[order.rows]
    after = np.flatnonzero((step > 1) & which[number])
    number, before = number[after], after - 1
    row, count = order.rows[number], step[after] - 1
    sounds = _sounds(kind[number], packets, before)
    first = order.starts[number] == after
    columns = (
        number,
        order.seq[after] - count,
        count,
        np.where(first, table.timestamp[row], full[before]),
        np.where(first, table.sounds[row], sounds),
        full[after],
    )
    return list(map(Missing, *(column.tolist() for column in columns)))


def _full(
    before: NDArray[np.int64],
    timestamp: NDArray[np.uint32],
    starts: NDArray[np.intp],
    count: NDArray[np.intp],
) -> NDArray[np.int64]:
    """Timestamps on 64 bits, of packets that are nearer to the newest one before than half the range.

    Unsigned differences wrap as the timestamps do; read as signed they are the steps, forward or back.
    """
    first = timestamp[starts]
    start = before + (first - before.astype(np.uint32)).view(np.int32)
    since = (timestamp - np.repeat(first, count)).view(np.int32)
    full: NDArray[np.int64] = np.repeat(start, count) + since
    return full


def _sounds(kind: NDArray[np.uint8], packets: Packets, at: NDArray[np.intp]) -> NDArray[np.int32]:
    """How long the packets ``at`` sound, in units of their clocks: a byte is a sample of G.711."""
    out = packets.size[at]
    opus = np.flatnonzero(kind == OPUS)
    if len(opus):
        head = packets.payload[at[opus], :2]
        known = np.minimum(out[opus], head.shape[1])
        first_bytes = head[np.arange(head.shape[1]) < known[:, None]]
        out[opus] = opus_toc.durations(first_bytes, known)
    return out
