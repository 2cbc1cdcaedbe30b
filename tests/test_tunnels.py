"""Tunnels, opened: whatever is wrapped around packets, the same packets come out, and Wireshark agrees."""

import itertools
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.wire.dissect import OUTCOMES, Dissected, Dissector
from recorderd.wire.frames import Frames, LinkType
from recorderd.wire.tunnel_settings import TUNNELS, TunnelSettings
from recorderd.wire.tunnels import MAX_DEPTH
from tests.capture_builder import (
    ALL_LINKS,
    as_frames,
    datagram,
    erf,
    fragments,
    framed,
    ipv4,
    pcap,
    rtp,
)
from tests.fuzzing import inputs
from tests.live.tshark import tshark_fields
from tests.tunnel_builder import (
    IP_TUNNELS,
    LINK_TUNNELS,
    MACS,
    ethernet,
    geneve,
    gre,
    labels,
    outer,
    outer_udp,
    vxlan,
)

V4 = ("10.1.2.3", "192.168.77.9")
V6 = ("2001:db8::1:2", "fe80::9")
SIP = b"OPTIONS sip:a@b SIP/2.0\r\n\r\n"
PORTS = frozenset({5060})
VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["over v4", "over v6"])
HOSTS = pytest.mark.parametrize("hosts", [V4, V6], ids=["v4", "v6"])


def dissect(frames: Frames, tunnels: TunnelSettings | None = None) -> tuple[Dissected, dict[str, int]]:
    """What a batch held, and the outcomes of its frames, of which each has one."""
    dissector = Dissector(PORTS, 1, tunnels)
    result = dissector.feed(frames)
    counters = dissector.counters
    assert counters["frames"] + counters["reassembled"] == sum(counters[name] for name in OUTCOMES), counters
    return result, {name: counters[name] for name in OUTCOMES if counters[name]}


def told(result: Dissected) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """All that is known of media and signalling, but for the places in the frames."""
    media = result.media
    columns = (
        media.time_ns,
        media.key,
        media.seq,
        media.timestamp,
        media.ssrc,
        media.payload_type,
        media.marker,
    )
    packets = [
        (*(column[n].item() for column in columns), media.payload(n), media.endpoints(n))
        for n in range(len(media))
    ]
    return packets, [
        (item.time_ns, item.source, item.destination, item.payload, item.truncated)
        for item in result.signalling
    ]


def conversation(hosts: tuple[str, str]) -> list[bytes]:
    """Some packets: voice, SIP, voice with all that RTP may have."""
    return [
        datagram(hosts[0], 4000, hosts[1], 6000, rtp(1, 160, payload=b"\x80" * 160)),
        datagram(hosts[0], 5060, hosts[1], 5060, SIP),
        datagram(
            hosts[1], 6000, hosts[0], 4000, rtp(2, 320, 9, b"x" * 33, marker=True, csrcs=[1], padding=4)
        ),
    ]


@pytest.mark.parametrize("name", IP_TUNNELS)
@VERSIONS
@HOSTS
def test_a_tunnel_over_ip(hosts: tuple[str, str], version: int, name: str) -> None:
    packets = conversation(hosts)
    wrapped = [framed(IP_TUNNELS[name](packet, version), LinkType.ETHERNET, minimum=60) for packet in packets]
    result, counted = dissect(as_frames(wrapped))
    assert told(result) == told(dissect(as_frames(packets, LinkType.RAW))[0])
    assert counted == {"media": 2, "signalling": 1}


@pytest.mark.parametrize("name", LINK_TUNNELS)
@HOSTS
def test_a_tunnel_over_ethernet(hosts: tuple[str, str], name: str) -> None:
    packets = conversation(hosts)
    result, counted = dissect(as_frames([LINK_TUNNELS[name](packet) for packet in packets]))
    assert told(result) == told(dissect(as_frames(packets, LinkType.RAW))[0])
    assert counted == {"media": 2, "signalling": 1}


STACKS = st.tuples(
    st.sampled_from(sorted(LINK_TUNNELS)),
    st.lists(st.tuples(st.sampled_from(sorted(IP_TUNNELS)), st.sampled_from([4, 6])), max_size=4),
)


