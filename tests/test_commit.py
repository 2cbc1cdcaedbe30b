import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from recorderd.errors import DiskFull, SpoolError
from recorderd.service.commit import MAX_ENDS, Ended, GroupCommit
from recorderd.spool.layout import Spool
from recorderd.spool.reader import Recording
from recorderd.spool.recovery import recover
from recorderd.spool.signing import HostKey
from recorderd.spool.verify import verify
from tests.forked import forked, told_by
from tests.spool_builder import fill, make_desk, summary, window
from tests.test_writer import file_size_limit

ROOT = Path(__file__).resolve().parent.parent
NEVER_S = 3600.0


class Kept:
    """What the commits told."""

    def __init__(self, running=()) -> None:
        self.writers = list(running)
        self.done, self.given_up, self.lost, self.troubles = [], [], [], []

    def running(self):
        return self.writers

    def sealed(self, ended, sealed) -> None:
        self.done.append(sealed)

    def unsealed(self, ended, error) -> None:
        self.given_up.append((ended.writer.recording_id, error))

    def mend(self) -> None:
        pass

    def torn(self, writer, error) -> None:
        self.lost.append((writer.recording_id, error))

    def trouble_met(self, error) -> None:
        self.troubles.append(error)


@pytest.fixture
def desk(tmp_path):
    return make_desk(tmp_path)


def over(desk, number) -> Ended:
    """A recording of some seconds that is over."""
    writer = desk.start(number)
    fill(writer, 2)
    return Ended(writer, summary(number), {})


def assert_sealed(desk, recording) -> None:
    verdict = verify(desk.spool, recording, desk.signer.public, [desk.identity])
    assert (verdict.ok, verdict.state, verdict.status) == (True, "sealed", "complete"), verdict.problems


def test_what_is_over_is_sealed_by_the_next_commit(desk):
    kept = Kept()
    commit = GroupCommit(desk.spool, kept, NEVER_S)
    try:
        ended = [over(desk, number) for number in range(5)]
        for each in ended:
            commit.seal(each)
        assert kept.done == []
        assert len(list(desk.spool.parts())) == 5
        commit.settle()
        assert [sealed.recording for sealed in kept.done] == [each.writer.recording_id for each in ended]
        assert (commit.commits, commit.failures) == (1, 0)
    finally:
        commit.close()
    for sealed in kept.done:
        assert_sealed(desk, sealed.recording)
        assert sealed.bytes == sealed.path.stat().st_size


def test_commits_come_by_themselves_and_with_the_end(desk):
    kept = Kept()
    commit = GroupCommit(desk.spool, kept, 0.01)
    commit.seal(over(desk, 0))
    told = threading.Event()
    deadline = time.monotonic() + 20
    while not kept.done and time.monotonic() < deadline:
        told.wait(0.01)
    assert len(kept.done) == 1
    commit.seal(over(desk, 1))
    commit.close()
    assert len(kept.done) == 2


def test_too_many_wait_for_a_commit_instead_of_piling_up(desk, monkeypatch):
    monkeypatch.setattr("recorderd.service.commit.MAX_ENDED", 5)
    kept = Kept()
    commit = GroupCommit(desk.spool, kept, NEVER_S)
    for number in range(5):
        commit.seal(over(desk, number))
    assert kept.done == []
    commit.seal(over(desk, 5))
    assert len(kept.done) == 6
    commit.close()


def test_a_full_disk_makes_the_ends_wait(desk):
    kept = Kept()
    commit = GroupCommit(desk.spool, kept, NEVER_S)
    ended = [over(desk, number) for number in range(3)]
    with file_size_limit(ended[0].writer.size + 10):
        for each in ended:
            commit.seal(each)
        commit.settle()
        commit.settle()
        assert (kept.done, kept.given_up) == ([], [])
        assert {type(error) for error in kept.troubles} == {DiskFull}
    commit.seal(over(desk, 3))
    commit.close()
    assert len(kept.done) == 4
    for sealed in kept.done:
        assert_sealed(desk, sealed.recording)


