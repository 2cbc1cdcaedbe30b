"""The dissector: each link type, IP version and RTP shape to the same columns; all else to its counter."""

import itertools
from typing import Any

import numpy as np
import pytest

from recorderd.wire.dissect import OUTCOMES, Dissected, Dissector
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.frames import Frames, LinkType
from tests.capture_builder import (
    ALL_LINKS,
    START,
    as_frames,
    authentication,
    datagram,
    destination_options,
    fragment_header,
    framed,
    hop_by_hop,
    ipv4,
    ipv6,
    routing,
    rtp,
    udp,
)

TYPED = (LinkType.ETHERNET, LinkType.LINUX_SLL, LinkType.LINUX_SLL2)
V4 = ("10.1.2.3", "192.168.77.9")
V6 = ("2001:db8::1:2", "fe80::9")
SIP = b"OPTIONS sip:a@b SIP/2.0\r\n\r\n"


def dissect(frames: Frames) -> tuple[Dissected, dict[str, int]]:
    dissector = Dissector(frozenset({5060, 5080}), seed=1)
    result = dissector.feed(frames)
    return result, outcomes(dissector)


def outcomes(dissector: Dissector) -> dict[str, int]:
    """The counters that are not zero, after a check that each frame has one outcome."""
    counters = dissector.counters
    assert counters["frames"] + counters["reassembled"] == sum(counters[name] for name in OUTCOMES), counters
    return {name: counters[name] for name in OUTCOMES if counters[name]}


def link_for(link: LinkType, hosts: tuple[str, str]) -> bool:
    """Whether the link type can carry the IP version."""
    return link != (LinkType.IPV6 if hosts is V4 else LinkType.IPV4)


SHAPES = [
    pytest.param(link, hosts, vlans, id=f"{link.name}-{'v4' if hosts is V4 else 'v6'}-{len(vlans)}tags")
    for link, hosts, vlans in itertools.product(
        ALL_LINKS, (V4, V6), ((), (0x8100,), (0x88A8, 0x8100), (0x9100, 0x8100, 0x8100))
    )
    if link_for(link, hosts) and (link in TYPED or not vlans)
]


@pytest.mark.parametrize(("link", "hosts", "vlans"), SHAPES)
def test_rtp_over_every_link_type(link: LinkType, hosts: tuple[str, str], vlans: tuple[int, ...]) -> None:
    packets = [
        framed(
            datagram(
                hosts[0], 4000, hosts[1], 6000, rtp(65535 - n, 2**32 - 1 - n, 0xFFFFFFF0, bytes([n]) * 40)
            ),
            link,
            vlans=vlans,
        )
        for n in range(3)
    ]
    result, counted = dissect(as_frames(packets, link))
    media = result.media
    assert counted == {"media": 3}
    assert media.seq.tolist() == [65535, 65534, 65533]
    assert media.timestamp.tolist() == [2**32 - 1, 2**32 - 2, 2**32 - 3]
    assert media.ssrc.tolist() == [0xFFFFFFF0] * 3
    assert media.payload_type.tolist() == [0] * 3
    assert media.marker.tolist() == [False] * 3
    assert media.time_ns.tolist() == [START + n * 20_000_000 for n in range(3)]
    assert len(set(media.key.tolist())) == 1
    for n in range(3):
        assert media.payload(n) == bytes([n]) * 40
        assert media.endpoints(n) == (Endpoint(hosts[0], 4000), Endpoint(hosts[1], 6000))
    kinds = {name: getattr(media, name).dtype.name for name in ("time_ns", "key", "seq", "timestamp", "ssrc")}
    assert kinds == {
        "time_ns": "int64",
        "key": "uint64",
        "seq": "uint16",
        "timestamp": "uint32",
        "ssrc": "uint32",
    }
    small = [media.payload_type, media.marker, media.payload_at, media.payload_len, media.row]
    assert [column.dtype.name for column in small] == ["uint8", "bool", "int32", "int32", "int64"]