def stacked(packet: bytes, stack: tuple[str, list[tuple[str, int]]]) -> bytes:
    link, layers = stack
    for name, version in layers:
        packet = IP_TUNNELS[name](packet, version)
    return LINK_TUNNELS[link](packet)


@given(
    stacks=st.lists(st.tuples(STACKS, st.sampled_from([V4, V6]), st.integers(0, 2)), min_size=1, max_size=12)
)
@inputs(200)
def test_any_stack_of_tunnels(
    stacks: list[tuple[tuple[str, list[tuple[str, int]]], tuple[str, str], int]],
) -> None:
    """Packets in stacks of their own in one batch are what they are without them, in the same order."""
    packets = [conversation(hosts)[number] for _, hosts, number in stacks]
    wrapped = [stacked(packet, stack) for packet, (stack, _, _) in zip(packets, stacks, strict=True)]
    result, counted = dissect(as_frames(wrapped))
    plain, expected = dissect(as_frames(packets, LinkType.RAW))
    assert told(result) == told(plain)
    assert counted == expected


@pytest.mark.parametrize("name", [*IP_TUNNELS, *LINK_TUNNELS])
def test_truncated_at_every_byte(name: str) -> None:
    packet = datagram(*(V4[0], 1000, V4[1], 2000), rtp(payload=b"12345678"))
    whole = (
        framed(IP_TUNNELS[name](packet, 4), LinkType.ETHERNET)
        if name in IP_TUNNELS
        else LINK_TUNNELS[name](packet)
    )
    for snaplen in range(15, len(whole)):
        result, counted = dissect(as_frames([whole], snaplen=snaplen))
        assert counted == {"truncated": 1}, snaplen
        assert not len(result.media)
    assert dissect(as_frames([whole], snaplen=len(whole)))[1] == {"media": 1}


@pytest.mark.parametrize("name", ["vxlan", "erspan 2", "gre", "ipip", "geneve", "tzsp"])
def test_a_packet_that_its_mirror_cut_short(name: str) -> None:
    """The frame is whole, what is in it is not: nothing is read past the end of the tunnel's packet, and the
    beginning of a SIP message names its call.
    """
    voice = datagram(V4[0], 1000, V4[1], 2000, rtp(payload=b"a" * 160))
    sip = datagram(V4[0], 5060, V4[1], 5060, SIP * 10)
    batch = [
        framed(IP_TUNNELS[name](packet, 4), LinkType.ETHERNET) + b"\x80" * 300
        for packet in (voice[:128], sip[:128], voice)
    ]
    result, counted = dissect(as_frames(batch))
    assert counted == {"truncated": 2, "media": 1}
    assert [(item.payload, item.truncated) for item in result.signalling] == [((SIP * 10)[:100], True)]
    assert [result.media.payload(n) for n in range(len(result.media))] == [b"a" * 160]


@HOSTS
@VERSIONS
@pytest.mark.parametrize("name", ["gre", "vxlan", "ipip", "erspan 3"])
@pytest.mark.parametrize("which", ["outer", "inner", "both"])
def test_fragments(which: str, name: str, version: int, hosts: tuple[str, str]) -> None:
    """Fragments of a tunnel's packets, fragments within tunnels, and fragments of packets with fragments."""
    payload = rtp(5, payload=bytes(range(256)) * 4)
    packets = [
        datagram(hosts[0], 4000, hosts[1], 6000, payload),
        datagram(hosts[0], 5060, hosts[1], 5060, SIP * 40),
    ]
    frames = []
    for number, packet in enumerate(packets):
        inner = fragments(packet, 504, number) if which != "outer" else [packet]
        wrapped = [IP_TUNNELS[name](piece, version) for piece in inner]
        if which != "inner":
            wrapped = [
                piece
                for n, whole in enumerate(wrapped)
                for piece in fragments(whole, 296, 50 + 9 * number + n)
            ]
        random.Random(3).shuffle(wrapped)
        frames += [framed(piece, LinkType.ETHERNET) for piece in wrapped]
    result, counted = dissect(as_frames(frames))
    media, signalling = told(result)
    assert [packet[7:] for packet in media] == [
        packet[7:] for packet in told(dissect(as_frames(packets, LinkType.RAW))[0])[0]
    ]
    assert [item[3] for item in signalling] == [SIP * 40]
    assert (counted["media"], counted["signalling"]) == (1, 1)
    assert set(counted) == {"media", "signalling", "fragments"}


