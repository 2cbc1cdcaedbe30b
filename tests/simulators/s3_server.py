"""A strict S3 server on loopback that fails and lies on order.

It checks signatures, payload hashes and checksums, keeps versions and locks, and knows conditions and uploads
in parts. A :class:`Fault` spoils the next requests of a kind; what came in is in ``requests``.
"""

import socket
import ssl
import struct
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from tests.simulators.s3_bucket import Bucket
from tests.simulators.s3_requests import REGION, Answer, Request, Rules, error_answer

__all__ = ["ACCESS", "REGION", "SECRET", "Fault", "S3Server"]

ACCESS, SECRET = "AKIATEST", "a secret/key+of the tests"
Kind = Literal[
    "closed",  # the connection, while nothing was asked; its next request finds it so
    "reset",  # before anything was done
    "reset-after",  # done, but the answer is lost
    "hang-after",  # done, but the answer never comes
    "twice",  # the network delivered the request twice
    "wrong-bytes",  # stored with a bit changed
    "lost",  # acknowledged and not stored
    "cut",  # the answer breaks off in the midst of the body
    "short-head",  # HEAD tells another size
    "error-in-200",  # 200, with an error as its body
    "garbage",  # 200, with a body that is no answer
]


@dataclass
class Fault:
    """Spoils the next ``times`` requests of an operation, of keys that end so."""

    operation: str
    kind: Kind | tuple[int, str]
    times: int = 1
    suffix: str = ""


class S3Server(Rules):
    """Runs as a context manager; ``url`` is its endpoint. All is checked unless the flags say otherwise."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__({ACCESS: SECRET})
        self.closes_refused = False
        """Whether a put whose condition is refused costs the connection, which nobody is told."""
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.closing = threading.Event()
        self._server = _Http(("127.0.0.1", 0), _Handler)
        self._server.s3 = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def bucket(self) -> Bucket:
        return self.buckets["recordings"]

    def fault(self, operation: str, kind: Kind | tuple[int, str], times: int = 1, suffix: str = "") -> None:
        self.faults.append(Fault(operation, kind, times, suffix))

    def count(self, operation: str, suffix: str = "") -> int:
        return sum(each == operation and key.endswith(suffix) for each, key in self.requests)

    def take_fault(self, operation: str, key: str) -> Kind | tuple[int, str] | None:
        with self.bucket.guard:
            for each in self.faults:
                if each.operation == operation and each.times and key.endswith(each.suffix):
                    each.times -= 1
                    return each.kind
        return None

    def __enter__(self) -> "S3Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    s3: S3Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or one that trusts nobody here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def setup(self) -> None:
        """Of a connection."""
        super().setup()
        self._answered = 0
        self._fault: Kind | tuple[int, str] | None = None

    def parse_request(self) -> bool:
        """Before anything of the body is asked for."""
        return super().parse_request() and (self._expects() or self._begin())

    def handle_expect_100(self) -> bool:
        return self._begin() and super().handle_expect_100()

    def _expects(self) -> bool:
        return self.headers.get("Expect", "").lower() == "100-continue"

    def _begin(self) -> bool:
        """Whether the connection is still there."""
        head = Request(self.server.s3, self.command, self.path, self._head(), b"")
        self._fault = self.server.s3.take_fault(head.operation, head.key)
        if self._fault == "closed":
            assert self._answered, "a new connection cannot have been idle"
            self._break()
        return self._fault != "closed"

    def _head(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def handle_any(self) -> None:
        headers, fault = self._head(), self._fault
        body = self.rfile.read(int(headers.get("content-length", 0)))
        request = Request(self.server.s3, self.command, self.path, headers, body)
        self.server.s3.requests.append((request.operation, request.key))
        if fault == "reset":
            self._break()
            return
        answer = self._spoiled(request, fault)
        if fault == "hang-after":
            self.server.s3.closing.wait(30)
        if fault in ("reset-after", "hang-after"):
            self._break()
            return
        self._send(answer, cut=fault == "cut")
        self._answered += 1
        if answer.status == 501 and self.server.s3.closes_refused:
            # Once the next request is under way: before, its sender might see it and take another connection.
            self.connection.recv(1, socket.MSG_PEEK)
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def _spoiled(self, request: "Request", fault: Any) -> Answer:
        if isinstance(fault, tuple):
            return error_answer(*fault)
        if fault == "error-in-200":
            return Answer(200, error_answer(500, "InternalError").body)
        if fault == "garbage":
            return Answer(200, b"<html>Welcome to the hotel's network</html>")
        if fault == "wrong-bytes":
            request.stored = request.body[:-1] + bytes([request.body[-1] ^ 1])
        if fault == "lost":
            request.stored = None
        if fault == "twice":
            request.answer()
        answer = request.answer()
        if fault == "short-head":
            return Answer(
                answer.status, answer.body, (("x-size", str(len(answer.body) - 1)), *answer.headers)
            )
        return answer

    def _send(self, answer: Answer, *, cut: bool) -> None:
        self.send_response(answer.status)
        size = dict(answer.headers).get("x-size", str(len(answer.body)))
        for name, value in answer.headers:
            if name != "x-size":
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
        if cut:
            self._break()

    def _break(self) -> None:
        self.close_connection = True
        # Closed with an error rather than an end, as by a router that forgot the connection.
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
