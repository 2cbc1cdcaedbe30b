"""Programs that run beside a test: started, awaited by what they show, and always stopped."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_STOP_S = 40.0
"""More than the recorder gives its own processes: only one that hangs is killed."""
_LOOK_S = 0.02
_LISTEN = "0A"
"""The state of a TCP socket that listens, in ``/proc/net/tcp``."""


def until(seen: Callable[[], bool], what: str, seconds: float) -> None:
    """Look until something is seen; fail the test when it is not within ``seconds``.

    The last look begins after that: whoever waits may have been kept waiting itself.
    """
    deadline = time.monotonic() + seconds
    last = False
    while not seen():
        if last:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(_LOOK_S)
        last = time.monotonic() > deadline


def alive(pid: int) -> bool:
    """Whether a process still runs; one that is dead and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def listens(program: "Program", port: int, protocol: str = "udp") -> bool:
    """Whether something listens on a port in the network namespace of a running program.

    Asks the kernel: to bind the port, for a look, would keep the program from it.
    """
    assert program.running, program.log()
    lines = Path(f"/proc/{program.pid}/net/{protocol}").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return any(
        int(row[1].rpartition(":")[2], 16) == port and (protocol == "udp" or row[3] == _LISTEN)
        for row in rows
    )


class Program:
    """A program as a context manager; what it prints goes to ``log``."""

    def __init__(self, command: Sequence[str], log: Path, *, stop: signal.Signals = signal.SIGTERM) -> None:
        self.command, self.log_path = list(command), log
        self._stop_signal = stop
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self, seconds: float) -> int:
        """Wait for the program's own end; its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(
                f"{self.command[0]} did not end within {seconds:.0f} s: {self.log()}"
            ) from error

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_S)

    def stop(self) -> int | None:
        """Ask it to stop; kill it when it does not. Its exit code."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.returncode

    def until_logged(self, text: str, seconds: float) -> None:
        """Wait until the program has printed a text; fail when it ends before."""

        def seen() -> bool:
            if text in self.log():
                return True
            if not self.running:
                raise AssertionError(f"{self.command[0]} ended without {text!r}: {self.log()}")
            return False

        try:
            until(seen, f"{text!r} from {self.command[0]}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the end of {self.log_path}: {self.log()[-2000:]}") from None
