"""RTP headers as columns (RFC 3550 section 5.1), and where the coded audio lies behind them."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.wire.columns import blocks, column
from recorderd.wire.frames import Frames
from recorderd.wire.media_packets import MediaPackets
from recorderd.wire.stream_key import StreamKey

FIXED_HEADER = 12
PLAIN = 0x80  # version 2; no padding, no extension, no CSRC
PADDING, EXTENSION, CSRC_COUNT = 0x20, 0x10, 0x0F


class UdpPayloads(NamedTuple):
    """Wholly captured UDP payloads within a matrix of frames: one array of length n a field.

    ``addresses`` and ``ports`` (source << 16 | destination) are what the stream key is made of, with the
    SSRC.
    """

    row: NDArray[np.intp]
    network_at: NDArray[np.int32]
    transport_at: NDArray[np.int32]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    addresses: NDArray[np.uint64]
    ports: NDArray[np.uint32]

    def where(self, mask: NDArray[np.bool_]) -> "UdpPayloads":
        """Those for which the mask is true."""
        if mask.all():
            return self
        return UdpPayloads(
            self.row[mask],
            self.network_at[mask],
            self.transport_at[mask],
            self.start[mask],
            self.end[mask],
            self.addresses[mask],
            self.ports[mask],
        )


def parse_rtp(frames: Frames, payloads: UdpPayloads, keys: StreamKey, counters: Counter[str]) -> MediaPackets:
    """RTP columns of payloads of 12 bytes or more. Counts 'media', 'rtp_invalid' and 'rtp_padding_zero'.

    What is counted as invalid for its padding alone is among them, with a payload length of -1.
    """
    header = blocks(frames.data, payloads.row, payloads.start, FIXED_HEADER)
    start, end = payloads.start + FIXED_HEADER, payloads.end
    adorned = np.flatnonzero(header[:, 0] != PLAIN)
    if len(adorned):
        end = end.copy()
        flags = header[adorned, 0]
        start[adorned], end[adorned] = _without_adornments(
            frames, payloads.row[adorned], flags, start[adorned], end[adorned], counters
        )
        fits = start <= end
        if not fits.all():
            counters["rtp_invalid"] += int((~fits).sum())
            # In SRTP the count of padding is encrypted: where that is all that does not fit, keys may tell.
            fits = start <= payloads.end
            end = np.where(start <= end, end, start - 1)
            payloads, header, start, end = payloads.where(fits), header[fits], start[fits], end[fits]
    counters["media"] += int(np.count_nonzero(start <= end))
    ssrc = column(header, 8, ">u4")
    second = header[:, 1]
    return MediaPackets(
        time_ns=frames.time_ns if len(header) == len(frames) else frames.time_ns[payloads.row],
        key=keys.key(payloads.addresses, payloads.ports, ssrc),
        seq=column(header, 2, ">u2"),
        timestamp=column(header, 4, ">u4"),
        ssrc=ssrc,
        payload_type=second & np.uint8(0x7F),
        marker=second >= 0x80,
        payload_at=start,
        payload_len=end - start,
        row=payloads.row,
        network_at=payloads.network_at,
        transport_at=payloads.transport_at,
        data=frames.data,
    )


def _without_adornments(
    frames: Frames,
    row: NDArray[np.intp],
    flags: NDArray[np.uint8],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    counters: Counter[str],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Where the audio begins and ends after CSRCs, header extension and padding; begins after its end if they
    do not fit.

    Some senders set the padding bit and end in a count of 0, which RFC 3550 does not know: counted, the
    payload kept.
    """
    start = start + (flags & CSRC_COUNT).astype(np.int32) * 4
    extended = np.flatnonzero(((flags & EXTENSION) != 0) & (start + 4 <= end))
    words = column(blocks(frames.data, row[extended], start[extended], 4), 2, ">u2").astype(np.int32)
    headless = ((flags & EXTENSION) != 0) & (start + 4 > end)
    start[extended] += 4 + words * 4
    start[headless] = end[headless] + 1
    padded = np.flatnonzero(((flags & PADDING) != 0) & (start < end))
    count = blocks(frames.data, row[padded], end[padded] - np.int32(1), 1)[:, 0]
    counters["rtp_padding_zero"] += int((count == 0).sum())
    end = end.copy()
    end[padded] -= count
    # A padding bit on an empty payload has no count to stand in: the header is wrong.
    end[((flags & PADDING) != 0) & (start == end) & ~_among(padded, len(end))] -= 1
    return start, end


def _among(index: NDArray[np.intp], length: int) -> NDArray[np.bool_]:
    mask = np.zeros(length, np.bool_)
    mask[index] = True
    return mask
