"""TCP put together by a listener: however it was cut, shuffled, repeated and overlapped, it is one stream."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.wire.dissect import OUTCOMES, Dissector
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.frames import LinkType
from recorderd.wire.signalling import Framed, Signalling
from recorderd.wire.tcp import FIN, GAP, MAX_HELD, MAX_PIECES, RST, SYN, WAIT_NS, Direction, Segment
from recorderd.wire.tcp_conversations import STALE_NS, Conversations
from tests.capture_builder import START, as_frames, fragments, framed, ipv4, ipv6, tcp
from tests.fuzzing import inputs

ENDS = (Endpoint("10.0.0.1", 40000), Endpoint("10.0.0.2", 5060))
MS = 1_000_000


def message(number: int, body: int = 0) -> bytes:
    """A SIP message that is like no other."""
    text = bytes((number + place) % 26 + 97 for place in range(body))
    return (
        f"OPTIONS sip:{number}@b SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK{number}\r\n"
        f"Call-ID: {number}\r\nCSeq: {number} OPTIONS\r\nContent-Length: {body}\r\n\r\n"
    ).encode() + text


def cut(stream: bytes, places: Sequence[int], first: int = 1) -> list[Segment]:
    """The stream in segments that end at some places, numbered from ``first``, a millisecond apart."""
    ends = sorted({min(place, len(stream)) for place in places} | {len(stream)})
    starts = [0, *ends[:-1]]
    return [
        Segment((first + at) & 0xFFFFFFFF, 0x10, stream[at:end], START + n * MS)
        for n, (at, end) in enumerate(zip(starts, ends, strict=True))
    ]


def payload_of(direction: Direction, segments: Sequence[Segment]) -> bytes:
    pieces = [piece for segment in segments for piece in direction.add(segment)]
    assert GAP not in pieces
    return b"".join(piece for piece in pieces if piece is not None)


def messages_of(conversations: Conversations, segments: Sequence[Segment]) -> list[Framed]:
    heard = [
        item for segment in segments for item in conversations.add(b"key", segment, lambda: ENDS)
    ] + conversations.finish()
    assert all((item.source, item.destination) == ENDS for item in heard)
    return [item.message for item in heard]


@given(st.data())
@inputs(200)
def test_any_segmentation_order_repetition_and_overlap_give_the_same_stream(data: st.DataObject) -> None:
    stream = data.draw(st.binary(min_size=1, max_size=400))
    first = data.draw(st.sampled_from([0, 1, 2**31 - 5, 2**32 - 100, 2**32 - 1]))
    segments = cut(stream, data.draw(st.lists(st.integers(1, len(stream)), max_size=30)), first)
    for _ in range(data.draw(st.integers(0, 10))):
        at = data.draw(st.integers(0, len(stream) - 1))
        end = data.draw(st.integers(at, len(stream)))
        segments.append(Segment((first + at) & 0xFFFFFFFF, 0x10, stream[at:end], START))
    shuffled = data.draw(st.permutations(segments))
    counters: Counter[str] = Counter()
    direction = Direction(counters)
    opening = Segment((first - 1) & 0xFFFFFFFF, SYN, b"", START)
    assert payload_of(direction, [opening, *shuffled]) == stream
    assert direction.held == 0
    assert direction.waits_since is None
    assert counters["tcp_conflicts"] == counters["tcp_holes"] == 0


@given(st.data())
@inputs(150)
def test_any_segmentation_gives_the_same_messages(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 90), min_size=1, max_size=6))
    sent = [message(number, size) for number, size in enumerate(sizes)]
    pings = data.draw(st.lists(st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]), min_size=6, max_size=6))
    stream = b"".join(ping + text for ping, text in zip(pings, sent, strict=False))
    first = data.draw(st.sampled_from([7, 2**32 - 50]))
    segments = cut(stream, data.draw(st.lists(st.integers(1, len(stream)), max_size=40)), first)
    segments += data.draw(st.lists(st.sampled_from(segments), max_size=5))
    shuffled = data.draw(st.permutations(segments))
    opening = Segment((first - 1) & 0xFFFFFFFF, SYN, b"", START)
    assert messages_of(Conversations(Counter()), [opening, *shuffled]) == [Framed(text) for text in sent]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**32 - 1) | st.integers(0, 300),
            st.integers(0, 63),
            st.binary(max_size=60) | st.sampled_from([message(1), message(2, 30)[:-9]]),
            st.integers(0, 5000),
            st.integers(0, 50),
            st.integers(0, 3),
        ),
        max_size=60,
    )
)
@inputs(200)
def test_any_segments_at_all_stay_within_bounds(rows: list[tuple[int, int, bytes, int, int, int]]) -> None:
    conversations = Conversations(Counter(), max_bytes=400, max_directions=3)
    now = START
    for sequence, flags, payload, later, missing, key in rows:
        now += later * MS
        conversations.add(bytes([key]), Segment(sequence, flags, payload, now, missing), lambda: ENDS)
        assert conversations.held_bytes <= 400
        assert len(conversations) <= 3
    conversations.finish()
    assert conversations.held_bytes == 0


def test_of_bytes_that_come_twice_the_first_count() -> None:
    counters: Counter[str] = Counter()
    direction = Direction(counters)
    direction.add(Segment(0, SYN, b"", START))
    assert direction.add(Segment(4, 0, b"DEF", START)) == []
    assert direction.add(Segment(1, 0, b"abcxyz", START)) == [b"abc", b"DEF"]
    assert counters["tcp_conflicts"] == 1
    assert direction.add(Segment(2, 0, b"q", START)) == []
    assert counters["tcp_repeated"] == 1


def test_the_first_segment_of_a_port_used_again_begins_anew() -> None:
    conversations = Conversations(Counter())
    first = [Segment(99, SYN, b"", START), *cut(message(1) + message(2)[:30], [], 100)]
    again = [Segment(5_000, SYN, b"", START + MS), *cut(message(3), [40], 5_001)]
    heard = messages_of(conversations, [*first, first[0], *again])
    assert heard == [Framed(message(1)), Framed(message(2)[:30], truncated=True), Framed(message(3))]


def test_a_connection_without_its_opening_far_away_is_another_one() -> None:
    counters: Counter[str] = Counter()
    segments = [*cut(message(1), [], 100), *cut(message(2), [30], 3_000_000_000)]
    assert messages_of(Conversations(counters), segments) == [Framed(message(1)), Framed(message(2))]
    assert counters["tcp_leaps"] == 1


@pytest.mark.parametrize("into", [0, 3, 60])
def test_joined_in_the_middle_it_begins_with_the_next_message(into: int) -> None:
    stream = message(1, 40)[into:] + message(2) + message(3, 9)
    expected = [message(2), message(3, 9)] if into else [message(1, 40), message(2), message(3, 9)]
    for size in (1, 7, 100, 1000):
        segments = cut(stream, range(size, len(stream), size), 77)
        assert messages_of(Conversations(Counter()), segments) == [Framed(text) for text in expected]


def test_a_hole_that_does_not_close_costs_the_messages_in_it() -> None:
    counters: Counter[str] = Counter()
    conversations = Conversations(counters)
    sent = [message(n, 50) for n in range(5)]
    segments = cut(b"".join(sent), range(100, 5 * len(sent[0]), 100), 1)
    missing = next(n for n, segment in enumerate(segments) if b"sip:2@" in segment.payload)
    heard = []
    for segment in [Segment(0, SYN, b"", START), *segments[:missing], *segments[missing + 1 :]]:
        heard += conversations.add(b"", segment, lambda: ENDS)
    waited = segments[missing + 1].time_ns + WAIT_NS
    assert conversations.expire(waited - 1) == []
    heard += conversations.expire(waited + 500 * MS)
    # When it is given up is told by the capture, not by when that was noticed.
    assert [item.time_ns for item in heard[-2:]] == [waited, waited]
    whole = [item.message.payload for item in heard if not item.message.truncated]
    assert whole == [sent[0], sent[3], sent[4]]
    first, *_ = [item.message.payload for item in heard if item.message.truncated]
    assert sent[1].startswith(first)
    assert counters["tcp_holes"] == 1


def test_the_rest_of_a_message_is_waited_for_and_given_up() -> None:
    conversations = Conversations(Counter())
    half = message(1, 50)[:-20]
    assert conversations.add(b"", Segment(1, SYN, half, START), lambda: ENDS) == []
    assert conversations.expire(START + STALE_NS - 1) == []
    (heard,) = conversations.expire(START + STALE_NS)
    assert heard.message == Framed(half, truncated=True)
    assert conversations.held_bytes == 0
    (after,) = conversations.add(b"", Segment(2 + len(half), 0, message(2), START + STALE_NS), lambda: ENDS)
    assert after.message == Framed(message(2))


@pytest.mark.parametrize("flag", [FIN, RST])
def test_the_end_of_a_connection_ends_its_message(flag: int) -> None:
    half = message(1, 50)[:-20]
    conversations = Conversations(Counter())
    conversations.add(b"", Segment(0, SYN, b"", START), lambda: ENDS)
    heard = conversations.add(b"", Segment(1, flag, half, START), lambda: ENDS)
    assert [item.message for item in heard] == [Framed(half, truncated=True)]
    # A mirror shows it twice.
    assert conversations.add(b"", Segment(1, flag, half, START), lambda: ENDS) == []


def test_a_segment_cut_by_the_snap_length_is_not_waited_for() -> None:
    counters: Counter[str] = Counter()
    conversations = Conversations(counters)
    one, two, three = message(1, 300), message(2, 300), message(3)
    kept = 200
    heard = []
    for n, text in enumerate((one, two, three)):
        at = 1 + sum(map(len, (one, two, three)[:n]))
        segment = Segment(at, 0, text[:kept], START + n, max(0, len(text) - kept))
        heard += conversations.add(b"", segment, lambda: ENDS)
    assert [item.message for item in heard] == [
        Framed(one[:kept], truncated=True),
        Framed(two[:kept], truncated=True),
        Framed(three),
    ]
    assert counters["tcp_cut"] == 2
    assert conversations.held_bytes == 0


def test_what_waits_behind_a_hole_is_bounded() -> None:
    counters: Counter[str] = Counter()
    direction = Direction(counters)
    direction.add(Segment(0, SYN, b"", START))
    for n in range(40):
        direction.add(Segment(1000 + n * 20_000, 0, bytes(19_000), START))
        assert direction.held <= MAX_HELD
    for n in range(3 * MAX_PIECES):
        direction.add(Segment(900_000 + 2 * n, 0, b"x", START))
    assert direction.held <= MAX_HELD
    assert counters["tcp_holes"] > 2


def test_a_flood_of_half_connections_is_bounded_and_soon_over() -> None:
    counters: Counter[str] = Counter()
    conversations = Conversations(counters, max_directions=100, max_bytes=10_000)
    for n in range(5000):
        conversations.add(n.to_bytes(4, "big"), Segment(n, SYN, b"INVITE sip:", START + n * MS), lambda: ENDS)
        assert len(conversations) <= 100
        assert conversations.held_bytes <= 10_000
    conversations.expire(START + STALE_NS + 6000 * MS)
    assert conversations.held_bytes == 0
    conversations.add(b"late", Segment(1, 0, message(1), START + 3 * 3600 * 1000 * MS), lambda: ENDS)


# -- in frames


def packets_of(segments: Sequence[Segment], hosts: tuple[str, str], ports: tuple[int, int]) -> list[bytes]:
    packets = []
    for segment in segments:
        body = tcp(*hosts, *ports, segment.payload, sequence=segment.sequence, flags=segment.flags)
        if ":" in hosts[0]:
            packets.append(ipv6(*hosts, body, last=6))
        else:
            packets.append(ipv4(*hosts, body, protocol=6))
    return packets


def outcomes(dissector: Dissector) -> dict[str, int]:
    counters = dissector.counters
    assert counters["frames"] + counters["reassembled"] == sum(counters[name] for name in OUTCOMES), counters
    return {name: counters[name] for name in OUTCOMES if counters[name]}


V4, V6 = ("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")


@pytest.mark.parametrize("hosts", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("ports", [(40000, 5060), (5060, 40000)])
@pytest.mark.parametrize("size", [40, 500, 60_000])
def test_the_dissector_gives_the_messages(hosts: tuple[str, str], ports: tuple[int, int], size: int) -> None:
    """In one batch or in many, short segments or such as a network card merged."""
    sent = [message(n, 900) for n in range(60)]
    stream = b"".join(sent)
    segments = [Segment(9, SYN, b"", START), *cut(stream, range(size, len(stream), size), 10)]
    random.Random(4).shuffle(segments[1:])
    packets = [framed(packet, LinkType.ETHERNET, minimum=60) for packet in packets_of(segments, hosts, ports)]
    dissector = Dissector(frozenset({5060}))
    found: list[Signalling] = []
    for at in range(0, len(packets), 17):
        found += dissector.feed(as_frames(packets[at : at + 17])).signalling
    assert [(item.payload, item.transport, item.truncated) for item in found] == [
        (text, "tcp", False) for text in sent
    ]
    assert {(item.source, item.destination) for item in found} == {
        (Endpoint(hosts[0], ports[0]), Endpoint(hosts[1], ports[1]))
    }
    assert outcomes(dissector) == {"tcp": len(packets)}
    assert dissector.counters["tcp_messages"] == 60


def test_how_packets_are_batched_does_not_matter() -> None:
    """Neither for what is found nor for when, though segments are missing."""
    generator = random.Random(8)
    stream = b"".join(message(n, 200) for n in range(200))
    segments = [segment for segment in cut(stream, range(150, len(stream), 150)) if generator.random() < 0.97]
    segments = [
        segment._replace(time_ns=START + (n + generator.randrange(3)) * 40 * MS)
        for n, segment in enumerate(segments)
    ]
    segments.sort(key=lambda segment: segment.time_ns)
    packets, times = packets_of(segments, V4, (40000, 5060)), [segment.time_ns for segment in segments]

    def found(batch: int) -> list[Signalling]:
        dissector = Dissector(frozenset({5060}))
        signalling = []
        for at in range(0, len(packets), batch):
            here = slice(at, at + batch)
            signalling += dissector.feed(as_frames(packets[here], LinkType.RAW, times=times[here])).signalling
        assert dissector.counters["tcp_holes"] > 3
        return signalling + dissector.finish()

    first = found(1)
    assert len(first) > 150
    assert found(7) == found(50) == found(10_000) == first


@pytest.mark.parametrize("wrapped", ["in a tunnel", "in fragments", "in fragments of IPv6"])
def test_segments_in_tunnels_and_in_fragments(wrapped: str) -> None:
    text = message(1, 900)
    hosts = V6 if "IPv6" in wrapped else V4
    (segment,) = packets_of(cut(text, []), hosts, (40000, 5060))
    if wrapped == "in a tunnel":
        packets = [ipv4("192.0.2.1", "192.0.2.2", segment, protocol=4)]
    else:
        # The builder writes UDP.
        place = 9 if hosts is V4 else 40
        packets = [piece[:place] + b"\6" + piece[place + 1 :] for piece in fragments(segment, 256)]
        assert len(packets) > 3
    dissector = Dissector(frozenset({5060}))
    found = dissector.feed(as_frames(packets, LinkType.RAW)).signalling
    assert [(item.payload, item.source) for item in found] == [(text, Endpoint(hosts[0], 40000))]
    assert outcomes(dissector)["tcp"] == 1


def test_tls_on_a_sip_port_is_counted() -> None:
    dissector = Dissector(frozenset({5060}))
    hello = b"\x16\x03\x01\x02\x00" + bytes(512)
    packets = packets_of([Segment(0, SYN, b"", START), *cut(hello, [])], V4, (40000, 5060))
    assert dissector.feed(as_frames(packets, LinkType.RAW)).signalling == []
    assert dissector.finish() == []
    assert dissector.counters["tcp_tls"] == 1


def test_other_ports_and_broken_segments_are_counted() -> None:
    good = tcp(*V4, 1, 5060, b"x")
    bodies = [
        tcp(*V4, 80, 443, b"GET"),
        good[:12] + b"\x10" + good[13:],  # a header shorter than any
        good[:12] + b"\xf0" + good[13:],  # longer than the packet
        good[:18],
        good,
    ]
    dissector = Dissector(frozenset({5060}))
    dissector.feed(as_frames([ipv4(*V4, body, protocol=6) for body in bodies], LinkType.RAW))
    assert outcomes(dissector) == {"not_udp": 4, "tcp": 1}


def test_the_end_of_a_capture_gives_out_what_waits() -> None:
    dissector = Dissector(frozenset({5060}))
    packets = packets_of([Segment(0, SYN, b"", START), *cut(message(1, 80)[:-10], [], 1)], V4, (40000, 5060))
    assert dissector.feed(as_frames(packets, LinkType.RAW)).signalling == []
    (left,) = dissector.finish()
    assert left.truncated
    assert left.payload == message(1, 80)[:-10]


def test_snap_length_in_frames() -> None:
    segments = cut(message(1, 900) + message(2), [len(message(1, 900))], 1)
    dissector = Dissector(frozenset({5060}))
    packets = packets_of(segments, V4, (40000, 5060))
    found = dissector.feed(as_frames(packets, LinkType.RAW, snaplen=300)).signalling
    assert [(item.payload, item.truncated) for item in found] == [
        (message(1, 900)[: 300 - 40], True),
        (message(2), False),
    ]
    assert outcomes(dissector) == {"tcp": 2}
