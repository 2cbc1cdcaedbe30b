import os
import random
import shutil
import signal
import subprocess
from types import SimpleNamespace

import pytest

from recorderd.errors import RemoteError
from recorderd.spool.index import Index
from recorderd.spool.pacing import LONGEST_PAUSE_S, longest_pause_s
from recorderd.spool.recovery import recover, recover_part
from recorderd.spool.stores import LocalStore, MemoryStore, RemoteOutage, file_hash
from recorderd.spool.sync import Synchronizer, open_remotes
from tests.spool_builder import STARTED_NS, fill, make_desk

SECOND = 1_000_000_000
HOUR = 3600 * SECOND


class Clock:
    def __init__(self):
        self.now = STARTED_NS

    def __call__(self):
        return self.now


@pytest.fixture
def desk(tmp_path):
    return make_desk(tmp_path)


@pytest.fixture
def index(desk):
    with Index.open(desk.spool) as index:
        yield index


@pytest.fixture
def clock():
    return Clock()


def record(desk, index, *numbers):
    recordings = []
    for number in numbers:
        sealed = desk.record(number)
        desk.enter(index, sealed, number)
        recordings.append(sealed)
    return recordings


def states(index, remote="nas"):
    return [
        next(each["state"] for each in row["sync"] if each["remote"] == remote) for row in index.recordings()
    ]


def holds(root, sealed):
    folder = root / sealed.path.parent.name
    files = (sealed.path, sealed.manifest_path, sealed.path.with_suffix(".key"))
    pairs = [(folder / path.name, path) for path in files]
    return all(copy.exists() and copy.read_bytes() == path.read_bytes() for copy, path in pairs)


@pytest.fixture
def nas(tmp_path):
    root = tmp_path / "nas"
    root.mkdir()
    return root


# All is well


def test_recordings_and_manifests_arrive_and_are_verified(desk, index, nas, clock):
    recordings = record(desk, index, 0, 1, 2)
    synchronizer = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)}, clock)
    (report,) = synchronizer.run()
    assert (report.ok, report.verified, report.failed, report.pending) == (True, 3, 0, 0)
    assert all(holds(nas, sealed) for sealed in recordings)
    for row in index.recordings():
        assert row["sync"] == [
            {"remote": "nas", "state": "verified", "verified_at": "2026-11-21T20:05:01.000Z"}
        ]
    # Nothing is done twice.
    (report,) = synchronizer.run()
    assert (report.ok, report.verified) == (True, 0)


def test_a_recovered_recording_is_carried_and_a_running_one_is_not(desk, index, nas):
    dead, running = desk.start(0), desk.start(1)
    fill(dead, 2)
    dead.abandon()
    del running
    recover_part(desk.spool, dead.recording_id, desk.signer, index=index)
    (report,) = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)}).run()
    assert report.verified == 1
    assert [path.name for path in nas.rglob("*Z-*.rec*")] == [f"{dead.recording_id}.rec"]


def test_the_configured_remotes_are_opened(desk, index, nas, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    remotes = [
        SimpleNamespace(name="a", type="file", path=nas),
        SimpleNamespace(name="b", type="file", path=second),
    ]
    (sealed,) = record(desk, index, 0)
    reports = Synchronizer(desk.spool, index, open_remotes(remotes)).run()
    assert [(report.remote, report.ok) for report in reports] == [("a", True), ("b", True)]
    assert holds(nas, sealed)
    assert holds(second, sealed)


def test_progress_is_told(desk, index, nas):
    recordings = record(desk, index, 0, 1)
    steps = []
    Synchronizer(desk.spool, index, {"nas": LocalStore(nas)}).run(progress=steps.append)
    assert {step.recording for step in steps} == {sealed.recording for sealed in recordings}
    assert [(step.number, step.total) for step in steps if step.sent == step.size] == [(1, 2), (2, 2)]


def test_it_stops_when_told_and_goes_on_later(desk, index, nas):
    record(desk, index, 0, 1, 2)
    synchronizer = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)})
    steps = []
    (report,) = synchronizer.run(stopping=lambda: len(steps) > 2, progress=steps.append)
    assert {step.number for step in steps} == {1, 2}
    assert (report.verified, report.pending, report.outage) == (1, 2, False)
    assert synchronizer.run()[0].verified == 2


