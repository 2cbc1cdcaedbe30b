"""What an index of 100,000 recordings costs, written and asked: `python -m tests.bench.index`.

It is written as the recorder writes it: window by window, calls that begin and calls that end in one
transaction, on a tmpfs where there is one. Then it is asked in this process (the query and the JSON of the
answer) and by the command. Times are of the median run, in milliseconds.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from recorderd.spool.index import Index
from recorderd.spool.layout import Spool, new_recording_id
from recorderd.spool.times import rfc3339

_STARTED_US = 1_795_291_501_000_000
_BEGIN_IN_WINDOW = 20
_LENGTH_WINDOWS = 60
_EXTENSIONS = 500
_OUTSIDE = 20_000
_PAGE = 50


def _calls(count: int) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each call's recording id, what is listed of it at its end, and its row of `calls`."""
    chance = random.Random(2026)
    outside = [f"+{chance.randrange(10**10, 10**12)}" for _ in range(_OUTSIDE)]
    made = []
    for number in range(count):
        began_us = _STARTED_US + number * 1_000_000 // _BEGIN_IN_WINDOW
        recording = new_recording_id(began_us * 1000, number.to_bytes(5, "big"))
        numbers = [chance.choice(outside), str(2000 + chance.randrange(_EXTENSIONS))]
        chance.shuffle(numbers)
        who = {"from": numbers[0], "to": numbers[1]}
        call_id = f"{chance.randbytes(16).hex()}@198.51.100.{number % 250}"
        started_at, ended_at = rfc3339(began_us), rfc3339(began_us + _LENGTH_WINDOWS * 1_000_000)
        causes = ["callee: 5 gaps, 1.2 s"] if number % 50 == 0 else []
        summary = {
            "id": recording,
            "state": "sealed",
            "call_ids": [call_id],
            **who,
            "started_at": started_at,
            "duration_s": 60.02,
            "tracks": [_track(chance, label) for label in ("caller", "callee")],
            "review": {"needed": bool(causes), "causes": causes},
            "outcome": "complete",
            "reason": "all speakers were recorded",
            "capture_drops": 0,
        }
        call = {
            "call_id": call_id,
            **who,
            "first_seen": started_at,
            "answered_at": started_at,
            "ended_at": ended_at,
            "outcome": "complete",
            "reason": "all speakers were recorded",
            "recording": recording,
        }
        made.append((recording, summary, call))
    return made


def _track(chance: random.Random, label: str) -> dict[str, Any]:
    gaps = [
        {"at_s": round(chance.uniform(0, 60), 3), "length_s": 0.04, "cause": "network"}
        for _ in range(chance.randrange(3))
    ]
    return {
        "label": label,
        "codec": "pcmu",
        "sample_rate": 8000,
        "packets": 3000,
        "lost": 2 * len(gaps),
        "late": 0,
        "duplicates": 0,
        "start_s": 0.0,
        "duration_s": 60.02,
        "speech_level_dbov": round(chance.uniform(-30, -20), 1),
        "noise_dbov": round(chance.uniform(-70, -50), 1),
        "mos": 4.37,
        "gaps": gaps,
    }


