"""Alerts as lines to syslog: RFC 5424 over UDP (RFC 5426), or the local form to the host's own socket.

The local form is what syslog(3) writes. The sockets of rsyslogd and journald read no other: tried with
rsyslog 8.2302, a line of RFC 5424 arrives there with "1" as its tag and the rest as text. The text of both
is the same, words of ``key=value``, so that one rule of a log host reads either.
"""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum

from recorderd.wire.printable import printable

FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)
"""The names of the facilities in the order of their numbers (RFC 5424 section 6.2.1)."""

# RFC 5424 section 7.2.2 wants a private enterprise number behind the @. The product has none; 32473 is the
# one that RFC 5612 keeps for such use.
SD_ID = "recorderd@32473"

MAX_VALUE = 256
MAX_STRUCTURED = 1024
MAX_BYTES = 2048
"""RFC 5424 section 6.1: receivers should accept 2048 bytes, and may cut what is longer."""


class Severity(IntEnum):
    """How bad it is (RFC 5424 section 6.2.1)."""

    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


class Syslog:
    """A sender of lines to one syslog."""

    def __init__(self, address: str, facility: str, *, host: str, app: str = "recorderd") -> None:
        """Prepare to send to ``address``: the path of a socket, or ``HOST:PORT`` (UDP).

        ``host`` is the name of this host in the lines. ValueError for a facility or an address that is none.
        """
        if facility not in FACILITIES:
            raise ValueError(f"no such facility: {facility!r}")
        self._facility = FACILITIES.index(facility)
        self._host = _name(host, 255)
        self._app = _name(app, 48)
        self._path = address if address.startswith("/") else ""
        self._peer = ("", 0) if self._path else _host_and_port(address)
        self._socket: socket.socket | None = None

    def send(
        self, event: str, fields: Mapping[str, object], *, time_ns: int, severity: Severity = Severity.WARNING
    ) -> None:
        """Send one line about ``event`` (a word such as ``review``) of the time ``time_ns``.

        Raises OSError when the syslog cannot be reached; a later call connects anew. UDP promises nothing:
        a line may be lost, and a peer that refuses is noticed with the next line.
        """
        line = self.line(event, fields, time_ns=time_ns, severity=severity)
        try:
            self._connected().send(line)
        except OSError:
            self.close()
            raise

    def line(
        self, event: str, fields: Mapping[str, object], *, time_ns: int, severity: Severity = Severity.WARNING
    ) -> bytes:
        """Return the datagram that :meth:`send` would send."""
        words = {"event": _value(event), **{_key(key): _value(value) for key, value in fields.items()}}
        words = {key: value for key, value in words.items() if value}
        pri = f"<{self._facility * 8 + severity}>"
        seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
        if self._path:
            # RFC 3164 section 4.1, as syslog(3) writes it: local time, no host.
            stamp = time.strftime("%b %e %H:%M:%S", time.localtime(seconds))
            return _cut(f"{pri}{stamp} {self._app}[{os.getpid()}]: {_text(words)}")
        moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)
        stamp = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        header = f"{pri}1 {stamp} {self._host} {self._app} {os.getpid()} {_name(event, 32)}"
        return _cut(f"{header} {_structured(words)} {_text(words)}")

    def close(self) -> None:
        """Close the socket; the next line opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = _connect_local(self._path) if self._path else _connect_udp(*self._peer)
        return self._socket


def _connect_local(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.settimeout(2.0)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def _connect_udp(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, kind, protocol)
    sock.settimeout(2.0)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit():
        raise ValueError(f"neither the path of a socket nor HOST:PORT: {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _name(text: str, limit: int) -> str:
    """Return ``text`` as one of the header's names: printable ASCII without spaces, or ``-``."""
    return "".join(char if "!" <= char <= "~" else "_" for char in text[:limit]) or "-"


def _key(text: str) -> str:
    # RFC 5424 section 6.3.3: up to 32 characters, none of = space ] ".
    return "".join(
        char if char.isascii() and (char.isalnum() or char in "_.-") else "_" for char in text[:32]
    )


def _value(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(filter(None, map(_value, value)))[:MAX_VALUE]
    return printable(str(value), limit=MAX_VALUE)


def _structured(words: Mapping[str, str]) -> str:
    """Return the structured data, as many whole parameters as fit (RFC 5424 section 6.3)."""
    text = f"[{SD_ID}"
    for key, value in words.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
        parameter = f' {key}="{escaped}"'
        if len((text + parameter).encode()) < MAX_STRUCTURED:
            text += parameter
    return text + "]"


def _text(words: Mapping[str, str]) -> str:
    return " ".join(f"{key}={_quoted(value)}" for key, value in words.items())


def _quoted(value: str) -> str:
    if not any(char in ' "=\\' for char in value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _cut(line: str) -> bytes:
    """Return ``line`` in UTF-8, cut between characters if it is too long."""
    data = line.encode("utf-8", "replace")
    return data if len(data) <= MAX_BYTES else data[:MAX_BYTES].decode("utf-8", "ignore").encode()