def test_no_remotes_nothing_to_do(desk, index):
    assert Synchronizer(desk.spool, index, {}).run() == []


# Outages


def outage_missing(root):
    root.rename(root.with_name("elsewhere"))
    return lambda: root.with_name("elsewhere").rename(root)


def outage_not_mounted(root):
    """The mount point is there, and empty: what is copied there would fill the wrong disk."""
    root.rename(root.with_name("elsewhere"))
    root.mkdir()

    def end():
        assert list(root.iterdir()) == []
        root.rmdir()
        root.with_name("elsewhere").rename(root)

    return end


def outage_another_disk(root):
    root.rename(root.with_name("elsewhere"))
    LocalStore.create(root)

    def end():
        assert len(list(root.iterdir())) == 1
        shutil.rmtree(root)
        root.with_name("elsewhere").rename(root)

    return end


@pytest.mark.parametrize("outage", [outage_missing, outage_not_mounted, outage_another_disk])
def test_an_outage_of_three_days_is_caught_up_with(desk, index, nas, clock, outage):
    record(desk, index, 0)
    store = LocalStore(nas)
    synchronizer = Synchronizer(desk.spool, index, {"nas": store}, clock)
    assert synchronizer.run()[0].ok
    end = outage(nas)
    probes = []
    real = store.probe
    store.probe = lambda: probes.append(clock.now) or real()
    for number in range(1, 73):
        clock.now += HOUR
        record(desk, index, *([number] if number % 12 == 0 else []))
        for _ in range(3):  # the outbox looks more often than the remote is asked
            clock.now += 5 * SECOND
            (report,) = synchronizer.run()
            assert report.outage
            assert report.error is not None
    assert report.pending == 6
    assert len(probes) <= 72 * 2
    assert states(index) == ["verified"] + ["pending"] * 6
    end()
    clock.now += LONGEST_PAUSE_S * SECOND
    (report,) = synchronizer.run()
    assert (report.ok, report.verified) == (True, 6)
    assert states(index) == ["verified"] * 7


def test_a_restart_during_an_outage_does_not_forget_the_store(desk, index, nas, clock):
    record(desk, index, 0)
    Synchronizer(desk.spool, index, {"nas": LocalStore(nas)}, clock).run()
    end = outage_not_mounted(nas)
    record(desk, index, 1)
    again = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)}, clock)
    (report,) = again.run()
    assert "mounted" in str(report.error)
    end()
    assert again.run(force=True)[0].ok


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting needs root")
def test_a_remote_that_is_full_or_read_only_is_an_outage(desk, index, tmp_path, clock):
    mount = tmp_path / "disk"
    mount.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], capture_output=True
    ).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        first = record(desk, index, *range(30))
        synchronizer = Synchronizer(desk.spool, index, {"nas": LocalStore(mount)}, clock)
        (report,) = synchronizer.run()
        assert (report.outage, report.failed) == (True, 0)
        assert 0 < report.verified < 30
        subprocess.run(["mount", "-o", "remount,ro,size=1m", str(mount)], check=True)
        (report,) = synchronizer.run(force=True)
        assert (report.outage, report.verified) == (True, 0)
        subprocess.run(["mount", "-o", "remount,rw,size=1m", str(mount)], check=True)
        assert synchronizer.run(force=True)[0].ok
        assert all(holds(mount, sealed) for sealed in first)
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_one_remotes_outage_keeps_no_other_waiting(desk, index, nas, tmp_path, clock):
    (sealed,) = record(desk, index, 0)
    stores = {"gone": LocalStore(tmp_path / "gone"), "nas": LocalStore(nas)}
    gone, fine = Synchronizer(desk.spool, index, stores, clock).run()
    assert gone.outage
    assert fine.ok
    assert holds(nas, sealed)


