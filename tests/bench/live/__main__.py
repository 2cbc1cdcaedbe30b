"""`make bench-live`: record live loads, check every byte, print one line of JSON a load.

The sender is never late by more than 50 ms, or the run does not count and is repeated: a sender that catches
up sends faster than phones do.
"""

import argparse
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.live.account import Used
from tests.bench.live.load import Load
from tests.bench.live.overload import RING_MB, Offer, overload
from tests.bench.live.play import Played, play
from tests.bench.live.recorder import INTERFACE, LiveRecorder
from tests.bench.live.recount import recount, shown
from tests.bench.replay import prepare
from tests.bench.tmpfs import folder_for
from tests.network_namespaces import Pair, privileged

CALLS, STEADY_S, STARTS = (1, 500, 1000, 2000, 4000), 30, 100
OVERLOAD_CALLS, OVERLOAD_S, OVERLOAD_STARTS = (300,), 20, 10
_TRIES = 3
_SETTLE_S = 120.0


@dataclass(frozen=True)
class Sent:
    """What one run was, the recorder's use from its start to its end, and its last status."""

    played: Played
    whole: Used
    status: dict[str, Any]
    peak_rss_mb: float


def run(load: Load, pair: Pair, recorder: LiveRecorder, folder: Path) -> Sent:
    """One load, from the first INVITE until every call is sealed and the recorder has ended."""
    played = play(load, pair, recorder, folder)
    status = recorder.settle(_SETTLE_S)
    whole, peak = recorder.used(), recorder.peak_rss_mb()
    recorder.stop()
    return Sent(played, whole, status, peak)


def figures(load: Load, sent: Sent) -> dict[str, Any]:
    """The line of a load, what the recount says left out."""
    played, rings = sent.played, sent.status["rings"]
    share = played.steady.total_s / load.seconds
    return {
        "bench": "live",
        "calls": load.calls,
        "seconds": load.seconds,
        "packets_per_s": 100 * load.calls,
        "cpu_share_of_one_core": round(share, 4),
        "cpu_share_user": round(played.steady.user_s / load.seconds, 4),
        "cpu_share_system": round(played.steady.system_s / load.seconds, 4),
        "call_seconds_per_cpu_second": round(load.calls / share) if share else None,
        "whole_call_seconds_per_cpu_second": round(load.calls * load.talk_s / sent.whole.total_s),
        "drops": sum(ring["drops"] for ring in rings),
        "lost_before_the_tap": played.lost_before_the_tap,
        "rss_mb": round(sent.peak_rss_mb),
        "sender_late_ms_max": played.report["late_ms_max"],
        "sender_late_ms_p99": played.report["late_ms_p99"],
        "sender_cpu_share": played.report["cpu_share"],
        "valid": played.valid,
    }


def until_valid(load: Load, attempt: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The line of the first attempt in which the sender kept its pace, or of the last one."""
    for thrown_away in range(_TRIES):
        line = {**attempt(), "thrown_away": thrown_away}
        if line["valid"] or thrown_away + 1 == _TRIES:
            break
        said = f"late by {line['sender_late_ms_max']} ms, {line['lost_before_the_tap']} lost on the way"
        sys.stderr.write(f"{load.calls} calls: thrown away, the sender was {said}\n")
    return line


def measure(load: Load, ring_mb: int | None) -> dict[str, Any]:
    """Run a load until the sender kept its pace, and check what was recorded then."""
    capture: dict[str, object] = {"interfaces": [INTERFACE]}
    if ring_mb is not None:
        capture["media_ring_mb"] = ring_mb
    with folder_for(load.spool_bytes) as folder:
        config = prepare(folder, capture=capture)
        spool = folder / "spool"

        def attempt() -> dict[str, Any]:
            shutil.rmtree(spool, ignore_errors=True)
            pair = Pair()
            try:
                with LiveRecorder(pair.here, config, spool) as recorder:
                    return figures(load, run(load, pair, recorder, folder))
            finally:
                pair.remove()

        line = until_valid(load, attempt)
        found = recount(load, folder, spool)
    sys.stderr.writelines(f"{what}\n" for what in shown(found.problems))
    correct = line["valid"] and found.exact and not line["drops"]
    return {**line, **found.figures(), "correct": correct}


def main() -> int:
    """Run the command line; 1 where anything was lost or wrong, or no run counted."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live", description=__doc__)
    parser.add_argument(
        "--calls", type=int, nargs="+", help=f"at once (default: {', '.join(map(str, CALLS))})"
    )
    parser.add_argument(
        "--seconds", type=int, help=f"while all talk ({STEADY_S}; of an overload {OVERLOAD_S})"
    )
    parser.add_argument("--starts", type=int, help=f"calls that begin a second ({STARTS}; {OVERLOAD_STARTS})")
    parser.add_argument(
        "--ring-mb", type=int, help="capture.media_ring_mb (the recorder's; 192 of an overload)"
    )
    parser.add_argument(
        "--overload",
        action="store_true",
        help="offer the calls to a recorder that has processor time for less than half",
    )
    parser.add_argument(
        "--share", type=float, help="with --overload: that much of a processor; else measured"
    )
    parsed = parser.parse_args()
    if not privileged():
        sys.exit("network namespaces and AF_PACKET need root")
    # A stopped bench leaves no namespace and no process behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    correct = True
    for line in lines(parsed):
        print(json.dumps(line), flush=True)
        correct &= line["correct"]
    return 0 if correct else 1


def lines(parsed: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The lines that were asked for, one by one."""
    calls = parsed.calls or (OVERLOAD_CALLS if parsed.overload else CALLS)
    seconds = parsed.seconds or (OVERLOAD_S if parsed.overload else STEADY_S)
    starts = parsed.starts or (OVERLOAD_STARTS if parsed.overload else STARTS)
    for load in (Load(count, seconds, starts) for count in calls):
        if parsed.overload:
            offer = Offer(load, parsed.share, parsed.ring_mb or RING_MB)
            yield until_valid(load, partial(overload, offer))
        else:
            yield measure(load, parsed.ring_mb)


if __name__ == "__main__":
    sys.exit(main())
