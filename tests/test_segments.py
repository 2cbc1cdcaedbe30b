"""A recording goes on in a new file where the disk lost the old one."""

import errno
import gc
import os
import weakref

import numpy as np
import pytest

from recorderd.errors import DiskFull
from recorderd.service.kept import MAX_WINDOWS
from recorderd.spool.recovery import recover
from tests.shelf import CALL, PACKETS, STREAMS, Disk, Shelf, complete, lost
from tests.spool_builder import STARTED_US, make_desk, window


@pytest.fixture
def shelf(tmp_path):
    return Shelf(make_desk(tmp_path))


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def test_what_was_not_durable_is_in_the_next_segment(shelf):
    shelf.record(0, 1)
    shelf.commit()
    shelf.record(2)
    shelf.commit()
    shelf.record(3, 4)
    first = shelf.recording.recording_id
    shelf.recording.lose(lost())
    shelf.record(5)
    assert shelf.recording.go_on()
    shelf.record(6)
    sealed = shelf.recording.seal(complete())
    assert shelf.windows(first) == [0, 1, 2, 3, 4]
    found = shelf.left[0][0]
    assert shelf.windows(sealed.recording) == [3, 4, 5, 6]
    assert shelf.previous == {"recording": first, "sha256": found.sha256}
    assert shelf.events == ["call", "stream", "stream"]
    assert sealed.recording in shelf.left[0][1]
    assert [row["previous"] for row in shelf.told] == [first]
    told = shelf.recording.told(complete())
    assert (told["id"], told["segment"], told["previous"]) == (sealed.recording, 1, first)
    assert (told["outcome"], told["review"]["needed"]) == ("complete", False)
    assert "the disk lost it" in told["reason"]
    assert len(shelf.troubles) == 1


def test_a_write_that_fails_is_a_loss_too(shelf, disk):
    shelf.record(0)
    disk.fails = True
    shelf.record(1, 2)
    assert shelf.recording.go_on()
    sealed = shelf.recording.seal(complete())
    assert shelf.windows(sealed.recording) == [0, 1, 2]


def test_the_end_itself_goes_on_in_a_segment(shelf, monkeypatch):
    shelf.record(0, 1)
    first = shelf.recording.recording_id
    real = os.fdatasync

    def failing(descriptor):
        monkeypatch.setattr(os, "fdatasync", real)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", failing)
    sealed = shelf.recording.seal(complete())
    assert sealed.recording != first
    assert shelf.windows(sealed.recording) == [0, 1]
    assert list(shelf.desk.spool.parts()) == []


def test_a_manifest_that_cannot_be_synced_is_written_anew(shelf, monkeypatch):
    """The records are durable: that is no reason for a segment."""
    shelf.record(0)
    first, real = shelf.recording.recording_id, os.fsync
    failures = [2]  # the slot file, and what replaces it

    def failing(descriptor):
        if failures[0]:
            failures[0] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    assert shelf.recording.seal(complete()).recording == first


def test_what_no_file_can_be_made_for_is_kept_and_then_counted(shelf):
    shelf.record(0)
    shelf.broken = DiskFull("no room")
    shelf.recording.lose(lost())
    shelf.record(*range(1, MAX_WINDOWS + 3))
    assert not shelf.recording.go_on()
    assert not shelf.recording.go_on(at_once=True)
    shelf.broken = None
    assert not shelf.recording.go_on()  # not yet again
    sealed = shelf.recording.seal(complete())
    assert shelf.windows(sealed.recording) == list(range(3, MAX_WINDOWS + 3))
    assert shelf.recording.packets_lost == 2 * 20
    told = shelf.recording.told(complete())
    assert (told["outcome"], told["review"]["needed"]) == ("partial", True)
    assert "the disk lost 40 packets" in told["reason"]


