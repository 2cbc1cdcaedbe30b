"""A recording goes on in a new file where the disk lost the old one."""

import errno
import gc
import os
import weakref

import numpy as np
import pytest

from recorderd.errors import DiskFull, SpoolError
from recorderd.service.commit import Rounds
from recorderd.service.kept import MAX_WINDOWS
from recorderd.service.segments import SegmentedRecording
from recorderd.spool.durable import forget_cached
from recorderd.spool.reader import Recording
from recorderd.spool.recovery import recover, recover_part
from recorderd.spool.verify import verify
from recorderd.spool.writer import RecordingWriter
from tests.spool_builder import STARTED_US, make_desk, summary, window

CALL = {"event": "call", "time_us": STARTED_US, "call_id": "a@b"}
STREAMS = [
    {"event": "stream", "stream": number, "time_us": STARTED_US, "track": track}
    for number, track in enumerate(("caller", "callee"))
]


class Shelf:
    """Files of one recording, and what was told of them."""

    def __init__(self, desk) -> None:
        self.desk, self.rounds = desk, Rounds()
        self.troubles, self.told, self.left = [], [], []
        self.broken: Exception | None = None
        writer = desk.start()
        writer.event(CALL)
        self.recording = SegmentedRecording(writer, self.rounds, self, {"id": writer.recording_id}, {}, CALL)
        for event in STREAMS:
            self.recording.event(event)

    def make(self, of, recording, started_ns, previous) -> RecordingWriter:
        if self.broken is not None:
            raise self.broken
        return self.desk.start(1, recording, previous=previous)

    def leave(self, of, reason):
        forget_cached(self.desk.spool.part_path(of.recording_id))
        found = recover_part(self.desk.spool, of.recording_id, self.desk.signer)
        self.left.append((found, reason))
        return found

    def tell(self, of) -> None:
        self.told.append(of.row)

    def trouble_met(self, error) -> None:
        self.troubles.append(error)

    def record(self, *numbers) -> None:
        for number in numbers:
            base, rows, payload = window(number)
            self.recording.media(base, rows.tobytes(), payload.tobytes())

    def commit(self) -> None:
        self.rounds.begun += 1
        self.rounds.done = self.rounds.begun

    def windows(self, name) -> list[int]:
        """Which windows a file has."""
        with Recording.open(self.desk.spool.record_path(name), [self.desk.identity]) as recording:
            times = [media.base_time_us for media in recording.media()]
            self.events = [event["event"] for event in recording.events]
            self.previous = recording.header.core.previous_json
        verdict = verify(self.desk.spool, name, self.desk.signer.public, [self.desk.identity])
        assert verdict.ok, verdict.problems
        return [(time_us - STARTED_US) // 1_000_000 for time_us in times]


@pytest.fixture
def shelf(tmp_path):
    return Shelf(make_desk(tmp_path))


def lost() -> SpoolError:
    return SpoolError("the disk lost it")


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
    sealed = shelf.recording.seal(full())
    assert shelf.windows(first) == [0, 1, 2, 3, 4]
    found = shelf.left[0][0]
    assert shelf.windows(sealed.recording) == [3, 4, 5, 6]
    assert shelf.previous == {"recording": first, "sha256": found.sha256}
    assert shelf.events == ["call", "stream", "stream"]
    assert sealed.recording in shelf.left[0][1]
    assert [row["previous"] for row in shelf.told] == [first]
    told = shelf.recording.told(full())
    assert (told["id"], told["segment"], told["previous"]) == (sealed.recording, 1, first)
    assert (told["outcome"], told["review"]["needed"]) == ("complete", False)
    assert "the disk lost it" in told["reason"]
    assert len(shelf.troubles) == 1


def full() -> dict:
    return {**summary(), "outcome": "complete", "reason": ""}


def test_a_write_that_fails_is_a_loss_too(shelf, monkeypatch):
    shelf.record(0)
    real = os.write

    def failing(descriptor, data):
        monkeypatch.setattr(os, "write", real)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "write", failing)
    shelf.record(1, 2)
    assert shelf.recording.go_on()
    sealed = shelf.recording.seal(full())
    assert shelf.windows(sealed.recording) == [0, 1, 2]


def test_the_end_itself_goes_on_in_a_segment(shelf, monkeypatch):
    shelf.record(0, 1)
    first = shelf.recording.recording_id
    real = os.fdatasync

    def failing(descriptor):
        monkeypatch.setattr(os, "fdatasync", real)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", failing)
    sealed = shelf.recording.seal(full())
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
    assert shelf.recording.seal(full()).recording == first


