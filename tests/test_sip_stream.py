"""SIP out of a stream of bytes: framed by Content-Length, found again after damage, never without bound."""

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.wire.signalling import Framed
from recorderd.wire.sip import MAX_MESSAGE, parse_sip
from recorderd.wire.sip_stream import SipStream
from tests.fuzzing import inputs

BODY = b"v=0\r\no=- 1 1 IN IP4 ab\r\n"


def request(number: int = 1, length: str | None = None, body: bytes = b"") -> bytes:
    head = f"INVITE sip:{number}@b SIP/2.0\r\nVia: SIP/2.0/TCP a\r\nCall-ID: {number}\r\n".encode()
    said = f"Content-Length: {len(body)}\r\n" if length is None else length
    return head + said.encode() + b"\r\n" + body


def framed(stream: bytes, size: int | None = None, counters: Counter[str] | None = None) -> list[Framed]:
    """What comes of a stream that is cut at each ``size`` bytes."""
    reader = SipStream(Counter() if counters is None else counters)
    size = size or len(stream)
    return [item for at in range(0, len(stream), size) for item in reader.feed(stream[at : at + size])]


SIZES = [1, 2, 3, 17, 1460, None]
LENGTHS = {
    "Content-Length": "Content-Length: 24\r\n",
    "compact": "l:24\r\n",
    "another case and white space": "CONTENT-length \t:  24 \r\n",
    "folded": "Content-Length:\r\n  24\r\n",
    "leading zeros": "L: 0024\r\n",
    "bare LF": "Content-Length: 24\n",
    "the first of two": "Content-Length: 24\r\nContent-Length: 3\r\n",
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LENGTHS)
def test_a_body_is_as_long_as_it_says(name: str, size: int | None) -> None:
    sent = [request(1, LENGTHS[name], BODY), request(2), request(3, LENGTHS[name], BODY)]
    assert framed(b"".join(sent), size) == [Framed(text) for text in sent]
    assert parse_sip(sent[0]).body == BODY


@pytest.mark.parametrize("size", SIZES)
def test_the_start_of_a_request_in_a_body_is_body(size: int | None) -> None:
    inner = request(9) + b"SIP/2.0 200 OK\r\n\r\n"
    sent = [request(1, None, inner), b"SIP/2.0 200 OK\r\nCall-ID: 1\r\nl: 0\r\n\r\n"]
    assert framed(b"".join(sent), size) == [Framed(text) for text in sent]


@pytest.mark.parametrize("size", SIZES)
def test_without_a_length_there_is_no_body(size: int | None) -> None:
    """RFC 3261 section 20.14 demands one; what follows is not taken for a message."""
    counters: Counter[str] = Counter()
    sent = request(1, "") + BODY + request(2)
    assert framed(sent, size, counters) == [Framed(request(1, "")), Framed(request(2))]
    assert counters["sip_resyncs"] == 1


def test_pings_are_counted_and_are_no_messages() -> None:
    counters: Counter[str] = Counter()
    stream = b"\r\n\r\n" + request(1) + b"\r\n" + request(2) + b"\r\n\r\n"
    assert framed(stream, None, counters) == [Framed(request(1)), Framed(request(2))]
    assert counters == {"sip_pings": 3}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("said", ["-1", "1 2", "0x18", "", "99999999999999999999", str(MAX_MESSAGE), "٣"])
def test_an_absurd_length_costs_the_body(said: str, size: int | None) -> None:
    counters: Counter[str] = Counter()
    damaged = request(1, f"Content-Length: {said}\r\n")
    found = framed(damaged + BODY + request(2), size, counters)
    assert found == [Framed(damaged, truncated=True), Framed(request(2))]
    assert counters["sip_absurd"] == 1


JUNK = {
    "binary": bytes(range(256)),
    "a TLS record": b"\x16\x03\x01\x02\x00" + bytes(512),
    "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a body without a line feed": b"{'a': 1}",
    "many lines": b"x: y\r\n" * 5000,
    "one long line": b"x" * 100_000,
}


@pytest.mark.parametrize("size", [3, 1460, None])
@pytest.mark.parametrize("name", JUNK)
def test_after_damage_the_next_message_is_found(name: str, size: int | None) -> None:
    stream = request(1) + JUNK[name] + request(2) + request(3)
    found = [item.payload for item in framed(stream, size)]
    assert found[0] == request(1)
    assert found[-1] == request(3)
    assert framed(stream, size) == framed(stream, None)


@pytest.mark.parametrize("kind", ["message", "head", "line", "lines", "blank", "methods"])
def test_what_is_held_is_bounded_in_bytes_and_time(kind: str) -> None:
    reader = SipStream(Counter())
    piece = {
        "message": b"a" * 1460,
        "head": b"A: b\r\n" * 200,
        "line": b"a" * 1460,
        "lines": b"\r\n a " * 300,
        "blank": b"\r\n" * 700,
        "methods": b"INVITE sip:" * 120,
    }[kind]
    begin = {
        "message": request(1, f"l: {MAX_MESSAGE - 200}\r\n"),
        "head": request(1)[:-2],
        "line": b"INVITE ",
    }
    reader.feed(begin.get(kind, b""))
    began = time.process_time()
    for _ in range(1000):
        reader.feed(piece)
        assert reader.held <= MAX_MESSAGE
    assert time.process_time() - began < 5  # in proportion to the bytes: a quadratic way takes minutes


def test_a_gap_gives_out_what_was_in_hand_and_looks_for_the_next() -> None:
    reader = SipStream(Counter())
    assert reader.feed(request(1, None, BODY)[:-5]) == []
    assert reader.gap() == [Framed(request(1, None, BODY)[:-5], truncated=True)]
    assert reader.gap() == []
    # What comes next is the middle of something.
    assert reader.feed(b"OK\r\nCall-ID: 1\r\n\r\n" + request(2)) == [Framed(request(2))]


def test_joined_in_the_middle_it_waits_for_a_start_line() -> None:
    for cut in range(1, len(request(1))):
        reader = SipStream(Counter(), fresh=False)
        found = reader.feed(request(1)[cut:] + request(2) + request(3))
        assert found == [Framed(request(2)), Framed(request(3))], cut


@given(
    st.lists(
        st.binary(max_size=30) | st.sampled_from([request(1), request(2, None, BODY), b"\r\n", b"l: 9\r\n"])
    ),
    st.integers(1, 50),
)
@inputs(300)
def test_any_bytes_give_the_same_however_they_are_cut(pieces: list[bytes], size: int) -> None:
    stream = b"".join(pieces)
    if stream:
        assert framed(stream, size) == framed(stream, None)
