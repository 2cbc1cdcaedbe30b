"""From captured packets to waiting ones."""

import numpy as np
from numpy.typing import NDArray

from recorderd.media.table import Packets
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
