"""The recorder under a live load: started in its namespace, asked what it does, stopped."""

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from recorderd.service.control import ask
from tests.bench.live.account import Used, peak_rss_mb, used
from tests.bench.replay import BINARIES
from tests.network_namespaces import Namespace

INTERFACE: Final = "tap0"
_NICE = "-5"  # as systemd/recorderd-capture.service has it
_START_S = 30.0
_STOP_S = 120.0
_LOOK_S = 0.2


class LiveRecorder:
    """`recorderd capture` on the interface of a namespace; a context manager."""

    def __init__(self, namespace: Namespace, config: Path, spool: Path) -> None:
        self.spool = spool
        self._log = (spool.parent / "recorder.log").open("wb")
        command = ["ip", "netns", "exec", namespace.name, "nice", "-n", _NICE]
        command += [str(BINARIES / "recorderd"), "capture", "-c", str(config), "--spool", str(spool)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=self._log)
        try:
            self._until(lambda: self.status() is not None, _START_S, "did not start")
        except BaseException:
            self.close()
            raise

    def _until(self, true: Any, seconds: float, otherwise: str) -> None:
        until = time.monotonic() + seconds
        while not true():
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the recorder {otherwise}; it says:\n{self.said()}")
            time.sleep(_LOOK_S)

    def said(self) -> str:
        """The end of its log."""
        return (self.spool.parent / "recorder.log").read_text(errors="replace")[-2000:]

    def status(self) -> dict[str, Any] | None:
        """What the control socket answers; None when nobody does."""
        return ask(self.spool / "control.sock")

    def used(self) -> Used:
        return used(self.process.pid)

    def peak_rss_mb(self) -> float:
        return peak_rss_mb(self.process.pid)

    def settle(self, seconds: float) -> dict[str, Any]:
        """Wait until no call is being recorded any more; the status then."""
        last: dict[str, Any] = {}
        asked = time.time()

        def idle() -> bool:
            last.update(self.status() or {})
            # What a process said of itself before this may be older than the calls.
            fresh = all(each.get("time", 0) > asked for each in last.get("workers", [last]))
            return fresh and last["recording"] == 0 and last["waiting_packets"] == 0

        self._until(idle, seconds, "did not finish its calls")
        return last

    def stop(self) -> None:
        """As systemd does it. Leaves with its log where it fails."""
        self.process.terminate()
        if self.process.wait(_STOP_S):
            raise SystemExit(f"the recorder ended with {self.process.returncode}:\n{self.said()}")

    def close(self) -> None:
        """Let nothing stay behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
