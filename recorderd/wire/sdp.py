"""Session descriptions: what each end says about where and how it takes media (RFC 4566, RFC 3264).

As tolerant as the ends are, and bounded: a line that cannot be read is left out and noted in `defects`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from recorderd.errors import PeerError
from recorderd.wire.ascii_int import ascii_int
from recorderd.wire.endpoint import Endpoint, canonical_host
from recorderd.wire.multipart import parts_of
from recorderd.wire.sdp_formats import PayloadFormat, parse_rtpmap, payload_type, static_format
from recorderd.wire.sip import BODY_CUT, SipMessage

MAX_SDP = 64 * 1024  #: bytes of a description
MAX_MEDIA = 32  #: m-lines kept; those beyond are left out
_MAX_LINE = 2048  # characters of an m-line: all payload types, and room
_MAX_DEFECTS = 16

DIRECTIONS: Final = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})
_NOWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104
_HOST = re.compile(r"[0-9A-Za-z.:_%-]{1,255}")
_KIND = re.compile(r"[!-~]{1,32}")


class SdpError(PeerError):
    """These bytes are no session description."""


@dataclass(frozen=True, slots=True)
class MediaDescription:
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
        encrypted: SRTP is stated or offered (RTP/SAVP and kin, `a=crypto`, `a=fingerprint`).
    """

    kind: str
    endpoint: Endpoint | None
    protocol: str
    direction: str = "sendrecv"
    held: bool = False
    formats: Mapping[int, PayloadFormat] = field(default_factory=dict)
    ptime: int | None = None
    label: str = ""
    rtcp_mux: bool = False
    encrypted: bool = False

    @property
    def sends(self) -> bool:
        """Whether this end says that it may send."""
        return self.endpoint is not None and self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        """Whether this end says that it takes what is sent to it."""
        return self.endpoint is not None and not self.held and self.direction in ("sendrecv", "recvonly")


@dataclass(frozen=True, slots=True)
class SessionDescription:
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
    if len(body) > MAX_SDP:
        raise SdpError(f"a session description longer than {MAX_SDP} bytes")
    session, media = _Level(), list[_Level]()
    known = False
    # Only LF ends a line here, as in the SIP head: see sip_headers.
    for line in body.decode("utf-8", "replace").split("\n"):
        kind, value = line[:2], line[2:].strip(" \t\r")
        known = known or kind in ("v=", "m=")
        if kind == "m=":
            if len(media) == MAX_MEDIA:
                session.defects.append(f"more than {MAX_MEDIA} media")
                break
            media.append(_Level(value))
        else:
            (media[-1] if media else session).line(kind, value)
    if not known:
        raise SdpError("no session description")
    found = [_media(level, session) for level in media]
    defects = dict.fromkeys(defect for level in (session, *media) for defect in level.defects)
    return SessionDescription(session.origin, tuple(found), tuple(defects)[:_MAX_DEFECTS])


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
    if message.header("content-encoding") not in (None, "", "identity"):
        raise SdpError("an encoded body")
    whole = message.body
    if BODY_CUT in message.defects:
        # Half a line can say another port.
        whole = whole[: whole.rfind(b"\n") + 1]
    if not message.content_type and whole.startswith(b"v="):
        return parse_sdp(whole)
    parts = parts_of(message.header("content-type") or "", whole)
    body = next((part.body for part in parts if part.content_type == "application/sdp"), None)
    return None if body is None else parse_sdp(body)


class _Level:
    """The lines of the session or of one m-line, as far as they matter here."""

    def __init__(self, description: str = "") -> None:
        self.description = description
        self.origin = ""
        self.connection: str | None = None
        self.direction: str | None = None
        self.rtpmaps: dict[int, str] = {}
        self.fmtps: dict[int, str] = {}
        self.attributes: dict[str, str] = {}
        self.defects: list[str] = []

    def line(self, kind: str, value: str) -> None:
        match kind:
            case "o=":
                self.origin = value[:256]
            case "c=":
                # The last usable one counts; several would be one session over several multicast addresses.
                self.connection = self._connection(value) or self.connection
            case "a=":
                self._attribute(value)
            case _:
                if kind[1:] != "=" and kind.strip():
                    self.defects.append("a line is no SDP")

    def _connection(self, value: str) -> str | None:
        """The host of `IN IP4 192.0.2.1/127/2` (RFC 4566 section 5.7)."""
        fields = value[:512].split()
        host = fields[2].partition("/")[0] if len(fields) >= 3 else ""
        if _HOST.fullmatch(host):
            return canonical_host(host)
        self.defects.append("a connection address cannot be read")
        return None

    def _attribute(self, value: str) -> None:
        name, _, content = value.partition(":")
        name, content = name.strip().lower(), content.strip()
        match name:
            case "sendrecv" | "sendonly" | "recvonly" | "inactive":
                self.direction = name
            case "rtpmap" | "fmtp":
                self._format(self.rtpmaps if name == "rtpmap" else self.fmtps, content)
            case "crypto" | "fingerprint" | "rtcp-mux" | "ptime" | "label":
                self.attributes.setdefault(name, content[:64])
            case _:
                pass

    def _format(self, into: dict[int, str], content: str) -> None:
        number, _, text = content.partition(" ")
        known = payload_type(number.strip())
        if known is None:
            self.defects.append("a payload type is out of range")
        else:
            into.setdefault(known, text.strip())


def _media(level: _Level, session: _Level) -> MediaDescription:
    """An m-line (RFC 4566 section 5.14) with what holds for the whole session."""
    kind, port_text, protocol, *formats = [*level.description[:_MAX_LINE].split(), "", "", ""]
    kind, protocol = kind.lower(), protocol.upper()
    if not _KIND.fullmatch(kind):
        level.defects.append("a media type cannot be read")
        kind = ""
    port = ascii_int(port_text.partition("/")[0], 65535)
    if port is None:
        level.defects.append("a port is out of range")
    host = level.connection or session.connection
    if port and host is None:
        level.defects.append("media without an address")
    encrypted = (
        "SAVP" in protocol
        or "crypto" in level.attributes
        or "fingerprint" in level.attributes
        or "fingerprint" in session.attributes
    )
    return MediaDescription(
        kind=kind,
        endpoint=Endpoint(host, port) if host is not None and port else None,
        protocol=protocol[:32],
        direction=level.direction or session.direction or "sendrecv",
        held=host is not None and nowhere(host),
        formats=_formats(formats, level),
        ptime=ascii_int(level.attributes.get("ptime", ""), 1000) or None,
        label=level.attributes.get("label", ""),
        rtcp_mux="rtcp-mux" in level.attributes,
        encrypted=encrypted,
    )


def _formats(listed: list[str], level: _Level) -> Mapping[int, PayloadFormat]:
    formats: dict[int, PayloadFormat] = {}
    for text in listed:
        number = payload_type(text.strip())
        if number is None:
            continue  # `t38` of a fax, `*`, or out of range: no RTP payload type
        mapped, fmtp = level.rtpmaps.get(number), level.fmtps.get(number, "")
        known = parse_rtpmap(mapped, fmtp) if mapped is not None else None
        if mapped is not None and known is None:
            level.defects.append("an encoding cannot be read")
        known = known or static_format(number, fmtp)
        if known is not None:
            formats.setdefault(number, known)
    return _shared(tuple(formats.items()))


@lru_cache(maxsize=256)
def _shared(formats: tuple[tuple[int, PayloadFormat], ...]) -> Mapping[int, PayloadFormat]:
    """Ten thousand telephones of one make announce the same list: keep it once."""
    return MappingProxyType(dict(formats))
