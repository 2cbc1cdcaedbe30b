"""A crash loses nothing that was finished, and nothing that the kernel had."""

from collections import Counter

import pytest

from tests.faults.scene import ACTS, Run, Scene
from tests.faults.strace import ordinals

SHORT = 2
"""So many of each kind of act in the short form."""


def chosen(scene: Scene, name: str, thorough: bool) -> list[int]:
    """At which acts of one kind to strike: at each one on the spool, or at some."""
    found = ordinals(scene.whole.acts, name, scene.whole.spool.path)
    if thorough or len(found) <= SHORT:
        return found
    return sorted({found[(2 * n + 1) * len(found) // (2 * SHORT)] for n in range(SHORT)})


def written(run: Run) -> Counter[str]:
    """Bytes that the kernel took of each recording in progress."""
    sizes: Counter[str] = Counter()
    for act in run.acts:
        if act.name == "write" and ".rec.part>" in act.text and act.result is not None and act.result > 0:
            sizes[act.text.split(".rec.part>")[0].rsplit("/", 1)[1]] += act.result
    return sizes


@pytest.mark.parametrize("name", ACTS)
def test_killed_at_every_act_on_the_disk(scene, thorough, name):
    killed = 0
    for at in chosen(scene, name, thorough):
        trace = "trace=" + ",".join({name, "write"})
        run = scene.run([trace, f"inject={name}:signal=KILL:when={at}"])
        killed += run.code < 0
        before = written(run)
        scene.settle(run)
        for row in run.recordings:
            assert row["state"] in ("sealed", "recovered"), row
            assert row["bytes"] >= before[row["id"]]
        if run.code >= 0:
            assert {outcome for outcome, _ in run.outcomes().values()} == {"complete"}
            assert all(not scene.missing(run, call) for call in run.outcomes())
    assert killed or not chosen(scene, name, thorough)
