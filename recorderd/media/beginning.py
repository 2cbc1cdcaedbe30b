"""Begins the clocks of all new streams of a window at once.

A stream's clock begins with its first packet. Where that is sound of a usual codec, and nothing is missing
from its first window, it is put into the columns of the stream table as if the packet before it had just been
followed: from there on the stream is one that goes on as it did, or does not
(:mod:`recorderd.media.following`), and nothing more is to be known of a beginning. All other streams begin on
their lanes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.media.clock import FIRST_TURN
from recorderd.media.sequence import Order
from recorderd.media.streams import OPUS, PCMA, PCMU, StreamTable
from recorderd.media.table import Packets


class Begun(NamedTuple):
    """The clock of one of an order's streams, ``at``, has begun: the arguments of
    :meth:`recorderd.media.lane.Lane.begin`."""

    at: int
    seq: int
    timestamp: int
    clock_rate: int
    start_us: float
    skew_us: float


def begin_clocks(
    table: StreamTable, order: Order, packets: Packets, one_type: NDArray[np.bool_]
) -> list[Begun]:
    """Begin what is new; returns which of the order's streams that are: their lanes have to be told.

    ``packets`` are sorted as ``order`` says; ``one_type`` tells the streams whose packets have one payload
    type.
    """
    new = np.flatnonzero(one_type & (table.followed[order.rows] == 0))
    if not len(new):
        return []
    count = np.diff(order.starts, append=len(packets))[new]
    first = order.starts[new]
    payload_type = packets.payload_type[first]
    kind = table.kind[order.rows[new], payload_type]
    usual = (kind == PCMU) | (kind == PCMA) | (kind == OPUS)
    usual &= order.seq[first + count - 1] - order.seq[first] == count - 1
    new, first, payload_type = new[usual], first[usual], payload_type[usual]
    rows = order.rows[new]
    rate, seq, start_us = table.clock[rows, payload_type], order.seq[first], packets.time_us[first]
    timestamp = packets.timestamp[first] + np.int64(FIRST_TURN)
    skew = start_us - timestamp * (1e6 / rate)
    table.followed[rows], table.timestamp[rows], table.run_rate[rows] = seq - 1, timestamp, rate
    table.run_start_us[rows], table.run_lasts_us[rows] = start_us, 0.0
    table.least_skew_us[rows] = table.last_skew_us[rows] = skew
    table.stretch[rows], table.low_us[rows] = -1, 0.0
    columns = new, seq, timestamp, rate, start_us.astype(np.float64), skew
    return list(map(Begun, *(column.tolist() for column in columns)))
