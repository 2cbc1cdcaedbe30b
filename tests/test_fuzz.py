"""Every parser against good bytes made bad: its values or its own error, in bounded time and memory.

Each example is a seed from which a batch of inputs is drawn (`tests/mutations.py`): ten thousand a parser,
two hundred thousand with `make fuzz`.
"""

import atexit
import base64
import contextlib
import random
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from recorderd.calls.info_keys import info_keys
from recorderd.calls.table import CallTable
from recorderd.capture.files import open_capture
from recorderd.errors import CaptureFileError, PeerError, SpoolCorrupt
from recorderd.media.redundancy import blocks_of
from recorderd.media.srtp import SrtpKey, sealed_of, unwrapped
from recorderd.media.tones import ToneFollower
from recorderd.service.engine_settings import EngineSettings
from recorderd.spool.container import parse_json, unpack_media
from recorderd.spool.header import Core, parse_header
from recorderd.spool.manifest import parse_manifest
from recorderd.spool.scan import scan_file
from recorderd.wire.dissect import OUTCOMES, Dissector
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.frames import LinkType
from recorderd.wire.hep import HepStream, hep_signalling
from recorderd.wire.multipart import parts_of
from recorderd.wire.rtcp import parse_rtcp
from recorderd.wire.sdes import parse_crypto
from recorderd.wire.sdp import parse_sdp, sdp_of
from recorderd.wire.sip import parse_sip
from recorderd.wire.sip_stream import SipStream
from recorderd.wire.websocket import WebSocketStream
from tests.bounds import cpu_ms, resident_mb
from tests.call_script import sdp
from tests.capture_builder import (
    ALL_LINKS,
    as_frames,
    fragments,
    framed,
    ipv4,
    ipv6,
    pcap,
    pcapng,
    rtp,
    tcp,
    udp,
)
from tests.fuzzing import EXAMPLES
from tests.mutations import mutated
from tests.recorder import assert_exact, record_files
from tests.simulators import websocket
from tests.simulators.encapsulation import Address
from tests.simulators.hep import hep3
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Dtmf
from tests.sip_torture import MPART, SDP, VECTORS
from tests.test_container import some_header
from tests.test_container_scan import build, reader
from tests.tunnel_builder import IP_TUNNELS, LINK_TUNNELS

BATCH = 100 if settings.default.max_examples == EXAMPLES else 20
MOST_MS = 50
MOST_MB = 100
HELD = 1 << 20
"""Bytes that a reader of a connection may keep: a message, and room."""

V4, V6 = ("10.1.2.3", "192.168.77.9"), ("2001:db8::1:2", "fe80::9")
ENDS = Endpoint("10.0.0.1", 5060), Endpoint("10.0.0.2", 5060)
MESSAGES = [vector.data for vector in VECTORS.values()]
EXACT_KEY = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e"

Feed = Callable[[bytes], object]


class Parser(NamedTuple):
    """How to fuzz one: good inputs, and what makes a fresh reader; the errors that are its own."""

    seeds: Sequence[bytes]
    fresh: Callable[[Path], Feed]
    own: tuple[type[Exception], ...] = (PeerError,)


def _sip(_: Path) -> Feed:
    table, now = CallTable(), 0

    def feed(data: bytes) -> None:
        nonlocal now
        now += 1_000_000
        message = parse_sip(data)
        info_keys(message)
        table.message(message, *ENDS, now)
        sdp_of(message)

    return feed


def _multipart(data: bytes) -> object:
    kind, _, body = data.partition(b"\n")
    return parts_of(kind.decode("latin-1"), body)


def _in_pieces(stream: SipStream | WebSocketStream | HepStream, data: bytes) -> None:
    for at in range(0, len(data), 1400):
        stream.feed(data[at : at + 1400])
        assert stream.held <= HELD
    if len(data) % 3 == 0:
        stream.gap()


def _hep(_: Path) -> Feed:
    counters: Counter[str] = Counter()
    return lambda data: hep_signalling(data, 1, counters, None)