def test_a_replaced_disk_is_adopted_on_purpose(desk, index, nas, clock):
    (sealed,) = record(desk, index, 0)
    synchronizer = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)}, clock)
    synchronizer.run()
    shutil.rmtree(nas)
    nas.mkdir()
    assert synchronizer.run(force=True)[0].outage
    synchronizer.adopt("nas")
    assert states(index) == ["pending"]
    assert synchronizer.run()[0].ok
    assert holds(nas, sealed)


def test_pauses_grow_and_end():
    pauses = [longest_pause_s(failures) for failures in range(1, 40)]
    assert pauses[:3] == [2, 4, 8]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S


@pytest.mark.parametrize("jump", [-5 * 365 * 24 * HOUR, 5 * 365 * 24 * HOUR])
def test_a_clock_that_jumps_does_not_stop_the_carrying(desk, index, nas, clock, jump):
    record(desk, index, 0)
    synchronizer = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)}, clock)
    end = outage_missing(nas)
    assert synchronizer.run()[0].outage
    end()
    clock.now += jump
    assert synchronizer.run()[0].ok


# Remotes that lie or fail


class Liar(MemoryStore):
    """Takes everything, gives back something else, as often as told."""

    def __init__(self, lies, keep):
        super().__init__()
        self.lies, self.keep, self.puts = lies, keep, 0

    def put(self, name, path, sent=None):
        super().put(name, path, sent)
        if name == "host.pub":
            return
        self.puts += 1
        if self.lies:
            self.lies -= 1
            self.keep(self.objects, name)


def wrong_byte(objects, name):
    objects[name] = objects[name][:-1] + bytes([objects[name][-1] ^ 1])


def lost(objects, name):
    del objects[name]


def stale(objects, name):
    objects[name] = b"x" * len(objects[name])


@pytest.mark.parametrize("keep", [wrong_byte, lost, stale])
def test_what_a_remote_does_not_give_back_is_not_verified(desk, index, clock, keep):
    (sealed,) = record(desk, index, 0)
    liar = Liar(3, keep)
    synchronizer = Synchronizer(desk.spool, index, {"nas": liar}, clock)
    for _ in range(3):
        (report,) = synchronizer.run()
        assert (report.verified, report.failed) == (0, 1)
        assert states(index) == ["failed"]
        # Not again before its time.
        assert synchronizer.run()[0].failed == 0
        clock.now += LONGEST_PAUSE_S * SECOND
    (report,) = synchronizer.run()
    assert report.ok
    assert states(index) == ["verified"]
    assert liar.objects[f"2026-11-21/{sealed.recording}.rec"] == sealed.path.read_bytes()


def test_one_bad_copy_keeps_no_other_waiting(desk, index, clock):
    recordings = record(desk, index, *range(5))
    bad = recordings[2].recording

    class Picky(MemoryStore):
        def put(self, name, path, sent=None):
            if bad in name:
                raise RemoteError("403")
            super().put(name, path, sent)

    (report,) = Synchronizer(desk.spool, index, {"nas": Picky()}, clock).run()
    assert (report.verified, report.failed, report.pending, report.error) == (4, 1, 1, "403")


def test_an_outage_in_the_midst_stops_at_once(desk, index, clock):
    record(desk, index, *range(5))

    class Breaking(MemoryStore):
        puts = 0

        def put(self, name, path, sent=None):
            self.puts += 1
            if self.puts > 4:  # the host's key, and the three files of the first recording
                raise RemoteOutage("connection lost")
            super().put(name, path, sent)

    store = Breaking()
    (report,) = Synchronizer(desk.spool, index, {"nas": store}, clock).run()
    assert (report.verified, report.outage, report.pending) == (1, True, 4)
    assert store.puts == 5


def test_more_failures_than_a_batch_hold_nothing_back(desk, index, clock):
    for number in range(260):
        name = f"20250101T0000{number // 60:02d}Z-{number:010x}"
        index.recording_finished(name, "sealed", {}, "", "0" * 64, 1)
    (sealed,) = record(desk, index, 0)
    (report,) = Synchronizer(desk.spool, index, {"nas": MemoryStore()}, clock).run(force=True)
    assert (report.verified, report.failed) == (1, 260)
    assert index.recording(sealed.recording)["sync"][0]["state"] == "verified"


