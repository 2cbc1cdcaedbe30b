"""The control socket: how other programs of this host ask the running daemon what it is doing, and have a
recording paused.

One JSON object a line goes each way over a Unix stream socket (mode 0660). ``{"command": "status"}`` is
answered with the daemon's last published status; ``{"command": "pause", "target": ..., "reason": ...}`` and
``{"command": "resume", "target": ...}`` by the recording process itself, with what was done; anything else
with ``{"error": ...}``.
"""

import contextlib
import json
import pwd
import queue
import socket
import socketserver
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from recorderd.errors import SpoolError

MAX_LINE: Final = 64 * 1024
TIMEOUT_S: Final = 5.0
OBEYED: Final = ("pause", "resume")
MAX_WAITING: Final = 64
"""Commands that wait for the recording process; a daemon that does not take them refuses more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that waits for its answer."""

    request: dict[str, Any]
    answers: "queue.SimpleQueue[dict[str, Any]]" = field(default_factory=queue.SimpleQueue)

    def reply(self, answer: dict[str, Any]) -> None:
        """Answer it, once."""
        self.answers.put(answer)


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
        command = request.get("command") if isinstance(request, dict) else None
        if command == "status":
            return self.server.status
        if command not in OBEYED:
            return {"error": "unknown command", "commands": ["status", *OBEYED]}
        asked = Asked({**request, "by": self._who()})
        try:
            self.server.asked.put_nowait(asked)
            return asked.answers.get(timeout=TIMEOUT_S)
        except (queue.Full, queue.Empty):
            return {"error": "the recorder is too busy to answer"}

    def _who(self) -> str:
        """Whom the kernel says that the other end is (SO_PEERCRED, unix(7)); not what it says itself."""
        credentials = self.request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", credentials)
        try:
            return f"user {pwd.getpwuid(uid).pw_name}"
        except KeyError:
            return f"user {uid}"


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    status: dict[str, Any]
    asked: "queue.Queue[Asked]"


class ControlSocket:
    """Serves in a thread of its own; the daemon's loop publishes the status, and takes what was asked."""

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
        self._server.asked = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._server.serve_forever, name="control", daemon=True)
        self._thread.start()

    def publish(self, status: dict[str, Any]) -> None:
        """Answer with this from now on. The dictionary must not be changed afterwards."""
        self._server.status = status

    def asked(self) -> list[Asked]:
        """The commands that came since; each is to be replied to."""
        found: list[Asked] = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._server.asked.get_nowait())
        return found

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with contextlib.suppress(OSError):
            self.path.unlink()


def ask(path: Path, command: str = "status", **more: Any) -> dict[str, Any] | None:
    """Ask a daemon; None where no daemon answers at ``path``."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S + 1)
            connection.connect(str(path))
            connection.sendall(json.dumps({"command": command, **more}).encode() + b"\n")
            with connection.makefile("rb") as answer:
                value = json.loads(answer.readline())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
