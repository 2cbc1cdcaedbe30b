"""What durability costs: many recordings are written in real time, with each policy of syncing in turn.

``shipped`` is the recorder's own group commit, ``none`` the same without any sync, ``each`` an fdatasync for
every recording instead of one sync for all. CPU time is user and system of all threads, the kernel's flush
threads apart. The policies take turns of some seconds, so that each has the same neighbours on the machine.
Prints one line of JSON; 1 where the shipped policy costs 15 % or more of the CPU that the writing takes.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from recorderd.errors import RecorderError
from recorderd.service.commit import EVERY_S, Ended, GroupCommit, Written
from recorderd.spool.layout import Spool
from recorderd.spool.writer import RecordingWriter, Sealed
from tests.spool_builder import make_desk, summary, window

ALLOWED = 0.15
POLICIES = ("none", "shipped", "each")
WINDOW_S = 1.0
LATE_S = 1.4  # a packet waits this long for its window to close, grace included
VARIANTS = 16  # windows that differ, made before the clock runs


@dataclass
class Tally:
    """What was written, and from when on it was safe."""

    running: list[RecordingWriter] = field(default_factory=list)
    written: int = 0
    took_s: list[float] = field(default_factory=list)
    sync_cpu_s: float = 0.0
    longest_write_s: float = 0.0
    risk_bytes: int = 0
    risk_s: float = 0.0
    safe_bytes: int = 0
    safe_at: float = 0.0

    def committed(self, began: float, written: int) -> None:
        """A commit is done that began at ``began``, when ``written`` bytes were written."""
        now = time.monotonic()
        self.took_s.append(now - began)
        # Just before this moment a power cut would have taken all since the commit before had begun.
        self.risk_bytes = max(self.risk_bytes, self.written - self.safe_bytes)
        self.risk_s = max(self.risk_s, now - self.safe_at)
        self.safe_bytes, self.safe_at = written, began


class Keeper:
    """Counts what is sealed; anything else ends the run."""

    def __init__(self) -> None:
        self.writers: list[RecordingWriter] = []
        self.sealed_count = 0

    def running(self) -> list[RecordingWriter]:
        return self.writers

    def sealed(self, ended: Ended, sealed: Sealed) -> None:
        self.sealed_count += 1

    def unsealed(self, ended: Ended, error: RecorderError) -> None:
        raise error

    def torn(self, writer: Written, error: RecorderError) -> None:
        raise error

    def mend(self) -> None:
        pass

    def trouble_met(self, error: RecorderError) -> None:
        raise error


class TimedSpool(Spool):
    """A spool whose flush follows a policy, and is timed."""

    policy = "shipped"
    tally = Tally()

    def flush(self) -> None:
        """What the policy makes of it."""
        tally = self.tally
        began, written, cpu = time.monotonic(), tally.written, time.thread_time()
        if self.policy == "shipped":
            super().flush()
        elif self.policy == "each":
            for writer in tally.running:
                writer.flush()
        tally.sync_cpu_s += time.thread_time() - cpu
        tally.committed(began, written)


class Bench:
    """A thousand calls, say, and the thread that makes them durable."""

    def __init__(self, folder: Path, calls: int) -> None:
        desk = make_desk(folder, "mlkem768-x25519")
        self._windows = [window(number, packets=50, size=160) for number in range(VARIANTS)]
        self._spool = TimedSpool(desk.spool.path)
        self._keeper = Keeper()
        self._writers = self._keeper.writers
        self._writers += [desk.start(number) for number in range(calls)]
        self._commit = GroupCommit(self._spool, self._keeper, EVERY_S)

    def turn(self, policy: str, seconds: int) -> dict[str, Any]:
        """Write so many windows in real time; what it cost."""
        self._spool.policy = "shipped"
        self._commit.settle()
        tally = self._spool.tally = Tally(self._writers, safe_at=time.monotonic())
        self._spool.policy = policy
        cpu, began = time.process_time(), time.monotonic()
        for second in range(seconds):
            for number, writer in enumerate(self._writers):
                at, size = time.monotonic(), writer.size
                writer.media(*self._windows[(second + number) % VARIANTS])
                tally.written += writer.size - size
                tally.longest_write_s = max(tally.longest_write_s, time.monotonic() - at)
            time.sleep(max(0.0, began + (second + 1) * WINDOW_S - time.monotonic()))
        return {
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.monotonic() - began,
            "sync_cpu_s": tally.sync_cpu_s,
            "longest_write_ms": tally.longest_write_s * 1000,
            "commit_ms": [took * 1000 for took in tally.took_s],
            "risk_bytes": tally.risk_bytes,
            "risk_s": tally.risk_s,
        }

    def seal(self) -> float:
        """End all calls at once; the CPU seconds that took."""
        self._spool.policy = "shipped"
        cpu, calls = time.process_time(), len(self._writers)
        for number, writer in enumerate(self._writers):
            self._commit.seal(Ended(writer, summary(number), []))
        self._commit.close()
        if self._keeper.sealed_count != calls:
            raise SystemExit(f"{self._keeper.sealed_count} of {calls} recordings sealed")
        return time.process_time() - cpu


def report(
    turns: dict[str, list[dict[str, Any]]], sealing_s: float, calls: int, seconds: int
) -> dict[str, Any]:
    """The line of JSON: medians of the turns, but the worst of them for what is at risk."""

    def middle(key: str, digits: int, factor: float = 1.0) -> dict[str, float]:
        return {
            policy: round(median(float(turn[key]) for turn in turns[policy]) * factor, digits)
            for policy in POLICIES
        }

    per_call_second = 1e6 / calls / seconds
    cpu = middle("cpu_s", 2, per_call_second)
    commits = [took for turn in turns["shipped"] for took in turn["commit_ms"]]
    share = 1 - cpu["none"] / cpu["shipped"]
    return {
        "bench": "durability",
        "calls": calls,
        "seconds": seconds,
        "share_of_cpu": round(share, 4),
        "within_15_percent": share < ALLOWED,
        "share_of_cpu_each": round(1 - cpu["none"] / cpu["each"], 4),
        "cpu_us_per_call_second": cpu,
        "of_it_in_syncs": middle("sync_cpu_s", 2, per_call_second),
        "seal_cpu_us_per_call": round(sealing_s / calls * 1e6),
        "wall_s": middle("wall_s", 2),
        "longest_write_ms": middle("longest_write_ms", 1),
        "commit_ms": {"median": round(median(commits), 1), "max": round(max(commits), 1)},
        "bytes_at_risk": max(turn["risk_bytes"] for turn in turns["shipped"]),
        "tail_at_risk_s": round(max(turn["risk_s"] for turn in turns["shipped"]) + LATE_S, 2),
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.durability", description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=6, help="windows in a turn, one a second")
    parser.add_argument("--turns", type=int, default=3, help="of each policy")
    parser.add_argument("--folder", type=Path, default=Path("var"), help="on a disk, not a tmpfs")
    parsed = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    parsed.folder.mkdir(exist_ok=True)
    turns: dict[str, list[dict[str, Any]]] = {policy: [] for policy in POLICIES}
    with tempfile.TemporaryDirectory(prefix="durability-", dir=parsed.folder) as folder:
        bench = Bench(Path(folder), parsed.calls)
        for _ in range(parsed.turns):
            for policy in POLICIES:
                turns[policy].append(bench.turn(policy, parsed.seconds))
        figures = report(turns, bench.seal(), parsed.calls, parsed.seconds)
    print(json.dumps(figures), flush=True)
    return 0 if figures["within_15_percent"] else 1


if __name__ == "__main__":
    sys.exit(main())
