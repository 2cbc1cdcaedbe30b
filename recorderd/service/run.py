"""`recorderd run`: the capture and outbox processes together, in the foreground; one that crashes is started
again.

Each child tells its readiness by the same protocol as to systemd, to a socket of ours; once all are ready,
``recorderd: ready`` is printed and passed on.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recorderd.errors import CaptureError, ConfigError, SpoolError
from recorderd.service.daemon import Service, die_with_parent, say

PARTS = ("capture", "outbox")
STOP_S = 30.0
RESTART_S = 1.0

HOPELESS = frozenset({ConfigError.exit_code, CaptureError.exit_code, SpoolError.exit_code})
"""Exit codes that starting again does not change."""


class Supervisor:
    """The children, and the socket that they report to."""

    def __init__(self, config_file: Path, extra: list[str]) -> None:
        self.config_file, self.extra = config_file, extra
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.restart_at: dict[str, float] = {}
        self.ready: set[str] = set()
        self.was_ready: set[str] = set()
        """Those that once got so far: only what worked before is worth starting again."""
        self._folder = tempfile.TemporaryDirectory(prefix="recorderd-")
        self._sockets: dict[str, socket.socket] = {}
        for part in PARTS:
            notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            notify.bind(str(Path(self._folder.name) / part))
            notify.setblocking(False)
            self._sockets[part] = notify

    def start(self, part: str) -> None:
        """Start one child."""
        self.restart_at.pop(part, None)
        environment = {**os.environ, "NOTIFY_SOCKET": str(Path(self._folder.name) / part)}
        environment.pop("WATCHDOG_USEC", None)
        # -P: a yaml.py in the folder that we were started from is not ours.
        command = [
            sys.executable,
            "-P",
            "-m",
            "recorderd.service.cli",
            part,
            "-c",
            str(self.config_file),
            *self.extra,
        ]
        # A group of its own: a Ctrl-C on the terminal reaches us, and we stop the children in order.
        self.children[part] = subprocess.Popen(
            command, env=environment, process_group=0, preexec_fn=die_with_parent
        )

    def listen(self, seconds: float) -> None:
        """Wait for a child to report, ``seconds`` at most."""
        readable, _, _ = select.select(list(self._sockets.values()), [], [], seconds)
        for part, notify in self._sockets.items():
            if notify in readable:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        if b"READY=1" in notify.recv(4096).splitlines():
                            self.ready.add(part)
                            self.was_ready.add(part)

    def check(self) -> int | None:
        """Look after the children: the exit code where one ended for good, else None."""
        now = time.monotonic()
        for part, child in self.children.items():
            code = child.poll()
            if code is None:
                continue
            if code == 0 or code in HOPELESS or part not in self.was_ready:
                return code if code >= 0 else 1
            if part not in self.restart_at:
                say(f"recorderd: {part} ended with {code}; starting it again")
                self.restart_at[part] = now + RESTART_S
                self.ready.discard(part)
        for part in [part for part, when in self.restart_at.items() if when <= now]:
            self.start(part)
        return None

    def stop(self) -> None:
        """Stop the children, capture first, so that what it seals can still be carried."""
        for part in PARTS:
            child = self.children.get(part)
            if child is None or child.poll() is not None:
                continue
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                say(f"recorderd: {part} did not stop within {STOP_S:.0f} s; killing it")
                child.kill()
                child.wait()
        for notify in self._sockets.values():
            notify.close()
        self._folder.cleanup()


def run(config_file: Path, extra: list[str]) -> int:
    """Run both processes until told to stop, or until one of them cannot go on."""
    service = Service("recorderd")
    supervisor = Supervisor(config_file, extra)
    code: int | None = None
    told = False
    try:
        for part in PARTS:
            supervisor.start(part)
        while not service.stopping() and code is None:
            supervisor.listen(0.2)
            if not told and len(supervisor.ready) == len(PARTS):
                told = True
                service.ready("ready")
            service.notifier.alive()
            code = supervisor.check()
    finally:
        supervisor.stop()
    return code or 0