def _dissect(dissector: Dissector, link: LinkType, packet: bytes) -> None:
    before = Counter(dissector.counters)
    dissector.feed(as_frames([packet], link))
    after = dissector.counters
    ends = sum(after[name] - before[name] for name in OUTCOMES)
    assert ends == 1 + after["reassembled"] - before["reassembled"]


def _frames(link: LinkType, _: Path) -> Feed:
    ports = {"ws_ports": frozenset({8088}), "hep_ports": frozenset({9060})}
    return partial(_dissect, Dissector(frozenset({5060}), **ports), link)


def _links(folder: Path) -> Feed:
    """A link layer after the other, an input each."""
    readers = cycle([_frames(link, folder) for link in ALL_LINKS])
    return lambda data: next(readers)(data)


def _wrapped(port: int, _: Path) -> Feed:
    """What stands in a datagram, the headers around it in order."""
    dissector = Dissector(frozenset({5060}))

    def feed(data: bytes) -> None:
        _dissect(dissector, LinkType.RAW, ipv4(*V4, udp(*V4, port, port, data[:1400])))

    return feed


def _connection(port: int, _: Path) -> Feed:
    """Segments of one connection, in their order more or less."""
    dissector = Dissector(frozenset({5060}), ws_ports=frozenset({8088}), hep_ports=frozenset({9060}))
    sequence = 1

    def feed(data: bytes) -> None:
        nonlocal sequence
        segment = tcp(*V4, port, port, data[:1400], sequence=sequence & 0xFFFFFFFF)
        sequence += len(data[:1400]) + (len(data) % 5 == 0) * 7 - (len(data) % 7 == 0) * 90
        _dissect(dissector, LinkType.RAW, ipv4(*V4, segment))

    return feed


def _srtp(_: Path) -> Feed:
    suites = ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32")
    crypto = [parse_crypto(f"1 {suite} inline:{EXACT_KEY}") for suite in suites]
    keys = [SrtpKey(each, each.keys[0]) for each in crypto]

    def feed(data: bytes) -> None:
        packets = sealed_of([data.ljust(12, b"\0"), rtp()])
        for key in keys:
            assert not key.open(packets, packets.seq).good.any()
            key.open_rtcp(data)
        unwrapped(packets)

    return feed


def _tones(_: Path) -> Feed:
    follower = ToneFollower()
    return lambda data: follower.packet(int.from_bytes(data[-4:], "big"), data)


def _capture(folder: Path) -> Feed:
    path = folder / "fuzzed.pcap"

    def feed(data: bytes) -> None:
        path.write_bytes(data)
        for frames in open_capture(path):
            assert (frames.caplen <= frames.wirelen).all()
            assert int(frames.caplen.max(initial=0)) <= frames.data.shape[1]

    return feed


def _header(data: bytes) -> None:
    parse_header(data)


def _scan(data: bytes) -> None:
    scan_file(reader(data), len(data))[1].damage()


def _each(*readers: Feed) -> Callable[[Path], Feed]:
    """Readers without a memory, all given the same; what one refuses the others still get."""

    def feed(data: bytes) -> None:
        for one in readers:
            with contextlib.suppress(PeerError, SpoolCorrupt):
                one(data)

    return lambda _: feed


def _container_seeds() -> list[bytes]:
    header, records = build(5, 300)
    return [header.raw + b"".join(records), some_header()[0].raw, struct.pack("<QII", 1, 2, 9) + bytes(41)]


def _stream_seeds() -> list[bytes]:
    upgrade = (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
    )
    return [upgrade + websocket.frame(message) for message in MESSAGES[:12]]


def _packets() -> list[bytes]:
    bodies = [(4000, rtp(extension=b"abcd", csrcs=[1, 2])), (5060, MESSAGES[0]), (4001, RTCP), (9060, HEP)]
    whole = [ipv4(*V4, udp(*V4, port, port, body[:1300])) for port, body in bodies]
    whole += [ipv6(*V6, udp(*V6, port, port, body[:1300])) for port, body in bodies]
    whole += [ipv4(*V4, tcp(*V4, 5060, 5060, MESSAGES[0]))]
    return whole + fragments(whole[1], 400) + fragments(whole[5], 400)


