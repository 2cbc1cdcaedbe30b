"""A failed sync is never believed: what is not on the disk is said not to be, and what is in memory goes to
another file.
"""

import json

import pytest

from tests.faults.scene import Run, Scene
from tests.faults.strace import Act, ordinals

SYNCS = ("fsync", "fdatasync", "syncfs")
SHORT = 3
ALERT_S = 5.0


def failed(run: Run) -> list[Act]:
    return [act for act in run.acts if act.injected]


def assert_never_used_again(run: Run) -> None:
    """A descriptor of a recording whose sync failed takes nothing more, and is not synced again."""
    for act in failed(run):
        path = act.text.split(".rec.part>")
        if act.name in ("fsync", "fdatasync") and len(path) == 2:
            descriptor = path[0] + ".rec.part>"
            later = [each for each in run.acts if each.time_s > act.time_s and descriptor in each.text]
            used = [
                each for each in later if each.name in ("write", *SYNCS) and each.text.startswith(descriptor)
            ]
            assert not used, used


def check(scene: Scene, run: Run) -> None:
    """What holds whatever failed, and however often."""
    scene.settle(run)
    assert "Traceback" not in run.log, run.log
    assert_never_used_again(run)
    if not run.calls:
        assert run.code > 0, run.log  # it did not begin, and said so
        return
    for call_id, (outcome, reason) in run.outcomes().items():
        assert outcome in ("complete", "partial"), (outcome, reason)
        if outcome == "complete":
            assert not scene.missing(run, call_id), reason


@pytest.mark.parametrize("name", SYNCS)
def test_each_sync_fails_in_its_turn(scene, thorough, name):
    found = ordinals(scene.whole.acts, name, scene.whole.spool.path)
    for at in found if thorough else found[:: max(1, len(found) // SHORT)]:
        run = scene.run(["trace=openat,write," + ",".join(SYNCS), f"inject={name}:error=EIO:when={at}"])
        assert failed(run)
        check(scene, run)
        assert run.told_sealed or run.code


def test_a_disk_that_loses_each_recording_once(scene):
    """The first commit fails, and of each recording in progress or over the disk has lost something."""
    run = scene.run(
        [
            "trace=openat,write," + ",".join(SYNCS),
            "inject=syncfs:error=EIO:when=4",
            "inject=fdatasync:error=EIO:when=1..3",
        ],
        late=True,
    )
    check(scene, run)
    rows = {row["id"]: row for row in run.recordings}
    segments = [row for row in run.recordings if row.get("previous")]
    assert segments
    for row in segments:
        before = rows[row["previous"]]
        assert before["call_ids"] == row["call_ids"]
        assert (before["state"], row["state"]) == ("recovered", "sealed")
        assert row["id"] in before["reason"]
    for call in run.calls:
        assert call["outcome"] == "complete", call
        assert not scene.missing(run, call["call_id"])
    assert any("goes on from" in call["reason"] for call in run.calls)


@pytest.mark.parametrize("name", SYNCS)
def test_a_disk_that_never_syncs_again(scene, name):
    """Nothing is ever called sealed that the disk did not say it has."""
    first = ordinals(scene.whole.acts, "syncfs", scene.whole.spool.path)[0]
    when = {"syncfs": f"{first}+", "fsync": "5+", "fdatasync": "1+"}[name]
    run = scene.run(
        [
            "trace=openat,write," + ",".join(SYNCS),
            f"inject={name}:error=EIO:when={when}",
            *(["inject=syncfs:error=EIO:when=1+"] if name != "syncfs" else []),
        ]
    )
    assert failed(run)
    check(scene, run)
    assert run.code or name == "syncfs"


def test_an_alert_says_so_within_seconds(scene):
    run = scene.run(["trace=pwrite64,syncfs", "inject=syncfs:error=EIO:when=3"])
    (act,) = failed(run)
    scene.settle(run)
    told = [alert for alert in run.alerts if alert["kind"] == "disk"]
    assert told, json.dumps(run.alerts)
    assert abs(told[0]["time_ns"] / 1e9 - act.time_s) < ALERT_S
    written = [each.time_s for each in run.acts if each.name == "pwrite64" and "index.db" in each.text]
    assert any(act.time_s <= time_s <= act.time_s + ALERT_S for time_s in written)
