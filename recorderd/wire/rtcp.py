"""RTCP: what senders say of their clocks, and receivers of what reached them.

RFC 3550 section 6: sender and receiver reports, goodbyes. RFC 3611: loss run lengths (section 4.1) and VoIP
metrics (section 4.7). Source descriptions, applications' packets and feedback (RFC 4585) are skipped. A
datagram may begin with any of them (reduced size, RFC 5506).
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from recorderd.errors import PeerError

MAX_PACKETS: Final = 32
"""Packets in one datagram that are read."""

MAX_BLOCKS: Final = 64
"""Blocks of an extended report that are read."""

MAX_CHUNKS: Final = 1024
"""Chunks of a run of losses that are read."""

_LOSS_RLE, _VOIP_METRICS = 1, 7
_UNKNOWN: Final = 127
"""RFC 3611 section 4.7.5: a score that is not known."""

_SENDER_INFO = struct.Struct(">IQIII")
_BLOCK = struct.Struct(">IIIIII")
_LOSS_HEADER = struct.Struct(">IHH")
_METRICS = struct.Struct(">IBBBBHHHHbbBBBBBBBBHHH")


class RtcpError(PeerError):
    """What begins like RTCP and is none."""


class ReportBlock(NamedTuple):
    """What a receiver says of one stream (RFC 3550 section 6.4.1).

    Attributes:
        ssrc: of the stream.
        lost: packets lost since its beginning; negative where doubles outnumber them.
        highest: extended highest sequence number received, 32 bits.
        jitter: in units of the stream's RTP clock.
        last_report: the middle 32 bits of the NTP time of the sender's last report; 0 where there was none.
        delay_s: how long ago that came.
    """

    ssrc: int
    lost: int
    highest: int
    jitter: int
    last_report: int
    delay_s: float


class SenderReport(NamedTuple):
    """What a sender says of itself, and of what it receives: ``ntp`` (64 bits, seconds since 1900 in the
    upper 32) and ``timestamp`` are one moment by two clocks."""

    ssrc: int
    ntp: int
    timestamp: int
    packets: int
    blocks: tuple[ReportBlock, ...]


class ReceiverReport(NamedTuple):
    """What an end that sends nothing says of what it receives."""

    ssrc: int
    blocks: tuple[ReportBlock, ...]


class LossRuns(NamedTuple):
    """Which packets of a stream were lost from number ``begin`` to before ``end`` (16 bits): how many."""

    ssrc: int
    begin: int
    end: int
    lost: int


class VoipMetrics(NamedTuple):
    """How a stream sounds where it is received (RFC 3611 section 4.7).

    Attributes:
        loss, discarded: shares of the packets that never came, and that came too late to be played.
        mos: listening quality from 1.0 to 5.0; None where it is not told.
    """

    ssrc: int
    loss: float
    discarded: float
    mos: float | None


class ExtendedReport(NamedTuple):
    """The blocks of RFC 3611 that are known here."""

    ssrc: int
    blocks: tuple[LossRuns | VoipMetrics, ...]


class Goodbye(NamedTuple):
    """Streams that are over."""

    ssrcs: tuple[int, ...]


Report = SenderReport | ReceiverReport | ExtendedReport | Goodbye


def parse_rtcp(payload: bytes) -> list[Report]:
    """The packets of one datagram that are known here, in order.

    Raises:
        RtcpError: a length or a version is wrong. What stands before that is lost too: encrypted or damaged,
            none of it can be trusted.
    """
    found: list[Report] = []
    at = 0
    for _ in range(MAX_PACKETS):
        if at == len(payload):
            break
        if len(payload) - at < 4:
            raise RtcpError("bytes behind the last RTCP packet")
        flags, kind = payload[at], payload[at + 1]
        end = at + 4 + 4 * int.from_bytes(payload[at + 2 : at + 4], "big")
        if flags >> 6 != 2 or end > len(payload):
            raise RtcpError("an RTCP packet that is longer than its datagram, or of another version")
        body_end = end
        if flags & 0x20:
            # RFC 3550 section 6.4.1: padding is on the last packet only, and counts itself.
            body_end = end - payload[end - 1]
            if end != len(payload) or body_end < at + 4:
                raise RtcpError("RTCP padding that does not fit")
        read = _READERS.get(kind)
        if read is not None:
            found.append(read(flags & 0x1F, payload[at:body_end]))
        at = end
    return found


def _sender(count: int, packet: bytes) -> SenderReport:
    blocks = _blocks(packet, 28, count)
    ssrc, ntp, timestamp, packets, _ = _SENDER_INFO.unpack_from(packet, 4)
    return SenderReport(ssrc, ntp, timestamp, packets, blocks)


def _receiver(count: int, packet: bytes) -> ReceiverReport:
    return ReceiverReport(_ssrc(packet), _blocks(packet, 8, count))


def _extended(_: int, packet: bytes) -> ExtendedReport:
    return ExtendedReport(_ssrc(packet), tuple(_extensions(packet)))


def _goodbye(count: int, packet: bytes) -> Goodbye:
    if len(packet) < 4 + 4 * count:
        raise RtcpError("a goodbye shorter than its sources")
    return Goodbye(struct.unpack_from(f">{count}I", packet, 4))


def _ssrc(packet: bytes) -> int:
    if len(packet) < 8:
        raise RtcpError("an RTCP report without a source")
    return int.from_bytes(packet[4:8], "big")


def _blocks(packet: bytes, at: int, count: int) -> tuple[ReportBlock, ...]:
    if len(packet) < at + _BLOCK.size * count:
        raise RtcpError("an RTCP report shorter than its blocks")
    found = []
    for number in range(count):
        ssrc, loss, highest, jitter, last, delay = _BLOCK.unpack_from(packet, at + _BLOCK.size * number)
        lost = loss & 0xFF_FFFF
        lost -= (lost & 0x80_0000) << 1
        found.append(ReportBlock(ssrc, lost, highest, jitter, last, delay / 65536))
    return tuple(found)


def _extensions(packet: bytes) -> list[LossRuns | VoipMetrics]:
    found: list[LossRuns | VoipMetrics] = []
    at = 8
    for _ in range(MAX_BLOCKS):
        if at + 4 > len(packet):
            break
        kind, end = packet[at], at + 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
        if end > len(packet):
            raise RtcpError("a block of an extended report that is longer than the report")
        block = packet[at + 4 : end]
        if kind == _LOSS_RLE and len(block) >= _LOSS_HEADER.size and not packet[at + 1] & 0x0F:
            found.append(_loss_runs(block))  # not thinned: each packet is told of
        elif kind == _VOIP_METRICS and len(block) >= _METRICS.size:
            ssrc, loss, discarded, *_ = fields = _METRICS.unpack_from(block)
            mos = fields[15]
            score = mos / 10 if 10 <= mos <= 50 and mos != _UNKNOWN else None
            found.append(VoipMetrics(ssrc, loss / 256, discarded / 256, score))
        at = end
    return found


def _loss_runs(block: bytes) -> LossRuns:
    """RFC 3611 section 4.1: run lengths (of received or lost) and bit vectors; 0 ends them."""
    ssrc, begin, end = _LOSS_HEADER.unpack_from(block)
    due, lost = (end - begin) % 0x10000, 0
    for at in range(_LOSS_HEADER.size, min(len(block) - 1, _LOSS_HEADER.size + 2 * MAX_CHUNKS), 2):
        chunk = int.from_bytes(block[at : at + 2], "big")
        if not chunk or not due:
            break
        if chunk & 0x8000:
            told = min(15, due)
            lost += told - (chunk >> (15 - told) & ((1 << told) - 1)).bit_count()
        else:
            told = min(chunk & 0x3FFF, due)
            lost += 0 if chunk & 0x4000 else told
        due -= told
    return LossRuns(ssrc, begin, end, lost)


_READERS: Final[dict[int, Callable[[int, bytes], Report]]] = {
    200: _sender,
    201: _receiver,
    203: _goodbye,
    207: _extended,
}
"""By packet type: from the count of the header and the packet."""
