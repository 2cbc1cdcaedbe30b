"""The kernel filters, run by a small interpreter: they let through what the dissector uses, to one ring."""

import functools
import random
from collections.abc import Callable

import pytest

from recorderd.capture.bpf import SNAPLEN, Share, media_filter, signalling_filter
from recorderd.wire.dissect import OUTCOMES, Dissector
from recorderd.wire.endpoint import Endpoint, packed_host
from recorderd.wire.flow_hash import share_of
from recorderd.wire.frames import LinkType
from recorderd.wire.tunnel_settings import TunnelSettings
from tests.bpf_machine import run
from tests.capture_builder import (
    as_frames,
    authentication,
    datagram,
    destination_options,
    fragments,
    framed,
    hop_by_hop,
    ipv4,
    ipv6,
    routing,
    rtp,
    tcp,
    udp,
)
from tests.tunnel_builder import IP_TUNNELS, LINK_TUNNELS, Wrap, ethernet, outer, outer_udp, vxlan

V4 = ("10.1.2.3", "192.168.77.9")
V6 = ("2001:db8::1:2", "fe80::9")
PORTS = frozenset({5060, 5080})
SIP = b"OPTIONS sip:a@b SIP/2.0\r\n\r\n"
LINKS = (LinkType.ETHERNET, LinkType.RAW)


def verdict(packet: bytes, link: LinkType = LinkType.ETHERNET) -> str:
    media = run(media_filter(link), packet)
    signalling = run(signalling_filter(PORTS, link), packet)
    assert {media, signalling} <= {0, SNAPLEN}
    assert not (media and signalling)
    return "media" if media else "signalling" if signalling else "nobody"


