"""Redundant audio data (RFC 2198): each packet carries the sound of its own time, the *primary* block, and
older blocks again, in case the packets that had them first were lost.

What is recorded are the primary blocks, as packets of their own payload type, and in the place of a packet
that is missing the older block that has what it had. Then nothing is lost there, and nothing but this module
knows of it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from recorderd.media.sequence import Order
from recorderd.media.streams import RED, StreamTable
from recorderd.media.table import Packets, concatenate

MAX_BLOCKS: Final = 16
"""Older blocks of a packet that are looked at: more is nothing that anybody sends."""


class Block(NamedTuple):
    """A block: what it is, how much earlier than the packet's timestamp, and its bytes."""

    payload_type: int
    earlier: int
    coded: bytes


def blocks_of(payload: bytes) -> list[Block] | None:
    """The blocks of a payload (RFC 2198 section 3), the primary one last; None where it is malformed."""
    headers: list[tuple[int, int, int]] = []
    at = 0
    while at < len(payload) and payload[at] & 0x80:
        if at + 4 > len(payload) or len(headers) == MAX_BLOCKS:
            return None
        rest = int.from_bytes(payload[at + 1 : at + 4], "big")
        headers.append((payload[at] & 0x7F, rest >> 10, rest & 0x3FF))
        at += 4
    if at >= len(payload):
        return None
    primary = payload[at]
    at += 1
    found: list[Block] = []
    for payload_type, earlier, length in headers:
        if at + length > len(payload):
            return None
        found.append(Block(payload_type, earlier, payload[at : at + length]))
        at += length
    return [*found, Block(primary, 0, payload[at:])]


class _Found(NamedTuple):
    at: int
    seq: int
    timestamp: int
    block: Block


def opened(
    order: Order, packets: Packets, table: StreamTable, recovered: Callable[[int, int], bool]
) -> tuple[Order, Packets]:
    """A window with the blocks in the place of the packets that carried them.

    ``recovered(row, seq)`` is called with what an older block has; it tells whether that is missing.
    """
    stream = order.stream
    which = np.flatnonzero(table.kind[stream, packets.payload_type] == RED)
    if not len(which):
        return order, packets
    packets = replace(
        packets,
        payload_type=packets.payload_type.copy(),
        size=packets.size.copy(),
        payload=packets.payload.copy(),
    )
    extra: list[_Found] = []
    for at in which.tolist():
        blocks = blocks_of(packets.payload[at, : packets.size[at]].tobytes())
        if blocks is None:
            continue
        *older, primary = blocks
        _put(packets, at, primary)
        row, seq, timestamp = int(stream[at]), int(order.seq[at]), int(packets.timestamp[at])
        same = at > 0 and stream[at - 1] == row
        step = _step(order, packets, at) if same else 0
        for back, block in zip(range(len(older), 0, -1), older, strict=True):
            distance = block.earlier // step if step and not block.earlier % step else back
            if block.coded and distance and recovered(row, seq - distance):
                extra.append(_Found(at, seq - distance, timestamp - block.earlier, block))
    return _with(order, packets, extra) if extra else (order, packets)


def _put(packets: Packets, at: int, block: Block) -> None:
    packets.payload_type[at], packets.size[at] = block.payload_type, len(block.coded)
    packets.payload[at, : len(block.coded)] = np.frombuffer(block.coded, np.uint8)


def _step(order: Order, packets: Packets, at: int) -> int:
    """How much of its clock a packet lasts, by the one before it; 0 where that does not tell."""
    passed = (int(packets.timestamp[at]) - int(packets.timestamp[at - 1])) % (1 << 32)
    count = int(order.seq[at] - order.seq[at - 1])
    return passed // count if not passed % count and passed < 1 << 16 else 0


def _with(order: Order, packets: Packets, extra: list[_Found]) -> tuple[Order, Packets]:
    """The recovered packets in their places."""
    after = np.array([found.at for found in extra], np.intp)
    more = packets.select(after)
    for at, found in enumerate(extra):
        _put(more, at, found.block)
        more.seq[at] = found.seq & 0xFFFF
        more.timestamp[at] = found.timestamp % (1 << 32)
        more.marker[at] = False
    count = np.diff(order.starts, append=len(packets))
    number = np.repeat(np.arange(len(order.rows)), count)
    seq = np.concatenate([order.seq, np.array([found.seq for found in extra], np.int64)])
    numbers = np.concatenate([number, number[after]])
    place = np.lexsort((seq, numbers))
    counts = np.bincount(numbers, minlength=len(order.rows))
    plain = order.plain & (counts == count)
    position = np.concatenate([order.position, order.position[after]])[place]
    starts = np.cumsum(counts) - counts
    both = concatenate([packets, more]).select(place)
    return Order(position, seq[place], starts, order.rows, plain), both