def test_what_the_disk_never_has_room_for_is_recovered(desk):
    kept = Kept()
    commit = GroupCommit(desk.spool, kept, NEVER_S)
    ended = over(desk, 0)
    commit.seal(ended)
    with file_size_limit(ended.writer.size + 10):
        commit.close()
    assert kept.done == []
    (found,) = recover(desk.spool, None, desk.signer)
    assert (found.state, found.records) == ("recovered", 4)


def test_one_that_cannot_be_sealed_does_not_stop_the_others(desk):
    kept = Kept()
    commit = GroupCommit(desk.spool, kept, NEVER_S)
    ended = [over(desk, number) for number in range(3)]
    ended[1].writer.fail(SpoolError("the disk lost it"))
    ended[2].summary["level"] = float("nan")
    for each in ended:
        commit.seal(each)
    commit.close()
    assert [sealed.recording for sealed in kept.done] == [ended[0].writer.recording_id]
    assert [name for name, _ in kept.given_up] == [each.writer.recording_id for each in ended[1:]]
    assert "the disk lost it" in str(kept.given_up[0][1])


def test_what_kills_the_thread_is_told(desk):
    class Broken(Kept):
        def sealed(self, ended, sealed) -> None:
            raise RuntimeError("a mistake of ours")

    commit = GroupCommit(desk.spool, Broken(), NEVER_S)
    commit.check()
    commit.seal(over(desk, 0))
    for act in (commit.settle, commit.check, commit.settle, commit.close):
        with pytest.raises(RuntimeError, match="of ours"):
            act()


def test_a_loss_is_remembered_when_the_disk_works_again(desk, monkeypatch):
    """The kernel tells it once. What was in progress then, or waited for its turn, is never called sealed."""
    kept = Kept()
    commit = GroupCommit(desk.spool, kept, NEVER_S)
    ended = [over(desk, number) for number in range(MAX_ENDS + 2)]
    running = ended.pop()
    kept.writers.append(running.writer)
    for each in ended:
        commit.seal(each)

    def broken(*_) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    real = Spool.flush

    def fail_once(spool) -> None:
        monkeypatch.setattr(Spool, "flush", real)
        raise SpoolError("Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", broken)
        monkeypatch.setattr(Spool, "flush", fail_once)
        commit.settle()
    assert commit.commits > 0
    commit.seal(running)
    kept.writers.clear()
    commit.close()
    assert (len(kept.done), len(kept.given_up)) == (0, MAX_ENDS + 2)
    states = {found.state for found in recover(desk.spool, None, desk.signer)}
    assert "damaged" not in states


# The kernel's part

SCRIPT = """
import os
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from recorderd.service.commit import Ended, GroupCommit
from tests.spool_builder import fill, make_desk, summary, window
from tests.test_commit import Kept, NEVER_S, over
desk = make_desk(Path(sys.argv[1]))
os.access("/recording-begins", os.F_OK)
running = desk.start(99)
kept = Kept([running])
commit = GroupCommit(desk.spool, kept, NEVER_S)
for number in range(5):
    commit.seal(over(desk, number))
commit.settle()
print(len(kept.done), len(kept.given_up), len(kept.lost), len(kept.troubles), commit.failures)
"""