BODIES = {
    "RTP": (rtp(), 4000, "media"),
    "RTP on a SIP port": (rtp(), 5060, "media"),
    "RTCP": (b"\x80\xc8\0\x06" + bytes(24), 4000, "media"),
    "all of version 2": (b"\xbf", 4000, "media"),
    "version 1": (b"\x40" * 20, 4000, "nobody"),
    "version 3": (b"\xc0" * 20, 4000, "nobody"),
    "SIP": (SIP, 5060, "signalling"),
    "SIP on the second port": (SIP, 5080, "signalling"),
    "SIP elsewhere": (SIP, 4000, "nobody"),
    "keep-alive": (b"\r\n\r\n", 5060, "signalling"),
    "empty": (b"", 5060, "nobody"),
    "empty elsewhere": (b"", 4000, "nobody"),
}
TAGS = {
    "no tag": (),
    "one tag": (0x8100,),
    "two tags": (0x88A8, 0x8100),
    "old outer tag": (0x9100, 0x8100),
    "four tags": (0x9100, 0x9200, 0x88A8, 0x8100),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("hosts", [V4, V6], ids=["v4", "v6"])
def test_on_ethernet(hosts: tuple[str, str], tags: str, name: str) -> None:
    body, port, ring = BODIES[name]
    for source, destination in ((port, 9), (9, port)):
        packet = datagram(hosts[0], source, hosts[1], destination, body)
        assert verdict(framed(packet, LinkType.ETHERNET, vlans=TAGS[tags])) == ring


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("hosts", [V4, V6], ids=["v4", "v6"])
def test_on_raw_ip(hosts: tuple[str, str], name: str) -> None:
    body, port, ring = BODIES[name]
    assert verdict(datagram(hosts[0], port, hosts[1], 9, body), LinkType.RAW) == ring


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_options_of_ipv4(link: LinkType) -> None:
    for words in range(11):
        for body, ring in ((rtp(), "media"), (SIP, "signalling")):
            packet = ipv4(*V4, udp(*V4, 5060, 9, body), options=b"\1" * 4 * words)
            assert verdict(framed(packet, link), link) == ring


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
@pytest.mark.parametrize("hosts", [V4, V6], ids=["v4", "v6"])
def test_fragments_are_for_signalling_whatever_they_hold(hosts: tuple[str, str], link: LinkType) -> None:
    for body in (SIP * 20, rtp(payload=bytes(600))):
        for piece in fragments(datagram(hosts[0], 5060, hosts[1], 4000, body), 80):
            assert verdict(framed(piece, link), link) == "signalling"


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_extension_headers_of_ipv6_are_for_signalling(link: LinkType) -> None:
    for header in (hop_by_hop(), destination_options(), routing()):
        packet = ipv6(*V6, udp(*V6, 4000, 6000, rtp()), extensions=[header])
        assert verdict(framed(packet, link), link) == "signalling"
    packet = ipv6(*V6, udp(*V6, 4000, 6000, rtp()), extensions=[authentication()])
    assert verdict(framed(packet, link), link) == "nobody"


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
@pytest.mark.parametrize("tags", TAGS)
def test_tcp_of_a_sip_port_is_for_signalling(tags: str, link: LinkType) -> None:
    vlans = TAGS[tags] if link == LinkType.ETHERNET else ()
    for source, destination, ring in ((5060, 9, "signalling"), (9, 5080, "signalling"), (9, 10, "nobody")):
        for payload in (b"", SIP, rtp()):
            bodies = [tcp(*hosts, source, destination, payload) for hosts in (V4, V6)]
            packets = [ipv4(*V4, bodies[0], protocol=6), ipv6(*V6, bodies[1], last=6)]
            packets.append(ipv4(*V4, bodies[0], protocol=6, options=bytes(8)))
            for packet in packets:
                assert verdict(framed(packet, link, vlans=vlans), link) == ring


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_what_is_for_nobody(link: LinkType) -> None:
    other = ipv4(*V4, tcp(*V4, 80, 443, SIP), protocol=6)
    for packet in (other, ipv6(*V6, bytes(40), last=6), ipv6(*V6, bytes(8), last=58)):
        assert verdict(framed(packet, link), link) == "nobody"
    five_tags = framed(datagram(*(V4[0], 1, V4[1], 2), rtp()), LinkType.ETHERNET, vlans=(0x8100,) * 5)
    assert verdict(five_tags) == "nobody"
    if link == LinkType.ETHERNET:
        for wrap in LINK_TUNNELS.values():
            wrapped = wrap(outer(b"", 47))
            assert verdict(wrapped) == "nobody"
    for name, tunnel in IP_TUNNELS.items():
        for version in (4, 6):
            packet = tunnel(datagram(V4[0], 1, V4[1], 2, rtp()), version)
            # Without the tunnels being asked for, a group policy's flags look like a version.
            expected = "media" if name == "vxlan with a group" else "nobody"
            assert verdict(framed(packet, link), link) == expected


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_every_prefix_of_a_packet_ends(link: LinkType) -> None:
    for packet in (datagram(V4[0], 5060, V4[1], 1, SIP), datagram(V6[0], 1, V6[1], 5060, rtp())):
        frame = framed(packet, link)
        verdicts = [verdict(frame[:size], link) for size in range(len(frame) + 1)]
        assert verdicts[0] == "nobody"
        assert verdicts[-1] != "nobody"


def test_what_the_dissector_uses_is_let_through_to_one_ring() -> None:
    """Damaged packets of all shapes: the media and SIP that the dissector finds come in by one filter."""
    generator = random.Random(1)
    seeds = [
        *(ipv4(*V4, udp(*V4, port, 4000, body)) for body, port, _ in BODIES.values()),
        *(ipv6(*V6, udp(*V6, 4000, port, body)) for body, port, _ in BODIES.values()),
        *(ipv4(*V4, tcp(*V4, port, 4000, body), protocol=6) for body, port, _ in BODIES.values()),
        *(ipv6(*V6, tcp(*V6, 4000, port, body), last=6) for body, port, _ in BODIES.values()),
        *fragments(datagram(V4[0], 5060, V4[1], 1, SIP * 9), 80),
        *fragments(datagram(V6[0], 5060, V6[1], 1, SIP * 9), 80),
        ipv6(*V6, udp(*V6, 4000, 6000, rtp()), extensions=[hop_by_hop(), destination_options()]),
    ]
    for _ in range(4000):
        link = generator.choice(LINKS)
        tags = generator.choice(list(TAGS.values())) if link == LinkType.ETHERNET else ()
        frame = bytearray(framed(generator.choice(seeds), link, vlans=tags))
        for _ in range(generator.randrange(3)):
            frame[generator.randrange(len(frame))] = generator.randrange(256)
        dissector = Dissector(PORTS)
        dissector.feed(as_frames([bytes(frame)], link))
        outcome = next(name for name in OUTCOMES if dissector.counters[name])
        ring = verdict(bytes(frame), link)
        if outcome in ("media", "rtcp", "rtp_invalid"):
            assert ring in ("media", "signalling")
        elif outcome in ("signalling", "fragments", "tcp"):
            assert ring == "signalling"
        elif outcome == "not_udp":
            assert ring != "media"


def test_many_ports() -> None:
    ports = range(10_000, 10_600)
    program = signalling_filter(ports)
    assert len(program) <= 4096, "the kernel takes no longer program"
    for port in (10_000, 10_599):
        assert run(program, framed(datagram(V4[0], port, V4[1], 1, SIP), LinkType.ETHERNET)) == SNAPLEN
    assert run(program, framed(datagram(V4[0], 10_600, V4[1], 1, SIP), LinkType.ETHERNET)) == 0


def test_no_ports() -> None:
    program = signalling_filter(())
    assert run(program, framed(datagram(V4[0], 5060, V4[1], 5060, SIP), LinkType.ETHERNET)) == 0


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
@pytest.mark.parametrize("hosts", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("port", [4000, 5060])
def test_long_media_is_let_through_to_the_ring_with_long_frames(
    hosts: tuple[str, str], link: LinkType, port: int
) -> None:
    short = framed(datagram(hosts[0], port, hosts[1], 6000, rtp(1, 160, 9, bytes(160))), link)
    for extra in (0, 1, 2, 1000):
        packet = framed(datagram(hosts[0], port, hosts[1], 6000, rtp(1, 160, 9, bytes(160 + extra))), link)
        media = run(media_filter(link, len(short)), packet)
        signalling = run(signalling_filter(PORTS, link, len(short)), packet)
        assert (media, signalling) == ((0, SNAPLEN) if extra else (SNAPLEN, 0))


def random_end(rng: random.Random, version: int) -> Endpoint:
    """Any address and port; now and then one of those that PBXs have."""
    port = rng.choice([rng.randrange(1, 65536), 10_000 + 2 * rng.randrange(100)])
    if version == 4:
        return Endpoint(packed_host(rng.randbytes(4)), port)
    return Endpoint(
        packed_host(rng.choice([b"\xfd" + rng.randbytes(15), b"\xfe\x80" + bytes(13) + b"\1"])), port
    )


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("link", LINKS)
def test_each_flow_is_of_the_share_that_is_computed_from_its_ends(version: int, link: LinkType) -> None:
    """In either direction, to one ring only: that of the media, or of what is too long for it."""
    rng = random.Random(version)
    seen = set()
    for _ in range(100):
        one, other = random_end(rng, version), random_end(rng, version)
        for count in (2, 3, 7):
            number = share_of(one, other, count)
            assert number == share_of(other, one, count)
            seen.add((count, number))
            for size, ring in ((160, media_filter), (700, signalling_filter)):
                packet = framed(datagram(*one, *other, rtp(payload=bytes(size))), link)
                back = framed(datagram(*other, *one, rtp(payload=bytes(size))), link)
                for share in range(count):
                    filters = {
                        media_filter: media_filter(link, 400, Share(share, count)),
                        signalling_filter: signalling_filter(PORTS, link, 400, Share(share, count)),
                    }
                    for kind, program in filters.items():
                        mine = kind is ring and share == number
                        assert run(program, packet) == run(program, back) == (SNAPLEN if mine else 0)
    assert seen == {(count, number) for count in (2, 3, 7) for number in range(count)}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("addresses", [V4, V6])
def test_signalling_comes_to_every_share(name: str, addresses: tuple[str, str]) -> None:
    payload, port, kind = BODIES[name]
    packet = framed(datagram(addresses[0], port, addresses[1], port, payload), LinkType.ETHERNET)
    for share in (Share(0, 2), Share(1, 2)):
        admitted = run(signalling_filter(PORTS, share=share), packet)
        assert bool(admitted) == (kind == "signalling")


def test_an_address_in_its_ipv6_form_is_the_same() -> None:
    """A dual-stack socket's packets and the description that announced them must meet."""
    packet = framed(datagram("::ffff:10.0.0.1", 4000, "::ffff:10.0.0.2", 6000, rtp()), LinkType.ETHERNET)
    number = share_of(Endpoint("10.0.0.1", 4000), Endpoint("10.0.0.2", 6000), 5)
    admitted = [bool(run(media_filter(share=Share(share, 5)), packet)) for share in range(5)]
    assert admitted == [share == number for share in range(5)]


def _on_ethernet(wrap: Wrap, packet: bytes) -> bytes:
    return ethernet(wrap(packet, 4))


LONGEST = 432
TUNNELLED: dict[str, Callable[[bytes], bytes]] = {
    **{f"link {name}": LINK_TUNNELS[name] for name in LINK_TUNNELS if "mpls" in name or "pppoe" in name},
    **{name: functools.partial(_on_ethernet, wrap) for name, wrap in IP_TUNNELS.items()},
}


@pytest.mark.parametrize("name", TUNNELLED)
@pytest.mark.parametrize("share", [None, Share(1, 3)], ids=["alone", "sharing"])
def test_what_carries_a_tunnel_comes_in_by_its_length(name: str, share: Share | None) -> None:
    """All of it to every share; to one ring each; and only where tunnels are asked for."""
    tunnels = TunnelSettings()
    for size, ring in ((10, "media"), (LONGEST, "signalling")):
        for body in (rtp(payload=bytes(size)), b"\x40" + bytes(size)):
            packet = TUNNELLED[name](datagram(V4[0], 4000, V4[1], 6000, body))
            media = run(media_filter(longest=LONGEST, share=share, tunnels=tunnels), packet)
            signalling = run(signalling_filter(PORTS, longest=LONGEST, share=share, tunnels=tunnels), packet)
            assert (bool(media), bool(signalling)) == (ring == "media", ring == "signalling")


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
@pytest.mark.parametrize("hosts", [V4, V6], ids=["v4", "v6"])
def test_tunnels_change_nothing_for_what_is_in_none(hosts: tuple[str, str], link: LinkType) -> None:
    tunnels = TunnelSettings()
    packets = [datagram(hosts[0], 9, hosts[1], port, body) for body, port, _ in BODIES.values()]
    packets += fragments(datagram(hosts[0], 5060, hosts[1], 4000, SIP * 20), 80)
    packets += [IP_TUNNELS["gre"](packet, 4)[:30] for packet in packets]
    for packet in packets:
        frame = framed(packet, link)
        for options in ({}, {"longest": 100}, {"longest": 100, "share": Share(0, 2)}):
            plain = (
                run(media_filter(link, **options), frame),
                run(signalling_filter(PORTS, link, **options), frame),
            )
            also = (
                run(media_filter(link, **options, tunnels=tunnels), frame),
                run(signalling_filter(PORTS, link, **options, tunnels=tunnels), frame),
            )
            if packet[9] != 47 or packet[0] >> 4 != 4:
                assert plain == also


def test_only_the_tunnels_asked_for() -> None:
    tunnels = TunnelSettings(frozenset({"vxlan"}), {"vxlan": (4791,)})
    inner = datagram(V4[0], 4000, V4[1], 6000, rtp())
    for packet, admitted in (
        (outer_udp(vxlan(ethernet(inner)), 4791), True),
        (outer_udp(vxlan(ethernet(inner)), 4789), False),
        (IP_TUNNELS["gre"](inner, 4), False),
        (IP_TUNNELS["geneve"](inner, 4), False),
    ):
        assert bool(run(media_filter(tunnels=tunnels), ethernet(packet))) == admitted
