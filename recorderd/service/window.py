"""A window's packets as the engine hands them to the recordings: sorted, and cut into stretches of one
stream.

What a stretch must be asked (is it all of one size, of one type, are there tones in it) is worked out here
for all of them at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.media.clock import Steady
from recorderd.media.lane import Lane
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


def steady(
    window: WindowRows, parts: Sequence[Stretch], lanes: Sequence[Lane], clock: NDArray[np.int32]
) -> list[Steady | None]:
    """What the clock of each stretch's lane needs to know, all worked out together.

    ``clock`` is the RTP clock in Hz, a value a packet. None for stretches that must be followed packet by
    packet.
    """
    packets = window.packets
    starts = np.array([part.first for part in parts])
    ends = np.array([part.last for part in parts])
    count = ends - starts
    steps = np.zeros(len(window.seq), np.int32)
    np.subtract(packets.timestamp[1:], packets.timestamp[:-1], out=steps[1:].view(np.uint32))
    steps[starts] = 0
    since = np.cumsum(steps, dtype=np.int64)
    first = [lane.full(int(t)) for lane, t in zip(lanes, packets.timestamp[starts].tolist(), strict=True)]
    full = since + np.repeat(np.array(first) - since[starts], count)
    skew = packets.time_us - full * (1e6 / clock)
    plain = (window.seq[ends - 1] - window.seq[starts] == count - 1).tolist()
    columns = (
        window.seq[starts],
        window.seq[ends - 1],
        full[ends - 1],
        np.minimum.reduceat(skew, starts),
        np.maximum.reduceat(skew, starts),
        skew[ends - 1],
        np.maximum.reduceat(packets.time_us, starts),
        packets.time_us[ends - 1],
    )
    facts = zip(*(column.tolist() for column in columns), strict=True)
    return [
        Steady(*fact) if good and part.payload_type >= 0 else None
        for fact, good, part in zip(facts, plain, parts, strict=True)
    ]
