"""Listings as servers write them, and as somebody would who means harm."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.spool.stores.multistatus import MultistatusError, Resource, read_multistatus

# As nginx, and as Apache write it: prefixes, absolute URLs, properties that are not there, escapes.
NGINX = b"""<?xml version="1.0" encoding="utf-8" ?>
<D:multistatus xmlns:D="DAV:">
<D:response><D:href>/dav/2026-11-21/</D:href><D:propstat><D:prop>
<D:getlastmodified>Sat, 21 Nov 2026 20:05:01 GMT</D:getlastmodified>
<D:resourcetype><D:collection/></D:resourcetype></D:prop>
<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
<D:response><D:href>/dav/2026-11-21/a%20b.rec</D:href><D:propstat><D:prop>
<D:getcontentlength>200000</D:getcontentlength>
<D:getlastmodified>Sat, 21 Nov 2026 20:05:02 GMT</D:getlastmodified>
<D:resourcetype></D:resourcetype></D:prop>
<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
</D:multistatus>"""
APACHE = b"""<?xml version="1.0" encoding="utf-8"?>
<D:multistatus xmlns:D="DAV:" xmlns:ns0="DAV:">
<D:response xmlns:lp1="DAV:"><D:href>https://host.example/dav/x.rec</D:href>
<D:propstat><D:prop><lp1:resourcetype/><lp1:getcontentlength>7</lp1:getcontentlength></D:prop>
<D:status>HTTP/1.1 200 OK</D:status></D:propstat>
<D:propstat><D:prop><D:getcontentlength/><D:getlastmodified/></D:prop>
<D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response></D:multistatus>"""
AT_US = 1_795_291_501_000_000

FOUND = {
    NGINX: [
        Resource("/dav/2026-11-21/", True, 0, AT_US),
        Resource("/dav/2026-11-21/a b.rec", False, 200_000, AT_US + 1_000_000),
    ],
    APACHE: [Resource("/dav/x.rec", False, 7, None)],
}


@pytest.mark.parametrize("answer", list(FOUND), ids=["nginx", "apache"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
def test_what_servers_tell_is_read_however_it_comes(answer: bytes, size: int) -> None:
    pieces = (answer[at : at + size] for at in range(0, len(answer), size))
    assert read_multistatus(pieces) == FOUND[answer]


@pytest.mark.parametrize("answer", list(FOUND), ids=["nginx", "apache"])
def test_what_was_cut_is_no_listing(answer: bytes) -> None:
    for end in range(0, len(answer), 5):
        with pytest.raises(MultistatusError):
            read_multistatus([answer[:end]])


def listing(inner: bytes) -> bytes:
    return b'<multistatus xmlns="DAV:">' + inner + b"</multistatus>"


def response(inner: bytes) -> bytes:
    return listing(b"<response><href>/a</href>" + inner + b"</response>")


ENTITIES = b'<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "answer",
    [
        ENTITIES + listing(b"<response><href>&b;</href></response>"),
        b'<!DOCTYPE m SYSTEM "file:///etc/passwd">' + listing(b""),
        listing(b"<x>" * 100_000),
        listing(b"<response><href>" + b"a" * 100_000 + b"</href></response>"),
        listing(b"<response><href>" + b"a&amp;" * 100_000 + b"</href></response>"),
        listing(b"<response></href>"),
        b"<html>not this<br>",
        b"\xff\xfe\x00",
        b"",
        listing(b"") + b"<again/>",
    ],
)
def test_what_means_harm_or_nothing_is_refused(answer: bytes) -> None:
    with pytest.raises(MultistatusError):
        read_multistatus([answer])


@pytest.mark.parametrize(
    ("inner", "size"),
    [
        (b"<getcontentlength>12</getcontentlength>", 12),
        (b"<getcontentlength> 12\n</getcontentlength>", 12),
        (b"<getcontentlength>-1</getcontentlength>", 0),
        (b"<getcontentlength>1_0</getcontentlength>", 0),
        ("<getcontentlength>\uff11</getcontentlength>".encode(), 0),
        (b"<getcontentlength>" + b"9" * 4000 + b"</getcontentlength>", 0),
        (b"", 0),
    ],
)
def test_sizes_are_digits(inner: bytes, size: int) -> None:
    assert [each.size for each in read_multistatus([response(inner)])] == [size]


@pytest.mark.parametrize(
    "date", ["", "never", "Sat, 99 Nov 2026 20:05:01 GMT", "Sat, 21 Nov 99999 20:05:01 GMT"]
)
def test_a_date_that_is_none_is_not_told(date: str) -> None:
    inner = f"<getlastmodified>{date}</getlastmodified>".encode()
    assert [each.modified_us for each in read_multistatus([response(inner)])] == [None]


@given(st.binary(max_size=300))
def test_any_bytes_give_a_listing_or_the_one_error(answer: bytes) -> None:
    for whole in (answer, listing(answer), response(answer)):
        with contextlib.suppress(MultistatusError):
            read_multistatus([whole])
