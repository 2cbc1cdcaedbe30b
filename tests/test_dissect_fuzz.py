"""The dissector against any bytes: it never raises, and it agrees with a parser that takes one packet at a
time.

That parser is written in plain Python from the same specifications, without columns, so that a slip in the
handling of rows shows as a difference.
"""

import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.wire.dissect import OUTCOMES, Dissector
from recorderd.wire.frames import Frames, LinkType
from recorderd.wire.tunnel_settings import TunnelSettings
from tests.capture_builder import (
    ALL_LINKS,
    as_frames,
    authentication,
    destination_options,
    fragment_header,
    fragments,
    framed,
    hop_by_hop,
    ipv4,
    ipv6,
    rtp,
    udp,
)
from tests.fuzzing import inputs

V4 = ("10.1.2.3", "192.168.77.9")
V6 = ("2001:db8::1:2", "fe80::9")
SIP_PORTS = frozenset({5060})


class _Ends(Exception):
    """What becomes of a packet, found while parsing it."""


def parse(link: LinkType, frame: bytes, wirelen: int) -> tuple[str, tuple[int, ...]]:
    """The outcome of a frame; for media also seq, timestamp, ssrc, second byte, payload place and length."""
    try:
        return "media", _parse(link, frame, "truncated" if wirelen > len(frame) else "malformed")
    except _Ends as end:
        return str(end), ()


def _ppp(frame: bytes, link: LinkType, cut: str) -> tuple[int, int]:
    """Where what PPP carries starts, and its EtherType."""
    at = 6 if link == 51 else 0
    if len(frame) < at or (at and len(frame) < 6):
        raise _Ends(cut)
    if at and frame[:2] != b"\x11\0":
        raise _Ends("not_ip")
    if len(frame) < at + 4:
        raise _Ends(cut)
    if frame[at] & 0x7F == 0x0F and frame[at + 1] == 0:
        return at + 4, int.from_bytes(frame[at + 2 : at + 4], "big")
    if frame[at : at + 2] == b"\xff\x03":
        at += 2
    size = 1 if frame[at] & 1 else 2
    number = int.from_bytes(frame[at : at + size], "big")
    return at + size, {0x21: 0x0800, 0x57: 0x86DD}.get(number, 0)


def _erf(frame: bytes, link: LinkType, cut: str) -> tuple[int, int | None]:
    """Where what an ERF record carries starts, and its EtherType, if it has one."""
    if len(frame) < 16:
        raise _Ends(cut)
    at, more, kind = 16, frame[8] & 0x80, frame[8] & 0x7F
    extensions = 0
    while more:
        extensions += 1
        if kind not in (2, 11, 16, 20, 22, 23):
            raise _Ends("not_ip")
        if len(frame) < at + 8 or extensions > 8:
            raise _Ends(cut)
        more, at = frame[at] & 0x80, at + 8
    if kind in (22, 23):
        return at, None
    if kind not in (2, 11, 16, 20):
        raise _Ends("not_ip")
    if len(frame) < at + 16:
        raise _Ends(cut)
    return at + 16, int.from_bytes(frame[at + 14 : at + 16], "big")


def _network(link: LinkType, frame: bytes, cut: str) -> int:
    """Where the IP header starts."""
    at = {1: 14, 113: 16, 276: 20, 0: 4, 108: 4}.get(link, 0)
    if len(frame) <= at:
        raise _Ends("not_ip")
    kind = None
    if link in (9, 50, 51, 104, 197):
        at, kind = (_erf if link == 197 else _ppp)(frame, link, cut)
    if link in (1, 113, 276):
        type_at = {1: 12, 113: 14, 276: 0}[link]
        kind = int.from_bytes(frame[type_at : type_at + 2], "big")
    elif link in (0, 108):
        known = {2, 10, 24, 28, 30}
        if not known & {int.from_bytes(frame[:4], "big"), int.from_bytes(frame[:4], "little")}:
            raise _Ends("not_ip")
    for _ in range(16):
        if kind in (0x8100, 0x88A8, 0x9100, 0x9200, 0x6558, 0x880B):
            if len(frame) < at + (14 if kind == 0x6558 else 4):
                raise _Ends(cut)
            if kind == 0x880B:
                at, kind = (lambda place: (at + place[0], place[1]))(_ppp(frame[at:], LinkType.PPP, cut))
            else:
                at += 14 if kind == 0x6558 else 4
                kind = int.from_bytes(frame[at - 2 : at], "big")
    if kind in (None, 0x0800, 0x86DD) and len(frame) <= at:
        raise _Ends(cut)
    if kind not in (None, 0x0800, 0x86DD):
        raise _Ends("not_ip")
    version = frame[at] >> 4
    if version not in (4, 6) or (kind is not None and kind != {4: 0x0800, 6: 0x86DD}[version]):
        raise _Ends("not_ip")
    if link in (113, 276):
        hardware, packet_type = (
            struct.unpack(">2xH", frame[:4])[0],
            frame[1] if link == 113 else frame[10],
        )
        if link == 276:
            hardware = int.from_bytes(frame[8:10], "big")
        if hardware == 772 and packet_type == 4:
            raise _Ends("doubles")
    return at