def test_a_mixed_batch_keeps_the_order_of_capture() -> None:
    packets = []
    for n in range(60):
        hosts = (V4, V6)[n % 2]
        payload = [rtp(n, payload=bytes([n])), SIP + bytes([n])][n % 3 == 0]
        packets.append(
            framed(
                datagram(hosts[0], 5060, hosts[1], 6000, payload), LinkType.ETHERNET, vlans=[0x8100] * (n % 5)
            )
        )
    result, counted = dissect(as_frames(packets))
    assert counted == {"media": 40, "signalling": 20}
    assert result.media.seq.tolist() == [n for n in range(60) if n % 3]
    assert [result.media.payload(n) for n in range(40)] == [bytes([n]) for n in range(60) if n % 3]
    assert [item.payload[-1] for item in result.signalling] == list(range(0, 60, 3))
    assert [item.time_ns for item in result.signalling] == [START + n * 20_000_000 for n in range(0, 60, 3)]


ADORNED: dict[str, tuple[dict[str, Any], bytes]] = {
    "marker": ({"marker": True, "payload_type": 127}, b"abcd"),
    "csrc": ({"csrcs": [1, 2, 3]}, b"abcd"),
    "fifteen csrcs": ({"csrcs": range(15)}, b"abcd"),
    "extension": ({"extension": b"1234" * 3}, b"abcd"),
    "empty extension": ({"extension": b""}, b"abcd"),
    "padding": ({"padding": 4}, b"abcd"),
    "padding of 255": ({"padding": 255}, b"abcd"),
    "everything": ({"csrcs": [9], "extension": b"5678", "padding": 1}, b"abcd"),
    "nothing but the header": ({}, b""),
    "nothing but padding": ({"padding": 8}, b""),
    "an extension and nothing else": ({"extension": b"1234"}, b""),
}


@pytest.mark.parametrize("name", ADORNED)
@pytest.mark.parametrize("hosts", [V4, V6], ids=["v4", "v6"])
def test_payload_lies_between_the_adornments(name: str, hosts: tuple[str, str]) -> None:
    options, payload = ADORNED[name]
    plain = framed(datagram(hosts[0], 4000, hosts[1], 6000, rtp(payload=b"plain")), LinkType.ETHERNET)
    packet = framed(
        datagram(hosts[0], 4000, hosts[1], 6000, rtp(payload=payload, **options)), LinkType.ETHERNET
    )
    result, counted = dissect(as_frames([plain, packet, plain]))
    assert counted == {"media": 3}
    assert [result.media.payload(n) for n in range(3)] == [b"plain", payload, b"plain"]
    assert result.media.marker.tolist() == [False, bool(options.get("marker")), False]
    assert result.media.payload_type[1] == options.get("payload_type", 0)


BROKEN_RTP = {
    "15 CSRCs in 20 bytes": b"\x8f\0" + bytes(18),
    "extension of 65,535 words": b"\x90\0" + bytes(10) + b"\xbe\xde\xff\xff" + bytes(40),
    "extension without its length": b"\x90\0" + bytes(10) + b"\xbe\xde",
    "extension one word too long": b"\x90\0" + bytes(10) + b"\xbe\xde\0\x02" + bytes(4),
    "padding longer than the payload": b"\xa0\0" + bytes(10) + b"abc\x05",
    "padding bit without payload": b"\xa0\0" + bytes(10),
    "padding over the extension": b"\xb0\0" + bytes(10) + b"\xbe\xde\0\0" + b"\0\0\x04",
}


@pytest.mark.parametrize("name", BROKEN_RTP)
def test_rtp_header_that_does_not_fit(name: str) -> None:
    good = framed(datagram(*(V4[0], 1000, V4[1], 2000), rtp()), LinkType.ETHERNET)
    bad = framed(datagram(*(V4[0], 1000, V4[1], 2000), BROKEN_RTP[name]), LinkType.ETHERNET)
    result, counted = dissect(as_frames([good, bad, good]))
    assert counted == {"media": 2, "rtp_invalid": 1}
    media = result.media
    if name.startswith("padding"):  # SRTP may look so: whoever has the keys may open it
        assert media.payload_len.tolist() == [160, -1, 160]
        media = media.where(media.payload_len >= 0)
    assert media.row.tolist() == [0, 2]
    assert [media.payload(n) for n in range(2)] == [b"\xd5" * 160] * 2


def test_padding_count_of_zero_keeps_the_payload() -> None:
    packet = b"\xa0\0" + bytes(10) + b"audio\0"
    dissector = Dissector(frozenset({5060}))
    result = dissector.feed(
        as_frames([framed(datagram(V4[0], 1000, V4[1], 2000, packet), LinkType.ETHERNET)])
    )
    assert result.media.payload(0) == b"audio\0"
    assert dissector.counters["rtp_padding_zero"] == 1


