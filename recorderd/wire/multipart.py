"""MIME multipart bodies, as SIP carries them (RFC 2046 section 5.1, RFC 5621).

Depth, number of parts and time are bounded: each nesting level costs one pass over its own bytes.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from recorderd.wire.sip_headers import parse_head

MAX_DEPTH = 4  #: multipart within multipart; what is nested deeper is left out
MAX_PARTS = 64  #: parts of one body, over all levels

_BOUNDARY = re.compile(r';[ \t]*boundary[ \t]*=[ \t]*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_HEAD_END = re.compile(rb"(?:^|\n)\r?\n")


class Part(NamedTuple):
    """One part that is not itself multipart.

    Attributes:
        content_type: the media type, lower case, without parameters; `text/plain` when none is stated.
        disposition: the first word of Content-Disposition, lower case; empty when there is none.
        body: the part's bytes, without the line end that belongs to the boundary.
    """

    content_type: str
    disposition: str
    body: bytes


def parts_of(content_type: str, body: bytes) -> list[Part]:
    """The parts of a body, depth first, in order; the whole body as one part when it is not multipart.

    Taken as it comes: parts in any order, any line end, a boundary with or without quotes, one that is
    missing from the Content-Type but stands at the start of the body, a body whose last boundary was cut
    off. Never raises.

    Args:
        content_type: the Content-Type value with its parameters.
        body: the bytes after the headers.
    """
    found: list[Part] = []
    for part in _parts(content_type, "", body, MAX_DEPTH):
        found.append(part)
        if len(found) == MAX_PARTS:
            break
    return found


def _parts(content_type: str, disposition: str, body: bytes, depth: int) -> Iterator[Part]:
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type.startswith("multipart/"):
        yield Part(media_type or "text/plain", disposition.partition(";")[0].strip().lower(), body)
        return
    if depth == 0:
        return
    for section in _sections(_boundary(content_type, body), body):
        end = _HEAD_END.search(section)
        head, content = (section[: end.start()], section[end.end() :]) if end else (b"", section)
        # A part has no start line, and no header at all is allowed.
        fields = parse_head(b"\n" + head).first
        yield from _parts(
            fields.get("content-type", ""), fields.get("content-disposition", ""), content, depth - 1
        )


def _boundary(content_type: str, body: bytes) -> bytes:
    """The delimiter without its dashes; guessed from the body's first line where the header does not tell."""
    stated = _BOUNDARY.search(content_type)
    if stated:
        return (stated[1] or stated[2]).encode()
    first = body.lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r \t")
    return first[2:] if first.startswith(b"--") and 2 < len(first) <= 202 else b""


def _sections(boundary: bytes, body: bytes) -> Iterator[bytes]:
    """What stands between delimiter lines, without the preamble and what follows the closing delimiter."""
    if not boundary:
        return
    delimiter = re.compile(rb"(?:^|\n)--" + re.escape(boundary) + rb"(--)?[ \t]*\r?(?=\n|$)")
    start: int | None = None
    for line in delimiter.finditer(body):
        if start is not None:
            yield body[start : line.start()].removesuffix(b"\r")
        if line[1]:
            return
        start = line.end() + 1
    if start is not None and start < len(body):
        yield body[start:]
