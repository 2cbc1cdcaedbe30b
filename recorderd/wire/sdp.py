"""Session descriptions: what each end says about where and how it takes media (RFC 4566, RFC 3264).

As tolerant as the ends are, and bounded: a line that cannot be read is left out and noted in `defects`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from recorderd.errors import PeerError
from recorderd.wire.ascii_int import ascii_int
from recorderd.wire.endpoint import Endpoint, canonical_host
from recorderd.wire.multipart import parts_of
from recorderd.wire.sdes import MAX_CRYPTO, Crypto, parse_crypto, usable
from recorderd.wire.sdp_formats import PayloadFormat, parse_rtpmap, payload_type, static_format
from recorderd.wire.sip import BODY_CUT, SipMessage

MAX_SDP = 64 * 1024  #: bytes of a description
MAX_MEDIA = 32  #: m-lines kept; those beyond are left out
_MAX_LINE = 2048  # characters of an m-line: all payload types, and room
_USUAL_SDP = 2048  # bytes of a description that is worth to be remembered
_USUAL_LEVEL = 1024  # characters of the lines below an m-line, likewise
_USUAL_FORMATS = 1024  # characters of what tells its formats, likewise
_MAX_DEFECTS = 16

DIRECTIONS: Final = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})
_NOWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104
_ATTRIBUTES = frozenset({"fingerprint", "zrtp-hash", "rtcp-mux", "ptime", "label"})
_KEYING = (("fingerprint", "DTLS-SRTP"), ("zrtp-hash", "ZRTP"))
_HOST = re.compile(r"[0-9A-Za-z.:_%-]{1,255}")
# What nearly all telephones send: nothing but their address before the first m-line, and that with a port.
_PLAIN = re.compile(
    r"v=0\r?\no=(.{1,256})\ns=.*\nc=IN IP4 ([1-9][0-9.]{5,13}[0-9])\r?\n"
    r"(?:b=.*\n)?t=.*\nm=([a-z]{1,32}) ([1-9][0-9]{0,4}) "
)
_KIND = re.compile(r"[!-~]{1,32}")


class SdpError(PeerError):
    """These bytes are no session description."""


class MediaDescription(NamedTuple):
    """One m-line with its attributes, the session's defaults filled in.

    Attributes:
        kind: `audio`, `video`, `image` ..., lower case.
        endpoint: where this end takes the media; None when the port is 0 (refused, ended) or cannot be read.
        protocol: upper case: `RTP/AVP`, `RTP/SAVP`, `UDPTL` ...
        direction: `sendrecv`, `sendonly`, `recvonly` or `inactive`, from this end's point of view.
        held: the address is 0.0.0.0, :: or below `.invalid`: nothing is to be sent here (RFC 3264 section
            8.4, RFC 6157); `direction` is then what the attribute says.
        formats: payload type to meaning, in the order of preference; unknown dynamic types are left out.
        ptime: milliseconds of audio a packet, None when not stated.
        label: RFC 4574, empty when there is none.
        rtcp_mux: RFC 5761.
        encrypted: SRTP is stated or offered (RTP/SAVP and kin, `a=crypto`, `a=fingerprint`, `a=zrtp-hash`).
        crypto: the keys of what this end sends (RFC 4568), in the order of preference.
        keying: `DTLS-SRTP` (RFC 5763) or `ZRTP` (RFC 6189) where keys are agreed on elsewhere.
        besides: of an audio stream: the payload types that only m-lines of other kinds have.
    """

    kind: str
    endpoint: Endpoint | None
    protocol: str
    direction: str = "sendrecv"
    held: bool = False
    formats: Mapping[int, PayloadFormat] = MappingProxyType({})
    ptime: int | None = None
    label: str = ""
    rtcp_mux: bool = False
    encrypted: bool = False
    crypto: tuple[Crypto, ...] = ()
    keying: str = ""
    besides: frozenset[int] = frozenset()

    @property
    def refusal(self) -> str:
        """Why SRTP that this end sends cannot be opened; empty where it can."""
        if usable(self.crypto):
            return ""
        return self.crypto[0].refusal if self.crypto else self.keying or "no key in the signalling"

    @property
    def sends(self) -> bool:
        """Whether this end says that it may send."""
        return self.endpoint is not None and self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        """Whether this end says that it takes what is sent to it."""
        return self.endpoint is not None and not self.held and self.direction in ("sendrecv", "recvonly")


class SessionDescription(NamedTuple):
    """What one end says about a session.

    Attributes:
        origin: the o-line's value, empty when there is none.
        media: the m-lines in order (an answer has them in the order of its offer).
        defects: what was wrong and tolerated, none of it the peer's text.
    """

    origin: str
    media: tuple[MediaDescription, ...]
    defects: tuple[str, ...] = ()


def parse_sdp(body: bytes) -> SessionDescription:
    """Read a session description.

    Raises:
        SdpError: neither a version line nor an m-line, or longer than `MAX_SDP` bytes.
    """
    # A message is repeated, goes over several hops, and 200 says again what 183 said.
    # Nor is one remembered that has keys: they are kept no longer than their call.
    remembered = len(body) <= _USUAL_SDP and b"inline:" not in body.lower()
    return _usual(body) if remembered else _parse(body)


def _parse(body: bytes) -> SessionDescription:
    if len(body) > MAX_SDP:
        raise SdpError(f"a session description longer than {MAX_SDP} bytes")
    # Only LF ends a line here, as in the SIP head: see sip_headers.
    text = "\n" + body.decode("utf-8", "replace")
    before, *sections = text.split("\nm=")
    if not sections and "\nv=" not in text:
        raise SdpError("no session description")
    session = _read(before)
    defects = [*session.defects, *_meanings((), session.formats)[1]]
    if len(sections) > MAX_MEDIA:
        defects.append(f"more than {MAX_MEDIA} media")
    found: list[MediaDescription] = []
    for section in sections[:MAX_MEDIA]:
        description, _, lines = section.partition("\n")
        remembered = len(lines) <= _USUAL_LEVEL and "inline:" not in lines.lower()
        level = _usual_level(lines) if remembered else _read(lines)
        defects += level.defects
        found.append(_media(description, level, session, defects))
    return SessionDescription(session.origin, tuple(found), tuple(dict.fromkeys(defects))[:_MAX_DEFECTS])


@lru_cache(maxsize=256)
def _usual(body: bytes) -> SessionDescription:
    return _plain(body.decode("utf-8", "replace")) or _parse(body)


def nowhere(host: str) -> bool:
    """Whether a host means that nothing is to be sent (RFC 3264 section 8.4, RFC 6157)."""
    return host in _NOWHERE or host.endswith(".invalid")


def sdp_of(message: SipMessage) -> SessionDescription | None:
    """The session description that a message carries, alone or in a multipart body; None when there is none.

    Raises:
        SdpError: there is one and it cannot be read.
    """
    if not message.body:
        return None
    if message.first.get("content-encoding") not in (None, "", "identity"):
        raise SdpError("an encoded body")
    whole = message.body
    if BODY_CUT in message.defects:
        # Half a line can say another port.
        whole = whole[: whole.rfind(b"\n") + 1]
    if message.content_type == "application/sdp" or (not message.content_type and whole.startswith(b"v=")):
        return parse_sdp(whole)
    parts = parts_of(message.header("content-type") or "", whole)
    body = next((part.body for part in parts if part.content_type == "application/sdp"), None)
    return None if body is None else parse_sdp(body)


class _Level(NamedTuple):
    """The lines of the session or of one m-line, as far as they matter here; ``formats`` has the rtpmap and
    fmtp attributes.
    """

    origin: str
    connection: str | None
    direction: str | None
    formats: tuple[tuple[str, str], ...]
    attributes: Mapping[str, str]
    crypto: tuple[Crypto, ...]
    defects: tuple[str, ...]


_SOMEWHERE: Final = _Level("", "192.0.2.1", None, (), {}, (), ())


def _read(lines: str) -> _Level:
    origin, connection, direction = "", None, None
    formats: list[tuple[str, str]] = []
    attributes: dict[str, str] = {}
    crypto: list[Crypto] = []
    defects: list[str] = []
    for line in lines.split("\n"):
        kind, value = line[:2], line[2:].strip(" \t\r")
        match kind:
            case "a=":
                name, _, content = value.partition(":")
                name, content = name.strip().lower(), content.strip()
                if name in ("rtpmap", "fmtp"):
                    formats.append((name, content))
                elif name == "crypto" and len(crypto) < MAX_CRYPTO:
                    crypto.append(parse_crypto(content))
                elif name in DIRECTIONS:
                    direction = name
                elif name in _ATTRIBUTES:
                    attributes.setdefault(name, content[:64])
            case "c=":
                # The last usable one counts; several would be one session over several multicast addresses.
                connection = _connection(value, defects) or connection
            case "o=":
                origin = value[:256]
            case _:
                if kind[1:] != "=" and kind.strip():
                    defects.append("a line is no SDP")
    return _Level(origin, connection, direction, tuple(formats), attributes, tuple(crypto), tuple(defects))


# Telephones of one make have all in common but addresses, ports and keys.
_usual_level = lru_cache(maxsize=256)(_read)


def _connection(value: str, defects: list[str]) -> str | None:
    """The host of `IN IP4 192.0.2.1/127/2` (RFC 4566 section 5.7)."""
    fields = value[:512].split()
    host = fields[2].partition("/")[0] if len(fields) >= 3 else ""
    if _HOST.fullmatch(host):
        return canonical_host(host)
    defects.append("a connection address cannot be read")
    return None


def _media(description: str, level: _Level, session: _Level, defects: list[str]) -> MediaDescription:
    """An m-line (RFC 4566 section 5.14) with what holds for the whole session."""
    kind, port_text, protocol, *listed = [*description.strip(" \t\r")[:_MAX_LINE].split(), "", "", ""]
    kind, protocol = kind.lower(), protocol.upper()
    if not _KIND.fullmatch(kind):
        defects.append("a media type cannot be read")
        kind = ""
    port = ascii_int(port_text.partition("/")[0], 65535)
    if port is None:
        defects.append("a port is out of range")
    host = level.connection or session.connection
    if port and host is None:
        defects.append("media without an address")
    attributes = level.attributes
    keying = next((name for line, name in _KEYING if line in attributes or line in session.attributes), "")
    formats, wrong = _meanings(tuple(listed), level.formats)
    defects += wrong
    return MediaDescription(
        kind=kind,
        endpoint=Endpoint(host, port) if host is not None and port else None,
        protocol=protocol[:32],
        direction=level.direction or session.direction or "sendrecv",
        held=host is not None and nowhere(host),
        formats=formats,
        ptime=ascii_int(attributes.get("ptime", ""), 1000) or None,
        label=attributes.get("label", ""),
        rtcp_mux="rtcp-mux" in attributes,
        encrypted="SAVP" in protocol or bool(level.crypto) or bool(keying),
        crypto=level.crypto,
        keying=keying,
    )


def _plain(text: str) -> SessionDescription | None:
    """A description that has no attributes before its only m-line; None for any other."""
    found = _PLAIN.match(text)
    if found is None:
        return None
    origin, host, kind, port = found.groups()
    stream = _usual_stream(kind, text[found.end() :])
    if stream is None or int(port) > 65535:
        return None
    media, defects = stream
    here = MediaDescription._make((kind, Endpoint(host, int(port)), *media[2:]))
    return SessionDescription(origin.strip(" \t\r"), (here,), defects)


@lru_cache(maxsize=256)
def _usual_stream(kind: str, rest: str) -> tuple[MediaDescription, tuple[str, ...]] | None:
    """What a description says behind the port of its m-line, and what is wrong with that; None where it has
    another m-line, or an address there.
    """
    description, _, lines = rest.partition("\n")
    level = _read(lines)
    if "\nm=" in rest or level.connection is not None:
        return None
    defects = list(level.defects)
    media = _media(f"{kind} 9 {description}", level, _SOMEWHERE, defects)
    return media, tuple(dict.fromkeys(defects))[:_MAX_DEFECTS]


_Attributes = tuple[tuple[str, str], ...]
_Meanings = tuple[Mapping[int, PayloadFormat], tuple[str, ...]]


def _meanings(listed: tuple[str, ...], attributes: _Attributes) -> _Meanings:
    """What the listed payload types mean by the rtpmap and fmtp attributes, and what was wrong with those."""
    length = sum(map(len, listed)) + sum([len(content) for _, content in attributes])
    return (_usual_meanings if length <= _USUAL_FORMATS else _read_meanings)(listed, attributes)


def _read_meanings(listed: tuple[str, ...], attributes: _Attributes) -> _Meanings:
    rtpmaps: dict[int, str] = {}
    fmtps: dict[int, str] = {}
    defects: list[str] = []
    for name, content in attributes:
        number_text, _, text = content.partition(" ")
        number = payload_type(number_text.strip())
        if number is None:
            defects.append("a payload type is out of range")
        else:
            (rtpmaps if name == "rtpmap" else fmtps).setdefault(number, text.strip())
    formats: dict[int, PayloadFormat] = {}
    for text in listed:
        number = payload_type(text.strip())
        if number is None:
            continue  # `t38` of a fax, `*`, or out of range: no RTP payload type
        mapped, fmtp = rtpmaps.get(number), fmtps.get(number, "")
        known = parse_rtpmap(mapped, fmtp) if mapped is not None else None
        if mapped is not None and known is None:
            defects.append("an encoding cannot be read")
        known = known or static_format(number, fmtp)
        if known is not None:
            formats.setdefault(number, known)
    return _shared(tuple(formats.items())), tuple(defects)


# Ten thousand telephones of one make announce the same list.
_usual_meanings = lru_cache(maxsize=256)(_read_meanings)


@lru_cache(maxsize=256)
def _shared(formats: tuple[tuple[int, PayloadFormat], ...]) -> Mapping[int, PayloadFormat]:
    """The same list, however it was written, is kept once."""
    return MappingProxyType(dict(formats))
