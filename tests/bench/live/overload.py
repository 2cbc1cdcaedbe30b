"""Offers a recorder twice as many calls as it has processor time for, and checks that it says of each call
what became of it.

What they take is measured: it records all of them at full speed for a while, and then gets so small a part of
the processor time that this took that less than half of them can be carried, even unmeasured.
"""

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from recorderd.spool.index import Index
from recorderd.spool.keys import load_identities
from recorderd.spool.layout import Spool
from tests.bench.live.load import Load
from tests.bench.live.play import Played, play
from tests.bench.live.recorder import INTERFACE, LiveRecorder
from tests.bench.live.recount import shown
from tests.bench.live.slowed import slowed
from tests.bench.live.verdicts import Judge, Verdicts
from tests.bench.replay import prepare
from tests.bench.tmpfs import folder_for
from tests.network_namespaces import Pair

TRIAL_S: Final = 8
"""How long it records everything, to see what that takes."""
PART: Final = 0.4
"""Of what all calls take. Half of it is enough for all, once their sound is not measured."""
RING_MB: Final = 192
"""It holds for as long as giving up calls takes a recorder that is this slow."""
_SETTLE_S = 120.0
_CALM_S = 60.0
_LOOK_S = 0.5


@dataclass(frozen=True)
class Offer:
    """The calls, and the share of a processor that there is for them; None: as a trial tells."""

    load: Load
    share: float | None = None
    ring_mb: int = RING_MB


class Watch:
    """Looks at the recorder's status now and then; a context manager."""

    def __init__(self, recorder: LiveRecorder) -> None:
        self._recorder = recorder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.seen: list[tuple[float, str, int]] = []
        """Seconds since it began, level, calls recorded: each time one of the last two changed."""

    def _look(self) -> None:
        began = time.monotonic()
        while not self._over.wait(_LOOK_S):
            status = self._recorder.status()
            if status:
                now = (status["level"], status["recording"])
                if not self.seen or self.seen[-1][1:] != now:
                    self.seen.append((round(time.monotonic() - began, 1), *now))

    def until_calm(self, seconds: float) -> bool:
        """Wait until nothing is left out any more."""
        until = time.monotonic() + seconds
        while not self.seen or self.seen[-1][1] != "none":
            if time.monotonic() > until:
                return False
            time.sleep(_LOOK_S)
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()


def overload(offer: Offer) -> dict[str, Any]:
    """The line of a run; ``correct`` where the recorder lost only what it says that it lost."""
    capture: dict[str, object] = {"interfaces": [INTERFACE], "media_ring_mb": offer.ring_mb}
    load = offer.load
    with folder_for(load.spool_bytes) as folder:
        config = prepare(folder, capture=capture)
        share = offer.share or _trial(load, config, folder) * PART
        spool, pair = folder / "spool", Pair()
        try:
            with LiveRecorder(pair.here, config, spool) as recorder:
                with slowed(recorder.process.pid, share) as how, Watch(recorder) as watch:
                    played = play(load, pair, recorder, folder)
                    status = recorder.settle(_SETTLE_S)
                    calm = watch.until_calm(_CALM_S)
                recorder.stop()
                said = recorder.said()
        finally:
            pair.remove()
        found = judged(load, folder, spool)
    problems = [*found.problems, *_sums(found, played, status)]
    if problems:
        sys.stderr.write(said)
    sys.stderr.writelines(f"{what}\n" for what in shown(tuple(problems)))
    line = {"bench": "overload", "calls": load.calls, "seconds": load.seconds, "limit": how,
            "cpu_limit": round(share, 4), **_told(load, played, status, watch), **_figures(found),
            "relieved": calm}  # fmt: skip
    return {**line, "correct": played.valid and calm and not problems}


def _trial(load: Load, config: Path, folder: Path) -> float:
    """What share of a processor all calls take."""
    short = Load(load.calls, TRIAL_S)
    pair = Pair()
    try:
        with LiveRecorder(pair.here, config, folder / "trial") as recorder:
            used = play(short, pair, recorder, folder).steady
            recorder.settle(_SETTLE_S)
            recorder.stop()
    finally:
        pair.remove()
    return used.total_s / TRIAL_S


def judged(load: Load, folder: Path, path: Path) -> Verdicts:
    """The calls of a spool, opened with the identity in the folder."""
    spool = Spool(path)
    with Index.open(spool) as index:
        rows, accounts = index.recordings(), index.calls()
    judge = Judge(load, spool, load_identities([folder / "identity"]))
    problems = []
    if len(accounts) != load.calls:
        problems.append(f"{len(accounts)} accounts of {load.calls} calls")
    for call in range(load.calls):
        name = load.call_id(call)
        of_call = [account for account in accounts if account["call_id"] == name]
        recordings = [row for row in rows if name in row["call_ids"]]
        problems += [f"call {call}: {what}" for what in judge.call(call, of_call, recordings)]
    judge.found.problems = tuple(problems)
    return judge.found


def _sums(found: Verdicts, played: Played, status: dict[str, Any]) -> list[str]:
    """What does not add up over all calls."""
    wrong = []
    if found.recorded + found.lost + found.shed != played.report["packets"]:
        wrong.append("packets recorded, lost and shed are not those that were sent")
    drops = sum(ring["drops"] for ring in status["rings"])
    if found.lost > drops:
        wrong.append(f"{found.lost} packets lost, of which the kernel dropped {drops}")
    if drops != status["counters"].get("kernel_drops", 0):
        wrong.append("drops of the kernel were not booked")
    return wrong


def _told(load: Load, played: Played, status: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """What the recorder did."""
    steady = [seen for seen in watch.seen if seen[0] < load.steady_from_s + load.seconds]
    return {
        "cpu_share_of_one_core": round(played.steady.total_s / load.seconds, 4),
        "levels": list(dict.fromkeys(level for _, level, _ in watch.seen)),
        "carried": steady[-1][2] if steady else 0,
        "seen": watch.seen,
        "ring_fullest": status["ring_fullest"],
        "drops": sum(ring["drops"] for ring in status["rings"]),
        "calls_refused": status["counters"].get("calls_refused", 0),
        "calls_given_up": status["counters"].get("calls_given_up", 0),
        "lost_before_the_tap": played.lost_before_the_tap,
        "sender_late_ms_max": played.report["late_ms_max"],
        "valid": played.valid,
    }


def _figures(found: Verdicts) -> dict[str, Any]:
    return {
        **{f"calls_{name}": found.outcomes[name] for name in ("complete", "partial", "missing")},
        "calls_exact": found.exact,
        "packets": found.recorded,
        "packets_lost": found.lost,
        "packets_shed": found.shed,
        "lost_said": found.lost_said,
        "problems": len(found.problems),
    }
