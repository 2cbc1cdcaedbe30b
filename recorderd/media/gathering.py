"""From captured packets to waiting ones."""

import numpy as np
from numpy.typing import NDArray

from recorderd.media.srtp import Sealed, header_lengths
from recorderd.media.table import Packets
from recorderd.wire.columns import blocks, column
from recorderd.wire.media_packets import MediaPackets


def gathered(media: MediaPackets, stream: NDArray[np.int32]) -> Packets:
    """The packets with their payloads, which stay where they are in the frames if they can."""
    width = int(media.payload_len.max())
    first = int(media.payload_at[0])
    whole = len(media) == len(media.data)
    if (media.payload_at == first).all() and first + width <= media.data.shape[1]:
        part = media.data[:, first : first + width]
        payload = part if whole else part[media.row]
    else:
        payload = np.zeros((len(media), width), np.uint8)
        for at in np.unique(media.payload_at).tolist():
            which = np.flatnonzero(media.payload_at == at)
            part = media.data[:, at : at + width]
            payload[which, : part.shape[1]] = part[media.row[which]]
    return Packets(
        media.time_ns // 1000,
        stream,
        media.seq,
        media.timestamp,
        media.payload_type,
        media.marker,
        media.payload_len,
        payload,
    )


UDP_HEADER = 8


def gathered_whole(media: MediaPackets, stream: NDArray[np.int32]) -> Packets:
    """The packets with all that UDP carried: ``payload`` begins with the RTP header."""
    start = media.transport_at + np.int32(UDP_HEADER)
    size = column(blocks(media.data, media.row, media.transport_at, UDP_HEADER), 4, ">u2").astype(np.int32)
    size -= UDP_HEADER
    width = int(size.max())
    payload = np.zeros((len(media), width), np.uint8)
    for at in np.unique(start).tolist():
        which = np.flatnonzero(start == at)
        part = media.data[media.row[which], at : at + width]
        payload[which, : part.shape[1]] = part
    return Packets(
        media.time_ns // 1000,
        stream,
        media.seq,
        media.timestamp,
        media.payload_type,
        media.marker,
        size,
        payload,
    )


def as_sealed(packets: Packets) -> Sealed:
    """Whole packets as what SRTP works on."""
    return Sealed(packets.payload, packets.size, header_lengths(packets.payload, packets.size))
