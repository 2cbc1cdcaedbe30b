"""WebDAV's answer to PROPFIND (RFC 4918 sections 13 and 14.16), read as it comes and bounded in every way.

The answer is a stranger's XML: no document type (so no entities), no depth, no text that grows without end.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote, urlsplit
from xml.parsers import expat

_DEEPEST, _LONGEST_TEXT, _MOST_BYTES = 32, 4096, 256 << 20
_DAV: Final = "DAV: "

PROPERTIES: Final = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop>'
    b"<resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>"
)
"""The body of the question."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What stands under a path of the server: decoded, of a folder with its slash at the end."""

    path: str
    folder: bool
    size: int
    modified_us: int | None


class MultistatusError(ValueError):
    """The answer is not what RFC 4918 says."""


class Multistatus:
    """Reads an answer piece by piece; ``resources`` are what was told so far."""

    def __init__(self) -> None:
        self.resources: list[Resource] = []
        self._path: list[str] = []
        self._text: list[str] = []
        self._texts: dict[str, str] = {}
        self._folder = False
        self._length = 0
        self._read = 0
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._data

    def feed(self, piece: bytes, *, last: bool = False) -> None:
        """Read on. Raises MultistatusError."""
        self._read += len(piece)
        if self._read > _MOST_BYTES:
            raise MultistatusError("the listing does not end")
        try:
            self._parser.Parse(piece, last)
        except expat.ExpatError as error:
            raise MultistatusError(f"no XML: {error}") from None

    def _doctype(self, *_: object) -> None:
        raise MultistatusError("a document type in a listing")

    def _start(self, tag: str, attributes: object) -> None:
        self._path.append(tag)
        if len(self._path) > _DEEPEST:
            raise MultistatusError("a listing nested too deep")
        if tag == _DAV + "response":
            self._texts, self._folder = {}, False
        elif tag == _DAV + "collection":
            self._folder = True
        self._text, self._length = [], 0

    def _data(self, text: str) -> None:
        self._length += len(text)
        if self._length > _LONGEST_TEXT:
            raise MultistatusError("a listing with endless text")
        self._text.append(text)

    def _end(self, tag: str) -> None:
        self._path.pop()
        # A property that the server does not have comes again, empty, with the status 404.
        if text := "".join(self._text).strip():
            self._texts.setdefault(tag, text)
        self._text, self._length = [], 0
        if tag == _DAV + "response" and (resource := self._resource()) is not None:
            self.resources.append(resource)

    def _resource(self) -> Resource | None:
        href = self._texts.get(_DAV + "href")
        if href is None:
            return None
        try:
            path = unquote(urlsplit(href).path, errors="strict")
        except ValueError:
            return None
        length = self._texts.get(_DAV + "getcontentlength", "0")
        # int() takes more than digits: signs, underscores, digits of other scripts.
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else 0
        modified = _time_us(self._texts.get(_DAV + "getlastmodified"))
        if self._folder:
            path = path.rstrip("/") + "/"
        return Resource(path, self._folder, size, modified)


def read_multistatus(pieces: Iterable[bytes]) -> list[Resource]:
    """All that an answer tells. Raises MultistatusError, and what the pieces raise."""
    reader = Multistatus()
    for piece in pieces:
        reader.feed(piece)
    reader.feed(b"", last=True)
    return reader.resources


def _time_us(text: str | None) -> int | None:
    """An HTTP date (RFC 9110 section 5.6.7) in us since 1970."""
    try:
        at = parsedate_to_datetime(text or "")
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * 1_000_000
    except (ValueError, TypeError, OverflowError):
        return None
