"""Plays one live load to a recorder: the sending process, and what the kernel says of both meanwhile."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.live.account import Used
from tests.bench.live.load import Load
from tests.bench.live.recorder import INTERFACE, LiveRecorder
from tests.bench.live.transmit import receive_in_bulk
from tests.network_namespaces import Namespace, Pair

LATE_MS: Final = 50.0
_FAR = "far0"


@dataclass(frozen=True)
class Played:
    """The sender's report, what the recorder used in the steady part, and how many packets came to it."""

    report: dict[str, Any]
    steady: Used
    arrived: int

    @property
    def lost_before_the_tap(self) -> int:
        """Packets that never reached the recorder's interface."""
        sent: int = self.report["packets"] + self.report["messages"]
        return sent - self.arrived

    @property
    def valid(self) -> bool:
        """Whether phones would have sent so, and the wire between lost nothing."""
        return self.report["late_ms_max"] <= LATE_MS and self.lost_before_the_tap <= 0


class Sender:
    """The sending process, in its namespace."""

    def __init__(self, load: Load, namespace: Namespace, folder: Path) -> None:
        self._report = folder / "sender.json"
        sender = [sys.executable, "-m", "tests.bench.live.sender", load.to_json(), _FAR, str(self._report)]
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace.name, *sender], stdout=subprocess.PIPE
        )

    def begins_at(self) -> float:
        """Wait until it is prepared; the time.monotonic() at which it begins."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the sender ended with {self.process.wait()}")
        return int(line) / 1e9

    def finish(self) -> dict[str, Any]:
        """Wait for its end; its report."""
        if self.process.wait():
            raise SystemExit(f"the sender ended with {self.process.returncode}")
        report: dict[str, Any] = json.loads(self._report.read_text())
        return report

    def close(self) -> None:
        """Let nothing stay behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def play(load: Load, pair: Pair, recorder: LiveRecorder, folder: Path) -> Played:
    """One load, from the first INVITE until the last BYE was answered."""
    with pair.here.entered():
        receive_in_bulk(INTERFACE)
    with pair.there.entered():
        # Nothing is to arrive but what is counted.
        Path(f"/proc/sys/net/ipv6/conf/{_FAR}/disable_ipv6").write_text("1")
    before = _arrived(pair.here)
    sender = Sender(load, pair.there, folder)
    try:
        began = sender.begins_at()
        _sleep_until(began + load.steady_from_s)
        first = recorder.used()
        _sleep_until(began + load.steady_from_s + load.seconds)
        steady = recorder.used() - first
        report = sender.finish()
    finally:
        sender.close()
    return Played(report, steady, _arrived(pair.here) - before)


def _arrived(namespace: Namespace) -> int:
    """Packets that the recorder's interface has received since it was made."""
    show = ["ip", "-n", namespace.name, "-s", "-j", "link", "show", INTERFACE]
    told = json.loads(subprocess.run(show, check=True, capture_output=True).stdout)
    count: int = told[0]["stats64"]["rx"]["packets"]
    return count


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))
