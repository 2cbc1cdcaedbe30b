"""Checkpoints stamped with the time by an authority (RFC 3161), and the stamps verified.

In the process that has the network. The library, rfc3161-client, is an extra: it is imported where used.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from cryptography import x509

from recorderd.errors import ConfigError, DiskFull, RecorderError, RemoteError, SpoolError
from recorderd.spool.durable import disk_error
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import FOLDER, Ledger
from recorderd.spool.ledger_keeping import add_alert
from recorderd.spool.ledger_stamps import Stamped, Stamps
from recorderd.spool.stamp_order import in_order

if TYPE_CHECKING:
    from rfc3161_client import TimeStampRequest

MAX_ANSWER: Final = 65_536
AGAIN_S: Final = 300.0
"""After a failure the authority is left alone for so long, or for its usual time where that is shorter."""

_QUERY: Final = "application/timestamp-query"


class Authority(Protocol):
    """What of the configuration is needed here."""

    @property
    def url(self) -> str: ...  # noqa: D102
    @property
    def ca(self) -> Path: ...  # noqa: D102
    @property
    def every_s(self) -> float: ...  # noqa: D102
    @property
    def timeout_s(self) -> float: ...  # noqa: D102


def load_roots(path: Path) -> list[x509.Certificate]:
    """The certificates of authorities in a PEM file. Raises ConfigError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path}: no certificate in PEM") from None


def verify_stamp(
    note: bytes,
    answer: bytes,
    roots: Sequence[x509.Certificate],
    request: "TimeStampRequest | None" = None,
) -> datetime:
    """When an authority under ``roots`` says that it saw ``note``; ``answer`` is its ``TimeStampResp``.

    It must be granted, of this note, signed by a certificate for time stamping that a root has issued, and,
    where it was asked for, of this ``request``. Raises RemoteError for any other.
    """
    client = _client()
    try:
        response = client.decode_timestamp_response(in_order(answer))
        builder = (
            client.VerifierBuilder() if request is None else client.VerifierBuilder.from_request(request)
        )
        for root in roots:
            builder = builder.add_root_certificate(root)
        builder.build().verify_message(response, note)
        when: datetime = response.tst_info.gen_time
    except client.VerificationError as error:
        raise RemoteError(f"the time stamp is refused: {error}") from None
    except ValueError as error:
        raise RemoteError(f"the answer is no time stamp: {error}") from None
    return when


def fetch_stamp(note: bytes, url: str, roots: Sequence[x509.Certificate], timeout_s: float) -> bytes:
    """Have a note stamped; returns the authority's answer, which was verified. Raises RemoteError."""
    client = _client()
    builder = client.TimestampRequestBuilder().data(note)
    request = builder.hash_algorithm(client.HashAlgorithm.SHA256).nonce(nonce=True).build()
    asked = urllib.request.Request(url, request.as_bytes(), {"Content-Type": _QUERY})  # noqa: S310 - the scheme is checked with the configuration
    try:
        with urllib.request.urlopen(asked, timeout=timeout_s) as answered:  # noqa: S310
            answer: bytes = answered.read(MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise RemoteError(f"{url}: {reason}") from None
    if len(answer) > MAX_ANSWER:
        raise RemoteError(f"{url}: the answer is too long")
    try:
        verify_stamp(note, answer, roots, request)
    except RemoteError as error:
        raise RemoteError(f"{url}: {error}") from None
    return answer


class Stamper:
    """Has the newest checkpoint of a spool stamped, every so often. One thread's own."""

    def __init__(self, spool: Spool, authority: Authority, index: Index | None = None) -> None:
        """``index`` takes the alerts. Raises ConfigError where the certificate cannot be read, or the library
        is missing."""
        _client()
        self._spool, self._authority, self._index = spool, authority, index
        self._roots = load_roots(authority.ca)
        self._ledger = Ledger(spool.path / FOLDER)
        self._stamps = Stamps(self._ledger.path)
        self._tried: float | None = None
        self._told = ""

    def stamp_due(self, now_s: float | None = None) -> Stamped | None:
        """Stamp the newest checkpoint if it is time to; returns what was stamped. Never raises what an
        authority or the disk did wrong: that is an alert, and tried again later.

        ``now_s`` is in seconds since 1970. Waits for the network, ``timeout_s`` at most at each step.
        """
        now = time.time() if now_s is None else now_s
        pause = min(AGAIN_S, self._authority.every_s)
        if self._tried is not None and 0 <= now - self._tried < pause:
            return None
        try:
            stamped = self._stamp(now)
        except RecorderError as error:
            self._tried = now
            self._tell(error, now)
            return None
        self._told = ""
        return stamped

    def stamp_now(self) -> Stamped | None:
        """Stamp the newest checkpoint, unless it is; None where there is no checkpoint. Raises RemoteError,
        SpoolCorrupt, SpoolError, DiskFull."""
        note = self._ledger.note()
        stated = self._ledger.stated()
        if note is None or stated is None:
            return None
        stamped = self._stamps.of(stated.size)
        if not stamped.token_path.exists():
            answer = fetch_stamp(note, self._authority.url, self._roots, self._authority.timeout_s)
            try:
                self._stamps.put(stamped.note_path, note)
                self._stamps.put(stamped.token_path, answer)
            except OSError as error:
                raise disk_error(error, stamped.token_path) from None
        return stamped

    def _stamp(self, now: float) -> Stamped | None:
        last = max(self._stamps.stamped(), key=lambda each: each.size, default=None)
        if last is not None and 0 <= now - _mtime(last.token_path) < self._authority.every_s:
            return None
        return self.stamp_now()

    def _tell(self, error: RecorderError, now: float) -> None:
        if self._index is None or str(error) == self._told:
            return
        alert = {"kind": "timestamp", "time_ns": int(now * 1e9), "fields": {"error": str(error)}}
        try:
            add_alert(self._spool, self._index, alert)
        except (DiskFull, SpoolError):
            return
        self._told = str(error)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise disk_error(error, path) from None


def _client() -> Any:
    """The library, which may be missing."""
    try:
        import rfc3161_client
    except ImportError:
        raise ConfigError(
            "ledger.timestamps: the package rfc3161-client is missing (pip install 'recorderd[timestamps]')"
        ) from None
    return rfc3161_client