def test_what_no_file_can_be_made_for_is_kept_and_then_counted(shelf):
    shelf.record(0)
    shelf.broken = DiskFull("no room")
    shelf.recording.lose(lost())
    shelf.record(*range(1, MAX_WINDOWS + 3))
    assert not shelf.recording.go_on()
    assert not shelf.recording.go_on(at_once=True)
    shelf.broken = None
    assert not shelf.recording.go_on()  # not yet again
    sealed = shelf.recording.seal(full())
    assert shelf.windows(sealed.recording) == list(range(3, MAX_WINDOWS + 3))
    assert shelf.recording.packets_lost == 2 * 20
    told = shelf.recording.told(full())
    assert (told["outcome"], told["review"]["needed"]) == ("partial", True)
    assert "the disk lost 40 packets" in told["reason"]


def test_what_had_to_make_room_and_is_on_the_disk_is_not_lost(shelf):
    """A commit takes long, and then fails; the disk has everything all the same."""
    shelf.record(*range(MAX_WINDOWS + 5))
    first = shelf.recording.recording_id
    shelf.recording.lose(lost())
    sealed = shelf.recording.seal(full())
    assert shelf.windows(first) == list(range(MAX_WINDOWS + 5))
    assert shelf.windows(sealed.recording) == list(range(5, MAX_WINDOWS + 5))
    assert shelf.recording.told(full())["outcome"] == "complete"


