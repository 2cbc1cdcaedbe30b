"""A recording goes on in a new file where the disk lost the old one."""

import errno
import os

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
