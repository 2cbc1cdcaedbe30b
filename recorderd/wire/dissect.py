"""Frames to RTP columns and SIP messages: the one way in for every packet, live or from a file.

Python touches batches here, NumPy touches packets; only signalling and fragments are handled one by one.
Each frame ends in exactly one of the counters named in :data:`OUTCOMES`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.wire.columns import blocks, bounded_slices, column
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.fragments import Reassembler
from recorderd.wire.frames import Frames, LinkType
from recorderd.wire.hep import hep_signalling
from recorderd.wire.ip import TCP, UDP, Datagrams, RowFragment
from recorderd.wire.link import count_cut
from recorderd.wire.media_packets import MediaPackets, in_order, joined, usual_endpoints
from recorderd.wire.plain import find_plain
from recorderd.wire.rtp import FIXED_HEADER, UdpPayloads, parse_rtp
from recorderd.wire.segments import find_segments
from recorderd.wire.signalling import Signalling
from recorderd.wire.stream_key import StreamKey
from recorderd.wire.tcp_conversations import Conversations, Heard
from recorderd.wire.tunnel_settings import TunnelSettings
from recorderd.wire.tunnels import Tunnels

OUTCOMES = (
    "media",
    "signalling",
    "keepalive",
    "tcp",
    "hep",
    "rtcp",
    "rtp_invalid",
    "other",
    "truncated",
    "malformed",
    "not_udp",
    "not_ip",
    "doubles",
    "fragments",
)
"""frames + reassembled = the sum of these. 'tcp' are segments of the ports of signalling, whatever they hold;
the messages in them are 'tcp_messages'. 'hep' are packets of HEP over UDP.
"""

UDP_HEADER = 8
MAX_FRAGMENTED_MEDIA = 9216
"""Bytes of a reassembled packet that may be media: no voice packet is longer, and its batch gets as wide."""
MAX_NESTED = 4
"""How often what was reassembled may be, or may carry, a fragment."""
MAX_MATRIX = 16 << 20
"""Bytes of reassembled packets dissected at once, counted as a matrix as wide as the longest."""

MAX_CONTROL: Final = 4096
"""RTCP datagrams of a batch that are handed on; a flood of them is counted only."""

STUN_COOKIE = b"\x21\x12\xa4\x42"


class ControlPacket(NamedTuple):
    """A datagram of RTCP."""

    time_ns: int
    source: Endpoint
    destination: Endpoint
    payload: bytes


class Dissected(NamedTuple):
    """What a batch of frames held, each part in the order of capture."""

    media: MediaPackets
    signalling: list[Signalling]
    control: list[ControlPacket]


class _Part(NamedTuple):
    """The same with the rows that signalling came in, and with the fragments still to be reassembled."""

    media: MediaPackets
    signalling: list[tuple[int, Signalling]]
    fragments: list[RowFragment]


class Dissector:
    """Takes batches of frames apart. Pure, but keeps fragments from one batch to the next.

    ``seed`` makes the stream keys: the same seed gives the same keys. ``counters`` counts frames by what
    became of them (:data:`OUTCOMES`), besides 'frames', 'reassembled', 'tunnelled', 'rtp_padding_zero' and
    what the reassembler counts.
    """

    def __init__(
        self,
        sip_ports: frozenset[int],
        seed: int = 0,
        tunnels: TunnelSettings | None = None,
        *,
        ws_ports: frozenset[int] = frozenset(),
        hep_ports: frozenset[int] = frozenset(),
        hep_password: str | None = None,
    ) -> None:
        """``sip_ports`` are of UDP and TCP, ``ws_ports`` of TCP alone; packets of the ``hep_ports`` without
        the password are refused, if there is one.
        """
        self.counters: Counter[str] = Counter()
        hep_ports -= sip_ports
        every = np.arange(0x10000)
        self._is_sip_port = np.isin(every, list(sip_ports))
        self._is_hep_port = np.isin(every, list(hep_ports))
        self._is_tcp_port = np.isin(every, list(sip_ports | ws_ports | hep_ports))
        self._hep_password = hep_password
        self._conversations = Conversations(self.counters, ws_ports=ws_ports, hep_ports=hep_ports)
        self._keys = StreamKey(seed)
        self._tunnels = Tunnels(TunnelSettings() if tunnels is None else tunnels)
        self._reassembler = Reassembler(self.counters)
        self._control: list[ControlPacket] = []

    def feed(self, frames: Frames) -> Dissected:
        """Dissect one batch. Never raises, whatever the frames hold.

        The media columns point into ``frames.data``, which must not change while they are used.
        """
        self.counters["frames"] += len(frames)
        found = find_plain(frames, self._keys)
        part = self._dissect(frames) if found is None else self._beside(frames, *found)
        given_up: list[Heard] = []
        if len(frames):
            self._reassembler.expire(int(frames.time_ns[-1]))
            given_up = self._conversations.expire(int(frames.time_ns[-1]))
        if part.fragments:
            part = self._with_reassembled(frames, part)
        control, self._control = self._control, []
        return Dissected(part.media, [item for _, item in part.signalling] + self._heard(given_up), control)

    def finish(self) -> list[Signalling]:
        """Nothing more will come: the signalling that was still waited for, as far as it came."""
        return self._heard(self._conversations.finish())

    def _beside(self, frames: Frames, plain: NDArray[np.bool_], media: MediaPackets) -> _Part:
        """The usual packets, and whatever else the frames hold."""
        self.counters["media"] += len(media)
        if len(media) == len(frames):
            return _Part(media, [], [])
        row = np.flatnonzero(~plain)
        places = row.tolist()
        rest = Frames(
            frames.link, frames.time_ns[row], frames.data[row], frames.caplen[row], frames.wirelen[row]
        )
        part = self._dissect(rest)
        return _Part(
            joined(media, replace(part.media, row=row[part.media.row], data=frames.data)),
            [(places[n], item) for n, item in part.signalling],
            [item._replace(row=places[item.row]) for item in part.fragments],
        )

    def _with_reassembled(self, frames: Frames, part: _Part) -> _Part:
        """The part and what its fragments completed, in the place of the fragment that came last."""
        media, places, signalling = [part.media], [part.media.row], part.signalling
        fragments = part.fragments
        for _ in range(MAX_NESTED):
            rows, whole = self._reassemble(fragments)
            fragments = []
            for group in bounded_slices(np.array([len(packet) for packet in whole], np.int32), MAX_MATRIX):
                row = np.array(rows[group], np.intp)
                later = self._dissect(_as_frames(whole[group], frames.time_ns[row]))
                # A tunnel's packet in fragments may carry one of another's; else a fragment in one is wrong.
                inner = [item._replace(row=int(row[item.row])) for item in later.fragments if item.at]
                self.counters["malformed"] += len(later.fragments) - len(inner)
                fragments += inner
                signalling += [(int(row[n]), item) for n, item in later.signalling]
                short = later.media.payload_at + later.media.payload_len <= MAX_FRAGMENTED_MEDIA
                self.counters.update({"media": -int((~short).sum()), "other": int((~short).sum())})
                if short.any():
                    media.append(later.media.where(short))
                    places.append(row[media[-1].row])
        self.counters["malformed"] += len(fragments)
        signalling.sort(key=lambda entry: entry[0])
        return _Part(in_order(media, places) if len(media) > 1 else part.media, signalling, [])

    def _reassemble(self, fragments: Iterable[RowFragment]) -> tuple[list[int], list[bytes]]:
        """IP packets that became whole, and the rows of the fragments that made them so."""
        rows, whole = [], []
        for item in fragments:
            packet = self._reassembler.add(item.fragment)
            if packet is not None:
                rows.append(item.row)
                whole.append(packet)
        return rows, whole

    def _dissect(self, frames: Frames) -> _Part:
        frames, datagrams, fragments = self._tunnels.find(frames, self._keys, self.counters)
        segments = datagrams.where(datagrams.protocol == TCP)
        datagrams = datagrams.where(datagrams.protocol == UDP)
        datagrams, header = self._whole_udp_headers(frames, datagrams)
        start = datagrams.transport_at + UDP_HEADER
        end = datagrams.transport_at + column(header, 4, ">u2").astype(np.int32)
        sane = (end >= start) & (end <= datagrams.end)
        if not sane.all():
            self.counters["malformed"] += int((~sane).sum())
            datagrams, header, start, end = datagrams.where(sane), header[sane], start[sane], end[sane]
        payloads = UdpPayloads(
            datagrams.row,
            datagrams.network_at,
            datagrams.transport_at,
            start,
            end,
            datagrams.addresses,
            column(header, 0, ">u4"),
        )
        captured = end <= frames.caplen[datagrams.row]
        media, other = self._media(frames, payloads.where(captured))
        cut = self._truncated(frames, payloads.where(~captured)) if not captured.all() else []
        signalling = self._signalling(frames, other) + cut
        if len(segments.row):
            signalling += self._tcp(frames, segments)
        signalling.sort(key=lambda entry: entry[0])
        return _Part(media, signalling, fragments)

    def _whole_udp_headers(self, frames: Frames, datagrams: Datagrams) -> tuple[Datagrams, NDArray[np.uint8]]:
        captured = datagrams.transport_at + UDP_HEADER <= frames.caplen[datagrams.row]
        if not captured.all():
            count_cut(frames, datagrams.row[~captured], self.counters)
            datagrams = datagrams.where(captured)
        return datagrams, blocks(frames.data, datagrams.row, datagrams.transport_at, UDP_HEADER)

    def _media(self, frames: Frames, payloads: UdpPayloads) -> tuple[MediaPackets, UdpPayloads]:
        """The RTP packets, and what is neither RTP nor RTCP (told apart as in RFC 5761 section 4)."""
        length = payloads.end - payloads.start
        long = length >= UDP_HEADER
        first = np.zeros(len(length), np.uint8)
        second = np.zeros(len(length), np.uint8)
        peek = payloads.where(long)
        head = blocks(frames.data, peek.row, peek.start, 2)
        first[long], second[long] = head[:, 0], head[:, 1]
        version2 = (first & 0xC0) == 0x80
        rtcp = version2 & (second >= 192) & (second <= 223)
        rtp = version2 & ~rtcp & (length >= FIXED_HEADER)
        if rtcp.any():
            self._hold_control(frames, payloads.where(rtcp))
        media = parse_rtp(frames, payloads.where(rtp), self._keys, self.counters)
        return media, payloads.where(~rtp & ~rtcp)

    def _hold_control(self, frames: Frames, payloads: UdpPayloads) -> None:
        """Keep RTCP datagrams until the batch is done."""
        self.counters["rtcp"] += len(payloads.row)
        room = MAX_CONTROL - len(self._control)
        for row, time_ns, network_at, transport_at, start, end in islice(_places(frames, payloads), room):
            frame = frames.data[row].tobytes()
            ends = usual_endpoints(frame, network_at, transport_at)
            self._control.append(ControlPacket(time_ns, *ends, frame[start:end]))

    def _signalling(self, frames: Frames, payloads: UdpPayloads) -> list[tuple[int, Signalling]]:
        """SIP datagrams one by one; the others are counted."""
        sip = self._is_sip_port[payloads.ports >> 16] | self._is_sip_port[payloads.ports & 0xFFFF]
        hep = self._is_hep_port[payloads.ports >> 16] | self._is_hep_port[payloads.ports & 0xFFFF]
        hep &= ~sip
        self.counters["other"] += int((~sip & ~hep).sum())
        found = self._hep(frames, payloads.where(hep)) if hep.any() else []
        said = []
        for row, time_ns, network_at, transport_at, start, end in _places(frames, payloads.where(sip)):
            frame = frames.data[row].tobytes()
            payload = frame[start:end]
            if is_keepalive(payload):
                self.counters["keepalive"] += 1
            elif payload[0] >> 6 == 2:
                self.counters["other"] += 1  # too short for RTP, and no text begins so: not SIP either
            else:
                source, destination = usual_endpoints(frame, network_at, transport_at)
                said.append((row, Signalling(time_ns, source, destination, payload)))
        if said:
            self.counters["signalling"] += len(said)
        return found + said

    def _hep(self, frames: Frames, payloads: UdpPayloads) -> list[tuple[int, Signalling]]:
        """What HEP packets tell of."""
        found = []
        for row, start, end in zip(payloads.row, payloads.start, payloads.end, strict=True):
            self.counters["hep"] += 1
            packet, time_ns = frames.data[row, start:end].tobytes(), int(frames.time_ns[row])
            signal = hep_signalling(packet, time_ns, self.counters, self._hep_password)
            if signal is not None:
                found.append((int(row), signal))
        return found

    def _tcp(self, frames: Frames, segments: Datagrams) -> list[tuple[int, Signalling]]:
        """The messages that TCP segments complete; what is not of the ports is counted."""
        found = []
        count = 0
        for item in find_segments(frames, segments, self._is_tcp_port):
            count += 1
            heard = self._conversations.add(item.key, item.segment, item.endpoints)
            found += [(item.row, signal) for signal in self._heard(heard)]
        self.counters["tcp"] += count
        self.counters["not_udp"] += len(segments.row) - count
        return found

    def _heard(self, heard: list[Heard]) -> list[Signalling]:
        """The messages of streams; HEP is unwrapped."""
        found = []
        for time_ns, source, destination, (payload, truncated), transport in heard:
            if transport == "hep":
                signal = hep_signalling(payload, time_ns, self.counters, self._hep_password)
                found += [signal] if signal is not None else []
            else:
                found.append(Signalling(time_ns, source, destination, payload, transport, truncated))
        return found

    def _truncated(self, frames: Frames, payloads: UdpPayloads) -> list[tuple[int, Signalling]]:
        """Payloads cut by the snap length: no media, but the beginning of a SIP message names its call."""
        self.counters["truncated"] += len(payloads.row)
        sip = self._is_sip_port[payloads.ports >> 16] | self._is_sip_port[payloads.ports & 0xFFFF]
        found = []
        for row, time_ns, network_at, transport_at, start, _ in _places(frames, payloads.where(sip)):
            frame = frames.data[row].tobytes()
            payload = frame[start : frames.caplen[row]]
            if payload and payload[0] >> 6 != 2 and not is_keepalive(payload):
                ends = usual_endpoints(frame, network_at, transport_at)
                found.append((row, Signalling(time_ns, *ends, payload, truncated=True)))
        return found


def is_keepalive(payload: bytes) -> bool:
    """What keeps a NAT binding open: nothing, CRLFs (RFC 5626 section 4.4.1), zero bytes, STUN (RFC 8489)."""
    if payload[:1] > b" ":
        return False  # neither a space nor less: text
    return not payload.strip(b"\r\n\0 ") or (payload[0] < 4 and payload[4:8] == STUN_COOKIE)


def _places(frames: Frames, payloads: UdpPayloads) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Of each packet its row and time, and where in the row its IP and UDP headers and its payload begin and
    that ends.
    """
    row, places = payloads.row, (payloads.network_at, payloads.transport_at, payloads.start, payloads.end)
    return zip(*[column.tolist() for column in (row, frames.time_ns[row], *places)], strict=True)


def _as_frames(packets: list[bytes], time_ns: NDArray[np.int64]) -> Frames:
    """IP packets as frames of raw IP."""
    lengths = np.array([len(packet) for packet in packets], np.int32)
    data = np.zeros((len(packets), int(lengths.max())), np.uint8)
    for row, packet in zip(data, packets, strict=True):
        row[: len(packet)] = np.frombuffer(packet, np.uint8)
    return Frames(LinkType.RAW, time_ns, data, lengths, lengths)
