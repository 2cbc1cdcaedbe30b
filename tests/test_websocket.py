"""SIP over WebSocket as a listener sees it (RFC 6455, RFC 7118, RFC 7692)."""

import random
import zlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.wire.endpoint import Endpoint
from recorderd.wire.signalling import Framed
from recorderd.wire.sip import MAX_MESSAGE
from recorderd.wire.tcp import SYN, Segment
from recorderd.wire.tcp_conversations import Conversations
from recorderd.wire.websocket import WebSocketStream
from tests.capture_builder import START
from tests.fuzzing import inputs
from tests.simulators.websocket import REQUEST, RESPONSE, frame

MASK = b"\x9a\x01\xfe\x77"


def sip(number: int, body: int = 0) -> bytes:
    return f"OPTIONS sip:{number}@b SIP/2.0\r\nCall-ID: {number}\r\n\r\n".encode() + b"x" * body


def heard(stream: bytes, size: int | None = None, counters: Counter[str] | None = None) -> list[Framed]:
    reader = WebSocketStream(Counter() if counters is None else counters)
    size = size or len(stream)
    return [item for at in range(0, len(stream), size) for item in reader.feed(stream[at : at + size])]


@pytest.mark.parametrize("size", [1, 3, 100, None])
@pytest.mark.parametrize("mask", [b"", MASK])
@pytest.mark.parametrize("opcode", [1, 2])
def test_messages_of_every_length(size: int | None, mask: bytes, opcode: int) -> None:
    """Lengths in 7, 16 and 64 bits, at their limits."""
    bare = len(sip(1))
    sent = [sip(1, length - bare) for length in (60, 125, 126, 127, 65535, 65536, 65537)]
    stream = (REQUEST if mask else RESPONSE) + b"".join(
        frame(text, mask=mask, opcode=opcode) for text in sent
    )
    if size == 1:
        stream, sent = (
            stream[: len(stream) - sum(map(len, sent[4:])) - 3 * (14 if mask else 10) + 8],
            sent[:4],
        )
    assert heard(stream, size)[: len(sent)] == [Framed(text) for text in sent]


def test_fragments_with_control_frames_between_them() -> None:
    counters: Counter[str] = Counter()
    text = sip(1, 50)
    stream = REQUEST + frame(text[:9], mask=MASK, final=False) + frame(b"now", mask=MASK, opcode=9)
    stream += frame(text[9:30], mask=b"abcd", opcode=0, final=False) + frame(b"", mask=MASK, opcode=10)
    stream += frame(text[30:], mask=MASK, opcode=0) + frame(b"\r\n\r\n", mask=MASK) + frame(sip(2), mask=MASK)
    assert heard(stream, None, counters) == [Framed(text), Framed(sip(2))]
    assert counters == {"ws_opened": 1, "ws_control": 2, "sip_pings": 1}


@pytest.mark.parametrize("takeover", [True, False])
def test_compressed_messages(takeover: bool) -> None:
    deflator = zlib.compressobj(wbits=-15)
    stream = RESPONSE
    sent = [sip(n, 300) for n in range(5)]
    for text in sent:
        coded = deflator.compress(text) + deflator.flush(zlib.Z_SYNC_FLUSH)
        stream += frame(coded.removesuffix(b"\0\0\xff\xff"), compressed=True)
        if not takeover:
            deflator = zlib.compressobj(wbits=-15)
    stream += frame(sip(9))  # a sender need not compress
    assert heard(stream) == [*map(Framed, sent), Framed(sip(9))]