OTHERS = {
    "RTCP sender report": (b"\x80\xc8\0\x06" + bytes(24), 4000, "rtcp"),
    "RTCP on a SIP port": (b"\x80\xc9\0\x01" + bytes(4), 5060, "rtcp"),
    "empty receiver report": (b"\x80\xc9\0\x01\0\0\0\1", 4000, "rtcp"),
    "RTP type 191": (b"\x80\xbf" + bytes(10), 4000, "media"),
    "RTCP type 192": (b"\x80\xc0" + bytes(10), 4000, "rtcp"),
    "RTCP type 223": (b"\xbf\xdf" + bytes(10), 4000, "rtcp"),
    "RTP type 224": (b"\x80\xe0" + bytes(10), 4000, "media"),
    "RTP on a SIP port": (rtp(), 5060, "media"),
    "eleven bytes": (rtp()[:11], 4000, "other"),
    "version 0": (b"\0" + rtp()[1:], 4000, "other"),
    "version 1": (b"\x40" + rtp()[1:], 4000, "other"),
    "version 3": (b"\xc0" + rtp()[1:], 4000, "other"),
    "eleven bytes on a SIP port": (rtp()[:11], 5060, "other"),
    "empty": (b"", 4000, "other"),
    "SIP elsewhere": (SIP, 4000, "other"),
    "SIP": (SIP, 5060, "signalling"),
    "SIP on the second port": (SIP, 5080, "signalling"),
    "empty keep-alive": (b"", 5060, "keepalive"),
    "CRLF keep-alive": (b"\r\n\r\n", 5060, "keepalive"),
    "one CRLF": (b"\r\n", 5060, "keepalive"),
    "zero keep-alive": (b"\0\0\0\0", 5060, "keepalive"),
    "STUN": (b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12), 5060, "keepalive"),
    "SIP that begins with a line end": (b"\r\n" + SIP, 5060, "signalling"),
    "one letter": (b"!", 5060, "signalling"),
    "one space": (b" ", 5060, "keepalive"),
    "no text": (b"\xc0", 5060, "signalling"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("hosts", [V4, V6], ids=["v4", "v6"])
def test_what_a_datagram_is(name: str, hosts: tuple[str, str]) -> None:
    payload, port, outcome = OTHERS[name]
    for source, destination in ((port, 9), (9, port)):
        frame = framed(
            datagram(hosts[0], source, hosts[1], destination, payload), LinkType.ETHERNET, minimum=60
        )
        result, counted = dissect(as_frames([frame]))
        assert counted == {outcome: 1}
        assert len(result.media) == (outcome == "media")
        found = [(item.source, item.destination, item.payload) for item in result.signalling]
        ends = (Endpoint(hosts[0], source), Endpoint(hosts[1], destination))
        assert found == ([(*ends, payload)] if outcome == "signalling" else [])


def test_ethernet_padding_is_no_payload() -> None:
    frame = framed(datagram(V4[0], 1000, V4[1], 2000, rtp(payload=b"x")), LinkType.ETHERNET, minimum=60)
    result, _ = dissect(as_frames([frame]))
    assert len(frame) == 60
    assert result.media.payload(0) == b"x"


def test_udp_length_governs_and_may_not_pass_the_ip_packet() -> None:
    body = udp(*V4, 1000, 2000, rtp(payload=b"four"))
    shorter = ipv4(*V4, body + b"trailing")
    longer = ipv4(*V4, body)[:-1]
    longer = longer[:2] + len(longer).to_bytes(2, "big") + longer[4:] + b"!"
    result, counted = dissect(as_frames([shorter, longer], LinkType.RAW))
    assert counted == {"media": 1, "malformed": 1}
    assert result.media.payload(0) == b"four"


MALFORMED = {
    "header of 4 words": lambda packet: b"\x44" + packet[1:],
    "total length below the header": lambda packet: packet[:2] + b"\0\x13" + packet[4:],
    "total length zero": lambda packet: packet[:2] + b"\0\0" + packet[4:],
    "UDP length 7": lambda packet: packet[:24] + b"\0\7" + packet[26:],
    "UDP length 0": lambda packet: packet[:24] + b"\0\0" + packet[26:],
    "options past the packet": lambda packet: b"\x4f" + packet[1:2] + b"\0\x3c" + packet[4:28],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name: str) -> None:
    good = datagram(V4[0], 1000, V4[1], 2000, rtp())
    result, counted = dissect(as_frames([good, MALFORMED[name](good), good], LinkType.RAW))
    assert counted == {"media": 2, "malformed": 1}
    assert result.media.row.tolist() == [0, 2]


def test_options_of_ipv4_are_skipped() -> None:
    packets = [
        framed(ipv4(*V4, udp(*V4, 1000, 2000, rtp(n)), options=b"\x01" * 4 * n), LinkType.ETHERNET)
        for n in range(11)
    ]
    result, counted = dissect(as_frames(packets))
    assert counted == {"media": 11}
    assert result.media.seq.tolist() == list(range(11))
    assert len(set(result.media.key.tolist())) == 1
    assert {result.media.endpoints(n) for n in range(11)} == {(Endpoint(V4[0], 1000), Endpoint(V4[1], 2000))}


CHAINS = {
    "hop by hop": [hop_by_hop()],
    "destination options": [destination_options(3)],
    "routing": [routing()],
    "authentication": [authentication()],
    "whole packet with a fragment header": [fragment_header(0, False, 5)],
    "all of them": [
        hop_by_hop(),
        destination_options(),
        routing(),
        fragment_header(0, False, 5),
        authentication(),
        destination_options(32),
    ],
}


@pytest.mark.parametrize("name", CHAINS)
def test_extension_headers_of_ipv6_are_skipped(name: str) -> None:
    plain = ipv6(*V6, udp(*V6, 1000, 2000, rtp(0)))
    packet = ipv6(*V6, udp(*V6, 1000, 2000, rtp(1, payload=b"far")), extensions=CHAINS[name])
    result, counted = dissect(as_frames([plain, packet], LinkType.IPV6))
    assert counted == {"media": 2}
    assert result.media.payload(1) == b"far"
    assert result.media.endpoints(0) == result.media.endpoints(1)
    assert result.media.key[0] == result.media.key[1]


def test_extension_headers_that_lead_nowhere() -> None:
    endless = ipv6(*V6, udp(*V6, 1000, 2000, rtp()), extensions=[destination_options()] * 40)
    past_end = ipv6(*V6, b"\0" * 8, extensions=[(60, bytes([255]) + bytes(6))])
    tcp = ipv6(*V6, bytes(20), extensions=[hop_by_hop()], last=6)
    nothing = ipv6(*V6, b"", last=59)
    _, counted = dissect(as_frames([endless, past_end, tcp, nothing], LinkType.RAW))
    assert counted == {"malformed": 2, "not_udp": 2}


def test_no_ip() -> None:
    arp = b"\xff" * 6 + b"\x02" * 6 + b"\x08\x06" + bytes(46)
    good = framed(datagram(V4[0], 1000, V4[1], 2000, rtp()), LinkType.ETHERNET)
    wrong_version = good[:14] + b"\x65" + good[15:]
    length_field = good[:12] + b"\x05\xdc" + good[14:]
    _, counted = dissect(as_frames([arp, b"", good[:14], good, wrong_version, length_field]))
    assert counted == {"not_ip": 5, "media": 1}
    appletalk = b"\x10\0\0\0" + datagram(V4[0], 1000, V4[1], 2000, rtp())
    assert dissect(as_frames([appletalk], LinkType.NULL))[1] == {"not_ip": 1}


def test_not_udp() -> None:
    tcp4, icmp = ipv4(*V4, bytes(20), protocol=6), ipv4(*V4, bytes(8), protocol=1)
    fragment_of_tcp = ipv4(*V4, bytes(24), protocol=6, flags_offset=0x2000)
    _, counted = dissect(as_frames([tcp4, icmp, fragment_of_tcp, ipv6(*V6, bytes(20), last=6)], LinkType.RAW))
    assert counted == {"not_udp": 3, "fragments": 1}


@pytest.mark.parametrize("hosts", [V4, V6], ids=["v4", "v6"])
def test_truncated_by_the_snap_length_at_every_byte(hosts: tuple[str, str]) -> None:
    """No truncated packet is media; whole ones beside it are."""
    whole = framed(datagram(hosts[0], 1000, hosts[1], 2000, rtp(payload=b"12345678")), LinkType.ETHERNET)
    for snaplen in range(15, len(whole)):
        _, counted = dissect(as_frames([whole], snaplen=snaplen))
        assert counted == {"truncated": 1}, snaplen
    assert dissect(as_frames([whole], snaplen=len(whole)))[1] == {"media": 1}


def test_the_beginning_of_a_truncated_sip_message_is_delivered() -> None:
    frame = framed(datagram(V4[0], 5060, V4[1], 5060, SIP), LinkType.ETHERNET)
    result, counted = dissect(as_frames([frame], snaplen=len(frame) - 3))
    assert counted == {"truncated": 1}
    assert [(item.payload, item.truncated) for item in result.signalling] == [(SIP[:-3], True)]
    result, _ = dissect(as_frames([frame]))
    assert [(item.payload, item.truncated) for item in result.signalling] == [(SIP, False)]


@pytest.mark.parametrize("link", [LinkType.LINUX_SLL, LinkType.LINUX_SLL2])
def test_doubles_of_the_loopback_interface(link: LinkType) -> None:
    frame = framed(datagram("127.0.0.1", 1000, "127.0.0.1", 2000, rtp()), link)

    def cooked(packet_type: int, hardware: int) -> bytes:
        if link == LinkType.LINUX_SLL:
            return packet_type.to_bytes(2, "big") + hardware.to_bytes(2, "big") + frame[4:]
        return frame[:8] + hardware.to_bytes(2, "big") + bytes([packet_type]) + frame[11:]

    batch = [cooked(4, 772), cooked(0, 772), cooked(4, 1), cooked(4, 772)]
    result, counted = dissect(as_frames(batch, link))
    assert counted == {"media": 2, "doubles": 2}
    assert result.media.row.tolist() == [1, 2]


def test_key_tells_streams_apart() -> None:
    def key_of(seed: int, *flow: object, ssrc: int = 1) -> int:
        source, sport, destination, dport = flow
        packet = datagram(str(source), int(str(sport)), str(destination), int(str(dport)), rtp(ssrc=ssrc))
        return int(Dissector(frozenset(), seed).feed(as_frames([packet], LinkType.RAW)).media.key[0])

    flows = [
        ("10.0.0.1", 1000, "10.0.0.2", 2000),
        ("10.0.0.2", 2000, "10.0.0.1", 1000),
        ("10.0.0.1", 1001, "10.0.0.2", 2000),
        ("10.0.0.1", 1000, "10.0.0.2", 2001),
        ("10.0.0.3", 1000, "10.0.0.2", 2000),
        ("10.0.0.1", 1000, "10.0.0.3", 2000),
        ("138.0.0.1", 1000, "10.0.0.2", 2000),
        ("fe80::1", 1000, "fe80::2", 2000),
        ("fe80::2", 1000, "fe80::1", 2000),
        ("fe80:1::", 1000, "fe80::2", 2000),
        ("fe80::1", 1000, "fe80:0:1::2", 2000),
    ]
    keys = [key_of(seed, *flow, ssrc=ssrc) for seed in (0, 1) for flow in flows for ssrc in (1, 2, 2**31)]
    assert len(set(keys)) == len(keys)
    assert key_of(5, *flows[0]) == key_of(5, *flows[0])


def test_differences_in_the_top_bits_do_not_cancel() -> None:
    """With fixed multipliers these flip the same bits of every key, so that one difference undoes another."""
    first = datagram("10.0.0.1", 1000, "10.0.0.2", 2000, rtp(ssrc=1))
    second = datagram("10.0.0.1", 1000, "10.0.0.130", 2000, rtp(ssrc=1))
    flips = set()
    for seed in range(50):
        key = Dissector(frozenset(), seed).feed(as_frames([first, second], LinkType.RAW)).media.key
        flips.add(int(key[0] ^ key[1]))
    assert len(flips) == 50


def test_media_of_nothing() -> None:
    for link in ALL_LINKS:
        result, counted = dissect(as_frames([], link))
        assert (len(result.media), result.signalling, counted) == (0, [], {})


def test_rows_need_not_be_contiguous() -> None:
    frames = as_frames(
        [framed(datagram(V4[0], 1000, V4[1], 2000, rtp(n)), LinkType.ETHERNET) for n in range(4)]
    )
    wide = np.zeros((8, 400), np.uint8)
    wide[::2, 7 : 7 + frames.data.shape[1]] = frames.data
    view = wide[::2, 7 : 7 + frames.data.shape[1]]
    result, counted = dissect(Frames(frames.link, frames.time_ns, view, frames.caplen, frames.wirelen))
    assert counted == {"media": 4}
    assert result.media.seq.tolist() == [0, 1, 2, 3]
    assert result.media.payload(3) == b"\xd5" * 160