def test_fragments_one_batch_each() -> None:
    whole = IP_TUNNELS["vxlan"](datagram(V4[0], 4000, V4[1], 6000, rtp(5, payload=b"v" * 900)), 4)
    dissector = Dissector(PORTS)
    found = [dissector.feed(as_frames([piece], LinkType.RAW)).media for piece in fragments(whole, 400)]
    assert [len(media) for media in found] == [0, 0, 1]
    assert found[-1].payload(0) == b"v" * 900


@pytest.mark.parametrize("link", ALL_LINKS, ids=lambda link: link.name)
def test_damaged_tunnels_never_raise_and_have_one_outcome(link: LinkType) -> None:
    generator = random.Random(int(link))
    names = sorted(IP_TUNNELS)
    for _ in range(15):
        batch = []
        for _ in range(80):
            packet = generator.choice(conversation(generator.choice([V4, V6])))
            for _ in range(generator.randrange(4)):
                packet = IP_TUNNELS[generator.choice(names)](packet, generator.choice([4, 6]))
            if link == LinkType.ETHERNET and generator.random() < 0.5:
                frame = bytearray(LINK_TUNNELS[generator.choice(sorted(LINK_TUNNELS))](packet))
            else:
                frame = bytearray(framed(packet, link))
            for _ in range(generator.choice([0, 1, 1, 2, 5, 20])):
                place = generator.randrange(len(frame))
                frame[place] = generator.choice([generator.randrange(256), 0, 255, frame[place] ^ 1])
            cut = generator.choice([len(frame), len(frame), generator.randrange(len(frame) + 1)])
            batch.append(bytes(frame[:cut]))
        results = [
            dissect(as_frames(batch, link, snaplen=snaplen, fill=fill))
            for snaplen in (262144, 120)
            for fill in (0x00, 0x45)
        ]
        # What lies beyond a frame does not matter.
        assert [told(result) for result, _ in results[::2]] == [told(result) for result, _ in results[1::2]]
        assert [counted for _, counted in results[::2]] == [counted for _, counted in results[1::2]]


HEADS = [framed(wrap(b"E" + bytes(39), 4), LinkType.ETHERNET)[:60] for wrap in IP_TUNNELS.values()]


def test_random_bytes_behind_tunnel_headers() -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        data = generator.integers(0, 256, (1000, 160), dtype=np.uint8)
        for row in range(1000):
            head = HEADS[row % len(HEADS)]
            data[row, : len(head)] = np.frombuffer(head, np.uint8)
        data[:, 16:18] = (1, 0)  # long enough
        caplen = generator.integers(0, 161, 1000).astype(np.int32)
        wirelen = caplen + generator.integers(0, 2, 1000).astype(np.int32)
        dissect(Frames(LinkType.ETHERNET, np.arange(1000, dtype=np.int64), data, caplen, wirelen))


NAME_OF = {
    **{name: name for name in ("mpls", "pppoe", "gre", "ipip", "vxlan", "geneve", "tzsp", "l2tp")},
    **dict.fromkeys(("erspan 1", "erspan 2", "erspan 3"), "erspan"),
    "mpls in ip": "mpls",
    "gretap": "gre",
}


@pytest.mark.parametrize("name", NAME_OF)
def test_only_chosen_tunnels_are_opened(name: str) -> None:
    packet = datagram(V4[0], 1000, V4[1], 2000, rtp())
    frame = LINK_TUNNELS[name](packet) if name in LINK_TUNNELS else ethernet(IP_TUNNELS[name](packet, 4))
    chosen = frozenset({NAME_OF[name]})
    assert dissect(as_frames([frame]), TunnelSettings(chosen))[1] == {"media": 1}
    result, counted = dissect(as_frames([frame]), TunnelSettings(frozenset(TUNNELS) - chosen))
    assert (len(result.media), sum(counted.values())) == (0, 1)
    assert set(counted) <= {"not_ip", "not_udp", "other"}


