"""A relay of TCP connections that swallows answers, as a network that fails after the last byte."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from tests.live.loopback import HOST

_CHUNK = 65_536


class CutRelay:
    """Relays to a port of this host. While ``cutting`` is set, the first answer to a request that contains it
    is read from the server, kept from the client, and the client's connection ends."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._listening.getsockname()[1]}"
        self.cutting: bytes | None = None
        self.cuts = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        # Closed when nobody reads of them any more: a number that is free may be another connection's next.
        with client, socket.create_connection((HOST, self._target)) as server:
            asked = bytearray()
            answering = threading.Thread(target=self._answer, args=(server, client, asked), daemon=True)
            answering.start()
            self._ask(client, server, asked)
            answering.join()

    def _ask(self, client: socket.socket, server: socket.socket, asked: bytearray) -> None:
        try:
            while data := client.recv(_CHUNK):
                asked[:] = (asked + data)[-2 * _CHUNK :]
                server.sendall(data)
        except OSError:
            pass
        _hang_up(server)

    def _answer(self, server: socket.socket, client: socket.socket, asked: bytearray) -> None:
        try:
            while data := server.recv(_CHUNK):
                cut = self.cutting is not None and self.cutting in asked
                if cut and not data.startswith(b"HTTP/1.1 100"):
                    self.cuts, self.cutting = self.cuts + 1, None
                    break
                if not data.startswith(b"HTTP/1.1 100"):
                    asked.clear()
                client.sendall(data)
        except OSError:
            pass
        _hang_up(client)


def _hang_up(connection: socket.socket) -> None:
    """Tell the other end, and whoever waits here for it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
