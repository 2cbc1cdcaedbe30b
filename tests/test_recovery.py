import contextlib
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recorderd.errors import DiskFull, SpoolError
from recorderd.spool.index import Index
from recorderd.spool.keys import load_identities
from recorderd.spool.layout import Spool
from recorderd.spool.manifest import load_manifest
from recorderd.spool.reader import Recording
from recorderd.spool.rebuild import rebuild
from recorderd.spool.recovery import recover, recover_part
from recorderd.spool.signing import HostKey
from recorderd.spool.verify import verify
from recorderd.spool.writer import RecordingWriter
from tests.forked import forked, told_by
from tests.spool_builder import STARTED_NS, STARTED_US, fill, make_desk, summary, window

ROOT = Path(__file__).resolve().parent.parent
WINDOWS = 6


@pytest.fixture
def desk(tmp_path):
    return make_desk(tmp_path)


# Killed


def record_and_tell(desk, tell) -> None:
    """Record ``WINDOWS`` seconds, telling of each one that was acknowledged."""
    writer = begin_and_tell(desk, tell)
    writer.seal(summary())
    tell(b"sealed ")


def record_in_a_group(desk, tell) -> None:
    """The same in the order of a group commit."""
    writer = begin_and_tell(desk, tell)
    writer.end(summary())
    tell(b"ended ")
    desk.spool.flush()
    tell(b"sealed ")
    writer.finish()
    tell(b"named ")


def begin_and_tell(desk, tell) -> RecordingWriter:
    writer = desk.start()
    tell(b"created ")
    for number in range(WINDOWS):
        writer.media(*window(number))
        tell(b"%d " % number)
    return writer


def in_child(desk, prepare=lambda: None, record=record_and_tell) -> tuple[int, socket.socket]:
    """A forked process that records and then dies as a killed one does. Returns its pid and where it
    tells."""

    def run(tell) -> None:
        prepare()
        record(desk, tell)

    return forked(run)


def check(desk, acks: list[bytes]) -> None:
    """Recover, and compare with what had been acknowledged."""
    found = recover(desk.spool, None, desk.signer)
    ids = list(desk.spool.records())
    assert list(desk.spool.parts()) == []
    assert not list(desk.spool.path.rglob("*.tmp"))
    assert len(ids) == 1 if acks else len(ids) <= 1
    assert all(each.state != "damaged" or not acks for each in found)
    windows = [ack for ack in acks if ack.isdigit()]
    for name in ids:
        verdict = verify(desk.spool, name, desk.signer.public, [desk.identity])
        assert verdict.ok, verdict.problems
        with Recording.open(desk.spool.record_path(name), [desk.identity]) as recording:
            kept = list(recording.media())
            if b"sealed" in acks or b"ended" in acks:
                assert (recording.status, verdict.state) == ("complete", "sealed")
            else:
                assert recording.status in ("complete", "recovered-prefix")
        assert len(windows) <= len(kept) <= min(len(windows) + 1, WINDOWS)
        for number, media in enumerate(kept):
            base, rows, payload = window(number)
            assert media.base_time_us == base
            assert (media.rows == rows).all()
            assert (media.payload == payload).all()