def test_a_compressed_message_whose_past_was_not_seen_is_counted() -> None:
    counters: Counter[str] = Counter()
    deflator = zlib.compressobj(wbits=-15)
    noise = random.Random(1).randbytes(200).hex().encode()
    coded = []
    for text in (sip(1) + noise, sip(2) + noise):
        coded.append(
            (deflator.compress(text) + deflator.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")
        )
    assert heard(RESPONSE + frame(coded[1], compressed=True) + frame(sip(3)), None, counters) == [
        Framed(sip(3))
    ]
    assert counters["ws_inflate_failed"] == 1


def test_a_bomb_is_not_inflated() -> None:
    counters: Counter[str] = Counter()
    deflator = zlib.compressobj(wbits=-15)
    coded = deflator.compress(bytes(100 * MAX_MESSAGE)) + deflator.flush(zlib.Z_SYNC_FLUSH)
    assert len(coded) < MAX_MESSAGE
    assert heard(RESPONSE + frame(coded, compressed=True) + frame(sip(1)), None, counters) == [Framed(sip(1))]
    assert counters["ws_absurd"] == 1


OTHERS = {
    "no upgrade": REQUEST.replace(b"Upgrade: websocket\r\n", b""),
    "another protocol": REQUEST.replace(b": sip", b": mqtt"),
    "a post": REQUEST.replace(b"GET", b"POST"),
    "refused": RESPONSE.replace(b"101", b"403"),
    "another protocol chosen": RESPONSE.replace(b": sip", b": xmpp"),
    "endless": REQUEST[:-2] + b"X: y\r\n" * 4000,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_of_sip_is_left_alone(name: str) -> None:
    counters: Counter[str] = Counter()
    reader = WebSocketStream(counters)
    assert reader.feed(OTHERS[name]) == []
    assert reader.feed(frame(sip(1))) == []
    assert reader.held == 0
    # The connection may be used for one after all.
    assert reader.feed(REQUEST + frame(sip(2), mask=MASK)) == [Framed(sip(2))]


def test_a_choice_of_protocols_and_a_response_that_names_none() -> None:
    asked = REQUEST.replace(b": sip", b": mqtt, SIP")
    answered = RESPONSE.replace(b"Sec-WebSocket-Protocol: sip\r\n", b"")
    for opening in (asked, answered):
        assert heard(opening + frame(sip(1))) == [Framed(sip(1))]


def test_joined_in_the_middle_at_a_frame() -> None:
    reader = WebSocketStream(Counter(), fresh=False)
    assert reader.feed(frame(sip(1), mask=MASK)[5:]) == []
    assert reader.feed(frame(sip(2), mask=MASK)[:40]) == []
    assert reader.feed(frame(sip(2), mask=MASK)[40:]) == [Framed(sip(2))]


def test_a_gap_gives_out_what_was_in_hand() -> None:
    reader = WebSocketStream(Counter())
    assert reader.feed(REQUEST + frame(sip(1, 90), mask=MASK)[:-10]) == []
    assert reader.gap() == [Framed(sip(1, 90)[:-10], truncated=True)]
    assert reader.feed(b"the rest of something") == []
    assert reader.feed(frame(sip(2), mask=MASK)) == [Framed(sip(2))]


@pytest.mark.parametrize(
    "bad",
    [b"\xf1\x05hello", b"\x83\x01x", b"\x09\x01x", b"\x89\x7e\0\x80", b"\x81\x7f" + b"\xff" * 8, b"\0\0"],
)
def test_what_is_no_frame_loses_the_place(bad: bytes) -> None:
    counters: Counter[str] = Counter()
    reader = WebSocketStream(counters)
    reader.feed(RESPONSE + frame(sip(1)))
    assert reader.feed(bad + frame(sip(2))) == []
    assert counters["ws_absurd"] == 1
    assert reader.held == 0
    assert reader.feed(frame(sip(3))) == [Framed(sip(3))]


def test_a_message_of_endless_fragments_is_bounded() -> None:
    reader = WebSocketStream(Counter())
    reader.feed(RESPONSE + frame(b"x", final=False))
    for _ in range(40):
        reader.feed(frame(bytes(60_000), opcode=0, final=False))
        assert reader.held <= MAX_MESSAGE + 60_000


@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([frame(sip(1)), REQUEST, RESPONSE])), st.integers(1, 99)
)
@inputs(300)
def test_any_bytes(pieces: list[bytes], size: int) -> None:
    stream = RESPONSE + b"".join(pieces)
    reader = WebSocketStream(Counter())
    for at in range(0, len(stream), size):
        reader.feed(stream[at : at + size])
    reader.gap()
    assert reader.held == 0


@pytest.mark.parametrize("port", [5060, 8080])
@pytest.mark.parametrize("size", [1, 50, 5000])
def test_both_directions_of_a_connection(port: int, size: int) -> None:
    """On a SIP port it is told by its first bytes."""
    conversations = Conversations(Counter(), ws_ports=frozenset({8080}))
    ends = (Endpoint("10.0.0.1", 40000), Endpoint("10.0.0.2", port))
    found = []
    for key, pair, stream in (
        (b"a", ends, REQUEST + frame(sip(1), mask=MASK)),
        (b"b", ends[::-1], RESPONSE + frame(sip(2))),
    ):
        conversations.add(key, Segment(0, SYN, b"", START), lambda pair=pair: pair)
        for at in range(0, len(stream), size):
            segment = Segment(1 + at, 0, stream[at : at + size], START)
            found += conversations.add(key, segment, lambda pair=pair: pair)
    assert [(item.message, item.transport, item.source) for item in found] == [
        (Framed(sip(1)), "ws", ends[0]),
        (Framed(sip(2)), "ws", ends[1]),
    ]
