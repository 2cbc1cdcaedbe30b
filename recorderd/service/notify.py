"""Tells systemd how the service is: the protocol of sd_notify(3), without a library.

Each message is one datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET`` names. Without
systemd nothing is sent. A message that cannot be sent is counted and forgotten: recording goes on without
its supervisor.
"""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """One service's line to systemd."""

    def __init__(self, environment: Mapping[str, str] = os.environ, *, pid: int | None = None) -> None:
        """Read ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` from ``environment``."""
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of Linux' abstract name space; other kinds (vsock:) are for
        # virtual machines.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self.watchdog_s = _watchdog_s(environment, os.getpid() if pid is None else pid)
        """How long systemd waits for a sign of life, in seconds (send two in this); None: it does not."""
        self.failed = 0
        """Messages that could not be sent."""

    def ready(self, status: str = "") -> None:
        """Say that start-up is over."""
        self._send(f"READY=1\n{_status(status)}")

    def status(self, text: str) -> None:
        """Show ``text`` in ``systemctl status``."""
        self._send(_status(text))

    def alive(self) -> None:
        """Give the watchdog its sign of life."""
        self._send("WATCHDOG=1")

    def stopping(self, status: str = "") -> None:
        """Say that the service is on its way out."""
        self._send(f"STOPPING=1\n{_status(status)}")

    def more_time(self, seconds: float) -> None:
        """Ask for ``seconds`` more, from now, for a long start or stop (the recovery of a large spool)."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def close(self) -> None:
        """Send nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None or not message:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            self.failed += 1


def _status(text: str) -> str:
    # One line: a line end would start a new assignment.
    return f"STATUS={' '.join(text.split())}\n" if text else ""


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Return the watchdog's time if it is meant for the process ``pid`` (sd_watchdog_enabled(3))."""
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
        meant_for = int(environment.get("WATCHDOG_PID", pid))
    except ValueError:
        return None
    return microseconds / 1_000_000 if microseconds > 0 and meant_for == pid else None