def _tunnelled() -> list[bytes]:
    found = [wrap(packet) for wrap in LINK_TUNNELS.values() for packet in _packets()[:2]]
    return found + [framed(wrap(_packets()[0], 4), LinkType.ETHERNET) for wrap in IP_TUNNELS.values()]


RED_PAYLOAD = bytes.fromhex("85028003 87014005 00") + b"old" + b"newer" + b"now"
XR = bytes.fromhex("80cf000e 11223344 01000003 aabbccdd 00010100 c0104001 07000008 aabbccdd") + bytes(32)
RTCP = (
    bytes.fromhex("80c80006112233448353c0a01020304000001000000000100000640081ca0005")
    + b"\x11\x22\x33\x44\x01\x0eme@example.com\0\0"
)
HEP = hep3(MESSAGES[0], Address("10.1.0.1", 5060), Address("10.0.0.1", 5060), 1_700_000_000 * 10**9)
CAPTURES = [make(_packets()) for make in (pcap, pcapng)]
PARSERS: dict[str, Parser] = {
    "sip and calls": Parser(MESSAGES, _sip),
    "sdp": Parser([SDP, sdp("10.0.0.1", 4000).encode(), sdp("::", 9).encode()], _each(parse_sdp)),
    "multipart": Parser([b"multipart/mixed;boundary=7a9cbec02ceef655\n" + MPART], _each(_multipart)),
    "keys": Parser(
        [f"1 AES_CM_128_HMAC_SHA1_80 inline:{EXACT_KEY}|2^20|1:4 KDR=1".encode()],
        _each(lambda data: parse_crypto(data.decode("utf-8", "replace"))),
    ),
    "sip over a stream": Parser(MESSAGES, lambda _: partial(_in_pieces, SipStream(Counter()))),
    "websocket": Parser(_stream_seeds(), lambda _: partial(_in_pieces, WebSocketStream(Counter()))),
    "hep over a stream": Parser([HEP], lambda _: partial(_in_pieces, HepStream(Counter()))),
    "hep": Parser([HEP], _hep),
    "connections": Parser([*MESSAGES, HEP, *_stream_seeds()], partial(_connection, 5060)),
    "websocket connections": Parser(_stream_seeds(), partial(_connection, 8088)),
    "tunnels": Parser(_tunnelled(), partial(_frames, LinkType.ETHERNET)),
    "rtp": Parser([rtp(), rtp(extension=b"abcdefgh", csrcs=[1, 2, 3], padding=9)], partial(_wrapped, 4000)),
    "rtcp reports": Parser([RTCP, RTCP * 3, XR], _each(parse_rtcp)),
    "redundant audio": Parser([RED_PAYLOAD], _each(blocks_of)),
    "rtcp": Parser([RTCP, RTCP * 3], partial(_wrapped, 4001)),
    "srtp": Parser([rtp(), rtp(extension=b"abcd", csrcs=[9])], _srtp),
    "telephone events": Parser([b"\x01\x8a\x03\x20" * n for n in (1, 2, 5)], _tones),
    "capture files": Parser(CAPTURES, _capture, (CaptureFileError,)),
    "containers": Parser(
        _container_seeds(), _each(_header, _scan, Core.from_bytes, unpack_media, parse_json), (SpoolCorrupt,)
    ),
    "manifests": Parser(
        [
            b'{"manifest":{"version":1,"records":3},"signature":{"ed25519":"'
            + b"0" * 128
            + b'","key":"00"}}\n'
        ],
        _each(lambda data: parse_manifest(data, None)),
        (SpoolCorrupt,),
    ),
    "frames": Parser([framed(packet, link) for link in ALL_LINKS for packet in _packets()], _links),
}


