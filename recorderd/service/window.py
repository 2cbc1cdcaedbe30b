"""A window's packets on their way from the table to the recordings: sorted, as rows of the container, and cut
into the parts of streams and of sessions.

What has to be known of a part (is it all of one size, of one type, when does it begin) is worked out here for
all of them at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.media.columns import counts
from recorderd.media.sequence import Order
from recorderd.media.streams import TONE, StreamTable
from recorderd.media.table import Packets
from recorderd.spool.container import PACKET_ROW, ROW_BYTES

WINDOW_NS: Final = 1_000_000_000

MAX_TIME: Final = 0xFFFF_FFFF
"""A clock that leaps within a window must not wrap what has 32 bits."""


class Part(NamedTuple):
    """The packets of one session: rows ``first`` to ``last`` of the window."""

    owner: int
    first: int
    last: int
    base_us: int
    """The earliest arrival."""
    size: int
    """Bytes of every payload; -1 where they differ."""


@dataclass(frozen=True, slots=True)
class Window:
    """The sorted packets of one window, and of its streams ``starts``, ``ends`` and what they are.

    ``rows`` are the bytes of PACKET_ROW records (n), their times relative to the session's part; ``kind`` (n)
    says what each packet carries (see :mod:`recorderd.media.streams`); ``one_type`` (streams) whether a
    stream's packets have one payload type; ``payload`` are the bytes of the packets' matrix, ``width`` each.
    """

    order: Order
    packets: Packets
    owner: NDArray[np.int32]
    lane: NDArray[np.int32]
    count: NDArray[np.intp]
    one_type: NDArray[np.bool_]
    kind: NDArray[np.uint8]
    rows: memoryview
    parts: list[Part]
    payload: memoryview
    width: int

    @property
    def ends(self) -> NDArray[np.intp]:
        """Where each stream ends."""
        return self.order.starts + self.count

    def with_tones(self) -> NDArray[np.intp]:
        """Which streams have RFC 4733 events among their packets."""
        found = np.flatnonzero(self.kind == TONE)
        return np.unique(np.searchsorted(self.order.starts, found, side="right") - 1)

    def rows_of(self, part: Part) -> memoryview:
        """The rows of a part."""
        return self.rows[part.first * ROW_BYTES : part.last * ROW_BYTES]

    def coded(self, part: Part) -> bytes | memoryview:
        """The payloads of a part, one after the other."""
        width = self.width
        if part.size == width:
            return self.payload[part.first * width : part.last * width]
        payload = self.packets.payload[part.first : part.last]
        if part.size >= 0:
            return payload[:, : part.size].tobytes()
        return payload[np.arange(width) < self.packets.size[part.first : part.last, None]].tobytes()


def make_window(order: Order, packets: Packets, table: StreamTable) -> Window:
    """Work out a window of at least one packet."""
    starts = order.starts
    count = counts(starts, len(packets))
    owner, lane = table.owner[order.rows], table.lane[order.rows]
    payload_type = packets.payload_type
    first_type = payload_type[starts]
    one_type = np.ones(len(starts), np.bool_)
    kind = np.repeat(table.kind[order.rows, first_type], count)
    other = np.flatnonzero(payload_type != np.repeat(first_type, count))
    if len(other):
        one_type[np.searchsorted(starts, other, side="right") - 1] = False
        kind[other] = table.kind[order.stream[other], payload_type[other]]
    rows = np.empty(len(packets), PACKET_ROW)
    rows["seq"] = order.seq
    rows["timestamp"] = packets.timestamp
    rows["size"] = packets.size
    rows["stream"] = np.repeat(lane.astype(np.uint8), count)
    rows["payload_type"] = payload_type | packets.marker.view(np.uint8) << 7
    parts = list(_parts(packets, rows, owner, starts))
    raw, payload = rows.view(np.uint8).data, packets.payload.reshape(-1).data
    width = packets.payload.shape[1]
    return Window(order, packets, owner, lane, count, one_type, kind, raw, parts, payload, width)


def _parts(
    packets: Packets, rows: NDArray[np.void], owner: NDArray[np.int32], starts: NDArray[np.intp]
) -> Iterator[Part]:
    edge = np.flatnonzero(np.diff(owner, prepend=-1))
    first = starts[edge]
    last = np.append(first[1:], len(packets))
    base = np.minimum.reduceat(packets.time_us, first)
    rows["time"] = np.minimum(packets.time_us - np.repeat(base, last - first), MAX_TIME)
    least, most = np.minimum.reduceat(packets.size, first), np.maximum.reduceat(packets.size, first)
    size = np.where(least == most, least, -1)
    columns = (owner[edge], first, last, base, size)
    return map(Part, *(column.tolist() for column in columns))
