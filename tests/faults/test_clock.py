"""The clock jumps in mid-call: nothing is lost, and nothing lasts less than no time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recorderd.capture.files import open_capture
from recorderd.service.clock_watch import LEAST_NS, ClockWatch
from recorderd.service.engine import Engine
from tests.faults.scene import Scene, packets_in
from tests.recorder import record_by

HOUR_NS = 3_600_000_000_000
YEAR_NS = 365 * 24 * HOUR_NS
AT_NS = 3_000_000_000
"""After the first packet: all three calls are up."""
JUMPS = {"+1 h": HOUR_NS, "-1 h": -HOUR_NS, "+5 years": 5 * YEAR_NS, "-5 years": -5 * YEAR_NS}


@pytest.mark.parametrize("jump", JUMPS)
def test_nothing_is_lost_when_the_clock_jumps(scene: Scene, tmp_path: Path, jump: str) -> None:
    (frames,) = open_capture(scene.capture)
    moved = np.where(frames.time_ns - frames.time_ns.min() < AT_NS, 0, JUMPS[jump])
    jumped = replace(frames, time_ns=frames.time_ns + moved)

    watch = ClockWatch()

    def feed(engine: Engine) -> None:
        for start in range(0, len(jumped), 50):
            some = slice(start, start + 50)
            columns = ("time_ns", "data", "caplen", "wirelen")
            batch = replace(jumped, **{name: getattr(jumped, name)[some] for name in columns})
            if leap := watch.leap(int(batch.time_ns[-1]), int(frames.time_ns[some][-1])):
                engine.clock_leapt(max(0, leap))
            engine.feed(batch)
            engine.advance(int(batch.time_ns[-1]))
        engine.finish("capture ended")

    recorded = record_by(tmp_path, feed)
    packets = packets_in(recorded.spool, recorded.identities)
    whole = scene.whole.packets
    assert {(key[0], key[3]) for key in whole} == {(key[0], key[3]) for key in packets}
    for row in recorded.rows:
        assert row["state"] == "sealed"
        assert row["duration_s"] >= 0
        assert all(track.get("duration_s", 0) >= 0 for track in row["tracks"]), row
    assert {call["call_id"] for call in recorded.calls} == {truth.call_id for truth in scene.truths}
    for call in recorded.calls:
        assert call["outcome"] == "complete" or call["reason"], call


def test_a_clock_that_is_set_is_noticed() -> None:
    watch = ClockWatch()
    assert watch.leap(10**18, 5) == 0
    assert watch.leap(10**18 + 10**10, 5 + 10**10) == 0
    assert watch.leap(10**18 + HOUR_NS + 10**10, 6 + 10**10) == HOUR_NS - 1
    assert watch.leap(10**18 + 2 * 10**10, 5 + 2 * 10**10) == -HOUR_NS + 1
    assert watch.leap(10**18 + 2 * 10**10 + LEAST_NS - 1, 5 + 2 * 10**10) == 0
