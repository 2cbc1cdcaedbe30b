"""The head of a SIP message: its start line and header fields (RFC 3261 sections 7.3 and 25.1).

Only LF and CR LF end a line. `str.splitlines` also breaks at form feeds, U+0085 and U+2028, and would let a
display name add headers of its own.
"""

import re
from functools import lru_cache
from typing import NamedTuple

#: Kept header fields of a message; those beyond are dropped, the essential ones excepted. The longest real
#: routes (Via and Record-Route of a dozen proxies) stay below 60.
MAX_HEADERS = 256

#: Without these a message cannot be attributed, so no flood of other headers can hide them.
ESSENTIAL = frozenset({"call-id", "from", "to", "cseq", "via", "content-length", "content-type"})

#: RFC 3261 section 7.3.3 and the registry of header fields: the one-letter names.
COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

_OFTEN = (
    *("Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "Content-Type", "Content-Length"),
    *("User-Agent", "Server", "Allow", "Supported", "Require", "Expires", "Date", "Accept", "Route"),
    *("Record-Route", "Session-Expires", "Min-SE", "Timestamp", "P-Asserted-Identity", "Remote-Party-ID"),
    *("Privacy", "Diversion", "Reason", "Session-ID", "Allow-Events", "Authorization"),
)
_USUAL = {**{name: name.lower() for name in _OFTEN}, **COMPACT}

_NAME = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]{1,256}")  # RFC 3261 section 25.1: token
_USUAL_LENGTH = 32  # characters of a name that is worth to be remembered
_BLANK = " \t\r"
_FOLDS = frozenset(" \t\r")  # a line that begins so is folded, or no header
_TOO_MANY = f"more than {MAX_HEADERS} headers"


class Head(NamedTuple):
    """A message up to its empty line.

    Attributes:
        start: the request line or status line, as it stands.
        first: the first value of each header field, without surrounding white space and unfolded, by its
            lower-case long name; in order.
        again: the header fields whose name was there before: (place among all, name, value), in order.
        defects: what was wrong and tolerated.
    """

    start: str
    first: dict[str, str]
    again: list[tuple[int, str, str]]
    defects: list[str]


def usual_head(block: bytes) -> Head | None:
    """A message's head where each line of it is a header field of its own with a name; None for another."""
    try:
        lines = block.decode().split("\n")
    except UnicodeDecodeError:
        return None
    if len(lines) > MAX_HEADERS:
        return None
    first: dict[str, str] = {}
    again: list[tuple[int, str, str]] = []
    start = lines.pop(0)
    for line in lines:
        name, colon, value = line.partition(":")
        known = _USUAL.get(name) or ("" if line[:1] in _FOLDS else _long_name(name))
        if not known or not colon:
            return None
        if known in first:
            again.append((len(first) + len(again), known, value.strip(_BLANK)))
        else:
            first[known] = value.strip(_BLANK)
    return Head(start, first, again, [])


def parse_head(block: bytes) -> Head:
    """Split any message's head; never raises, what cannot be read is left out and noted."""
    defects: list[str] = []
    lines = _lines(block, defects)
    first: dict[str, str] = {}
    again: list[tuple[int, str, str]] = []
    missing = set(ESSENTIAL)
    for name, value in _fields(lines, defects):
        count = len(first) + len(again)
        if count >= MAX_HEADERS and name not in missing:
            if defects[-1:] != [_TOO_MANY]:
                defects.append(_TOO_MANY)
        elif name in first:
            again.append((count, name, value))
        else:
            first[name] = value
        missing.discard(name)
    return Head(lines[0], first, again, defects)


def _lines(block: bytes, defects: list[str]) -> list[str]:
    """The lines as text: UTF-8 (RFC 3261 section 7.3.1), or Latin-1 as old equipment sends it."""
    try:
        return block.decode().split("\n")
    except UnicodeDecodeError:
        defects.append("a header is not UTF-8")
    return [_text(line) for line in block.split(b"\n")]


def _text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _fields(lines: list[str], defects: list[str]) -> list[tuple[str, str]]:
    """The header fields, folded lines joined by one space (RFC 3261 section 7.3.1)."""
    fields: list[tuple[str, str]] = []
    name, parts = "", [""]
    nameless = folded_start = False
    for line in lines[1:]:
        if line[:1] in (" ", "\t"):
            folded_start |= not name
            parts.append(line.strip(_BLANK))
            continue
        if name:
            fields.append((name, _joined(parts)))
        name, colon, value = line.partition(":")
        name, parts = _long_name(name), [value.strip(_BLANK)]
        if not colon or not name:
            # An empty line cannot come here but as the CR of a line end that the head does not stop at.
            nameless |= bool(line.strip(_BLANK))
            name = ""
    if name:
        fields.append((name, _joined(parts)))
    if nameless:
        defects.append("a line is no header")
    if folded_start:
        defects.append("a folded line continues no header")
    return fields


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else " ".join(part for part in parts if part)


def _long_name(name: str) -> str:
    """Lower case, compact names spelled out; empty for what is no header name."""
    return _known(name) if len(name) <= _USUAL_LENGTH else _spelled_out(name)


def _spelled_out(name: str) -> str:
    lower = name.strip(_BLANK).lower()
    return COMPACT.get(lower, lower) if _NAME.fullmatch(lower) else ""


# Every message has the same dozen.
_known = lru_cache(maxsize=512)(_spelled_out)
