"""RTCP on its way to the streams that it is about."""

from collections import Counter
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

from recorderd.media.reception import Reception
from recorderd.media.streams import StreamTable
from recorderd.service.session import Stream
from recorderd.wire.dissect import ControlPacket
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.rtcp import (
    ExtendedReport,
    Goodbye,
    ReportBlock,
    RtcpError,
    SenderReport,
    VoipMetrics,
    parse_rtcp,
)

MAX_WAITING: Final = 8192
"""Packets of one window that are read: of 10,000 calls at the usual rate. The rest is a flood."""


class Reports:
    """The streams that reports may be about, by SSRC, and the packets that wait for their window's close."""

    def __init__(self, streams: StreamTable, counters: Counter[str]) -> None:
        self._streams, self._counters = streams, counters
        self._known: dict[int, list[Stream]] = {}
        self._waiting: list[ControlPacket] = []
        self.opened: Callable[[ControlPacket], bytes] = lambda packet: packet.payload
        """What is in a packet: SRTCP is opened."""

    def bound(self, stream: Stream) -> None:
        """A stream belongs to a recording."""
        self._known.setdefault(stream.ssrc, []).append(stream)

    def forget(self, streams: Iterable[Stream]) -> None:
        """Their recording is over."""
        for stream in streams:
            left = [known for known in self._known.get(stream.ssrc, ()) if known is not stream]
            if left:
                self._known[stream.ssrc] = left
            else:
                self._known.pop(stream.ssrc, None)

    def add(self, packets: list[ControlPacket]) -> None:
        """Keep packets until their window closes."""
        room = MAX_WAITING - len(self._waiting)
        self._waiting += packets[:room]
        if len(packets) > room:
            self._counters["rtcp_skipped"] += len(packets) - room

    def take(self, end_ns: int) -> None:
        """Read what came before ``end_ns``."""
        if not self._waiting:
            return
        due = [packet for packet in self._waiting if packet.time_ns < end_ns]
        self._waiting = [packet for packet in self._waiting if packet.time_ns >= end_ns]
        for packet in sorted(due, key=attrgetter("time_ns")):
            try:
                self._read(packet)
            except RtcpError:
                self._counters["rtcp_malformed"] += 1

    def _read(self, packet: ControlPacket) -> None:
        time_us, source, destination = packet.time_ns // 1000, packet.source, packet.destination
        for report in parse_rtcp(self.opened(packet)):
            if isinstance(report, Goodbye):
                continue  # streams end when their calls do
            if isinstance(report, ExtendedReport):
                for said in report.blocks:
                    stream = self._find(said.ssrc, destination, source)
                    if stream is not None and isinstance(said, VoipMetrics):
                        _of(stream).metrics(said)
                continue
            if isinstance(report, SenderReport):
                stream = self._find(report.ssrc, source, destination)
                if stream is not None:
                    _of(stream).sender(report, time_us, self._rate(stream))
            for block in report.blocks:
                self._received(report.ssrc, block, time_us, source, destination)

    def _received(
        self, reporter: int, block: ReportBlock, time_us: int, source: Endpoint, destination: Endpoint
    ) -> None:
        # A receiver sends to where the stream comes from.
        stream = self._find(block.ssrc, destination, source)
        if stream is not None:
            lost = self._streams.lost.item(stream.row)
            _of(stream).receiver(reporter, block, time_us, self._rate(stream), lost)

    def _rate(self, stream: Stream) -> int:
        return self._streams.run_rate.item(stream.row) or 8000

    def _find(self, ssrc: int, source: Endpoint, destination: Endpoint) -> Stream | None:
        """The stream between two hosts, by one of its ports or the next (RFC 3550 section 11) where several
        have the same SSRC; RTCP may have ports of its own (RFC 3605) or the stream's (RFC 5761)."""
        known = self._known.get(ssrc)
        if known is None:
            return None
        found = [
            stream
            for stream in known
            if stream.source.host == source.host and stream.destination.host == destination.host
        ]
        if len(found) > 1:
            found = [
                stream
                for stream in found
                if source.port - stream.source.port in (0, 1)
                or destination.port - stream.destination.port in (0, 1)
            ]
        return found[0] if len(found) == 1 else None


def _of(stream: Stream) -> Reception:
    if stream.reception is None:
        stream.reception = Reception()
    return stream.reception