def _transport4(frame: bytes, at: int, cut: str) -> tuple[int, int]:
    if len(frame) < at + 20:
        raise _Ends(cut)
    words, total = frame[at] & 15, int.from_bytes(frame[at + 2 : at + 4], "big")
    if frame[at + 9] not in (6, 17):
        raise _Ends("not_udp")
    if words < 5 or total < words * 4:
        raise _Ends("malformed")
    if int.from_bytes(frame[at + 6 : at + 8], "big") & 0x3FFF:
        raise _Ends("fragments" if at + total <= len(frame) else cut)
    if frame[at + 9] == 6:
        _tcp(frame, at + words * 4, at + total)
    return at + words * 4, at + total


def _tcp(frame: bytes, at: int, end: int) -> None:
    """A segment: of a SIP port, or of no interest."""
    whole = at + 20 <= min(end, len(frame))
    if whole and SIP_PORTS & set(struct.unpack(">HH", frame[at : at + 4])):
        start = at + (frame[at + 12] >> 4) * 4
        raise _Ends("tcp" if at + 20 <= start <= end else "not_udp")
    raise _Ends("not_udp")


def _transport6(frame: bytes, at: int, cut: str) -> tuple[int, int]:
    if len(frame) < at + 40:
        raise _Ends(cut)
    end = at + 40 + int.from_bytes(frame[at + 4 : at + 6], "big")
    following, place = frame[at + 6], at + 40
    for _ in range(16):
        if following not in (0, 43, 44, 51, 60, 135, 139, 140) or place + 8 > min(end, len(frame)):
            break
        if following == 44 and int.from_bytes(frame[place + 2 : place + 4], "big") & 0xFFF9:
            raise _Ends("fragments" if end <= len(frame) else cut)
        length = {44: 8, 51: (frame[place + 1] + 2) * 4}.get(following, (frame[place + 1] + 1) * 8)
        following, place = frame[place], place + length
    if following == 6:
        _tcp(frame, place, end)
    if following != 17:
        raise _Ends(cut if following in (0, 43, 44, 51, 60, 135, 139, 140) else "not_udp")
    return place, end


def _parse(link: LinkType, frame: bytes, cut: str) -> tuple[int, ...]:
    network = _network(link, frame, cut)
    transport, end = (_transport4 if frame[network] >> 4 == 4 else _transport6)(frame, network, cut)
    if len(frame) < transport + 8:
        raise _Ends(cut)
    sport, dport, length = struct.unpack(">HHH", frame[transport : transport + 6])
    if length < 8 or transport + length > end:
        raise _Ends("malformed")
    payload = frame[transport + 8 : transport + length]
    if transport + length > len(frame):
        raise _Ends("truncated")
    if len(payload) >= 8 and payload[0] >> 6 == 2 and 192 <= payload[1] <= 223:
        raise _Ends("rtcp")
    if len(payload) < 12 or payload[0] >> 6 != 2:
        if not SIP_PORTS & {sport, dport}:
            raise _Ends("other")
        keepalive = not payload.strip(b"\r\n\0 ") or (payload[0] < 4 and payload[4:8] == b"\x21\x12\xa4\x42")
        version2 = not keepalive and payload[0] >> 6 == 2
        raise _Ends("keepalive" if keepalive else "other" if version2 else "signalling")
    return (*_rtp(payload), transport + 8)


