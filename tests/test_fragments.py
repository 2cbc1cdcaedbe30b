"""Reassembly: any order, doubles, overlaps, and the bounds on memory and age."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.wire.dissect import OUTCOMES, Dissector
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.fragments import MAX_PIECES, Fragment, Reassembler
from recorderd.wire.frames import LinkType
from tests.capture_builder import (
    START,
    as_frames,
    datagram,
    destination_options,
    fragment_header,
    fragments,
    framed,
    hop_by_hop,
    ipv6,
    rtp,
    udp,
)
from tests.fuzzing import inputs

V4 = ("10.1.2.3", "192.168.77.9")
V6 = ("2001:db8::1:2", "fe80::9")
BOTH = pytest.mark.parametrize("hosts", [V4, V6], ids=["v4", "v6"])
SECOND = 1_000_000_000
SIP = b"INVITE sip:x@example.com SIP/2.0\r\n" + b"X-Long: " + bytes(range(48, 58)) * 20 + b"\r\n\r\n"
HEADER = b"\x45" + bytes(19)


def piece(
    at: int, payload: bytes, *, more: bool = True, key: bytes = b"k", now: int = START, header: bytes = HEADER
) -> Fragment:
    return Fragment(key, header, at, more, payload, now)


def outcomes(dissector: Dissector) -> dict[str, int]:
    counters = dissector.counters
    assert counters["frames"] + counters["reassembled"] == sum(counters[name] for name in OUTCOMES), counters
    return {name: counters[name] for name in OUTCOMES if counters[name]}


@BOTH
def test_every_order_of_arrival(hosts: tuple[str, str]) -> None:
    pieces = fragments(datagram(hosts[0], 5060, hosts[1], 5070, SIP), 80)
    assert len(pieces) == 4
    for order in itertools.permutations(pieces):
        dissector = Dissector(frozenset({5060}))
        result = dissector.feed(as_frames(order, LinkType.RAW))
        assert [item.payload for item in result.signalling] == [SIP]
        assert result.signalling[0].source == Endpoint(hosts[0], 5060)
        assert result.signalling[0].destination == Endpoint(hosts[1], 5070)
        assert result.signalling[0].time_ns == START + 3 * 20_000_000, "the time of the last one to come"
        assert outcomes(dissector) == {"fragments": 4, "signalling": 1}


@BOTH
@pytest.mark.parametrize("size", [8, 16, 200, 1480])
def test_over_batches_and_behind_vlan_tags(hosts: tuple[str, str], size: int) -> None:
    message = SIP + b"x" * 3000
    dissector = Dissector(frozenset({5060}))
    found = []
    for part in fragments(
        datagram(hosts[0], 5060, hosts[1], 5060, message), max(size, 256 if size < 200 else 8)
    ):
        frame = framed(part, LinkType.ETHERNET, vlans=(0x88A8, 0x8100), minimum=60)
        found += dissector.feed(as_frames([frame])).signalling
    assert [item.payload for item in found] == [message]


@BOTH
def test_datagrams_of_several_flows_interleaved(hosts: tuple[str, str]) -> None:
    messages = [SIP + b"%d" % n for n in range(20)]
    pieces = [
        part
        for n, message in enumerate(messages)
        for part in fragments(datagram(hosts[0], 5060, hosts[1], 5060, message), 80, ident=n)
    ]
    random.Random(1).shuffle(pieces)
    dissector = Dissector(frozenset({5060}))
    result = dissector.feed(as_frames(pieces, LinkType.RAW))
    assert sorted(item.payload for item in result.signalling) == sorted(messages)
    assert [item.time_ns for item in result.signalling] == sorted(item.time_ns for item in result.signalling)


@BOTH
def test_fragmented_media_takes_its_place_among_the_rest(hosts: tuple[str, str]) -> None:
    plain = [datagram(hosts[0], 4000, hosts[1], 6000, rtp(n, payload=bytes([n]) * 9)) for n in range(4)]
    large = datagram(hosts[0], 4000, hosts[1], 6000, rtp(77, payload=b"L" * 1500))
    parts = fragments(large, 1200)
    dissector = Dissector(frozenset({5060}), seed=5)
    media = dissector.feed(
        as_frames([plain[0], parts[0], plain[1], parts[1], plain[2], plain[3]], LinkType.RAW)
    ).media
    assert media.seq.tolist() == [0, 1, 77, 2, 3]
    assert media.payload(2) == b"L" * 1500
    assert [media.payload(n) for n in (0, 1, 3, 4)] == [bytes([n]) * 9 for n in range(4)]
    assert len(set(media.key.tolist())) == 1
    assert {media.endpoints(n) for n in range(5)} == {(Endpoint(hosts[0], 4000), Endpoint(hosts[1], 6000))}
    assert media.time_ns.tolist() == [START + n * 20_000_000 for n in (0, 2, 3, 4, 5)]
    assert outcomes(dissector) == {"media": 5, "fragments": 2}


def test_media_too_long_to_be_voice_is_kept_out_of_the_matrix() -> None:
    parts = fragments(datagram(V4[0], 4000, V4[1], 6000, rtp(payload=b"V" * 40000)), 1480)
    dissector = Dissector(frozenset({5060}))
    result = dissector.feed(as_frames([*parts, datagram(V4[0], 1, V4[1], 2, rtp(5))], LinkType.RAW))
    assert result.media.seq.tolist() == [5]
    assert outcomes(dissector) == {"fragments": len(parts), "other": 1, "media": 1}


def test_extension_headers_before_and_after_the_fragment_header() -> None:
    body = udp(*V6, 5060, 5060, SIP)
    inner = bytes([17, 0, 1, 4, 0, 0, 0, 0]) + body  # destination options, then UDP
    parts = []
    for at in range(0, len(inner), 96):
        header = fragment_header(at, at + 96 < len(inner), 1)
        chain = [hop_by_hop(), destination_options(), header]
        parts.append(ipv6(*V6, inner[at : at + 96], extensions=chain, last=60))
    dissector = Dissector(frozenset({5060}))
    result = dissector.feed(as_frames(parts, LinkType.RAW))
    assert [item.payload for item in result.signalling] == [SIP]
    assert result.signalling[0].source == Endpoint(V6[0], 5060)


@BOTH
def test_a_fragment_cut_by_the_snap_length_is_truncated(hosts: tuple[str, str]) -> None:
    parts = fragments(datagram(hosts[0], 5060, hosts[1], 5060, SIP), 160)
    dissector = Dissector(frozenset({5060}))
    result = dissector.feed(as_frames(parts, LinkType.RAW, snaplen=len(parts[0]) - 1))
    assert result.signalling == []
    assert outcomes(dissector) == {"truncated": 1, "fragments": 1}


@BOTH
def test_doubles_of_a_mirror_make_one_message(hosts: tuple[str, str]) -> None:
    parts = fragments(datagram(hosts[0], 5060, hosts[1], 5060, SIP), 80)
    for doubled in ([*parts, *parts], [part for part in parts for _ in range(2)]):
        dissector = Dissector(frozenset({5060}))
        result = dissector.feed(as_frames(doubled, LinkType.RAW, times=[START + n for n in range(8)]))
        assert [item.payload for item in result.signalling] == [SIP]
        assert dissector.counters["fragments_duplicate"] == 4


def test_an_identification_used_again_later_is_a_new_datagram() -> None:
    counters: Counter[str] = Counter()
    reassembler = Reassembler(counters)
    for now in (START, START + SECOND + 1, START + 5 * SECOND):
        assert reassembler.add(piece(0, b"a" * 8, now=now)) is None
        assert reassembler.add(piece(8, b"b", more=False, now=now)) is not None
    assert counters["reassembled"] == 3


@BOTH
def test_inner_fragment_of_a_reassembled_packet_is_malformed(hosts: tuple[str, str]) -> None:
    """A fragment header inside the whole packet: dropped and counted, and nothing is raised."""
    if hosts is V4:
        return  # IPv4 has no such thing: the header is the reassembler's own
    inner = bytes([17, 0, 0, 1, 0, 0, 0, 9]) + bytes(56)
    parts = [
        ipv6(*V6, inner[at : at + 32], extensions=[fragment_header(at, at == 0, 1)], last=44)
        for at in (0, 32)
    ]
    dissector = Dissector(frozenset({5060}))
    dissector.feed(as_frames(parts, LinkType.RAW))
    assert outcomes(dissector) == {"fragments": 2, "malformed": 1}


OVERLAPS = {
    "same place, other bytes": [piece(0, b"a" * 16), piece(0, b"b" * 16)],
    "same place, longer": [piece(0, b"a" * 16), piece(0, b"a" * 24)],
    "into the one before": [piece(0, b"a" * 16), piece(8, b"a" * 16)],
    "into the one after": [piece(16, b"a" * 16), piece(8, b"a" * 16)],
    "around another": [piece(8, b"a" * 8), piece(0, b"a" * 32)],
    "within another": [piece(0, b"a" * 32), piece(8, b"a" * 8)],
    "past the end": [piece(16, b"a" * 8, more=False), piece(24, b"a" * 8)],
    "end before what came": [piece(24, b"a" * 8), piece(8, b"a" * 8, more=False)],
    "two ends": [piece(16, b"a" * 8, more=False), piece(8, b"a" * 4, more=False)],
    "no multiple of 8 in the middle": [piece(0, b"a" * 12)],
    "empty": [piece(0, b"")],
    "past 65,535": [piece(65528, b"a" * 16, more=False)],
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_overlaps_spoil_the_datagram_and_what_still_comes_of_it(name: str) -> None:
    counters: Counter[str] = Counter()
    reassembler = Reassembler(counters)
    for fragment in OVERLAPS[name]:
        assert reassembler.add(fragment) is None
    assert reassembler.held_bytes == 0
    for fragment in (piece(0, b"g" * 32), piece(32, b"g" * 8, more=False)):
        assert reassembler.add(fragment) is None
    assert counters["fragments_dropped"] == counters["fragments"]
    other = [piece(0, b"g" * 32, key=b"other"), piece(32, b"g" * 8, more=False, key=b"other")]
    assert [reassembler.add(fragment) is not None for fragment in other] == [False, True]


def test_the_bound_on_bytes_lets_the_oldest_go() -> None:
    counters: Counter[str] = Counter()
    reassembler = Reassembler(counters, max_bytes=10_000)
    for n in range(100):
        reassembler.add(piece(0, bytes(1000), key=b"%d" % n))
        assert reassembler.held_bytes <= 10_000
    assert counters["fragments_expired"] == 90
    assert reassembler.add(piece(1000, b"x", more=False, key=b"99")) is not None
    assert reassembler.add(piece(1000, b"x", more=False, key=b"0")) is None


def test_the_bound_on_datagrams_holds_for_finished_and_spoiled_ones_too() -> None:
    reassembler = Reassembler(Counter(), max_datagrams=50)
    for n in range(300):
        key = b"%d" % n
        reassembler.add(piece(0, b"", key=key) if n % 2 else piece(0, b"x", more=False, key=key))
        assert len(reassembler) <= 50


def test_pieces_of_one_datagram_are_bounded() -> None:
    counters: Counter[str] = Counter()
    reassembler = Reassembler(counters)
    for n in range(1000):
        reassembler.add(piece(8 * n, b"12345678"))
    assert reassembler.held_bytes == 0
    assert counters["fragments_dropped"] == 1000
    assert MAX_PIECES >= 65535 / 552, "a datagram in fragments for an MTU of 576 must fit"


def test_age_is_told_by_the_capture_clock() -> None:
    counters: Counter[str] = Counter()
    reassembler = Reassembler(counters, max_age_ns=30 * SECOND)
    reassembler.add(piece(0, bytes(8), key=b"old"))
    reassembler.add(piece(0, bytes(8), key=b"young", now=START + 20 * SECOND))
    assert reassembler.add(piece(8, b"x", more=False, key=b"old", now=START + 31 * SECOND)) is None
    assert counters["fragments_expired"] == 1
    assert reassembler.add(piece(8, b"x", more=False, key=b"young", now=START + 31 * SECOND)) is not None


def test_batches_without_fragments_let_old_ones_expire() -> None:
    dissector = Dissector(frozenset({5060}))
    first = fragments(datagram(V4[0], 5060, V4[1], 5060, SIP), 80)[0]
    dissector.feed(as_frames([first], LinkType.RAW, times=[START]))
    dissector.feed(as_frames([datagram(V4[0], 1, V4[1], 2, b"x")], LinkType.RAW, times=[START + 60 * SECOND]))
    assert dissector.counters["fragments_expired"] == 1


@pytest.mark.parametrize("jump", [-3600 * SECOND, 5 * 365 * 86400 * SECOND, -5 * 365 * 86400 * SECOND])
def test_a_clock_that_jumps_between_two_fragments(jump: int) -> None:
    """Backward the datagram still completes; forward it is too old. Neither raises or holds on."""
    counters: Counter[str] = Counter()
    reassembler = Reassembler(counters)
    reassembler.add(piece(0, b"a" * 8))
    whole = reassembler.add(piece(8, b"b", more=False, now=START + jump))
    assert (whole is not None) == (jump < 0)


@inputs(300)
@given(
    pieces=st.lists(
        st.builds(
            Fragment,
            key=st.sampled_from([b"a", b"b", b"c"]),
            header=st.just(HEADER),
            offset=st.integers(0, 8191).map(lambda n: n * 8) | st.integers(0, 6).map(lambda n: n * 8),
            more=st.booleans(),
            payload=st.sampled_from([b"", b"x", b"y" * 8, b"z" * 16, b"w" * 13]),
            time_ns=st.integers(0, 100 * SECOND),
        ),
        max_size=40,
    )
)
def test_any_fragments_keep_the_bounds(pieces: list[Fragment]) -> None:
    counters: Counter[str] = Counter()
    reassembler = Reassembler(counters, max_bytes=64, max_datagrams=2)
    for fragment in pieces:
        whole = reassembler.add(fragment)
        assert whole is None or len(whole) <= 20 + 65535
        assert 0 <= reassembler.held_bytes <= 64
        assert len(reassembler) <= 2
    assert counters["fragments"] == len(pieces)


@inputs(100)
@given(
    payload=st.binary(min_size=1, max_size=400),
    size=st.integers(1, 12),
    order=st.randoms(use_true_random=False),
)
def test_any_split_gives_the_payload_back(payload: bytes, size: int, order: random.Random) -> None:
    size *= 8
    pieces = [
        piece(at, payload[at : at + size], more=at + size < len(payload))
        for at in range(0, len(payload), size)
    ]
    order.shuffle(pieces)
    reassembler = Reassembler(Counter())
    results = [reassembler.add(fragment) for fragment in pieces]
    assert results[:-1] == [None] * (len(pieces) - 1)
    whole = results[-1]
    assert whole is not None
    assert whole[20:] == payload
    assert int.from_bytes(whole[2:4], "big") == len(whole)
