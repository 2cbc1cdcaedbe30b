"""Multipart bodies as they come."""

import pytest

from recorderd.wire.multipart import MAX_PARTS, Part, parts_of

SDP = b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n"
XML = b"<recording/>"
EXPECTED = [Part("application/sdp", "", SDP), Part("application/rs-metadata+xml", "recording-session", XML)]
BODY = (
    b"preamble\r\n--abc\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n"
    b"--abc\r\nContent-Type:application/rs-metadata+xml;charset=utf-8\r\n"
    b"Content-Disposition: Recording-Session;handling=optional"
    b"\r\n\r\n" + XML + b"\r\n--abc--\r\nepilogue\r\n--abc\r\n\r\nafter the end\r\n"
)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/mixed;boundary=abc",
        'multipart/mixed; boundary="abc"',
        "Multipart/Mixed;charset=x ; BOUNDARY = abc ; y",
        "multipart/related;type=application/sdp;boundary=abc",
        "multipart/mixed;boundary=abc;boundary=other",
    ],
)
def test_parts(content_type):
    assert parts_of(content_type, BODY) == EXPECTED


def test_line_feeds_only():
    body = BODY.replace(b"\r\n", b"\n")
    assert [part.body for part in parts_of("multipart/mixed;boundary=abc", body)] == [
        SDP.replace(b"\r\n", b"\n"),
        XML,
    ]


@pytest.mark.parametrize(
    "content_type", ["multipart/mixed", "multipart/mixed;boundary=", 'multipart/mixed;boundary=""']
)
def test_a_boundary_that_is_not_told_is_looked_for(content_type):
    body = BODY[BODY.index(b"--abc") :]
    assert parts_of(content_type, body) == EXPECTED
    assert parts_of(content_type, b"\r\n\r\n" + body) == EXPECTED
    assert parts_of(content_type, b"no boundary at all") == []


def test_a_body_that_is_not_multipart_is_one_part():
    assert parts_of("Application/SDP; x=y", SDP) == [Part("application/sdp", "", SDP)]
    assert parts_of("", b"x") == [Part("text/plain", "", b"x")]


def test_a_part_without_headers_or_without_an_empty_line():
    body = b"--b\r\n\r\nplain\r\n--b\r\nno empty line\r\n--b\r\n\r\n\r\n--b--"
    assert [part.body for part in parts_of("multipart/mixed;boundary=b", body)] == [
        b"plain",
        b"no empty line",
        b"",
    ]


def test_a_boundary_within_a_line_is_none():
    body = b"--b\r\n\r\nx --b y\r\n--bb\r\n--b-\r\n --b\r\n--b--"
    assert [part.body for part in parts_of("multipart/mixed;boundary=b", body)] == [
        b"x --b y\r\n--bb\r\n--b-\r\n --b"
    ]


def test_the_last_boundary_may_be_cut_off():
    cut = BODY[: BODY.index(b"\r\n--abc--")]
    assert parts_of("multipart/mixed;boundary=abc", cut) == EXPECTED
    for size in range(len(BODY)):
        assert len(parts_of("multipart/mixed;boundary=abc", BODY[:size])) <= 2


def test_binary_parts():
    body = b"--b\r\nContent-Type: application/octet-stream\r\n\r\n" + bytes(range(256)) + b"\r\n--b--"
    assert parts_of("multipart/mixed;boundary=b", body)[0].body == bytes(range(256))


def nested(depth: int) -> tuple[str, bytes]:
    kind, body = "application/sdp", SDP
    for level in range(depth):
        body = b"--n%d\r\nContent-Type: %s\r\n\r\n%s\r\n--n%d--\r\n" % (level, kind.encode(), body, level)
        kind = f"multipart/mixed;boundary=n{level}"
    return kind, body


def test_nesting():
    assert (
        parts_of(*nested(1))
        == parts_of(*nested(2))
        == parts_of(*nested(4))
        == [Part("application/sdp", "", SDP)]
    )
    assert parts_of(*nested(5)) == []
    assert parts_of(*nested(1000)) == []


def test_one_boundary_on_every_level():
    body = SDP
    for _ in range(3):
        body = b"--b\r\nContent-Type: multipart/mixed;boundary=b\r\n\r\n" + body + b"\r\n--b--\r\n"
    assert len(parts_of("multipart/mixed;boundary=b", body)) <= 3


def test_number_of_parts():
    assert len(parts_of("multipart/mixed;boundary=b", b"--b\n\nx\n" * 5000)) == MAX_PARTS
