"""The control socket: how other programs of this host ask the running daemon what it is doing.

One JSON object a line goes each way over a Unix stream socket (mode 0660). ``{"command": "status"}`` is
answered with the daemon's last published status; anything else with ``{"error": ...}``.
"""

import contextlib
import json
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any, Final

from recorderd.errors import SpoolError

MAX_LINE: Final = 64 * 1024
TIMEOUT_S: Final = 5.0


class _Handler(socketserver.StreamRequestHandler):
    timeout = TIMEOUT_S

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while line := self.rfile.readline(MAX_LINE):
                self.wfile.write(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, Any]:
        assert isinstance(self.server, _Server)
        try:
            request = json.loads(line)
        except ValueError:
            return {"error": "a line of JSON was expected"}
        if not isinstance(request, dict) or request.get("command") != "status":
            return {"error": "unknown command", "commands": ["status"]}
        return self.server.status


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    status: dict[str, Any]


class ControlSocket:
    """Serves the status in a thread of its own; the daemon's loop only publishes."""

    def __init__(self, path: Path) -> None:
        """Listen on ``path``; a stale socket there is replaced. Raises SpoolError where that cannot be."""
        self.path = path
        try:
            path.unlink(missing_ok=True)
            self._server = _Server(str(path), _Handler)
            path.chmod(0o660)
        except OSError as error:
            raise SpoolError(f"control socket {path}: {error.strerror or error}") from error
        self._server.status = {}
        self._thread = threading.Thread(target=self._server.serve_forever, name="control", daemon=True)
        self._thread.start()

    def publish(self, status: dict[str, Any]) -> None:
        """Answer with this from now on. The dictionary must not be changed afterwards."""
        self._server.status = status

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with contextlib.suppress(OSError):
            self.path.unlink()


def ask(path: Path, command: str = "status") -> dict[str, Any] | None:
    """Ask a daemon; None where no daemon answers at ``path``."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(json.dumps({"command": command}).encode() + b"\n")
            with connection.makefile("rb") as answer:
                value = json.loads(answer.readline())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
