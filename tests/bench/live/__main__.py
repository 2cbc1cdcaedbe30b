"""`make bench-live`: record live loads, check every byte, print one line of JSON a load.

The sender is never late by more than 50 ms, or the run does not count and is repeated: a sender that catches
up sends faster than phones do.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.live.account import Used
from tests.bench.live.load import Load
from tests.bench.live.recorder import INTERFACE, LiveRecorder
from tests.bench.live.recount import recount, shown
from tests.bench.live.transmit import receive_in_bulk
from tests.bench.replay import prepare
from tests.bench.tmpfs import folder_for
from tests.network_namespaces import Namespace, Pair, privileged

CALLS = (1, 500, 1000, 2000, 4000)
LATE_MS = 50.0
_TRIES = 3
_SETTLE_S = 120.0
_RECORDED = 17_600  # bytes a call and second
_FAR = "far0"


@dataclass(frozen=True)
class Sent:
    """What one run was: the sender's report, the recorder's use in the steady part, its last status."""

    report: dict[str, Any]
    steady: Used
    whole: Used
    status: dict[str, Any]
    arrived: int
    peak_rss_mb: float


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


def run(load: Load, pair: Pair, recorder: LiveRecorder, folder: Path) -> Sent:
    """One load, from the first INVITE until every call is sealed and the recorder has ended."""
    with pair.here.entered():
        receive_in_bulk(INTERFACE)
    with pair.there.entered():
        # Nothing is to arrive but what is counted.
        Path(f"/proc/sys/net/ipv6/conf/{_FAR}/disable_ipv6").write_text("1")
    before = arrived(pair.here)
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
    status = recorder.settle(_SETTLE_S)
    whole, peak = recorder.used(), recorder.peak_rss_mb()
    recorder.stop()
    return Sent(report, steady, whole, status, arrived(pair.here) - before, peak)


def arrived(namespace: Namespace) -> int:
    """Packets that the recorder's interface has received since it was made."""
    show = ["ip", "-n", namespace.name, "-s", "-j", "link", "show", INTERFACE]
    told = json.loads(subprocess.run(show, check=True, capture_output=True).stdout)
    count: int = told[0]["stats64"]["rx"]["packets"]
    return count


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))


def figures(load: Load, sent: Sent, thrown_away: int) -> dict[str, Any]:
    """The line of a load, what the recount says left out."""
    share = sent.steady.total_s / load.seconds
    rings = sent.status["rings"]
    return {
        "bench": "live",
        "calls": load.calls,
        "seconds": load.seconds,
        "packets_per_s": 100 * load.calls,
        "cpu_share_of_one_core": round(share, 4),
        "cpu_share_user": round(sent.steady.user_s / load.seconds, 4),
        "cpu_share_system": round(sent.steady.system_s / load.seconds, 4),
        "call_seconds_per_cpu_second": round(load.calls / share) if share else None,
        "whole_call_seconds_per_cpu_second": round(load.calls * load.talk_s / sent.whole.total_s),
        "drops": sum(ring["drops"] for ring in rings),
        "lost_before_the_tap": sent.report["packets"] + sent.report["messages"] - sent.arrived,
        "rss_mb": round(sent.peak_rss_mb),
        "sender_late_ms_max": sent.report["late_ms_max"],
        "sender_late_ms_p99": sent.report["late_ms_p99"],
        "sender_cpu_share": sent.report["cpu_share"],
        "thrown_away": thrown_away,
        "valid": valid(sent),
    }


def valid(sent: Sent) -> bool:
    """Whether phones would have sent so, and the wire between lost nothing."""
    lost = sent.report["packets"] + sent.report["messages"] > sent.arrived
    return sent.report["late_ms_max"] <= LATE_MS and not lost


def measure(load: Load, ring_mb: int | None) -> dict[str, Any]:
    """Run a load until the sender kept its pace, and check what was recorded then."""
    capture: dict[str, object] = {"interfaces": [INTERFACE]}
    if ring_mb is not None:
        capture["media_ring_mb"] = ring_mb
    with folder_for(bytes_of(load)) as folder:
        config = prepare(folder, capture=capture)
        for thrown_away in range(_TRIES):
            spool = folder / f"spool-{thrown_away}"
            pair = Pair()
            try:
                with LiveRecorder(pair.here, config, spool) as recorder:
                    sent = run(load, pair, recorder, folder)
            finally:
                pair.remove()
            line = figures(load, sent, thrown_away)
            if line["valid"] or thrown_away + 1 == _TRIES:
                break
            said = f"late by {line['sender_late_ms_max']} ms, {line['lost_before_the_tap']} lost on the way"
            sys.stderr.write(f"{load.calls} calls: thrown away, the sender was {said}\n")
            shutil.rmtree(spool)
        found = recount(load, folder, spool)
    sys.stderr.writelines(f"{what}\n" for what in shown(found.problems))
    correct = line["valid"] and found.exact and not line["drops"]
    return {**line, **found.figures(), "correct": correct}


def bytes_of(load: Load) -> int:
    """What a spool takes, at most."""
    return round(load.calls * load.talk_s * _RECORDED * 1.05) + load.calls * 20_000 + 50_000_000


def main() -> int:
    """Run the command line; 1 where anything was lost or wrong, or no run counted."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live", description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS, help="at once (%(default)s)")
    parser.add_argument("--seconds", type=int, default=30, help="while all talk (%(default)s)")
    parser.add_argument("--starts", type=int, default=100, help="calls that begin a second (%(default)s)")
    parser.add_argument("--ring-mb", type=int, help="capture.media_ring_mb; default: the recorder's")
    parsed = parser.parse_args()
    if not privileged():
        sys.exit("network namespaces and AF_PACKET need root")
    # A stopped bench leaves no namespace and no process behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    correct = True
    for calls in parsed.calls:
        line = measure(Load(calls, parsed.seconds, parsed.starts), parsed.ring_mb)
        print(json.dumps(line), flush=True)
        correct &= line["correct"]
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
