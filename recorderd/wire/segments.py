"""TCP segments of some ports within a matrix of frames (RFC 9293 section 3.1)."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.wire.columns import blocks, column
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.frames import Frames
from recorderd.wire.ip import Datagrams
from recorderd.wire.media_packets import read_endpoints
from recorderd.wire.tcp import Segment

HEADER = 20


class RowSegment(NamedTuple):
    """A segment, and the row that it came in."""

    row: int
    key: bytes
    """Its direction: both addresses, both ports."""
    segment: Segment
    endpoints: Callable[[], tuple[Endpoint, Endpoint]]
    """Its source and destination."""


def find_segments(frames: Frames, found: Datagrams, is_wanted: NDArray[np.bool_]) -> Iterator[RowSegment]:
    """The segments to or from a wanted port (bool, 65,536 of them), rows ascending; whole headers only.

    Long ones that a network card merged (GRO) are segments like any other.
    """
    inside = np.minimum(frames.caplen[found.row], found.end)
    found = found.where(found.transport_at + HEADER <= inside)
    header = blocks(frames.data, found.row, found.transport_at, HEADER)
    source, destination = column(header, 0, ">u2"), column(header, 2, ">u2")
    start = found.transport_at + (header[:, 12] >> 4).astype(np.int32) * 4
    wanted = is_wanted[source] | is_wanted[destination]
    wanted &= (start >= found.transport_at + HEADER) & (start <= found.end)
    sequence = column(header, 4, ">u4")
    for n in np.flatnonzero(wanted):
        row, network, transport = int(found.row[n]), int(found.network_at[n]), int(found.transport_at[n])
        data, end = frames.data[row], int(found.end[n])
        captured = min(end, int(frames.caplen[row]))
        payload = data[int(start[n]) : captured].tobytes()
        addresses = (network + 8, network + 40) if data[network] >> 4 == 6 else (network + 12, network + 20)
        yield RowSegment(
            row,
            data[slice(*addresses)].tobytes() + header[n, :4].tobytes(),
            Segment(
                int(sequence[n]),
                int(header[n, 13]),
                payload,
                int(frames.time_ns[row]),
                end - max(captured, int(start[n])),
            ),
            partial(read_endpoints, data, network, transport),
        )
