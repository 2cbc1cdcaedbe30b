"""A window's packets on their way from the table to the recordings: sorted, as rows of the container, and cut
into the parts of streams and of sessions.

What has to be known of a part (is it all of one size, of one type, when does it begin) is worked out here for
all of them at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.media.columns import counts
from recorderd.media.sequence import Order
from recorderd.media.streams import TONE, StreamTable
from recorderd.media.table import Packets
from recorderd.spool.container import PACKET_ROW, ROW_BYTES, Even

WINDOW_NS: Final = 1_000_000_000

MAX_TIME: Final = 0xFFFF_FFFF
"""A clock that leaps within a window must not wrap what has 32 bits."""


_Span = tuple[int, int, int, int, int]
"""The packets of one session: whose, from which row of the window to which, the earliest arrival in
microseconds, and the bytes of every payload, -1 where they differ."""


Part = tuple[int, int, memoryview, bytes | memoryview, Even | None]
"""The packets of one session: its number, the earliest arrival in microseconds, the rows, the payloads one
after the other, and what is known of the rows."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Window:
    """The sorted packets of one window, and of its streams ``starts``, ``ends`` and what they are.

    ``rows`` are the bytes of PACKET_ROW records (n), their times relative to the session's part; ``kind`` (n)
    says what each packet carries (see :mod:`recorderd.media.streams`); ``one_type`` (streams) whether a
    stream's packets have one payload type; ``streams`` (n) says which of its session's streams each packet is
    of; ``payload`` are the bytes of the packets' matrix, ``width`` each.
    """

    order: Order
    packets: Packets
    owner: NDArray[np.int32]
    lane: NDArray[np.int32]
    count: NDArray[np.intp]
    one_type: NDArray[np.bool_]
    kind: NDArray[np.uint8]
    rows: memoryview
    streams: bytes
    spans: list[_Span]
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

    def parts(self) -> Iterator[Part]:
        """The packets of each session."""
        rows, streams, payload, width = self.rows, self.streams, self.payload, self.width
        for owner, first, last, base_us, size in self.spans:
            same = size == width
            coded = payload[first * width : last * width] if same else self._coded(first, last, size)
            even = (streams[first:last], size) if size >= 0 else None
            yield owner, base_us, rows[first * ROW_BYTES : last * ROW_BYTES], coded, even

    def _coded(self, first: int, last: int, size: int) -> bytes:
        payload = self.packets.payload[first:last]
        if size >= 0:
            return payload[:, :size].tobytes()
        return payload[np.arange(self.width) < self.packets.size[first:last, None]].tobytes()


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
    rows["stream"] = streams = np.repeat(lane.astype(np.uint8), count)
    rows["payload_type"] = payload_type | packets.marker.view(np.uint8) * np.uint8(128)
    spans = list(_spans(packets, rows, owner, starts))
    raw, payload = rows.view(np.uint8).data, packets.payload.reshape(-1).data
    width = packets.payload.shape[1]
    return Window(
        order, packets, owner, lane, count, one_type, kind, raw, streams.tobytes(), spans, payload, width
    )


def _spans(
    packets: Packets, rows: NDArray[np.void], owner: NDArray[np.int32], starts: NDArray[np.intp]
) -> Iterator[_Span]:
    edge = np.flatnonzero(np.diff(owner, prepend=-1))
    first = starts[edge]
    last = np.append(first[1:], len(packets))
    base = np.minimum.reduceat(packets.time_us, first)
    since = np.repeat(base, last - first)
    np.subtract(packets.time_us, since, out=since)
    rows["time"] = np.minimum(since, MAX_TIME, out=since)
    least, most = np.minimum.reduceat(packets.size, first), np.maximum.reduceat(packets.size, first)
    size = np.where(least == most, least, -1)
    columns = (owner[edge], first, last, base, size)
    return zip(*(column.tolist() for column in columns), strict=True)
