"""A full disk stops nothing silently, and recording goes on by itself where there is room again."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recorderd.service.archive import SpoolArchive
from tests.faults.scene import Run, Scene
from tests.faults.strace import ordinals
from tests.faults.test_killed import chosen

SHORT = 3
PUTS = ("openat", "write", "pwrite64", "ftruncate", "mkdir", "rename")


def check(scene: Scene, run: Run) -> None:
    """Whatever was refused: nothing that was sealed is lost, and every call has its outcome and reason."""
    scene.settle(run)
    assert "Traceback" not in run.log, run.log
    if run.code and not run.calls:
        return  # it did not begin, and said so
    assert len(run.calls) == len(scene.truths), run.log
    for call_id, (outcome, reason) in run.outcomes().items():
        assert outcome in ("complete", "partial", "missing")
        if outcome == "complete":
            assert not scene.missing(run, call_id), reason


@pytest.mark.parametrize(
    ("name", "error"), [*((name, "ENOSPC") for name in PUTS), ("openat", "EMFILE"), ("openat", "ENFILE")]
)
def test_each_act_is_refused_in_its_turn(scene, thorough, name, error):
    """ENOSPC of whatever can say so; no descriptors where one is asked for."""
    for at in chosen(scene, name, thorough):
        run = scene.run([f"trace={name}", f"inject={name}:error={error}:when={at}"])
        if all(str(run.spool.path) in act.text for act in run.acts if act.injected):
            check(scene, run)


@pytest.mark.parametrize("first", [20, 60, 100])
def test_everything_is_refused_from_some_moment_on(scene, first):
    run = scene.run(["trace=write", f"inject=write:error=ENOSPC:when={first}+"])
    check(scene, run)
    for outcome, reason in run.outcomes().values():
        assert outcome == "complete" or "disk full" in reason or "not sealed" in reason or reason


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes in memory."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True, capture_output=True)


def ballast(folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """What fills a disk to its last byte, and what frees it."""
    path = folder / "ballast"

    def fill() -> None:
        with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    return fill, path.unlink


def at_windows(acts: dict[int, Callable[[], object]]) -> Callable[[], None]:
    """Have something done after so many windows, in the recorder's process."""

    def before() -> None:
        closed, count = SpoolArchive.window_closed, [0]

        def and_act(archive: SpoolArchive, end_ns: int) -> None:
            count[0] += 1
            acts.get(count[0], int)()
            closed(archive, end_ns)

        SpoolArchive.window_closed = and_act  # type: ignore[method-assign]

    return before


def test_a_small_disk_that_fills_and_is_freed_again(scene, small_disk):
    """What was refused is told; the calls go on in the same files, and later ones are whole."""
    fill, free = ballast(small_disk)
    run = scene.run(spool=small_disk / "spool", before=at_windows({3: fill, 5: free}))
    check(scene, run)
    outcomes = run.outcomes()
    assert {name for name, _ in outcomes.values()} == {"partial"}, outcomes
    assert all("disk full" in reason for _, reason in outcomes.values()), outcomes
    assert "disk" in {alert["kind"] for alert in run.alerts}
    # The last of them was there before the disk was full, and again after it.
    call_id = scene.truths[-1].call_id
    kept = sorted(key[3] for key in run.packets if key[:2] == (call_id, "caller"))
    whole = sorted(key[3] for key in scene.whole.packets if key[:2] == (call_id, "caller"))
    assert (kept[0], kept[-1]) == (whole[0], whole[-1])
    assert any(scene.missing(run, truth.call_id) for truth in scene.truths)
    assert {row["state"] for row in run.recordings} == {"sealed"}


def test_a_disk_that_is_full_when_calls_begin(scene, small_disk):
    """Each is accounted for, and one that goes on when there is room again is recorded from there on."""
    fill, free = ballast(small_disk)
    run = scene.run(spool=small_disk / "spool", before=at_windows({1: fill, 4: free}))
    check(scene, run)
    outcomes = run.outcomes()
    assert all("disk full" in reason for _, reason in outcomes.values()), outcomes
    assert "partial" in {name for name, _ in outcomes.values()}


def test_files_that_may_not_grow(scene):
    """RLIMIT_FSIZE: EFBIG is a full disk of one file."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    run = scene.run(before=limit)
    scene.settle(run)
    assert "Traceback" not in run.log, run.log
    for outcome, reason in run.outcomes().values():
        assert outcome == "complete" or reason


def test_no_descriptors_are_left(scene):
    """RLIMIT_NOFILE: a call that no file can be made for is told to be missing or partial, and why."""

    def limit() -> None:
        opened = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 12, opened + 12))

    run = scene.run(before=limit)
    scene.settle(run)
    assert "Traceback" not in run.log, run.log
    assert len(run.calls) == len(scene.truths) or run.code
    for outcome, reason in run.outcomes().values():
        assert outcome == "complete" or reason


def test_the_acts_are_those_of_the_spool(scene):
    """The sweeps above have something to sweep."""
    acts = {name: len(ordinals(scene.whole.acts, name, scene.whole.spool.path)) for name in PUTS}
    assert acts["write"] > 30, acts
    assert acts["openat"] > 30, acts