def _rtp(payload: bytes) -> tuple[int, ...]:
    seq, timestamp, ssrc = struct.unpack(">HII", payload[2:12])
    start, end = 12 + 4 * (payload[0] & 15), len(payload)
    if payload[0] & 0x10:
        if start + 4 > end:
            raise _Ends("rtp_invalid")
        start += 4 + 4 * int.from_bytes(payload[start + 2 : start + 4], "big")
    if payload[0] & 0x20:
        if start >= end:
            raise _Ends("rtp_invalid")
        end -= payload[end - 1]
    if start > end:
        raise _Ends("rtp_invalid")
    return seq, timestamp, ssrc, payload[1], start, end - start


def check(frames: Frames) -> None:
    """The columns of a batch equal what the plain parser finds in its frames, one by one."""
    dissector = Dissector(SIP_PORTS, seed=3, tunnels=TunnelSettings(frozenset()))
    result = dissector.feed(frames)
    counters = dissector.counters
    assert counters["frames"] + counters["reassembled"] == sum(counters[name] for name in OUTCOMES), counters
    expected = [
        parse(frames.link, frames.data[n, : frames.caplen[n]].tobytes(), int(frames.wirelen[n]))
        for n in range(len(frames))
    ]
    media, found = result.media, {}
    if counters["reassembled"] == 0:
        for row in media.row[media.payload_len < 0].tolist():
            assert expected[row][0] == "rtp_invalid"
    for n in np.flatnonzero(media.payload_len >= 0).tolist():
        second = int(media.payload_type[n]) | int(media.marker[n]) << 7
        start = int(media.transport_at[n]) + 8
        place = (int(media.payload_at[n]) - start, int(media.payload_len[n]), start)
        numbers = (int(media.seq[n]), int(media.timestamp[n]), int(media.ssrc[n]))
        found[int(media.row[n])] = (*numbers, second, *place)
        media.endpoints(n)
    if counters["reassembled"] == 0:  # those make rows of their own
        assert found == {n: values for n, (outcome, values) in enumerate(expected) if outcome == "media"}
        for name in OUTCOMES:
            assert counters[name] == sum(outcome == name for outcome, _ in expected), (name, counters)


def seeds() -> list[bytes]:
    """Good packets of every shape, to be damaged."""
    bodies = [
        rtp(payload=b"a" * 20),
        rtp(payload=b"b" * 9, csrcs=[1, 2], extension=b"ext!", padding=3, marker=True),
        b"\x80\xc8\0\x06" + bytes(24),
        b"INVITE sip:x@y SIP/2.0\r\n\r\n",
        b"\r\n\r\n",
    ]
    packets = []
    for number, body in enumerate(bodies):
        ports = (5060, 4000) if number > 2 else (4002, 4000)
        packets.append(ipv4(*V4, udp(*V4, *ports, body), options=b"\1" * 4 * (number % 3)))
        chain = [
            [],
            [hop_by_hop()],
            [fragment_header(0, False, 1), destination_options()],
            [authentication()],
        ][number % 4]
        packets.append(ipv6(*V6, udp(*V6, *ports, body), extensions=chain))
    packets += fragments(packets[0] if packets[0][0] == 0x45 else ipv4(*V4, bytes(64)), 24)
    packets += fragments(ipv6(*V6, udp(*V6, 5060, 5060, bytes(64))), 24)
    return packets


@pytest.mark.parametrize("link", ALL_LINKS, ids=lambda link: link.name)
def test_damaged_packets_against_the_plain_parser(link: LinkType) -> None:
    generator = random.Random(int(link))
    typed = link in (LinkType.ETHERNET, LinkType.LINUX_SLL, LinkType.LINUX_SLL2)
    for _ in range(25):
        batch = []
        for packet in generator.choices(seeds(), k=60):
            vlans = generator.choice([(), (), (0x8100,), (0x88A8, 0x8100)]) if typed else ()
            frame = bytearray(framed(packet, link, vlans=vlans))
            for _ in range(generator.choice([0, 0, 1, 1, 2, 5])):
                place = generator.randrange(min(len(frame), generator.choice([30, 60, 1000])))
                frame[place] = generator.choice(
                    [generator.randrange(256), frame[place] ^ 1 << generator.randrange(8), 0, 255]
                )
            batch.append(
                bytes(
                    frame[: generator.choice([len(frame), len(frame), generator.randrange(len(frame) + 1)])]
                )
            )
        check(
            as_frames(
                batch, link, snaplen=generator.choice([262144, 262144, 60, 40]), fill=generator.randrange(256)
            )
        )