def _write(spool: Spool, calls: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> tuple[float, float]:
    """CPU and wall seconds for all the entries of all the calls."""
    beginnings = deque(calls)
    windows: deque[list[tuple[str, dict[str, Any], dict[str, Any]]]] = deque()
    with Index.open(spool) as index:
        index.set_remotes(["archive"])
        cpu, wall = time.process_time(), time.perf_counter()
        while beginnings or windows:
            starting = [beginnings.popleft() for _ in range(min(_BEGIN_IN_WINDOW, len(beginnings)))]
            if starting:
                windows.append(starting)
            ending = windows.popleft() if len(windows) > _LENGTH_WINDOWS or not starting else []
            with index.batch():
                for recording, summary, call in starting:
                    index.call_saved({**call, "ended_at": None, "outcome": None, "recording": None})
                    known: dict[str, Any] = {"tracks": [], "duration_s": None, "outcome": None}
                    index.recording_started(recording, {**summary, **known})
                for recording, summary, call in ending:
                    path = spool.record_path(recording)
                    index.recording_finished(recording, "sealed", summary, path, "ab" * 32, 1_056_000)
                    index.call_saved(call)
        return time.process_time() - cpu, time.perf_counter() - wall


def _copied(spool: Spool, calls: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> None:
    """A remote has everything but the newest."""
    with Index.open(spool) as index, index.batch():
        for recording, _, call in calls[:-_PAGE]:
            verified_at = call["ended_at"]
            index.sync_state(recording, "archive", "verified", sha256="ab" * 32, verified_at=verified_at)


def _answer(index: Index, filters: dict[str, Any]) -> str:
    return json.dumps(index.recordings(**filters), indent=2)


def _median_ms(ask: Callable[[], object], runs: int) -> float:
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
    return round(statistics.median(took) * 1000, 2)


def _asked(
    spool: Spool, calls: list[tuple[str, dict[str, Any], dict[str, Any]]], runs: int
) -> dict[str, Any]:
    """How long answers take: in process, and of the whole command."""
    _, middle, call = calls[len(calls) // 2]
    outside = max(middle["from"], middle["to"], key=len)
    hour = {"since": middle["started_at"], "until": rfc3339(_STARTED_US + (len(calls) // 2 + 2000) * 50_000)}
    ways: dict[str, dict[str, Any]] = {
        "number": {"number": outside[3:]},
        "number_page": {"number": "20", "limit": _PAGE},
        "time": {**hour, "limit": _PAGE},
        "number_and_time": {**hour, "number": outside[3:]},
        "call_id": {"call_id": call["call_id"]},
        "newest": {"limit": _PAGE},
        "review_page": {"review": True, "limit": _PAGE},
    }
    asked: dict[str, Any] = {}
    with Index.read(spool) as index:
        for name, filters in ways.items():
            rows = len(index.recordings(**filters))
            query = _median_ms(partial(_answer, index, filters), runs)
            options = [word for key, value in filters.items() for word in _option(key, value)]
            asked[name] = {
                "rows": rows,
                "query_ms": query,
                "command_ms": _median_ms(lambda options=options: _command(spool, options), 3),  # type: ignore[misc]
            }
        asked["calls_number"] = {"query_ms": _median_ms(lambda: index.calls(number=outside[3:]), runs)}
        asked["sync_pending"] = {"query_ms": _median_ms(lambda: index.sync_pending("archive"), runs)}
        asked["sync_counts"] = {"query_ms": _median_ms(lambda: index.sync_counts("archive"), runs)}
    return asked


def _option(key: str, value: object) -> list[str]:
    name = f"--{key.replace('_', '-')}"
    return [name] if value is True else [name, str(value)]


def _command(spool: Spool, options: list[str]) -> None:
    binary = Path(sys.executable).parent / "recorderctl"
    command = [str(binary), "--spool", str(spool.path), "list", "--json", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.index", description=__doc__)
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=7, help="the median run is told")
    parsed = parser.parse_args()
    tmpfs = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    calls = _calls(parsed.recordings)
    with tempfile.TemporaryDirectory(prefix="recorderd-bench-", dir=tmpfs) as folder:
        spool = Spool(Path(folder)).prepare()
        cpu, wall = _write(spool, calls)
        _copied(spool, calls)
        figures = {
            "bench": "index",
            "recordings": len(calls),
            "calls_per_s": round(len(calls) / wall),
            "cpu_us_per_call": round(cpu / len(calls) * 1e6, 1),
            "bytes_per_call": round(
                sum(each.stat().st_size for each in spool.path.glob("index.db*")) / len(calls)
            ),
            "list": _asked(spool, calls, parsed.runs),
        }
    figures["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
