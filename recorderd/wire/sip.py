"""SIP messages: bytes to one value (RFC 3261).

A tap does not refuse a message, the ends do. So the parser takes what some end might take, says in
`defects` what was wrong with it, and raises only when it could not be told whose message it is. Size,
header count and time are bounded.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from recorderd.errors import PeerError
from recorderd.wire.ascii_int import ascii_int
from recorderd.wire.sip_headers import COMPACT, ESSENTIAL, Head, parse_head, usual_head
from recorderd.wire.sip_party import Party, parse_party

#: Bytes of one message, body included. UDP ends at 65,507; over TCP a body with metadata may be larger.
MAX_MESSAGE = 256 * 1024
#: Bytes of its start line and headers.
MAX_HEAD = 64 * 1024

#: The defect of a message whose body is not all there: cut by the capture, or counted wrong.
BODY_CUT = "the body is shorter than Content-Length"

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]{1,64}")
_VERSION = re.compile(r"SIP/[0-9]{1,3}\.[0-9]{1,3}", re.IGNORECASE)
_STATUS = re.compile(r"(SIP/[0-9]{1,3}\.[0-9]{1,3})[ \t]+([1-6][0-9]{2})(?:[ \t]+(.*))?", re.IGNORECASE)
_BRANCH = re.compile(r";[ \t]*branch[ \t]*=[ \t]*([^\s;,]+)", re.IGNORECASE)
_METHODS = frozenset({"INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "INFO", "UPDATE", "PRACK"})
_ONCE = ESSENTIAL - {"via"}  # RFC 3261 section 7.3.1: only list headers may repeat
_USUAL_LENGTH = 64  # characters of a line that is worth to be remembered


class SipError(PeerError):
    """These bytes are no SIP message that could be attributed to a dialog."""


class SipMessage(NamedTuple):
    """One request or response.

    All text is the peer's, unfiltered: `printable` it before it is shown.

    Attributes:
        method: of a request, as written (methods are case-sensitive); None for a response.
        uri: a request's Request-URI; empty for a response.
        status: a response's code, 100..699; 0 for a request.
        reason: a response's reason phrase, may be empty.
        first: the first value of each header, by its lower-case long name; in order, folded lines joined.
        again: the headers whose name was there before: (place among all, name, value), in order.
        body: what Content-Length covers, or the rest of the datagram.
        call_id: never empty, and without zero bytes.
        cseq: 0..2^32-1, or -1 when a request has none that can be read.
        cseq_method: of CSeq; for a request without a readable CSeq the request's own.
        request_method: the method of the request that this is, or that this is a response to.
        from_: the dialog end that sent the request (also in its response).
        to: the other end.
        content_type: the media type, lower case, without parameters; empty when there is none.
        branch: of the topmost Via, empty when there is none. A request and its responses share it on one hop
            (RFC 3261 sections 8.1.1.7 and 17.1.3).
        defects: what was wrong and tolerated, one short sentence each, none of it the peer's text.
    """

    method: str | None
    uri: str
    status: int
    reason: str
    first: Mapping[str, str]
    again: tuple[tuple[int, str, str], ...]
    body: bytes
    call_id: str
    cseq: int
    cseq_method: str
    request_method: str
    from_: Party
    to: Party
    content_type: str
    branch: str
    defects: tuple[str, ...] = ()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """(lower-case long name, value) of each header, in order."""
        found = list(self.first.items())
        # Each at its place when what stands before it is complete, which it is in their order.
        for place, name, value in self.again:
            found.insert(place, (name, value))
        return found

    def header(self, name: str) -> str | None:
        """The first value of a header, by its long or compact name in any case."""
        return self.first.get(_canonical(name))

    def all(self, name: str) -> list[str]:
        """All values of a header, one a field, in order; lists within a field are not split."""
        wanted = _canonical(name)
        if wanted not in self.first:
            return []
        return [self.first[wanted], *[value for _, known, value in self.again if known == wanted]]


def parse_sip(data: bytes) -> SipMessage:
    """Read one message that arrived in one datagram.

    Accepted although wrong, and noted: bare LF, no empty line at the end, a body shorter than
    Content-Length or none stated, repeated or unreadable single-value headers, missing From, To or CSeq
    where the rest can stand in for them. Bytes after the body are ignored (RFC 3261 section 18.3), so is a
    last line without its end: it may have been cut.

    Raises:
        SipError: no SIP start line, no Call-ID, a response without a CSeq, more than `MAX_MESSAGE` bytes, or
            more than `MAX_HEAD` bytes of headers.
    """
    if len(data) > MAX_MESSAGE:
        raise SipError(f"longer than {MAX_MESSAGE} bytes")
    data = data.lstrip(b"\r\n")  # RFC 3261 section 7.5
    head, rest = _parts(data)
    defects, first = head.defects, head.first
    method, uri, status, reason = _start_line(head.start, defects)
    if head.again:
        _repeated(head, defects)
    call_id = first.get("call-id")
    if not call_id:
        raise SipError("no Call-ID")
    if "\0" in call_id:
        # To much that is written in C it would end there: two of them might be one, or one none.
        defects.append("a zero byte in the Call-ID")
        call_id = call_id.replace("\0", "\N{REPLACEMENT CHARACTER}")
    cseq, cseq_method = _cseq(first.get("cseq", ""), method, defects)
    content_type = first.get("content-type")
    return SipMessage(
        method,
        uri,
        status,
        reason,
        first,
        tuple(head.again),
        _body(rest, head, defects),
        call_id,
        cseq,
        cseq_method,
        cseq_method if method is None else method,
        _party("From", first.get("from"), defects),
        _party("To", first.get("to"), defects),
        content_type.partition(";")[0].strip().lower() if content_type else "",
        _branch(first.get("via", "")),
        tuple(defects),
    )


def _parts(data: bytes) -> tuple[Head, bytes]:
    """The head of a message, and what follows it."""
    end = data.find(b"\n\r\n")
    # A bare line feed that ends the head earlier is a line without a name, which no usual head has.
    head = usual_head(data[:end]) if 0 <= end <= MAX_HEAD else None
    if head is not None:
        return head, data[end + 3 :]
    size, body_at = _head_end(data)
    if size > MAX_HEAD:
        raise SipError(f"headers longer than {MAX_HEAD} bytes")
    head = parse_head(data[:size])
    if body_at:
        return head, data[body_at:]
    head.defects.append("the headers do not end")
    return head, b""


def _head_end(data: bytes) -> tuple[int, int]:
    """Where the head ends and the body begins; for a head without an end, the end of its last line and 0."""
    usual = data.find(b"\n\r\n")
    bare = data.find(b"\n\n", 0, usual + 1 if usual >= 0 else len(data))
    if bare >= 0:
        return bare, bare + 2
    return (usual, usual + 3) if usual >= 0 else (max(data.rfind(b"\n"), 0), 0)


def _canonical(name: str) -> str:
    lower = name.lower()
    return COMPACT.get(lower, lower)


def _branch(via: str) -> str:
    top = via.partition(",")[0]
    before, _, rest = top.partition(";branch=")
    branch = rest.partition(";")[0]
    if ";" not in before and branch.split() == [branch]:
        return branch
    found = _BRANCH.search(top)
    return found[1] if found else ""


def _start_line(line: str, defects: list[str]) -> tuple[str | None, str, int, str]:
    """(method, uri, status, reason) of a request line or status line (RFC 3261 sections 7.1 and 7.2)."""
    line = line.rstrip("\r")
    if not line.startswith("SIP/"):
        method, _, rest = line.partition(" ")
        uri, _, version = rest.partition(" ")
        if (
            version == "SIP/2.0"
            and uri
            and "\t" not in uri
            and (method in _METHODS or _TOKEN.fullmatch(method))
        ):
            return method, uri, 0, ""
    status = _usual_status(line) if len(line) <= _USUAL_LENGTH else _status(line)
    if status:
        version, code, reason = status
        _check_version(version, defects)
        return None, "", code, reason
    # Cut by hand from both ends: RFC 4475 section 3.1.2.8 puts white space into the URI, and a pattern that
    # allows it would be quadratic.
    spaced = line.replace("\t", " ").strip(" ")
    method, _, rest = spaced.partition(" ")
    uri, _, version = rest.rpartition(" ")
    uri = uri.strip(" ")
    if not uri or not _TOKEN.fullmatch(method) or not _VERSION.fullmatch(version):
        raise SipError("no SIP start line")
    if " " in uri or f"{method} {uri} {version}" != line:
        defects.append("white space in the request line")
    _check_version(version, defects)
    return method, uri, 0, ""


def _status(line: str) -> tuple[str, int, str] | None:
    """(version, status code, reason) of a status line; None for another."""
    found = _STATUS.fullmatch(line)
    return (found[1], int(found[2]), (found[3] or "").strip(" \t")) if found else None


# All responses begin with one of a dozen lines.
_usual_status = lru_cache(maxsize=256)(_status)


def _check_version(version: str, defects: list[str]) -> None:
    if version.upper() != "SIP/2.0":
        defects.append("not SIP/2.0")


def _repeated(head: Head, defects: list[str]) -> None:
    """Note what is there more than once with several values, and must not be."""
    for _, name, value in head.again:
        defect = f"more than one {name}"
        if name in _ONCE and value != head.first[name] and defect not in defects:
            defects.append(defect)


def _cseq(value: str, method: str | None, defects: list[str]) -> tuple[int, str]:
    """RFC 3261 section 20.16: a number below 2^31 (some start with 32 random bits) and a method."""
    number, named = (_usual_cseq if len(value) <= _USUAL_LENGTH else _number_and_method)(value)
    if number is not None and number >= 2**31:
        defects.append("the CSeq is too large")
    if method is None:
        if number is None or named is None:
            raise SipError("a response without a CSeq")
        return number, named
    if number is None or named is None:
        defects.append("no readable CSeq")
    elif named != method:
        defects.append("the CSeq is of another method")
    return -1 if number is None else number, method if named is None else named


def _number_and_method(value: str) -> tuple[int | None, str | None]:
    fields = value.split()
    number = ascii_int(fields[0], 2**32 - 1) if fields else None
    return number, fields[1] if len(fields) == 2 and _TOKEN.fullmatch(fields[1]) else None


_usual_cseq = lru_cache(maxsize=1024)(_number_and_method)


def _party(header: str, value: str | None, defects: list[str]) -> Party:
    if not value:
        defects.append(f"no {header}")
        return Party()
    party, sound = parse_party(value)
    if not sound:
        defects.append(f"the {header} is malformed")
    return party


def _body(rest: bytes, head: Head, defects: list[str]) -> bytes:
    """RFC 3261 section 18.3: over UDP the body is what Content-Length says, or the rest of the datagram."""
    said = head.first.get("content-length")
    if said is None or (said == str(len(rest)) and not head.again):
        return rest
    lengths = {ascii_int(value, MAX_MESSAGE) for _, name, value in head.again if name == "content-length"}
    lengths.add(ascii_int(said, MAX_MESSAGE))
    length = lengths.pop()
    if length is None or lengths:
        defects.append("the Content-Length cannot be read")
        return rest
    if len(rest) < length:
        defects.append(BODY_CUT)
    elif len(rest) > length:
        defects.append("bytes after the body")
    return rest[:length]