def _once(feed: Feed, own: tuple[type[Exception], ...], data: bytes) -> None:
    with contextlib.suppress(*own):
        feed(data)


@cache
def _folder() -> Path:
    """One for all examples: it goes away with the process."""
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Path(folder.name)


@cache
def _resident_mb(_: str) -> float:
    """Memory in use before a parser got its first input."""
    return resident_mb()


@pytest.mark.parametrize("name", PARSERS)
@given(seed=st.integers(0, 2**63))
def test_any_damage(name: str, seed: int) -> None:
    parser, before_mb = PARSERS[name], _resident_mb(name)
    generator, feed = random.Random(seed), parser.fresh(_folder())
    for _ in range(BATCH):
        data = mutated(parser.seeds, generator)
        try:
            took_ms = cpu_ms(partial(_once, feed, parser.own, data))
        except BaseException:
            note(f"the input: {base64.b64encode(data).decode()}")
            raise
        if took_ms > MOST_MS:
            again = min(cpu_ms(partial(_once, parser.fresh(_folder()), parser.own, data)) for _ in range(5))
            assert again <= MOST_MS, f"{again:.0f} ms for {base64.b64encode(data).decode()}"
    assert resident_mb() - before_mb < MOST_MB


def _garbage(kind: str, seed: int) -> list[bytes]:
    """Frames of broken packets, of hosts that are none of the call's."""
    generator = random.Random(seed)
    made: dict[str, Callable[[], bytes]] = {
        "sip": lambda: udp(*V4, 5060, 5060, mutated(MESSAGES, generator)[:60_000]),
        "hep": lambda: udp(*V4, 9060, 9060, mutated([HEP], generator)[:60_000]),
        "rtp": lambda: udp(*V4, 4000, 4000, mutated([rtp()], generator)[:60_000]),
        "rtcp": lambda: udp(*V4, 4001, 4001, mutated([RTCP, XR], generator)[:60_000]),
        "tcp": lambda: tcp(
            *V4, 5060, 5060, mutated(MESSAGES, generator)[:1400], sequence=generator.randrange(1 << 32)
        ),
    }
    if kind in made:
        return [framed(ipv4(*V4, made[kind]()), LinkType.ETHERNET) for _ in range(GARBAGE)]
    seeds = (
        _tunnelled() if kind == "tunnels" else [framed(packet, LinkType.ETHERNET) for packet in _packets()]
    )
    return [mutated(seeds, generator)[:9000] or b"\0" for _ in range(GARBAGE)]


GARBAGE = 1000
"""Broken packets beside a call of a few seconds."""


@pytest.mark.parametrize("kind", ["sip", "hep", "rtp", "rtcp", "tcp", "tunnels", "packets"])
def test_a_call_beside_it_is_exact(tmp_path: Path, kind: str) -> None:
    simulator = PbxSimulator(seed=95)
    truth = simulator.add(CallScript(talk_s=4, happenings=(Dtmf(1, "5"),)))
    plain = simulator.write(tmp_path / "plain.pcap")
    stamped = [
        (time_ns, frames.data[row, : frames.caplen[row]].tobytes())
        for frames in open_capture(plain)
        for row, time_ns in enumerate(frames.time_ns.tolist())
    ]
    first, last = stamped[0][0], stamped[-1][0]
    broken = _garbage(kind, 95)
    stamped += [(first + (last - first) * at // GARBAGE, frame) for at, frame in enumerate(broken)]
    stamped.sort(key=lambda each: each[0])
    capture = tmp_path / "both.pcap"
    capture.write_bytes(pcap([frame for _, frame in stamped], times=[time_ns for time_ns, _ in stamped]))
    recorded = record_files(tmp_path, [capture], EngineSettings(hep_ports=frozenset({9060})))
    for side in (truth.caller, truth.callee):
        assert_exact(recorded, truth, side)
        assert recorded.track(recorded.of(truth), side.side)["packets"] == side.packets
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("complete", "")
    assert len(recorded.rows) == 1