# A spool that is damaged


def test_a_damaged_original_is_not_sent_and_never_replaces_a_good_copy(desk, index, nas, clock):
    first, second = record(desk, index, 0, 1)
    synchronizer = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)}, clock)
    synchronizer.run()
    good = {path: path.read_bytes() for path in nas.rglob("*Z-*")}
    index.sync_state(first.recording, "nas", "failed", error="to be sent again")
    index.sync_state(second.recording, "nas", "failed", error="to be sent again")
    data = bytearray(first.path.read_bytes())
    data[-30] ^= 1
    first.path.write_bytes(data)
    second.manifest_path.write_bytes(second.manifest_path.read_bytes().replace(b'"200"', b'"911"'))
    (report,) = synchronizer.run()
    assert (report.verified, report.failed) == (0, 2)
    assert states(index) == ["failed", "failed"]
    assert {path: path.read_bytes() for path in nas.rglob("*Z-*")} == good


def test_missing_originals_are_told(desk, index, nas, clock):
    first, second = record(desk, index, 0, 1)
    first.path.unlink()
    second.manifest_path.unlink()
    (report,) = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)}, clock).run()
    assert report.failed == 2
    assert index.sync_counts("nas")["failed"] == 2


def test_index_and_manifest_must_agree(desk, index, nas, clock):
    (sealed,) = record(desk, index, 0)
    index.recording_finished(sealed.recording, "sealed", {}, sealed.path, "0" * 64, sealed.bytes)
    (report,) = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)}, clock).run()
    assert "disagree" in str(report.error)


# The host's key


def test_the_hosts_key_goes_along_once(desk, index, nas):
    record(desk, index, 0)
    store = LocalStore(nas)
    names = []
    real = store.put
    store.put = lambda name, *more: names.append(name) or real(name, *more)
    synchronizer = Synchronizer(desk.spool, index, {"nas": store})
    assert synchronizer.run()[0].ok
    assert synchronizer.run()[0].ok
    assert Synchronizer(desk.spool, index, {"nas": store}).run()[0].ok
    assert names.count("host.pub") == 1
    assert (nas / "host.pub").read_bytes() == desk.spool.host_public_path.read_bytes()


def test_another_recorders_key_is_left_alone_and_told(desk, index, nas):
    (sealed,) = record(desk, index, 0)
    (nas / "host.pub").write_bytes(b"of somebody else")
    synchronizer = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)})
    for verified in (1, 0):
        (report,) = synchronizer.run()
        assert (report.ok, report.verified, report.pending) == (False, verified, 0)
        assert "host.pub there is not the key of this recorder" in report.error
    assert (nas / "host.pub").read_bytes() == b"of somebody else"
    assert holds(nas, sealed)
    (nas / "host.pub").unlink()
    assert synchronizer.run()[0].ok


# Doubts


def test_an_adopted_store_is_believed_nothing(desk, index, nas):
    """Its identity is the same: the folder was emptied, or put back from an old copy of it."""
    first, second = record(desk, index, 0, 1)
    synchronizer = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)})
    synchronizer.run()
    (nas / "2026-11-21" / first.path.name).unlink()
    (nas / "host.pub").unlink()
    synchronizer.adopt("nas")
    assert states(index) == ["pending", "pending"]
    assert synchronizer.run()[0].verified == 2
    assert holds(nas, first)
    assert holds(nas, second)
    assert (nas / "host.pub").exists()


def test_what_went_bad_on_a_remote_is_found_and_sent_again(desk, index, nas):
    recordings = record(desk, index, *range(6))
    copies = [nas / "2026-11-21" / sealed.path.name for sealed in recordings]
    manifests = [nas / "2026-11-21" / sealed.manifest_path.name for sealed in recordings]
    synchronizer = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)})
    synchronizer.run()
    report = synchronizer.recheck("nas")
    assert (report.rechecked, report.damaged, report.error) == (6, [], None)
    copies[0].unlink()
    copies[1].write_bytes(bytes(recordings[1].bytes))
    manifests[2].write_bytes(manifests[2].read_bytes()[:-1])
    manifests[3].unlink()
    steps = []
    report = synchronizer.recheck("nas", progress=steps.append)
    found = [damage.split("Z-")[1].split(".", 1)[1] for damage in report.damaged]
    assert found == ["rec: gone", "rec: damaged", "json: damaged", "json: gone"]
    assert (report.rechecked, len(steps)) == (6, 6)
    assert states(index) == ["failed"] * 4 + ["verified"] * 2
    assert synchronizer.run()[0].verified == 4
    assert all(holds(nas, sealed) for sealed in recordings)