@pytest.mark.parametrize("link", ALL_LINKS, ids=lambda link: link.name)
def test_random_bytes_in_bulk(link: LinkType) -> None:
    """10^5 frames of random bytes, half of them with the beginning of an IP packet."""
    generator = np.random.default_rng(int(link))
    dissector = Dissector(SIP_PORTS)
    heads = [framed(packet, link)[: 20 + 4 * n] for n, packet in enumerate(seeds())]
    for _ in range(10):
        data = generator.integers(0, 256, (1250, 120), dtype=np.uint8)
        for row in range(0, 1250, 2):
            head = heads[row % len(heads)]
            data[row, : len(head)] = np.frombuffer(head, np.uint8)
        caplen = generator.integers(0, 121, 1250).astype(np.int32)
        wirelen = caplen + generator.integers(0, 2, 1250).astype(np.int32)
        dissector.feed(Frames(link, np.arange(1250, dtype=np.int64), data, caplen, wirelen))
    counters = dissector.counters
    assert counters["frames"] == 12500
    assert counters["frames"] + counters["reassembled"] == sum(counters[name] for name in OUTCOMES)


@pytest.mark.parametrize("link", ALL_LINKS, ids=lambda link: link.name)
@inputs(150)
@given(batch=st.lists(st.binary(max_size=120), max_size=6), snaplen=st.integers(1, 130))
def test_any_bytes(link: LinkType, batch: list[bytes], snaplen: int) -> None:
    check(as_frames(batch, link, snaplen=snaplen))


@given(
    batch=st.lists(
        st.tuples(st.sampled_from(seeds()), st.integers(0, 130), st.binary(min_size=1, max_size=4)),
        max_size=8,
    ),
    snaplen=st.integers(1, 200),
)
@inputs(300)
def test_any_damage(batch: list[tuple[bytes, int, bytes]], snaplen: int) -> None:
    frames = [packet[:at] + damage + packet[at + len(damage) :] for packet, at, damage in batch]
    check(as_frames(frames, LinkType.RAW, snaplen=snaplen))


def test_what_lies_beyond_a_frame_does_not_matter() -> None:
    """The same frames over two different backgrounds give the same result."""
    generator = random.Random(4)
    packets = [framed(packet, LinkType.ETHERNET) for packet in generator.choices(seeds(), k=300)]
    results = []
    for fill in (0x00, 0x45, 0x80, 0xFF):
        dissector = Dissector(SIP_PORTS)
        media = dissector.feed(as_frames(packets, snaplen=70, fill=fill)).media
        results.append(
            (media.key.tolist(), media.payload_at.tolist(), media.payload_len.tolist(), dissector.counters)
        )
    assert all(result == results[0] for result in results)


def test_one_by_one_is_the_same_as_in_a_batch() -> None:
    generator = random.Random(5)
    packets = [framed(packet, LinkType.ETHERNET) for packet in generator.choices(seeds(), k=300)]
    frames = as_frames(packets)
    together, apart = Dissector(SIP_PORTS, 7), Dissector(SIP_PORTS, 7)
    whole = together.feed(frames)
    parts = [
        apart.feed(
            Frames(
                frames.link,
                frames.time_ns[n : n + 1],
                frames.data[n : n + 1],
                frames.caplen[n : n + 1],
                frames.wirelen[n : n + 1],
            )
        )
        for n in range(len(frames))
    ]
    assert together.counters == apart.counters
    assert whole.signalling == [item for part in parts for item in part.signalling]
    assert whole.media.key.tolist() == [key for part in parts for key in part.media.key.tolist()]
    payloads = [part.media.payload(n) for part in parts for n in range(len(part.media))]
    assert [whole.media.payload(n) for n in range(len(whole.media))] == payloads
