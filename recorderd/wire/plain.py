"""The usual packet, found without taking it apart: RTP with its fixed header alone, in UDP, in IPv4 without
options, in Ethernet without tags.

Nearly all packets of a host are that. All their fields stand at fixed places, so a handful of masked
comparisons tells them, and one look at each field reads them. Whatever differs in anything is left to the
dissector, which would have said the same of these.
"""

import sys
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from recorderd.wire.columns import together
from recorderd.wire.frames import Frames, LinkType
from recorderd.wire.media_packets import MediaPackets
from recorderd.wire.stream_key import StreamKey

NETWORK_AT: Final = 14
TRANSPORT_AT: Final = NETWORK_AT + 20
RTP_AT: Final = TRANSPORT_AT + 8
PAYLOAD_AT: Final = RTP_AT + 12


def _word(*parts: tuple[int, int]) -> np.uint64:
    """Eight bytes as the number that a load of this machine makes of them, from (place, value) pairs."""
    raw = bytearray(8)
    for place, value in parts:
        raw[place] = value
    return np.uint64(int.from_bytes(raw, sys.byteorder))


# Bytes 12 to 19: EtherType IPv4, version 4 with a header of 20 bytes.
_TYPE_MASK, _TYPE = _word((0, 255), (1, 255), (2, 255)), _word((0, 0x08), (2, 0x45))
# Bytes 20 to 27: neither More Fragments nor an offset; UDP.
_WHOLE_MASK, _WHOLE = _word((0, 0x3F), (1, 255), (3, 255)), _word((3, 17))


def _field(data: NDArray[np.uint8], at: int, dtype: DTypeLike) -> NDArray[Any]:
    """The number at byte ``at`` of every row, as it stands in memory: no copy."""
    return np.ndarray((len(data),), dtype, data, at, (data.strides[0],))


def _number(data: NDArray[np.uint8], at: int, dtype: DTypeLike) -> NDArray[Any]:
    """The same in the byte order of this machine, and together."""
    return _field(data, at, dtype).astype(np.dtype(dtype).newbyteorder("="))


def _same(value: int, row: NDArray[np.intp]) -> NDArray[np.int32]:
    """One value for all rows, without the memory of as many."""
    return np.ndarray(row.shape, np.int32, np.int32(value).tobytes(), 0, (0,))


def find_plain(frames: Frames, keys: StreamKey) -> tuple[NDArray[np.bool_], MediaPackets] | None:
    """A mask of the usual packets, and their columns; None where there is none among the frames."""
    data = frames.data
    if frames.link != LinkType.ETHERNET or not len(data) or data.shape[1] < PAYLOAD_AT:
        return None
    # All that is looked at, close together: the frames themselves are too much for the processor's cache.
    header = together(data[:, :PAYLOAD_AT])
    end = _field(header, TRANSPORT_AT + 4, ">u2").astype(np.int32)
    end += TRANSPORT_AT
    second = _number(header, RTP_AT + 1, np.uint8)
    plain = (_number(header, 12, np.uint64) & _TYPE_MASK) == _TYPE
    plain &= (_number(header, 20, np.uint64) & _WHOLE_MASK) == _WHOLE
    # RFC 3550 section 5.1: version 2, no padding, extension or CSRC; RFC 5761 section 4: no RTCP.
    plain &= header[:, RTP_AT] == 0x80
    plain &= (second - np.uint8(192)) > 31
    packet_end = _field(header, NETWORK_AT + 2, ">u2").astype(np.int32)
    packet_end += NETWORK_AT
    plain &= end >= PAYLOAD_AT
    plain &= end <= packet_end
    plain &= end <= frames.caplen
    if plain.all():
        row, time_ns = np.arange(len(data)), frames.time_ns
    else:
        row = np.flatnonzero(plain)
        if not len(row):
            return None
        header, end, second, time_ns = header[row], end[row], second[row], frames.time_ns[row]
    ssrc = _number(header, RTP_AT + 8, ">u4")
    end -= PAYLOAD_AT
    addresses = keys.addresses4(header[:, NETWORK_AT:])
    return plain, MediaPackets(
        time_ns=time_ns,
        key=keys.key(addresses, _number(header, TRANSPORT_AT, ">u4"), ssrc),
        seq=_number(header, RTP_AT + 2, ">u2"),
        timestamp=_number(header, RTP_AT + 4, ">u4"),
        ssrc=ssrc,
        payload_type=second & np.uint8(0x7F),
        marker=second >= 0x80,
        payload_at=_same(PAYLOAD_AT, row),
        payload_len=end,
        row=row,
        network_at=_same(NETWORK_AT, row),
        transport_at=_same(TRANSPORT_AT, row),
        data=data,
    )
