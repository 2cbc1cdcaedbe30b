"""`make bench`: generate calls, replay them through the whole recorder, check the result, print one line of
JSON.

This process stays small on purpose: the peak memory that the kernel reports for a child is never less than
that of the process it was started from. The capture file, the spool and everything else are on a tmpfs and
removed again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_CODEC_NAMES = {"pcmu": "g711", "pcma": "g711a", "opus": "opus"}


@dataclass(frozen=True)
class Run:
    """What one replay cost, children included."""

    cpu_s: float
    wall_s: float
    peak_rss_mb: float


def measure(command: list[str], log: Path) -> Run:
    """Run a command to its end; its cost. Leaves with its output where it fails."""
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}\n{log.read_text(errors='replace')}")
    return Run(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def prepare(folder: Path) -> Path:
    """Keys and the smallest configuration; returns the configuration file."""
    identity = folder / "identity"
    binary = Path(sys.executable).parent / "recorderctl"
    subprocess.run([str(binary), "keygen", "-o", str(identity)], check=True, stdout=subprocess.DEVNULL)
    config = folder / "config.yaml"
    document = {
        "site": {"name": "bench"},
        "alerts": {"syslog": {"enabled": False}},
        "spool": {"path": str(folder / "spool")},
        "encryption": {"recipients": [f"{identity}.pub"]},
    }
    config.write_text(json.dumps(document))  # JSON is YAML
    return config


def bench(folder: Path, calls: int, seconds: float, codec: str, runs: int) -> dict[str, object]:
    """The figures of the median run, and whether every run recorded everything rightly."""
    scene = [str(calls), str(seconds), codec]
    capture = folder / "calls.pcap"
    subprocess.run([sys.executable, "-m", "tests.bench.scene", *scene, str(capture)], check=True)
    config = prepare(folder)
    done, correct = [], True
    for number in range(runs):
        spool = folder / f"spool-{number}"
        binary = Path(sys.executable).parent / "recorderd"
        command = [str(binary), "replay", str(capture), "-c", str(config), "--spool", str(spool)]
        done.append(measure(command, folder / "replay.log"))
        check = [sys.executable, "-m", "tests.bench.check", *scene, str(folder), str(spool)]
        checked = subprocess.run(check, capture_output=True, text=True, check=False)
        if checked.returncode:
            correct = False
            sys.stderr.write(checked.stdout + checked.stderr)
        shutil.rmtree(spool, ignore_errors=True)
    median = sorted(done, key=lambda run: run.cpu_s)[len(done) // 2]
    return {
        "bench": _CODEC_NAMES[codec],
        "calls": calls,
        "seconds": round(seconds),
        "call_seconds_per_cpu_second": round(calls * seconds / median.cpu_s),
        "cpu_s": round(median.cpu_s, 3),
        "wall_s": round(median.wall_s, 3),
        "peak_rss_mb": round(median.peak_rss_mb),
        "correct": correct,
    }


def main() -> int:
    """Run the command line; 1 where what was recorded is not what was sent."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0, help="talk time of each call")
    parser.add_argument("--runs", type=int, default=3, help="the median run is told")
    parser.add_argument("--codec", choices=tuple(_CODEC_NAMES), default="pcmu")
    parsed = parser.parse_args()
    tmpfs = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="recorderd-bench-", dir=tmpfs) as folder:
        figures = bench(Path(folder), parsed.calls, parsed.seconds, parsed.codec, parsed.runs)
    print(json.dumps(figures), flush=True)
    return 0 if figures["correct"] else 1


if __name__ == "__main__":
    sys.exit(main())