def die_at(operation: int, moment: str) -> None:
    """Let this process die at its ``operation``-th act on the disk: before, after, or in the midst of a
    write."""
    left = [operation]

    def wrap(name):
        real = getattr(os, name)

        def act(*arguments, **keywords):
            left[0] -= 1
            if left[0] == 0:
                if moment == "half" and name == "write":
                    descriptor, data = arguments
                    real(descriptor, bytes(data)[: len(data) // 2])
                elif moment == "after":
                    with contextlib.suppress(OSError):
                        real(*arguments, **keywords)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)

        setattr(os, name, act)

    for name in ("open", "write", "fsync", "fdatasync", "rename", "mkdir", "close"):
        wrap(name)


@pytest.mark.parametrize("moment", ["before", "after", "half"])
@pytest.mark.parametrize(("record", "last"), [(record_and_tell, b"sealed"), (record_in_a_group, b"named")])
def test_killed_at_every_act_on_the_disk(tmp_path, moment, record, last):
    operation = 0
    acks: list[bytes] = []
    while last not in acks:
        operation += 1
        desk = make_desk(tmp_path / str(operation))
        acks = told_by(*in_child(desk, lambda at=operation: die_at(at, moment), record))
        check(desk, acks)
    # Open, mkdir, open, header, six records, the end, the manifest's three, rename, close: at least.
    assert operation > 15


def test_killed_at_random_moments(tmp_path):
    chance = random.Random(7)
    seen = set()
    # Until they came in the midst of it, too: a child may begin late, or be through before it is killed.
    for number in range(600):
        folder = tmp_path / str(number)
        desk = make_desk(folder)
        pid, told = in_child(desk)
        time.sleep(chance.uniform(0.0005, 0.02) * (1 + number // 60))
        os.kill(pid, signal.SIGKILL)
        acks = told_by(pid, told)
        check(desk, acks)
        seen.add(len(acks))
        shutil.rmtree(folder)
        if number >= 59 and len(seen) > 2:
            break
    assert len(seen) > 2


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from recorderd.spool.writer import RecordingWriter
from tests.spool_builder import Desk, make_desk, window, summary
desk = make_desk(Path(sys.argv[1]))
writer = desk.start()
for number in range(6):
    writer.media(*window(number))
writer.seal(summary())
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_killed_by_the_kernel_at_writes(tmp_path):
    """The same by strace, which kills on entry to the call: proof that the wrapping above is no fairy
    tale."""
    command = [sys.executable, "-c", SCRIPT.format(root=str(ROOT))]
    log = tmp_path / "log"
    (tmp_path / "count").mkdir()
    trace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", str(log), "-e", "trace=write"]
    subprocess.run([*trace, *command, str(tmp_path / "count")], check=True, capture_output=True, timeout=60)
    writes = [line for line in log.read_text().splitlines() if " write(" in line]
    header = next(number for number, line in enumerate(writes, 1) if r"\211REC" in line)
    for record in (0, 3, 6, 7):
        folder = tmp_path / str(record)
        folder.mkdir()
        inject = f"inject=write:signal=KILL:when={header + 1 + record}"
        killing = ["strace", "-f", "-qq", "-o", os.devnull, "-e", inject]
        subprocess.run([*killing, *command, str(folder)], capture_output=True, timeout=60)
        spool = Spool(folder / "spool")
        signer = HostKey.load_or_create(spool.host_key_path)
        (found,) = recover(spool, None, signer)
        assert (found.state, found.records) == ("recovered", record)
        verdict = verify(spool, found.recording, signer.public, load_identities([folder / "identity"]))
        assert verdict.ok, verdict.problems


# What is found and said


def abandoned(desk, number=0, windows=3):
    writer = desk.start(number)
    fill(writer, windows)
    writer.abandon()
    return writer


def test_a_recovered_recording_says_how_far_it_goes(desk):
    writer = abandoned(desk)
    with writer.path.open("ab") as file:
        file.write(b"torn" * 10)
    size = writer.path.stat().st_size
    (found,) = recover(desk.spool, None, desk.signer, now_ns=STARTED_NS)
    assert (found.state, found.records, found.elapsed_s) == ("recovered", 5, 2.0)
    assert (found.bytes, found.intact_bytes) == (size, size - 40)
    assert "recovered to 2.0 s" in str(found)
    assert "40 bytes torn" in str(found)
    manifest = load_manifest(desk.spool.manifest_path(writer.recording_id), desk.signer.public)
    assert (manifest.state, manifest.sha256) == ("recovered", found.sha256)
    assert (manifest.intact_bytes, manifest.ended_us) == (found.intact_bytes, STARTED_US + 2_000_000)
    assert manifest.written_us == STARTED_US
    # The torn tail stays as evidence.
    assert found.path.stat().st_size == size
    with Recording.open(found.path, [desk.identity]) as recording:
        assert recording.status == "recovered-prefix"
        assert len(list(recording.media())) == 3


def test_recovery_is_idempotent(desk):
    abandoned(desk)
    recover(desk.spool, None, desk.signer)
    before = {path: path.read_bytes() for path in desk.spool.recordings.rglob("*.*")}
    assert recover(desk.spool, None, desk.signer) == []
    assert {path: path.read_bytes() for path in desk.spool.recordings.rglob("*.*")} == before


def test_what_was_sealed_is_not_touched(desk):
    sealed = desk.record(0)
    before = (sealed.path.read_bytes(), sealed.manifest_path.read_bytes())
    abandoned(desk, 1)
    assert len(recover(desk.spool, None, desk.signer)) == 1
    assert (sealed.path.read_bytes(), sealed.manifest_path.read_bytes()) == before


def test_a_crash_before_the_last_rename_is_made_good(desk):
    sealed = desk.record()
    sealed.path.rename(desk.spool.part_path(sealed.recording))
    (found,) = recover(desk.spool, None, desk.signer)
    assert found.state == "sealed"
    assert load_manifest(sealed.manifest_path, desk.signer.public).state == "sealed"
    assert verify(desk.spool, sealed.recording, desk.signer.public, [desk.identity]).ok


def test_a_manifest_lost_with_the_power_is_stated_anew(desk):
    sealed = desk.record()
    sealed.manifest_path.unlink()
    (found,) = recover(desk.spool, None, desk.signer)
    assert found.state == "recovered"
    manifest = load_manifest(sealed.manifest_path, desk.signer.public)
    assert manifest.summary["review"]["causes"] == ["recovered: its manifest was lost"]
    assert verify(desk.spool, sealed.recording, desk.signer.public, [desk.identity]).ok
    with Recording.open(sealed.path, [desk.identity]) as recording:
        assert recording.status == "complete"  # its end record is there


def test_a_foreign_or_older_manifest_does_not_vouch_for_a_part(desk, tmp_path):
    other = make_desk(tmp_path / "other")
    writer = abandoned(desk)
    manifest_path = desk.spool.manifest_path(writer.recording_id)
    shutil.copy(other.record().manifest_path, manifest_path)
    (found,) = recover(desk.spool, None, desk.signer)
    assert found.state == "recovered"
    assert load_manifest(manifest_path, desk.signer.public).recording == writer.recording_id


@pytest.mark.parametrize("manifest", [b"", b'{"manifest":{"bytes', bytes(4096)])
def test_a_torn_manifest_beside_a_part_states_nothing(desk, manifest):
    """A power cut before the commit may have kept the manifest's name and lost what was in it."""
    writer = abandoned(desk)
    desk.spool.manifest_path(writer.recording_id).write_bytes(manifest)
    (found,) = recover(desk.spool, None, desk.signer)
    assert found.state == "recovered"
    assert verify(desk.spool, found.recording, desk.signer.public, [desk.identity]).ok


def test_a_manifest_of_more_than_the_disk_kept_states_nothing(desk):
    """A power cut before the commit may have kept the manifest and lost the end of the recording."""
    writer = desk.start()
    fill(writer, 3)
    writer.end(summary())
    writer.abandon()
    os.truncate(writer.path, writer.size - 100)
    (found,) = recover(desk.spool, None, desk.signer)
    assert (found.state, found.records) == ("recovered", 5)
    assert verify(desk.spool, found.recording, desk.signer.public, [desk.identity]).ok


def test_a_rename_lost_with_the_power_changes_nothing_that_was_told(desk):
    """The index says sealed, and may: the manifest vouches for the part."""
    with Index.open(desk.spool) as index:
        sealed = desk.record()
        desk.enter(index, sealed)
        before = index.recordings()
        sealed.path.rename(desk.spool.part_path(sealed.recording))
        (found,) = recover(desk.spool, index, desk.signer)
        assert (found.state, found.sha256) == ("sealed", sealed.sha256)
        assert [(row["id"], row["state"], row["sha256"]) for row in index.recordings()] == [
            (row["id"], "sealed", row["sha256"]) for row in before
        ]


def test_what_was_sealed_before_the_index_heard_of_it_is_entered(desk):
    with Index.open(desk.spool) as index:
        sealed = desk.record()
        assert recover(desk.spool, index, desk.signer) == []
        (row,) = index.recordings()
        assert (row["id"], row["state"], row["bytes"]) == (sealed.recording, "sealed", sealed.bytes)


def test_many_are_recovered_with_two_syncs(desk, tmp_path):
    """The time that new calls wait does not grow by an fsync for each that was running."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    for number in range(20):
        abandoned(desk, number)
    log = tmp_path / "log"
    trace = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=syncfs,fsync,fdatasync"]
    command = [sys.executable, "-c", RECOVER.format(root=str(ROOT)), str(desk.spool.path)]
    subprocess.run([*trace, *command], check=True, capture_output=True, timeout=60)
    assert len(list(desk.spool.records())) == 20
    calls = [line.split("(")[0].split()[-1] for line in log.read_text().splitlines()]
    assert calls == ["syncfs", "syncfs"]


RECOVER = """
import sys
sys.path.insert(0, {root!r})
from recorderd.spool.layout import Spool
from recorderd.spool.recovery import recover
from recorderd.spool.signing import HostKey
spool = Spool(sys.argv[1])
recover(spool, None, HostKey.load_or_create(spool.host_key_path))
"""


@pytest.mark.parametrize("content", [b"", b"\x89REC", b"\0" * 4096, b"RIFF" * 400])
def test_a_part_without_a_header_is_set_aside(desk, content):
    path = desk.start().path
    path.write_bytes(content)
    (found,) = recover(desk.spool, None, desk.signer)
    assert found.state == "damaged"
    assert found.path.read_bytes() == content
    assert found.previous is None
    assert "damaged" in str(found)
    assert list(desk.spool.parts()) == list(desk.spool.records()) == []


def test_a_header_of_another_recording_is_set_aside(desk):
    writer = abandoned(desk, 0)
    writer.path.rename(desk.spool.part_path(desk.spool.new_id(STARTED_NS)))
    (found,) = recover(desk.spool, None, desk.signer)
    assert found.state == "damaged"


def test_the_next_segment_is_linked_by_hash(desk):
    abandoned(desk)
    (found,) = recover(desk.spool, None, desk.signer)
    sealed = desk.start(1, previous=found.previous).seal({})
    with Recording.open(sealed.path, [desk.identity]) as recording:
        assert recording.header.core.segment == 1
        assert recording.header.core.previous_json == {"recording": found.recording, "sha256": found.sha256}


def test_blocks_lost_in_any_order_are_recovered_to_the_first_hole(desk):
    """A power cut may keep a later block and lose an earlier one."""
    writer = abandoned(desk, windows=8)
    data = bytearray(writer.path.read_bytes())
    hole = len(data) // 2
    data[hole : hole + 900] = bytes(900)
    writer.path.write_bytes(data)
    (found,) = recover(desk.spool, None, desk.signer)
    assert found.intact_bytes <= hole
    verdict = verify(desk.spool, found.recording, desk.signer.public, [desk.identity])
    assert verdict.ok, verdict.problems
    with Recording.open(found.path, [desk.identity]) as recording:
        assert recording.status == "recovered-prefix"
        assert 0 < len(list(recording.media())) < 8


# The living and the dead


def test_a_living_daemon_is_left_alone(desk):
    other = Spool(desk.spool.path)
    with desk.spool.lock():
        writer = abandoned(desk)
        with pytest.raises(SpoolError, match="in use"):
            recover(other, None, desk.signer)
        with pytest.raises(SpoolError, match="in use"):
            other.lock()
        assert writer.path.exists()
        # The one who holds the lock may.
        assert len(recover(desk.spool, None, desk.signer)) == 1
    assert not desk.spool.locked
    with other.lock():
        assert other.locked


def test_the_lock_of_a_dead_daemon_is_free(desk):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            desk.spool.lock()
            os.write(writer, b"x")
            time.sleep(60)
        finally:
            os._exit(0)
    os.read(reader, 1)
    with pytest.raises(SpoolError, match="in use"):
        Spool(desk.spool.path).lock()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with Spool(desk.spool.path).lock():
        pass
    os.close(reader)
    os.close(writer)


def test_one_part_of_the_daemons_own_is_recovered_beside_a_running_one(desk):
    with desk.spool.lock():
        broken, running = abandoned(desk, 0), desk.start(1)
        found = recover_part(desk.spool, broken.recording_id, desk.signer)
        assert found.state == "recovered"
        assert list(desk.spool.parts()) == [running.recording_id]
        assert running.seal({}).path.exists()


# The index


def test_the_index_learns_what_became_of_it(desk):
    with Index.open(desk.spool) as index:
        ids = []
        for number in range(4):
            writer = desk.start(number)
            index.recording_started(writer.recording_id, summary(number))
            ids.append(writer.recording_id)
            fill(writer, 3)
            if number == 1:
                writer.seal(summary(1))  # killed before the index heard of it
            else:
                writer.abandon()
        desk.spool.part_path(ids[2]).write_bytes(b"no header")
        desk.spool.part_path(ids[3]).unlink()  # lost with the power
        recover(desk.spool, index, desk.signer)
        rows = {row["id"]: row for row in index.recordings()}
        assert [rows[name]["state"] for name in ids] == ["recovered", "sealed", "damaged", "damaged"]
        first = rows[ids[0]]
        assert (first["from"], first["to"], first["call_ids"]) == ("1000", "200", ["call-0@192.0.2.1"])
        assert first["duration_s"] == 2.0
        assert first["review"] == {
            "needed": True,
            "causes": ["recovered: the recorder stopped before the call did"],
        }
        assert (first["outcome"], first["capture_drops"]) == ("partial", None)
        assert [row["id"] for row in index.recordings(review=True)] == [ids[0]]
        assert {frozenset(row) for row in rows.values()} == {frozenset(first)}
        assert first["bytes"] == desk.spool.record_path(ids[0]).stat().st_size
        assert first["sha256"] == load_manifest(desk.spool.manifest_path(ids[0]), None).sha256
        assert {row["id"] for row in index.sync_pending("any")} == set(ids[:2])


def test_a_recording_that_the_index_never_knew_is_entered(desk):
    writer = abandoned(desk)
    with Index.open(desk.spool) as index:
        recover(desk.spool, index, desk.signer)
        (row,) = index.recordings()
    assert (row["id"], row["state"], row["started_at"]) == (
        writer.recording_id,
        "recovered",
        "2026-11-21T20:05:01.000Z",
    )
    assert row["tracks"] == []


def test_the_index_is_rebuilt_from_the_files(desk):
    with Index.open(desk.spool) as index:
        for number in range(3):
            desk.enter(index, desk.record(number), number)
        abandoned(desk, 3)
        recover(desk.spool, index, desk.signer)
        before = index.recordings()
    for path in desk.spool.path.glob("index.db*"):
        path.unlink()
    forged = desk.record(4).manifest_path
    forged.write_bytes(forged.read_bytes().replace(b'"200"', b'"911"'))
    with Index.open(desk.spool) as index:
        entered, problems = rebuild(desk.spool, index, desk.signer.public)
        assert index.recordings() == before
        assert entered == 4
        assert [str(forged) in problem for problem in problems] == [True]
        assert rebuild(desk.spool, index, desk.signer.public)[0] == 0


# A disk that is in the way


def test_a_full_disk_during_recovery_loses_nothing(desk, monkeypatch):
    writer = abandoned(desk)
    before = writer.path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("recorderd.spool.durable.write_all", full)
        with pytest.raises(DiskFull):
            recover(desk.spool, None, desk.signer)
    assert writer.path.read_bytes() == before
    assert len(recover(desk.spool, None, desk.signer)) == 1


def test_leftovers_of_a_crash_are_swept(desk):
    sealed = desk.record()
    leftover = sealed.manifest_path.with_name(sealed.manifest_path.name + ".4711.tmp")
    leftover.write_bytes(b"half a manif")
    recover(desk.spool, None, desk.signer)
    assert not leftover.exists()


def test_foreign_files_in_the_spool_are_left_alone(desk):
    day = desk.record().path.parent
    strange = [day / "notes.rec", day / "..rec.part", day / "20250101T000000Z-0123456789.rec.part"]
    for path in strange:
        path.write_bytes(b"not ours")
    assert recover(desk.spool, None, desk.signer) == []
    assert all(path.read_bytes() == b"not ours" for path in strange)