def test_what_had_to_make_room_and_is_on_the_disk_is_not_lost(shelf):
    """A commit takes long, and then fails; the disk has everything all the same."""
    shelf.record(*range(MAX_WINDOWS + 5))
    first = shelf.recording.recording_id
    shelf.recording.lose(lost())
    sealed = shelf.recording.seal(complete())
    assert shelf.windows(first) == list(range(MAX_WINDOWS + 5))
    assert shelf.windows(sealed.recording) == list(range(5, MAX_WINDOWS + 5))
    assert shelf.recording.told(complete())["outcome"] == "complete"


def test_a_disk_that_lost_what_it_had_acknowledged_is_told_so(shelf):
    shelf.record(0, 1)
    shelf.commit()
    shelf.record(2)
    shelf.commit()
    shelf.record(3)
    path = shelf.desk.spool.part_path(shelf.recording.recording_id)
    shelf.recording.lose(lost())
    os.truncate(path, path.stat().st_size // 2)
    shelf.recording.seal(complete())
    told = shelf.recording.told(complete())
    assert told["outcome"] == "partial"
    assert "had acknowledged" in told["reason"]


def test_a_file_that_cannot_be_recovered_yet_is_left_for_the_next_start(shelf, monkeypatch):
    shelf.record(0)
    first = shelf.recording.recording_id
    monkeypatch.setattr(shelf, "leave", lambda of, reason: (_ for _ in ()).throw(lost()))
    shelf.recording.lose(lost())
    sealed = shelf.recording.seal(complete())
    assert shelf.windows(sealed.recording) == [0]
    (found,) = recover(shelf.desk.spool, None, shelf.desk.signer)
    assert (found.recording, found.state) == (first, "recovered")
    assert shelf.previous == {"recording": first, "sha256": found.sha256}


def test_events_that_hold_begin_each_segment(shelf):
    for name, facts in (("hold", {"side": "caller", "held": True}), ("paused", {}), ("tone", {"stream": 0})):
        shelf.recording.event({"event": name, "time_us": STARTED_US, **facts})
    shelf.recording.event({"event": "hold", "time_us": STARTED_US + 5, "side": "caller", "held": False})
    shelf.recording.event({"event": "resumed", "time_us": STARTED_US + 6})
    shelf.commit()
    shelf.record(0)
    shelf.commit()
    shelf.record(1)
    shelf.recording.lose(lost())
    sealed = shelf.recording.seal(complete())
    assert shelf.windows(sealed.recording) == [1]
    assert shelf.events == ["call", "stream", "stream", "hold", "resumed"]


def test_a_sync_that_began_before_the_write_makes_nothing_durable(shelf, monkeypatch):
    shelf.record(0)
    shelf.commit()
    write = os.write

    def late(descriptor, data):
        shelf.commit()
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", late)
    shelf.record(1)
    monkeypatch.undo()
    shelf.recording.go_on()
    first = shelf.recording.recording_id
    shelf.recording.lose(lost())
    assert shelf.recording.go_on(at_once=True)
    assert shelf.recording.recording_id != first
    shelf.recording.seal(complete())
    assert shelf.windows(shelf.recording.recording_id) == [1]


def test_an_event_that_no_file_can_have_is_not_written_again(shelf):
    with pytest.raises(ValueError, match="surrogates"):
        shelf.recording.event({**STREAMS[0], "label": "\udcff"})
    shelf.commit()
    shelf.recording.go_on()
    shelf.recording.lose(lost())
    assert shelf.recording.go_on(at_once=True)
    shelf.recording.seal(complete())
    shelf.windows(shelf.recording.recording_id)
    assert shelf.events == ["call", "stream", "stream"]


def test_no_commit_makes_durable_what_waits_for_room(shelf, disk):
    shelf.record(0)
    shelf.commit()
    disk.full(True)
    with pytest.raises(DiskFull):
        shelf.record(1)
    for number in (2, 3):
        shelf.commit()
        with pytest.raises(DiskFull):
            shelf.record(number)
    shelf.commit()
    shelf.recording.go_on()
    disk.full(False)
    shelf.recording.lose(lost())
    assert shelf.recording.go_on(at_once=True)
    sealed = shelf.recording.seal(complete())
    assert shelf.windows(sealed.recording) == [1, 2, 3]
    assert shelf.recording.whole
    assert not shelf.recording.unwritten().packets


def test_what_waited_for_room_is_durable_with_the_commit_after_its_write(shelf, disk):
    disk.full(True)
    for event in ({**CALL, "event": "tone"}, {**CALL, "event": "hold"}):
        with pytest.raises(DiskFull):
            shelf.recording.event(event)
    disk.full(False)
    shelf.record(0)
    disk.full(True)
    with pytest.raises(DiskFull):
        shelf.record(1)
    disk.full(False)
    shelf.commit()
    shelf.record(2)
    shelf.recording.lose(lost())
    assert shelf.recording.go_on(at_once=True)
    second = shelf.recording.recording_id
    shelf.record(3)
    shelf.commit()
    shelf.recording.go_on()
    shelf.record(4)
    shelf.recording.lose(lost())
    assert shelf.recording.go_on(at_once=True)
    sealed = shelf.recording.seal(complete())
    assert shelf.windows(second) == [1, 2, 3, 4]
    assert shelf.events == ["call", "stream", "stream", "hold"]  # which the first has not
    assert shelf.windows(sealed.recording) == [4]
    assert shelf.windows(shelf.recording.earlier[0]) == [0, 1, 2]


def test_what_waits_for_room_may_have_to_make_room(shelf, disk):
    disk.full(True)
    for number in range(MAX_WINDOWS + 2):
        with pytest.raises(DiskFull):
            shelf.record(number)
        shelf.commit()
    disk.full(False)
    shelf.recording.lose(lost())
    assert shelf.recording.go_on(at_once=True)
    sealed = shelf.recording.seal(complete())
    assert shelf.windows(sealed.recording) == [MAX_WINDOWS + 1]
    assert shelf.recording.packets_lost == PACKETS  # of what waited; a writer counts what it refuses
    assert sum(shelf.recording.unwritten().packets.values()) == (MAX_WINDOWS + 1) * PACKETS


def cut(shelf, size: int) -> None:
    """The disk lost the file that is written now, but for so many bytes, and gives no other."""
    shelf.cut(size)
    shelf.recording.lose(lost())
    shelf.broken = DiskFull("no room")
    assert not shelf.recording.go_on(at_once=True)


def assert_told(shelf, missing: list[int], recorded: int) -> None:
    """What is missing is told, and nothing else."""
    shelf.broken = None
    assert shelf.recording.go_on(at_once=True)
    unwritten = sum(shelf.recording.unwritten().packets.values())
    sealed = shelf.recording.seal(complete())
    there = {each for name in shelf.recording.ids for each in shelf.windows(name)}
    assert sealed.recording in shelf.recording.ids
    assert sorted(set(range(recorded)) - there) == missing
    packets = len(missing) * PACKETS
    assert (shelf.recording.packets_lost, unwritten) == (packets, packets)
    assert shelf.recording.whole == (not missing)


def test_what_makes_room_after_its_file_was_left_is_told(shelf):
    shelf.record(0)
    shelf.commit()
    shelf.recording.go_on()
    at = shelf.recording._writer.size
    shelf.record(1)
    cut(shelf, at)
    shelf.record(*range(2, 2 + MAX_WINDOWS))
    assert_told(shelf, [1], 2 + MAX_WINDOWS)


def test_what_makes_room_and_is_in_the_file_that_was_left_is_not_lost(shelf):
    shelf.record(0, 1)
    cut(shelf, shelf.recording._writer.size)
    shelf.record(*range(2, 2 + MAX_WINDOWS))
    assert_told(shelf, [], 2 + MAX_WINDOWS)


@pytest.mark.parametrize("leaves", [True, False])
def test_what_waited_when_its_file_was_lost_and_then_makes_room_is_told(shelf, disk, monkeypatch, leaves):
    def cannot(of, reason):
        raise lost()

    if not leaves:
        monkeypatch.setattr(shelf, "leave", cannot)
    shelf.record(0)
    shelf.commit()
    disk.full(True)
    with pytest.raises(DiskFull):
        shelf.record(1)
    disk.full(False)
    cut(shelf, shelf.recording._writer.size)
    shelf.record(*range(2, 2 + MAX_WINDOWS))
    if leaves:
        assert_told(shelf, [1], 2 + MAX_WINDOWS)
        return
    shelf.broken = None
    assert shelf.recording.go_on(at_once=True)
    assert shelf.recording.packets_lost == PACKETS
    assert not shelf.recording.acknowledged_lost


def test_what_waits_is_noted_behind_what_waited_before_it(shelf, disk):
    disk.room = 0
    with pytest.raises(DiskFull):
        shelf.record(0)
    disk.room = 1
    with pytest.raises(DiskFull):
        shelf.record(1)
    disk.room = None
    cut(shelf, shelf.recording._writer.size)
    shelf.record(*range(2, 2 + MAX_WINDOWS))
    assert_told(shelf, [1], 2 + MAX_WINDOWS)


def test_what_follows_what_waited_is_noted_behind_it(shelf, disk):
    disk.full(True)
    with pytest.raises(DiskFull):
        shelf.record(0)
    disk.full(False)
    shelf.record(1)
    cut(shelf, shelf.size() - 1)
    shelf.record(*range(2, 2 + MAX_WINDOWS))
    assert_told(shelf, [1], 2 + MAX_WINDOWS)


def test_what_was_refused_is_not_in_the_file_that_was_left(shelf, disk):
    disk.full(True)
    for number in (0, 1):
        with pytest.raises(DiskFull):
            shelf.record(number)
    disk.full(False)
    shelf.record(2)
    cut(shelf, shelf.recording._writer.size)
    shelf.record(*range(3, 3 + MAX_WINDOWS))
    assert_told(shelf, [1], 3 + MAX_WINDOWS)


def test_what_was_told_to_be_missing_is_in_no_later_file(shelf, disk):
    shelf.record(0)
    shelf.commit()
    disk.full(True)
    for number in (1, 2, 3):
        with pytest.raises(DiskFull):
            shelf.record(number)
    assert sum(shelf.recording.unwritten().packets.values()) == 2 * PACKETS
    disk.full(False)
    shelf.recording.end(complete())
    shelf.recording.lose(lost())
    shelf.recording.seal(complete())
    there = {each for name in shelf.recording.ids for each in shelf.windows(name)}
    assert there == {0, 1}


def test_what_no_file_can_have_is_refused_without_a_file_too(shelf):
    shelf.recording.lose(lost())
    with pytest.raises(ValueError, match="surrogates"):
        shelf.recording.event({**STREAMS[0], "label": "\udcff"})
    assert shelf.recording.go_on(at_once=True)


def test_a_full_disk_holds_no_window_of_a_call_that_falls_silent(shelf, disk):
    disk.full(True)
    windows = []
    for number in range(MAX_WINDOWS):
        base, rows, payload = window(number)
        held = np.frombuffer(payload.tobytes(), np.uint8).copy()
        windows.append(weakref.ref(held))
        with pytest.raises(DiskFull):
            shelf.recording.media(base, memoryview(rows.tobytes()), held.data)
        del held
    gc.collect()
    assert not any(known() is not None for known in windows)


def test_what_a_full_disk_refused_is_not_held_by_its_errors(shelf, disk):
    """Without the collector of cycles, which looks seldom: what was given up is gone."""
    disk.full(True)
    windows = []
    gc.disable()
    try:
        for number in range(20):
            base, rows, payload = window(number)
            held = np.frombuffer(payload.tobytes(), np.uint8).copy()
            windows.append(weakref.ref(held))
            with pytest.raises(DiskFull):
                shelf.recording.media(base, rows.tobytes(), held.data)
            del held
            shelf.commit()
        assert sum(known() is not None for known in windows) <= MAX_WINDOWS
    finally:
        gc.enable()
