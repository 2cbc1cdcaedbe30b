"""HEP: what PBXs pass on of signalling that is encrypted on the wire."""

import gzip
import json
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.errors import CaptureError
from recorderd.service.hep_listener import MAX_WAITING, HepInbox, HepListener
from recorderd.wire.dissect import OUTCOMES, Dissector
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.frames import LinkType
from recorderd.wire.hep import CLOCK_NS, HepError, HepStream, hep_signalling, parse_hep
from recorderd.wire.signalling import Framed, Signalling
from recorderd.wire.sip import MAX_MESSAGE
from tests.capture_builder import START, as_frames, datagram, ipv4, rtp, tcp
from tests.fuzzing import inputs
from tests.simulators.encapsulation import Address
from tests.simulators.hep import chunk, hep1, hep3

SIP = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n"
NOW = START // 1000 * 1000
V4 = (Address("192.0.2.1", 5061), Address("192.0.2.2", 40123))
V6 = (Address("2001:db8::1", 5061), Address("2001:db8::2", 40123))


def ends(pair: tuple[Address, Address]) -> tuple[Endpoint, Endpoint]:
    return Endpoint(*pair[0]), Endpoint(*pair[1])


@pytest.mark.parametrize("pair", [V4, V6], ids=["v4", "v6"])
def test_version_3(pair: tuple[Address, Address]) -> None:
    packet = parse_hep(hep3(SIP, *pair, NOW, key=b"secret", extra=chunk(17, b"abc@d") + chunk(99, b"?")))
    assert (packet.source, packet.destination) == ends(pair)
    assert (packet.kind, packet.payload, packet.time_ns) == (1, SIP, NOW)
    assert (packet.key, packet.correlation) == (b"secret", b"abc@d")


@pytest.mark.parametrize("pair", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("version", [1, 2])
def test_versions_1_and_2(version: int, pair: tuple[Address, Address]) -> None:
    packet = parse_hep(hep1(SIP, *pair, version=version, time_ns=NOW))
    assert (packet.source, packet.destination) == ends(pair)
    assert (packet.kind, packet.payload) == (1, SIP)
    assert packet.time_ns == (NOW if version == 2 else None)


KAMAILIO = {
    1: "01100206c1b8b7df7f0000017f000001",
    2: "02100206cb84b7e07f0000017f000001e959026b2d5707004d000000",
    3: "48455033008a000000010007020000000200070600000003000a7f00000100000004000a7f00000100000007"
    "0008c4f2000000080008b7e100000009000a6b0259eb0000000a000a00081a2a0000000b0007010000000c00"
    "0a0000004d0000000f002d",
}  # fmt: skip
"""What stands before the message in packets that the siptrace of Kamailio 5.6.3 sent."""


@pytest.mark.parametrize("version", KAMAILIO)
def test_packets_of_kamailio(version: int) -> None:
    read = parse_hep(bytes.fromhex(KAMAILIO[version]) + SIP)
    client, port = {1: (49592, 47071), 2: (52100, 47072), 3: (50418, 47073)}[version]
    assert (read.source, read.destination) == (Endpoint("127.0.0.1", client), Endpoint("127.0.0.1", port))
    assert (read.kind, read.payload) == (1, SIP)
    assert (read.time_ns is None) == (version == 1)
    assert read.time_ns is None or abs(read.time_ns - 1_795_316_200 * 10**9) < 60 * 10**9


def test_a_packet_written_out_by_hand() -> None:
    """Byte by byte, and not by the builder of these tests."""
    packet = bytes.fromhex(
        "48455033 006a"
        "0000 0001 0007 02" "0000 0002 0007 06"
        "0000 0003 000a d4ca0001" "0000 0004 000a 52747b39"
        "0000 0007 0008 2e ea" "0000 0008 0008 13 c4"
        "0000 0009 000a 4e49 82cb" "0000 000a 000a 0001 d4c0"
        "0000 000b 0007 01" "0000 000c 000a 0000 00e4"
        "0000 000f 000d 4f505449 4f4e53"
    )  # fmt: skip
    read = parse_hep(packet)
    assert (str(read.source), str(read.destination)) == ("212.202.0.1:12010", "82.116.123.57:5060")
    assert (read.kind, read.payload) == (1, b"OPTIONS")
    assert read.time_ns == 0x4E4982CB * 10**9 + 120_000_000


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, zlib.compress, lambda data: zlib.compress(data, wbits=-15)],
    ids=["gzip", "zlib", "raw"],
)
def test_a_compressed_payload(pack: Callable[[bytes], bytes]) -> None:
    assert parse_hep(hep3(pack(SIP), *V4, NOW, payload_chunk=16)).payload == SIP
    with pytest.raises(HepError):
        parse_hep(hep3(pack(bytes(MAX_MESSAGE + 1)), *V4, NOW, payload_chunk=16))
    with pytest.raises(HepError):
        parse_hep(hep3(b"\xff" + pack(SIP), *V4, NOW, payload_chunk=16))


