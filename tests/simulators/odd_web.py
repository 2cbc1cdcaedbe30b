"""A web server that does what a real one does once in ten years; one thread a connection, plain HTTP."""

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Answer = Callable[["Request"], bytes | None]


class Request:
    """What was asked, whole."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method, self.path, self.headers, self.body = method, path, headers, body


def response(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An answer's bytes."""
    lines = [f"HTTP/1.1 {status} Told", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class OddWeb:
    """Answers each request as ``answer`` says; None: never, with the connection left open. What is to come
    ``then`` comes a byte at a time, with pauses. ``once``: the second question on a connection ends it."""

    def __init__(
        self, answer: Answer, *, then: bytes = b"", pause_s: float = 0.0, once: bool = False
    ) -> None:
        self._answer, self._then, self._pause_s = answer, then, pause_s
        self._once = once
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.requests: list[Request] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/store"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever waits in accept() or recv() is woken by this, not by close().
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        answered = 0
        with connection.makefile("rb") as stream:
            try:
                while line := stream.readline():
                    method, path, _ = line.decode().split(" ")
                    headers = {}
                    while (field := stream.readline().decode().strip()) != "":
                        name, _, value = field.partition(":")
                        headers[name.lower()] = value.strip()
                    body = stream.read(int(headers.get("content-length", "0")))
                    if self._once and answered:
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    answered += 1
                    request = Request(method, path, headers, body)
                    self.requests.append(request)
                    if (answer := self._answer(request)) is not None:
                        connection.sendall(answer)
                    for byte in self._then:
                        if self._over.wait(self._pause_s):
                            return
                        connection.sendall(bytes([byte]))
            except OSError:
                return