def test_a_damaged_original_does_not_make_a_copy_bad(desk, index, nas):
    first, second, third = record(desk, index, 0, 1, 2)
    synchronizer = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)})
    synchronizer.run()
    first.path.write_bytes(b"")
    second.manifest_path.write_bytes(b"")
    third.manifest_path.unlink()
    copy = nas / "2026-11-21" / third.manifest_path.name
    copy.write_bytes(copy.read_bytes().replace(b'"200"', b'"911"'))
    report = synchronizer.recheck("nas")
    assert [third.recording in damage for damage in report.damaged] == [True]
    assert states(index) == ["verified", "verified", "failed"]


def test_a_remote_that_is_away_says_nothing_about_its_copies(desk, index, nas):
    record(desk, index, 0)
    synchronizer = Synchronizer(desk.spool, index, {"nas": LocalStore(nas)})
    synchronizer.run()
    end = outage_not_mounted(nas)
    report = synchronizer.recheck("nas")
    assert (report.outage, report.rechecked, report.damaged) == (True, 0, [])
    assert "mounted" in report.error
    assert states(index) == ["verified"]
    end()
    assert synchronizer.recheck("nas").rechecked == 1


# Killed


def test_what_was_sent_but_not_noted_is_read_back_and_not_sent_again(desk, index, clock):
    (sealed,) = record(desk, index, 0)
    store = Liar(0, lost)
    store.put(f"2026-11-21/{sealed.recording}.rec", sealed.path)
    store.put(f"2026-11-21/{sealed.recording}.json", sealed.manifest_path)
    store.put(f"2026-11-21/{sealed.recording}.key", desk.spool.slot_path(sealed.recording))
    (report,) = Synchronizer(desk.spool, index, {"nas": store}, clock).run()
    assert report.verified == 1
    assert store.puts == 3


def test_an_older_object_of_the_same_size_is_replaced(desk, index, nas, clock):
    (sealed,) = record(desk, index, 0)
    copy = nas / "2026-11-21" / sealed.path.name
    copy.parent.mkdir()
    copy.write_bytes(bytes(sealed.bytes))
    assert Synchronizer(desk.spool, index, {"nas": LocalStore(nas)}, clock).run()[0].ok
    assert holds(nas, sealed)


def test_killed_at_any_moment_it_goes_on(desk, index, nas):
    """What is noted as verified is there; what is there is in the end verified; nothing half done is ever
    seen."""
    recordings = record(desk, index, *range(12))
    index.close()
    chance = random.Random(3)
    for _ in range(12):
        pid = os.fork()
        if pid == 0:
            try:
                with Index.open(desk.spool) as mine:
                    Synchronizer(desk.spool, mine, {"nas": LocalStore(nas)}).run(force=True)
            finally:
                os._exit(0)
        try:
            os.kill(pid, 0)
            signal.sigtimedwait([], chance.uniform(0.005, 0.04))
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        with Index.open(desk.spool) as mine:
            for sealed, row in zip(recordings, mine.recordings(), strict=True):
                if row["sync"] and row["sync"][0]["state"] == "verified":
                    assert holds(nas, sealed)
                copy = nas / "2026-11-21" / sealed.path.name
                assert not copy.exists() or file_hash(copy) == sealed.sha256
    with Index.open(desk.spool) as mine:
        (report,) = Synchronizer(desk.spool, mine, {"nas": LocalStore(nas)}).run(force=True)
        assert report.ok
    assert all(holds(nas, sealed) for sealed in recordings)
    assert recover(desk.spool, None, desk.signer) == []