WRONG = {
    "empty": b"",
    "another protocol": b"SIP/2.0 200 OK\r\n\r\n",
    "no length": b"HEP3\0",
    "a length below its own": b"HEP3\0\5",
    "longer than the datagram": b"HEP3\0\x20" + bytes(20),
    "a chunk longer than the packet": b"HEP3\0\x0e" + struct.pack(">HHH", 0, 15, 9) + b"ab",
    "a chunk shorter than its head": b"HEP3\0\x0c" + struct.pack(">HHH", 0, 15, 5),
    "no addresses": b"HEP3\0\x0e" + chunk(15, b"ab"),
    "an address of 5 bytes": hep3(SIP, *V4, NOW).replace(chunk(3, bytes([192, 0, 2, 1])), chunk(3, b"12345")),
    "version 1 of another family": b"\1\x10\x63\x11" + bytes(20),
    "version 2 without a time": hep1(b"", *V4, version=2)[:20],
    "version 1 without a payload": hep1(b"", *V4),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_counted(name: str) -> None:
    with pytest.raises(HepError):
        parse_hep(WRONG[name])
    counters: Counter[str] = Counter()
    assert hep_signalling(WRONG[name], NOW, counters) is None
    assert counters == {"hep_malformed": 1}


def told(packet: bytes, password: str | None = None) -> tuple[Signalling | None, dict[str, int]]:
    counters: Counter[str] = Counter()
    return hep_signalling(packet, NOW, counters, password), dict(counters)


def test_what_is_said_is_not_shown() -> None:
    signal, _ = told(hep3(SIP, *V4, NOW))
    assert signal is not None
    assert "OPTIONS" not in repr(signal) + str(signal)
    assert f"time_ns={NOW}" in repr(signal)


@pytest.mark.parametrize("off", [0, 1_000_000, CLOCK_NS, -CLOCK_NS])
def test_the_time_is_the_senders(off: int) -> None:
    signal, counted = told(hep3(SIP, *V4, NOW + off))
    assert signal == Signalling(NOW + off, *ends(V4), SIP, "hep")
    assert counted == {"hep_messages": 1}


@pytest.mark.parametrize("off", [CLOCK_NS + 1000, -CLOCK_NS - 1000, -NOW])
def test_a_clock_that_is_off_is_not_believed(off: int) -> None:
    signal, counted = told(hep3(SIP, *V4, NOW + off))
    assert signal is not None
    assert signal.time_ns == NOW
    assert counted == {"hep_messages": 1, "hep_clock_off": 1}


def test_other_reports_are_no_signalling() -> None:
    report = json.dumps({"type": 200}).encode()
    for packet in (
        hep3(report, *V4, NOW, kind=5),
        hep3(report, *V4, NOW, kind=0x35),
        hep3(b"\r\n", *V4, NOW),
    ):
        assert told(packet) == (None, {"hep_other": 1})


@pytest.mark.parametrize("key", [None, b"", b"secre", b"secret\0", b"Secret"])
def test_a_wrong_password_is_refused(key: bytes | None) -> None:
    assert told(hep3(SIP, *V4, NOW, key=key), "secret") == (None, {"hep_refused": 1})
    assert told(hep1(SIP, *V4), "secret") == (None, {"hep_refused": 1})
    assert told(hep3(SIP, *V4, NOW, key=b"secret"), "secret")[0] is not None
    assert told(hep3(SIP, *V4, NOW, key=b"whatever"))[0] is not None


@given(
    st.binary(max_size=200)
    | st.binary(max_size=60).map(lambda body: b"HEP3\0" + bytes([len(body) + 6]) + body)
)
@inputs(300)
def test_any_bytes_are_a_packet_or_the_peers_error(data: bytes) -> None:
    hep_signalling(data, NOW, Counter())


@given(st.data())
@inputs(200)
def test_damaged_packets(data: st.DataObject) -> None:
    packet = bytearray(hep3(SIP, *V4, NOW, key=b"k"))
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    hep_signalling(bytes(packet), NOW, Counter())


@given(
    st.lists(st.sampled_from([hep3(SIP, *V4, NOW), hep3(b"x" * 300, *V6, NOW)]), max_size=6),
    st.integers(1, 400),
)
@inputs(100)
def test_a_stream_in_any_pieces(packets: list[bytes], size: int) -> None:
    stream = b"".join(packets)
    reader = HepStream(Counter())
    found = [item for at in range(0, len(stream), size) for item in reader.feed(stream[at : at + size])]
    assert found == [Framed(packet) for packet in packets]
    assert reader.held == 0


def test_a_stream_is_found_again_after_damage() -> None:
    packet = hep3(SIP, *V4, NOW)
    reader = HepStream(Counter())
    assert reader.feed(packet[20:] + b"HEP3\0\1" + packet) == [Framed(packet)]
    for _ in range(200):
        reader.feed(bytes(9999))
        assert reader.held < 10


# -- on the wire


def test_hep_that_passes_by() -> None:
    """Over UDP and TCP, to its port; the sums are right."""
    packet = hep3(SIP, *V4, NOW)
    hosts = ("10.0.0.1", "10.0.0.9")
    packets = [
        datagram(hosts[0], 40000, hosts[1], 9060, packet),
        datagram(hosts[0], 40000, hosts[1], 9060, hep1(SIP, *V6)),
        datagram(hosts[0], 40000, hosts[1], 9060, b"no HEP at all"),
        datagram(hosts[0], 40000, hosts[1], 9060, rtp()),
        datagram(hosts[0], 40000, hosts[1], 9061, packet),
        ipv4(*hosts, tcp(*hosts, 40000, 9060, packet[:50], sequence=1), protocol=6),
        ipv4(*hosts, tcp(*hosts, 40000, 9060, packet[50:], sequence=51), protocol=6),
    ]
    dissector = Dissector(frozenset({5060}), hep_ports=frozenset({9060}))
    times = [NOW + n for n in range(len(packets))]
    found = dissector.feed(as_frames(packets, LinkType.RAW, times=times)).signalling
    assert [(item.source, item.payload, item.transport) for item in found] == [
        (Endpoint(*V4[0]), SIP, "hep"),
        (Endpoint(*V6[0]), SIP, "hep"),
        (Endpoint(*V4[0]), SIP, "hep"),
    ]
    counters = dissector.counters
    assert counters["frames"] == sum(counters[name] for name in OUTCOMES)
    assert {name: counters[name] for name in OUTCOMES if counters[name]} == {
        "hep": 3,
        "media": 1,
        "other": 1,
        "tcp": 2,
    }
    assert counters["hep_malformed"] == 1


def test_the_password_counts_for_what_passes_by() -> None:
    dissector = Dissector(frozenset({5060}), hep_ports=frozenset({9060}), hep_password="secret")
    packet = datagram("10.0.0.1", 1, "10.0.0.9", 9060, hep3(SIP, *V4, NOW, key=b"guess"))
    assert dissector.feed(as_frames([packet], LinkType.RAW)).signalling == []
    assert dissector.counters["hep_refused"] == 1


# -- the listener


def free_port(kind: socket.SocketKind, host: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def taken(inbox: HepInbox, count: int) -> list[bytes]:
    """The packets that arrive, as soon as there are so many."""
    found: list[tuple[int, bytes]] = []
    until = time.monotonic() + 10
    while len(found) < count and time.monotonic() < until:
        found += inbox.take()
    now = time.time_ns()
    assert all(now - 20 * 10**9 < arrived <= now for arrived, _ in found)
    return [packet for _, packet in found]


@pytest.fixture
def inbox() -> HepInbox:
    return HepInbox()


@pytest.fixture
def ports(inbox: HepInbox) -> Iterator[tuple[int, int]]:
    udp, stream = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
    addresses = [f"udp:127.0.0.1:{udp}", f"tcp:127.0.0.1:{stream}"]
    with closing(HepListener(addresses, ["127.0.0.0/8"], inbox.put)) as listener:
        yield udp, stream
        listener.check()


def test_packets_come_in_by_udp_and_tcp(inbox: HepInbox, ports: tuple[int, int]) -> None:
    packets = [hep3(SIP + bytes([n]) * n, *V4, NOW) for n in range(40)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for packet in packets:
            sender.sendto(packet, ("127.0.0.1", ports[0]))
        assert taken(inbox, 40) == packets
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", ports[1])) as connection:
            for at in range(0, len(stream := b"".join(packets)), 999):
                connection.sendall(stream[at : at + 999])
            assert taken(inbox, 40) == packets


def test_strangers_are_not_heard(inbox: HepInbox) -> None:
    udp, stream = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
    listener = HepListener([f"udp:127.0.0.1:{udp}", f"tcp:127.0.0.1:{stream}"], ["192.0.2.0/24"], inbox.put)
    with closing(listener):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(hep3(SIP, *V4, NOW), ("127.0.0.1", udp))
        with socket.create_connection(("127.0.0.1", stream)) as connection:
            assert connection.recv(1) == b""  # hung up
        until = time.monotonic() + 10
        while listener.counters["hep_strangers"] < 2 and time.monotonic() < until:
            pass
    assert listener.counters["hep_strangers"] == 2
    assert inbox.take() == []


def test_an_ipv6_address(inbox: HepInbox) -> None:
    port = free_port(socket.SOCK_DGRAM, "::1")
    with (
        closing(HepListener([f"udp:[::1]:{port}"], ["::1/128"], inbox.put)),
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender,
    ):
        sender.sendto(b"x", ("::1", port))
        assert taken(inbox, 1) == [b"x"]


def test_an_address_in_use_is_told(ports: tuple[int, int], inbox: HepInbox) -> None:
    with pytest.raises(CaptureError, match=f"udp:127.0.0.1:{ports[0]}: cannot listen for HEP: Address"):
        HepListener([f"udp:127.0.0.1:{ports[0]}"], [], inbox.put)


def test_the_inbox_is_bounded() -> None:
    inbox = HepInbox()
    assert [inbox.put(0, b"x") for _ in range(MAX_WAITING + 1)] == [True] * MAX_WAITING + [False]
    assert len(inbox.take()) == MAX_WAITING
    big = bytes(60_000)
    assert sum(inbox.put(0, big) for _ in range(1000)) == (16 << 20) // len(big)
    inbox.take()
    assert inbox.put(0, big)