def test_ports_are_configured() -> None:
    packet = datagram(V4[0], 1000, V4[1], 2000, rtp())
    frames = as_frames(
        [outer_udp(vxlan(ethernet(packet)), port) for port in (4789, 4791, 8472)], LinkType.RAW
    )
    settings = TunnelSettings(frozenset({"vxlan"}), {"vxlan": (4791,)})
    assert dissect(frames, settings)[1] == {"media": 1, "other": 2}


@pytest.mark.parametrize("port", [4789, 8472, 6081, 37008, 1701])
def test_voice_and_sip_on_the_port_of_a_tunnel(port: int) -> None:
    bodies = [rtp(1), rtp(2, csrcs=[1, 2]), rtp(3, padding=4), SIP]
    packets = [datagram(V4[0], 5060, V4[1], port, body) for body in bodies]
    result, counted = dissect(as_frames(packets, LinkType.RAW))
    assert counted == {"media": 3, "signalling": 1}
    assert result.media.seq.tolist() == [1, 2, 3]


NO_CALLS = {
    "ARP in VXLAN": outer_udp(vxlan(MACS + b"\x08\x06" + bytes(28)), 4789),
    "TCP in VXLAN": outer_udp(vxlan(ethernet(ipv4(*V4, bytes(20), protocol=6))), 4789),
    "keep-alive of GRE": outer(gre(b"", 0), 47),
    "GRE with routing": outer(gre(datagram(V4[0], 1, V4[1], 2, rtp()), 0x0800, 0x4000), 47),
    "GRE of PPTP": outer(gre(datagram(V4[0], 1, V4[1], 2, rtp()), 0x0800, 0x0001), 47),
    "VXLAN without its bit": outer_udp(vxlan(ethernet(datagram(V4[0], 1, V4[1], 2, rtp())), 0), 4789),
    "Geneve of something": outer_udp(geneve(bytes(20), 0x1234), 6081),
    "ERSPAN of version 7": outer(gre(b"\x70" + bytes(60), 0x88BE, 0x1000), 47),
    "a pseudo-wire's OAM": MACS + b"\x88\x47" + labels(1) + b"\x10\0\0\x21" + bytes(40),
    "IPv6 where IPv4 is promised": outer(datagram(V6[0], 1, V6[1], 2, rtp()), 4),
}


@pytest.mark.parametrize("name", NO_CALLS)
def test_what_no_call_is_in(name: str) -> None:
    packet = NO_CALLS[name]
    frame = packet if packet.startswith(MACS) else ethernet(packet)
    good = ethernet(datagram(V4[0], 1, V4[1], 2, rtp()))
    result, counted = dissect(as_frames([frame, good]))
    assert len(result.media) == 1
    assert counted.pop("media") == 1
    assert list(counted) in (["not_ip"], ["not_udp"], ["other"])


def test_tunnels_have_an_end() -> None:
    packet = datagram(V4[0], 1000, V4[1], 2000, rtp())
    for depth in range(1, MAX_DEPTH + 4):
        packet = outer(packet, 4)
        counted = dissect(as_frames([packet], LinkType.RAW))[1]
        assert counted == ({"media": 1} if depth <= MAX_DEPTH else {"not_udp": 1})
    endless = MACS + b"\x88\x47" + b"\0\0\0\x40" * 40
    assert dissect(as_frames([endless]))[1] == {"malformed": 1}


@pytest.mark.parametrize("extensions", [0, 1, 3])
@pytest.mark.parametrize("kind", [2, 11, 16, 20, 22])
def test_records_of_endace(kind: int, extensions: int) -> None:
    packet = datagram(V4[0], 1000, V4[1], 2000, rtp(payload=b"e" * 7))
    content = packet if kind == 22 else ethernet(packet, (0x8100,))
    result, counted = dissect(as_frames([erf(content, kind=kind, extensions=extensions)], LinkType.ERF))
    assert counted == {"media": 1}
    assert result.media.payload(0) == b"e" * 7
    assert dissect(as_frames([erf(content, kind=1)], LinkType.ERF))[1] == {"not_ip": 1}


