"""The way to a web server: whom it is trusted to be, who we are, and how long it may take."""

import base64
import io
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Timeout

from recorderd.config.remotes_webdav import WebdavRemote
from recorderd.errors import RemoteError
from recorderd.spool.stores.base import CHUNK, RemoteOutage
from recorderd.spool.stores.private_files import check_private, read_private_line
from recorderd.spool.stores.webdav_punctual import Body, Pool, TlsPool
from recorderd.spool.stores.words import words

ABSENT = (404, 410)
_CONNECTIONS = 8
_BLOCK = 1 << 17
# Nothing may answer in the server's place, and nothing may change what comes back.
_HEADERS = {"Cache-Control": "no-cache", "Accept-Encoding": "identity", "User-Agent": "recorderd"}
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Readable(Protocol):
    """What is sent: read in blocks."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; none at the end."""


class _Lost(RemoteError):
    """The connection ended in the midst of a question or of its answer."""


class WebLink:
    """Asks one web server; thread-safe. No redirection is followed."""

    def __init__(self, remote: WebdavRemote) -> None:
        self._remote = remote
        parts = urlsplit(remote.url)
        self.host, self.tls = parts.hostname or "", parts.scheme == "https"
        self.port = parts.port or (443 if self.tls else 80)
        self.url = remote.url
        """The folder's, without a slash at its end."""
        self.base = parts.path.rstrip("/")
        """Its path on the server."""
        self.timeout_s = remote.timeout_s
        self._pool: urllib3.HTTPConnectionPool | None = None

    def close(self) -> None:
        """End the connections; the next call makes others, and reads keys and passwords anew."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def ask(
        self,
        method: str,
        name: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Readable | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """The answer to one question about an object, its content not yet read. Raises RemoteError."""
        headers = {**self._who(), **(headers or {})}
        try:
            return self._asked(method, name, headers, body)
        except _Lost:
            if body is not None and not isinstance(body, bytes):
                raise
            # A connection that was idle may have ended long ago, and it is seen only now. None of our
            # questions does harm when it is asked twice; a file cannot be read again here.
            return self._asked(method, name, headers, body)

    def _asked(
        self, method: str, name: str, headers: Mapping[str, str], body: bytes | Readable | None
    ) -> urllib3.BaseHTTPResponse:
        with self.explained(name):
            return self._connections().request(
                method,
                f"{self.base}/{name}",
                body=cast(Any, body),  # urllib3 asks for no more than `read`
                headers=headers,
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
            )

    def told(
        self,
        method: str,
        name: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Readable | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """The same where only status and headers matter: the connection is free again. Raises RemoteError."""
        answer = self.ask(method, name, headers=headers, body=body)
        # A short explanation is read so that the connection can be used again, a long one is not.
        with self.body(name, answer) as rest:
            rest.read(_BLOCK)
        return answer

    def body(self, name: str, answer: urllib3.BaseHTTPResponse) -> io.BufferedReader:
        """The content of an answer; raises RemoteError while it is read."""
        place = f"{self.url}/{name}"
        return io.BufferedReader(Body(answer, self.timeout_s, place, lambda: self.explained(name)), CHUNK)

    def content(self, name: str) -> bytes | None:
        """The first bytes of an object, None where there is none. Raises RemoteError."""
        answer = self.ask("GET", name)
        if answer.status not in (200, *ABSENT):
            raise self.refusal(name, answer, "cannot be read")
        with self.body(name, answer) as content:
            return content.read(_BLOCK) if answer.status == 200 else None

    def refusal(self, name: str, answer: urllib3.BaseHTTPResponse, what: str) -> RemoteError:
        """What an answer that is no success means: that this object failed, or that the store is out."""
        said = f"{self.url}/{name}: {what}: {answer.status} {self._reason(name, answer)}".rstrip()
        # 401 and 403: the identity; 429 and 503: asked to wait; 507: full; 502 and 504: nothing behind it.
        outage = answer.status in (401, 403, 407, 429, 495, 496, 502, 503, 504, 507)
        return RemoteOutage(said) if outage else RemoteError(said)

    @contextmanager
    def explained(self, name: str) -> Iterator[None]:
        """What goes wrong on the way, in our words. Raises RemoteError."""
        try:
            yield
        except HTTPError as error:
            raise self._fault(name, error) from None

    def context(self) -> ssl.SSLContext:
        """Whom we trust, and our certificate. Raises RemoteOutage."""
        remote = self._remote
        try:
            context = ssl.create_default_context(
                cafile=None if remote.ca_file is None else str(remote.ca_file)
            )
            context.minimum_version = _VERSIONS[remote.minimum_tls]
            if remote.certificate_file is not None and remote.certificate_key_file is not None:
                check_private(remote.certificate_key_file)
                # Never ask a terminal for a passphrase.
                context.load_cert_chain(remote.certificate_file, remote.certificate_key_file, password="")
        except (OSError, ssl.SSLError) as error:
            raise RemoteOutage(f"{self.url}: certificates: {words(error)}") from None
        return context

    def _connections(self) -> urllib3.HTTPConnectionPool:
        if self._pool is None:
            timeout = Timeout(connect=self._remote.timeout_s, read=self._remote.timeout_s)
            if self.tls:
                self._pool = TlsPool(
                    self.host, self.port, timeout, _CONNECTIONS, blocksize=_BLOCK, ssl_context=self.context()
                )
            else:
                self._pool = Pool(self.host, self.port, timeout, _CONNECTIONS, blocksize=_BLOCK)
        return self._pool

    def _who(self) -> dict[str, str]:
        remote = self._remote
        if remote.token_file is not None:
            token = read_private_line(remote.token_file)
            if not token.isascii():
                raise RemoteOutage(f"{remote.token_file}: no bearer token (RFC 6750 section 2.1)")
            return {**_HEADERS, "Authorization": f"Bearer {token}"}
        if remote.password_file is not None:
            # RFC 7617 section 2.1: in UTF-8.
            secret = f"{remote.user}:{read_private_line(remote.password_file)}".encode()
            return {**_HEADERS, "Authorization": f"Basic {base64.b64encode(secret).decode()}"}
        return dict(_HEADERS)

    def _fault(self, name: str, error: HTTPError) -> RemoteError:
        """A server that cannot be reached, trusted or waited for is out; one that hung up may take the next
        object."""
        where = f"{self.url}/{name}"
        reason = next((each for each in error.args if isinstance(each, Exception)), error)
        if isinstance(error, ReadTimeoutError) or isinstance(reason, TimeoutError):
            return RemoteOutage(f"{where}: no answer within {self._remote.timeout_s:g} s")
        if isinstance(error, ConnectTimeoutError | NewConnectionError):
            why = getattr(error.__cause__, "strerror", None) or error
            return RemoteOutage(f"{self.url}: no connection: {words(why)}")
        # A server that dies in the midst ends TLS without a word; that is no fault of TLS.
        hung_up = isinstance(reason, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        if not hung_up and (isinstance(error, SSLError) or isinstance(reason, ssl.SSLError)):
            return RemoteOutage(f"{self.url}: TLS: {words(reason)}")
        return _Lost(f"{where}: the connection was lost: {words(reason)}")

    def _reason(self, name: str, answer: urllib3.BaseHTTPResponse) -> str:
        """Why, in the server's words: the title of its page, where that was not read yet (nginx says there
        what it has against a certificate), or the phrase beside the status."""
        try:
            with self.body(name, answer) as rest:
                title = re.search(rb"<title>([^<]{1,200})</title>", rest.read(4096))
        except RemoteError:
            title = None
        told = title[1].decode("utf-8", "replace") if title else answer.reason or ""
        return words(told.removeprefix(str(answer.status)))
