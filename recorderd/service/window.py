"""A window's packets as the engine hands them to the recordings: sorted, and cut into stretches of one
stream.

What a stretch must be asked (is it all of one size, of one type, are there tones in it) is worked out here
for all of them at once.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.media.sequence import Order
from recorderd.media.streams import TONE
from recorderd.media.table import Packets


class Stretch(NamedTuple):
    """The rows ``first`` to ``last`` of a window: the packets of one stream."""

    first: int
    last: int
    stream: int
    """Row in the stream table."""
    lane: int
    """Index within the recording."""
    size: int
    """Bytes of every payload; -1 where they differ."""
    payload_type: int
    """Payload type of every packet; -1 where they differ."""
    tones: bool
    """Whether there are RFC 4733 events among them."""


@dataclass(frozen=True, slots=True)
class WindowRows:
    """The sorted packets of one window: parallel columns, one row a packet.

    ``rows`` are PACKET_ROW records but for their time, which is relative to a recording's record; ``kind``
    says what each packet carries (see :mod:`recorderd.media.streams`).
    """

    seq: NDArray[np.int64]
    packets: Packets
    rows: NDArray[np.void]
    kind: NDArray[np.uint8]


def stretches(
    order: Order, packets: Packets, lanes: NDArray[np.int32], kind: NDArray[np.uint8]
) -> list[Stretch]:
    """Cut the sorted packets of a window at every change of stream; ``lanes`` and ``kind`` have a value a
    packet.
    """
    starts = order.starts
    ends = [*starts[1:].tolist(), len(order.seq)]
    return [
        Stretch(*fields)
        for fields in zip(
            starts.tolist(),
            ends,
            order.stream[starts].tolist(),
            lanes[starts].tolist(),
            _common(packets.size, starts),
            _common(packets.payload_type.astype(np.int32), starts),
            np.logical_or.reduceat(kind == TONE, starts).tolist(),
            strict=True,
        )
    ]


def _common(column: NDArray[np.int32], starts: NDArray[np.intp]) -> list[int]:
    """The value that all rows of a stretch share, or -1."""
    least, most = np.minimum.reduceat(column, starts), np.maximum.reduceat(column, starts)
    common: list[int] = np.where(least == most, least, -1).tolist()
    return common