@pytest.mark.parametrize("link", [LinkType.PPP, LinkType.PPP_HDLC])
@pytest.mark.parametrize("head", [b"\0\x21", b"\xff\x03\0\x21", b"\x21", b"\xff\x03\x21", b"\x0f\0\x08\0"])
def test_ways_to_write_ppp(head: bytes, link: LinkType) -> None:
    packet = datagram(V4[0], 1000, V4[1], 2000, rtp())
    assert dissect(as_frames([head + packet], link))[1] == {"media": 1}
    assert dissect(as_frames([b"\xff\x03\xc0\x21" + bytes(20)], link))[1] == {"not_ip": 1}


# -- what Wireshark makes of them


needs_wireshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
ENDS = ("ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "udp.srcport", "udp.dstport", "udp.length")
NOT_IN_WIRESHARK = {
    "erspan 3 of ip",
    "pseudo-wire of a MAC like IPv4",
    "pseudo-wire of a MAC like IPv6",
}
"""What Wireshark takes for something else, or does not open."""


def seen_by_wireshark(packets: list[bytes], link: LinkType, folder: Path) -> list[tuple[str, ...]]:
    """Addresses of the inner packets, their ports, and the length of their datagrams."""
    file = folder / "tunnels.pcap"
    file.write_bytes(pcap(packets, link))
    rows = tshark_fields(file, "frame", *ENDS, "frame.protocols", options=["-d", "udp.port==8472,vxlan"])
    found = []
    for row in rows:
        last = {name: field.split(",")[-1] for name, field in zip(ENDS, row, strict=False)}
        layers = row[-1].split(":")
        before = [one for one, after in itertools.pairwise(layers) if after == "udp"]
        version = before[-1] if before else "ip"
        names = (f"{version}.src", f"{version}.dst", *ENDS[4:])
        found.append(tuple(last[name] for name in names))
    return found


def seen_by_us(packets: list[bytes], link: LinkType) -> list[tuple[str, ...]]:
    media = dissect(as_frames(packets, link))[0].media
    found: list[tuple[str, ...]] = []
    for n in range(len(media)):
        source, destination = media.endpoints(n)
        length = int(media.payload_at[n] + media.payload_len[n] - media.transport_at[n])
        found.append((source.host, destination.host, str(source.port), str(destination.port), str(length)))
    return found


def voice(number: int, hosts: tuple[str, str]) -> bytes:
    return datagram(
        hosts[0], 14_000 + number, hosts[1], 16_000 + number, rtp(number, payload=bytes(20 + number))
    )


@pytest.mark.live
@needs_wireshark
@HOSTS
def test_wireshark_sees_the_same_in_tunnels(hosts: tuple[str, str], tmp_path: Path) -> None:
    names = [name for name in (*LINK_TUNNELS, *IP_TUNNELS) if name not in NOT_IN_WIRESHARK]
    packets: dict[tuple[str, int], bytes] = {}
    for name in names:
        if name in LINK_TUNNELS:
            packets[name, 0] = LINK_TUNNELS[name](voice(len(packets), hosts))
        else:
            for version in (4, 6):
                packets[name, version] = ethernet(IP_TUNNELS[name](voice(len(packets), hosts), version))
    ours = seen_by_us([*packets.values()], LinkType.ETHERNET)
    theirs = seen_by_wireshark([*packets.values()], LinkType.ETHERNET, tmp_path)
    assert dict(zip(packets, ours, strict=True)) == dict(zip(packets, theirs, strict=True))


@pytest.mark.live
@needs_wireshark
@pytest.mark.parametrize("link", ALL_LINKS, ids=lambda link: link.name)
def test_wireshark_sees_the_same_on_links(link: LinkType, tmp_path: Path) -> None:
    hosts = V6 if link == LinkType.IPV6 else V4
    packets = [framed(voice(number, hosts), link) for number in range(3)]
    if link == LinkType.ERF:
        for kind in (2, 11, 16, 20, 22):
            content = voice(kind, hosts) if kind == 22 else ethernet(voice(kind, hosts), (0x8100,))
            packets += [erf(content, kind=kind, extensions=extensions) for extensions in (0, 1, 3)]
    seen = seen_by_us(packets, link)
    assert len(seen) == len(packets)
    assert seen == seen_by_wireshark(packets, link, tmp_path)