def traced(folder, *expressions) -> tuple[str, str]:
    """Run the script under strace with these expressions; what it printed, and the log."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    command = ["strace", "-f", "-qq", "-o", str(log)]
    for expression in expressions:
        command += ["-e", expression]
    command += [sys.executable, "-c", SCRIPT.format(root=str(ROOT)), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout.strip(), log.read_text()


def test_one_sync_stands_between_the_ends_and_the_names(tmp_path):
    wanted = "trace=access,faccessat,faccessat2,syncfs,fsync,fdatasync,rename,renameat,renameat2"
    told, log = traced(tmp_path / "run", wanted)
    assert told == "5 0 0 0 0"
    # Nothing waits for the disk where a recording begins, goes on or ends.
    begun = log[log.index("/recording-begins") :].splitlines()[1:]
    assert [line.split("(")[0].split()[-1] for line in begun] == ["syncfs", *["rename"] * 5]


def test_a_failed_sync_is_not_believed_and_each_is_asked_for_itself(tmp_path):
    told, log = traced(
        tmp_path / "run", "inject=syncfs:error=EIO:when=1", "trace=syncfs,fdatasync,fsync,rename"
    )
    assert told == "5 0 0 1 1"
    # The one that is running and the five: each by its own descriptor, and each manifest anew.
    assert log.count("fdatasync(") == 6
    assert log.count(".json.") == 5


def test_what_the_disk_lost_is_not_called_sealed(tmp_path):
    folder = tmp_path / "run"
    told, _ = traced(folder, "inject=syncfs:error=EIO:when=1", "inject=fdatasync:error=EIO:when=1..3")
    # Asked first: the one that is running. Then two of those that are over.
    assert told == "3 2 1 1 1"
    assert len(list(folder.rglob("*.rec"))) == 3
    assert len(list(folder.rglob("*.rec.part"))) == 3


# Killed

CALLS = 3


def commit_and_tell(desk, tell) -> None:
    """Record some calls, give them to the commits, and tell which of them are said to be sealed."""

    class Telling(Kept):
        def sealed(self, ended, sealed) -> None:
            tell(f"{sealed.recording} ".encode())

    commit = GroupCommit(desk.spool, Telling(), NEVER_S)
    for number in range(CALLS):
        commit.seal(over(desk, number))
    commit.close()
    tell(b"closed ")


def run_and_die(desk, kill) -> list[str]:
    """Do that in a forked process that ``kill`` kills; what it told."""

    def run(tell) -> None:
        kill()
        commit_and_tell(desk, tell)

    return [word.decode() for word in told_by(*forked(run))]


def assert_nothing_lost(desk, told) -> None:
    found = {each.recording: each for each in recover(desk.spool, None, desk.signer)}
    sealed = [name for name in told if name != "closed"]
    # What was called sealed has its name already, or gets it without being called anything else.
    assert all(found[name].state == "sealed" for name in sealed if name in found)
    assert list(desk.spool.parts()) == []
    for name in desk.spool.records():
        verdict = verify(desk.spool, name, desk.signer.public, [desk.identity])
        assert verdict.ok, verdict.problems
        assert verdict.state == "sealed" or name not in sealed
        with Recording.open(desk.spool.record_path(name), [desk.identity]) as recording:
            media = list(recording.media())
            if name in sealed:
                assert recording.status == "complete"
                assert len(media) == 2
            for number, each in enumerate(media):
                assert (each.payload == window(number)[2]).all()


def test_killed_at_every_act_on_the_disk(tmp_path):
    told: list[str] = []
    operation = 0
    while "closed" not in told:
        operation += 1
        desk = make_desk(tmp_path / str(operation))
        told = run_and_die(desk, lambda at=operation: die_before(at))
        assert_nothing_lost(desk, told)
        shutil.rmtree(desk.spool.path)
    # For each call: open, header, four records, the end, the manifest's three, rename, close.
    assert operation > CALLS * 12


def die_before(operation: int) -> None:
    """Let this process die before its ``operation``-th act on the disk."""
    left = [operation]

    def wrap(name):
        real = getattr(os, name)

        def act(*arguments, **keywords):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)

        setattr(os, name, act)

    for name in ("open", "write", "fsync", "fdatasync", "rename", "mkdir", "close"):
        wrap(name)


def test_killed_around_the_sync(tmp_path):
    """By strace, which kills on entry: all ends are written, nothing is named, and all of it counts."""
    folder = tmp_path / "run"
    told, _ = traced(folder, "inject=syncfs:signal=KILL:when=1")
    assert told == ""
    spool = Spool(folder / "spool")
    assert len(list(spool.parts())) == 6
    states = [found.state for found in recover(spool, None, HostKey.load_or_create(spool.host_key_path))]
    assert sorted(states) == ["recovered", *["sealed"] * 5]
