"""Packets in columns for the tests of the media stage."""

from collections.abc import Sequence

import numpy as np

from recorderd.media.streams import StreamTable
from recorderd.media.table import Packets

PTIME_US = 20_000


def packets(
    numbers: Sequence[int],
    *,
    stream: int | Sequence[int] = 0,
    time_us: Sequence[int] | None = None,
    start_us: int = 1_000_000,
    size: int = 4,
) -> Packets:
    """Packets of the given sequence numbers in order of arrival; each payload holds its number."""
    count = len(numbers)
    seq = np.array(numbers, np.int64)
    payload = np.zeros((count, size), np.uint8)
    payload[:, :4] = seq.astype("<u4").view(np.uint8).reshape(count, 4)
    return Packets(
        time_us=np.array(
            time_us if time_us is not None else start_us + PTIME_US * np.arange(count), np.int64
        ),
        stream=np.broadcast_to(np.array(stream, np.int32), (count,)).copy(),
        seq=(seq & 0xFFFF).astype(np.uint16),
        timestamp=(seq * 160 & 0xFFFFFFFF).astype(np.uint32),
        payload_type=np.zeros(count, np.uint8),
        marker=np.zeros(count, np.bool_),
        size=np.full(count, size, np.int32),
        payload=payload,
    )


def numbers(taken: Packets) -> list[int]:
    """The numbers that the payloads hold."""
    if not len(taken):
        return []
    return taken.payload[:, :4].copy().view("<u4")[:, 0].tolist()


def table_of(streams: int) -> StreamTable:
    """A stream table whose first rows are bound to one session, in lanes 0, 1, ..."""
    table = StreamTable()
    rows, _ = table.identify(np.arange(1, streams + 1, dtype=np.uint64))
    table.owner[rows] = 0
    table.lane[rows] = np.arange(streams)
    return table
