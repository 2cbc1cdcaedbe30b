"""RTP packets as columns: what the dissector makes of frames, and what the media stage works on."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from recorderd.wire.endpoint import Endpoint, packed_host


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MediaPackets:
    """RTP packets in the order of their capture: one array of length n a field, one row of ``data`` a packet.

    ``key`` is a seeded hash of source and destination address and port and of the SSRC: equal for the packets
    of one stream and direction, whatever VLAN or link type they came over. ``payload_at`` and ``payload_len``
    tell the coded audio within the row, after CSRCs and header extension and before padding (RFC 3550 section
    5.1); the length may be 0, and is -1 where the padding does not fit: that of SRTP is encrypted.
    ``time_ns`` is the capture clock, UTC since the epoch.
    """

    time_ns: NDArray[np.int64]
    key: NDArray[np.uint64]
    seq: NDArray[np.uint16]
    timestamp: NDArray[np.uint32]
    ssrc: NDArray[np.uint32]
    payload_type: NDArray[np.uint8]
    marker: NDArray[np.bool_]
    payload_at: NDArray[np.int32]
    payload_len: NDArray[np.int32]
    row: NDArray[np.intp]
    network_at: NDArray[np.int32]
    """Where the IP header starts in the row."""
    transport_at: NDArray[np.int32]
    """Where the UDP header starts in the row."""
    data: NDArray[np.uint8]
    """The matrix (rows, width) that ``row`` points into; it may hold frames that are no media."""

    def __len__(self) -> int:
        return len(self.time_ns)

    def where(self, mask: NDArray[np.bool_]) -> "MediaPackets":
        """The packets for which the mask is true, in the same matrix."""
        if mask.all():
            return self
        columns = {name: getattr(self, name)[mask] for name in COLUMNS}
        return MediaPackets(**columns, data=self.data)

    def endpoints(self, index: int) -> tuple[Endpoint, Endpoint]:
        """Source and destination of one packet: the slow way, for the first packet of a stream."""
        row = self.data[self.row[index]]
        return read_endpoints(row, int(self.network_at[index]), int(self.transport_at[index]))

    def payload(self, index: int) -> bytes:
        """The coded audio of one packet."""
        at = int(self.payload_at[index])
        return self.data[self.row[index], at : at + int(self.payload_len[index])].tobytes()


COLUMNS = tuple(item.name for item in fields(MediaPackets) if item.name != "data")


def joined(first: MediaPackets, second: MediaPackets) -> MediaPackets:
    """Packets of the same matrix as one, in the order of its rows."""
    if not len(second):
        return first
    order = np.argsort(np.concatenate([first.row, second.row]), kind="stable")
    columns = {name: np.concatenate([getattr(first, name), getattr(second, name)])[order] for name in COLUMNS}
    return MediaPackets(**columns, data=first.data)


def in_order(parts: list[MediaPackets], places: list[NDArray[np.intp]]) -> MediaPackets:
    """Parts with matrices of their own as one, sorted by the packets' places; copies the rows it needs."""
    order = np.argsort(np.concatenate(places), kind="stable")
    columns = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in COLUMNS}
    data = np.zeros((len(order), max(part.data.shape[1] for part in parts)), np.uint8)
    start = 0
    for part in parts:
        data[start : start + len(part), : part.data.shape[1]] = part.data[part.row]
        start += len(part)
    columns["row"] = order
    return MediaPackets(**columns, data=data)


# Few addresses come again and again, and the text of one takes longer than all the rest of a SIP datagram.
_host = lru_cache(maxsize=4096)(packed_host)


def _endpoint(address: bytes, port: bytes) -> Endpoint:
    return Endpoint(_host(address), int.from_bytes(port))


# A telephone's signalling comes from one port, while each of its streams has another.
_usual_endpoint = lru_cache(maxsize=4096)(_endpoint)


def read_endpoints(row: NDArray[np.uint8], network_at: int, transport_at: int) -> tuple[Endpoint, Endpoint]:
    """Source and destination from the IP header and the UDP (or TCP) ports of one frame."""
    return _ends(row.tobytes(), network_at, transport_at, _endpoint)


def usual_endpoints(frame: bytes, network_at: int, transport_at: int) -> tuple[Endpoint, Endpoint]:
    """The same of a frame's bytes, between ends that are likely to be met again."""
    return _ends(frame, network_at, transport_at, _usual_endpoint)


def _ends(
    frame: bytes, network_at: int, transport_at: int, endpoint: Callable[[bytes, bytes], Endpoint]
) -> tuple[Endpoint, Endpoint]:
    at, size = (network_at + 12, 4) if frame[network_at] >> 4 == 4 else (network_at + 8, 16)
    middle, ports = at + size, transport_at + 2
    return (
        endpoint(frame[at:middle], frame[transport_at:ports]),
        endpoint(frame[middle : middle + size], frame[ports : ports + 2]),
    )
