"""HTTP that is over in time: a byte now and then keeps every time-out of a socket from ever being over."""

import io
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from http.client import HTTPException
from typing import Any

import urllib3
import urllib3.connection

from recorderd.spool.stores.base import RemoteOutage

_LEAST = 1 << 16
"""So many bytes within the time are no trickle: several answers may share a slow line."""


class _Connection(urllib3.connection.HTTPConnection):
    """Has the head of an answer within the time that a single read may take."""

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3's own
        """As ever. Raises TimeoutError."""
        late = threading.Event()

        def hang_up() -> None:
            late.set()
            with suppress(OSError, AttributeError):
                self.sock.shutdown(socket.SHUT_RDWR)

        watch = threading.Timer(float(self.timeout or 0.0), hang_up)
        watch.daemon = True
        watch.start()
        try:
            return super().getresponse()
        except (OSError, HTTPException):
            if late.is_set():
                raise TimeoutError("the answer only trickles") from None
            raise
        finally:
            watch.cancel()


class _TlsConnection(_Connection, urllib3.connection.HTTPSConnection):
    """The same over TLS."""


class Pool(urllib3.HTTPConnectionPool):
    """Connections to a server without TLS."""

    ConnectionCls = _Connection


class TlsPool(urllib3.HTTPSConnectionPool):
    """Connections to a server."""

    ConnectionCls = _TlsConnection


class Body(io.RawIOBase):
    """What an answer brings: each 64 KiB of it within a time."""

    def __init__(
        self,
        answer: urllib3.BaseHTTPResponse,
        limit_s: float,
        place: str,
        explained: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """``explained`` turns what urllib3 raises into RemoteError; ``place`` is for the reader of such."""
        super().__init__()
        self._answer, self._limit_s, self._place, self._explained = answer, limit_s, place, explained
        self._got, self._waited_s = 0, 0.0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes; 0 at the end. Raises RemoteError."""
        begun = time.monotonic()
        with self._explained():
            block = self._answer.read1(len(buffer))
        # Only what was waited for: the reader may take its time, or be told to.
        self._waited_s += time.monotonic() - begun
        if self._waited_s > self._limit_s:
            raise RemoteOutage(f"{self._place}: the answer only trickles")
        self._got += len(block)
        if self._got >= _LEAST:
            self._got, self._waited_s = 0, 0.0
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        """Where all was read, the connection is used again; where not, it is ended."""
        if not self.closed:
            self._answer.close()
        super().close()