def test_a_disk_that_lost_what_it_had_acknowledged_is_told_so(shelf):
    shelf.record(0, 1)
    shelf.commit()
    shelf.record(2)
    shelf.commit()
    shelf.record(3)
    path = shelf.desk.spool.part_path(shelf.recording.recording_id)
    shelf.recording.lose(lost())
    os.truncate(path, path.stat().st_size // 2)
    shelf.recording.seal(full())
    told = shelf.recording.told(full())
    assert told["outcome"] == "partial"
    assert "had acknowledged" in told["reason"]


def test_a_file_that_cannot_be_recovered_yet_is_left_for_the_next_start(shelf, monkeypatch):
    shelf.record(0)
    first = shelf.recording.recording_id
    monkeypatch.setattr(shelf, "leave", lambda of, reason: (_ for _ in ()).throw(lost()))
    shelf.recording.lose(lost())
    sealed = shelf.recording.seal(full())
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
    sealed = shelf.recording.seal(full())
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
    shelf.recording.seal(full())
    assert shelf.windows(shelf.recording.recording_id) == [1]


def test_an_event_that_no_file_can_have_is_not_written_again(shelf):
    with pytest.raises(ValueError, match="surrogates"):
        shelf.recording.event({**STREAMS[0], "label": "\udcff"})
    shelf.commit()
    shelf.recording.go_on()
    shelf.recording.lose(lost())
    assert shelf.recording.go_on(at_once=True)
    shelf.recording.seal(full())
    shelf.windows(shelf.recording.recording_id)
    assert shelf.events == ["call", "stream", "stream"]


@pytest.fixture
def is_full(monkeypatch):
    """``is_full(True)``: from now on the disk has no room."""
    real, now = os.write, [False]

    def write(descriptor, data):
        if now[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    return lambda yes: now.__setitem__(0, yes)


def test_no_commit_makes_durable_what_waits_for_room(shelf, is_full):
    shelf.record(0)
    shelf.commit()
    is_full(True)
    with pytest.raises(DiskFull):
        shelf.record(1)
    for number in (2, 3):
        shelf.commit()
        with pytest.raises(DiskFull):
            shelf.record(number)
    shelf.commit()
    shelf.recording.go_on()
    is_full(False)
    shelf.recording.lose(lost())
    assert shelf.recording.go_on(at_once=True)
    sealed = shelf.recording.seal(full())
    assert shelf.windows(sealed.recording) == [1, 2, 3]
    assert shelf.recording.whole
    assert not shelf.recording.unwritten().packets


def test_what_waited_for_room_is_durable_with_the_commit_after_its_write(shelf, is_full):
    is_full(True)
    for event in ({**CALL, "event": "tone"}, {**CALL, "event": "hold"}):
        with pytest.raises(DiskFull):
            shelf.recording.event(event)
    is_full(False)
    shelf.record(0)
    is_full(True)
    with pytest.raises(DiskFull):
        shelf.record(1)
    is_full(False)
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
    sealed = shelf.recording.seal(full())
    assert shelf.windows(second) == [1, 2, 3, 4]
    assert shelf.events == ["call", "stream", "stream", "hold"]  # which the first has not
    assert shelf.windows(sealed.recording) == [4]
    assert shelf.windows(shelf.recording.earlier[0]) == [0, 1, 2]


def test_what_waits_for_room_may_have_to_make_room(shelf, is_full):
    is_full(True)
    for number in range(MAX_WINDOWS + 2):
        with pytest.raises(DiskFull):
            shelf.record(number)
        shelf.commit()
    is_full(False)
    shelf.recording.lose(lost())
    assert shelf.recording.go_on(at_once=True)
    sealed = shelf.recording.seal(full())
    assert shelf.windows(sealed.recording) == [MAX_WINDOWS + 1]
    packets = len(window(0)[1])
    assert shelf.recording.packets_lost == packets  # of what waited; a writer counts what it refuses
    assert sum(shelf.recording.unwritten().packets.values()) == (MAX_WINDOWS + 1) * packets


def cut(shelf, size: int) -> None:
    """The disk lost the file that is written now, but for so many bytes, and gives no other."""
    os.truncate(shelf.desk.spool.part_path(shelf.recording.recording_id), size)
    shelf.recording.lose(lost())
    shelf.broken = DiskFull("no room")
    assert not shelf.recording.go_on(at_once=True)


def assert_told(shelf, missing: list[int], recorded: int) -> None:
    """What is missing is told, and nothing else."""
    shelf.broken = None
    assert shelf.recording.go_on(at_once=True)
    unwritten = sum(shelf.recording.unwritten().packets.values())
    sealed = shelf.recording.seal(full())
    there = {each for name in shelf.recording.ids for each in shelf.windows(name)}
    assert sealed.recording in shelf.recording.ids
    assert sorted(set(range(recorded)) - there) == missing
    packets = len(missing) * len(window(0)[1])
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
def test_what_waited_when_its_file_was_lost_and_then_makes_room_is_told(shelf, is_full, monkeypatch, leaves):
    def cannot(of, reason):
        raise lost()

    if not leaves:
        monkeypatch.setattr(shelf, "leave", cannot)
    shelf.record(0)
    shelf.commit()
    is_full(True)
    with pytest.raises(DiskFull):
        shelf.record(1)
    is_full(False)
    cut(shelf, shelf.recording._writer.size)
    shelf.record(*range(2, 2 + MAX_WINDOWS))
    if leaves:
        assert_told(shelf, [1], 2 + MAX_WINDOWS)
        return
    shelf.broken = None
    assert shelf.recording.go_on(at_once=True)
    assert shelf.recording.packets_lost == len(window(1)[1])
    assert not shelf.recording.acknowledged_lost


def test_what_waits_is_noted_behind_what_waited_before_it(shelf, monkeypatch):
    real, room = os.write, [0]

    def write(descriptor, data):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(DiskFull):
        shelf.record(0)
    room[0] = 1
    with pytest.raises(DiskFull):
        shelf.record(1)
    monkeypatch.undo()
    cut(shelf, shelf.recording._writer.size)
    shelf.record(*range(2, 2 + MAX_WINDOWS))
    assert_told(shelf, [1], 2 + MAX_WINDOWS)


def test_what_was_refused_is_not_in_the_file_that_was_left(shelf, is_full):
    is_full(True)
    for number in (0, 1):
        with pytest.raises(DiskFull):
            shelf.record(number)
    is_full(False)
    shelf.record(2)
    cut(shelf, shelf.recording._writer.size)
    shelf.record(*range(3, 3 + MAX_WINDOWS))
    assert_told(shelf, [1], 3 + MAX_WINDOWS)


def test_what_was_told_to_be_missing_is_in_no_later_file(shelf, is_full):
    shelf.record(0)
    shelf.commit()
    is_full(True)
    for number in (1, 2, 3):
        with pytest.raises(DiskFull):
            shelf.record(number)
    packets = len(window(0)[1])
    assert sum(shelf.recording.unwritten().packets.values()) == 2 * packets
    is_full(False)
    shelf.recording.end(full())
    shelf.recording.lose(lost())
    shelf.recording.seal(full())
    there = {each for name in shelf.recording.ids for each in shelf.windows(name)}
    assert there == {0, 1}


def test_what_no_file_can_have_is_refused_without_a_file_too(shelf):
    shelf.recording.lose(lost())
    with pytest.raises(ValueError, match="surrogates"):
        shelf.recording.event({**STREAMS[0], "label": "\udcff"})
    assert shelf.recording.go_on(at_once=True)


def test_a_full_disk_holds_no_window_of_a_call_that_falls_silent(shelf, is_full):
    is_full(True)
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


def test_what_a_full_disk_refused_is_not_held_by_its_errors(shelf, is_full):
    """Without the collector of cycles, which looks seldom: what was given up is gone."""
    is_full(True)
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
