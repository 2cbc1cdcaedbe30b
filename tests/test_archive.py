"""What the index says of calls and recordings, and when."""

import contextlib
import errno
import os
import signal
import sqlite3
import time
from collections.abc import Iterator

from recorderd.calls.outcomes import RESTARTED
from recorderd.capture.files import open_capture
from recorderd.errors import SpoolError
from recorderd.quality.review import Thresholds
from recorderd.service.archive import SpoolArchive
from recorderd.service.engine import Engine
from recorderd.service.engine_settings import EngineSettings
from recorderd.service.replay import replay
from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity, load_identities, load_recipients
from recorderd.spool.layout import Spool
from recorderd.spool.reader import Recording
from recorderd.spool.recovery import recover
from recorderd.spool.signing import HostKey
from recorderd.spool.verify import verify
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript


def captured(folder, calls=2):
    """A capture file of some calls that are over by its end."""
    simulator = PbxSimulator(seed=5)
    for number in range(calls):
        simulator.add(CallScript(start_s=0.2 * number, talk_s=2))
    path = folder / "calls.pcap"
    simulator.write(path)
    return path


@contextlib.contextmanager
def archive_in(folder) -> Iterator[SpoolArchive]:
    """An archive that commits only when it is told to."""
    generate_identity(folder / "key")
    spool = Spool(folder / "spool").prepare()
    with spool.lock(), Index.open(spool) as index:
        archive = SpoolArchive(
            spool,
            index,
            load_recipients([folder / "key.pub"]),
            HostKey.load_or_create(spool.host_key_path),
            host="test",
            thresholds=Thresholds(),
            commit_s=3600,
        )
        with archive:
            yield archive


def record_and_die(folder, *settling) -> None:
    """Replay calls in a process that dies when these parts of its archive are settled."""
    capture = captured(folder)
    pid = os.fork()
    if pid == 0:
        try:
            with archive_in(folder) as archive:
                replay([capture], Engine(archive, EngineSettings()))
                for part in settling:
                    getattr(archive, part).settle()
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def test_no_outcome_is_told_before_the_recording_is_sealed(tmp_path):
    """Killed after the calls and before a commit: nothing said that they were recorded whole."""
    record_and_die(tmp_path, "journal")
    spool = Spool(tmp_path / "spool")
    with Index.open(spool) as index:
        assert {row["outcome"] for row in index.calls()} == {None}
        assert {row["state"] for row in index.recordings()} == {"recording"}
        found = recover(spool, index, HostKey.load_or_create(spool.host_key_path))
        assert [each.state for each in found] == ["recovered"] * 2
        index.calls_interrupted(RESTARTED)
        assert {(row["outcome"], row["reason"]) for row in index.calls()} == {("partial", RESTARTED)}


def test_what_was_committed_but_not_told_has_its_own_outcome(tmp_path):
    """Killed between the commit and the index: the next start finds them sealed, and complete."""
    record_and_die(tmp_path, "journal", "commit")
    spool = Spool(tmp_path / "spool")
    with Index.open(spool) as index:
        recover(spool, index, HostKey.load_or_create(spool.host_key_path))
        assert {row["state"] for row in index.recordings()} == {"sealed"}
        index.calls_interrupted(RESTARTED)
        assert {row["outcome"] for row in index.calls()} == {"complete"}


def test_a_locked_index_does_not_hold_up_the_capture(tmp_path):
    capture = captured(tmp_path)
    with archive_in(tmp_path) as archive:
        other = sqlite3.connect(archive.spool.index_path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        replay([capture], Engine(archive, EngineSettings()))
        archive.commit.settle()
        assert time.monotonic() - began < 10  # SQLite would have waited for 15 s
        assert archive.recordings_sealed == 2
        other.execute("COMMIT")
        other.close()
    with Index.open(Spool(tmp_path / "spool")) as index:
        assert {row["state"] for row in index.recordings()} == {"sealed"}
        assert {row["outcome"] for row in index.calls()} == {"complete"}


def test_what_a_disk_loses_goes_to_a_new_segment_and_it_is_said_so(tmp_path, monkeypatch):
    """The sync fails, and so does that of the recording itself: what is in memory goes to a new file."""
    capture = captured(tmp_path, calls=1)

    def lost(_) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with archive_in(tmp_path) as archive:
        engine = Engine(archive, EngineSettings())
        frames = list(open_capture(capture))
        for each in frames:
            engine.feed(each)
        start = int(frames[0].time_ns.min())
        engine.advance(start + 3_000_000_000)
        with monkeypatch.context() as broken:
            broken.setattr(Spool, "flush", lambda _: _raise_spool_error())
            broken.setattr(os, "fdatasync", lost)
            archive.commit.settle()
        engine.finish("capture ended")
    assert isinstance(archive.trouble, SpoolError)
    with Index.open(Spool(tmp_path / "spool")) as index:
        (call,) = index.calls()
        assert call["outcome"] == "complete"
        assert "the disk lost what was written" in call["reason"]
        assert "disk" in {alert["kind"] for alert in index.alerts_pending()}
        first, second = sorted(index.recordings(), key=lambda row: row["state"])
        assert (first["state"], second["state"]) == ("recovered", "sealed")
        assert (first["outcome"], second["outcome"]) == ("partial", "complete")
        assert f"goes on in {second['id']}" in first["reason"]
        assert (call["recording"], second["previous"], second["segment"]) == (second["id"], first["id"], 1)
        assert second["started_at"] >= first["started_at"]
        assert not list(recover(Spool(tmp_path / "spool"), index, archive.host_key))
    spool = Spool(tmp_path / "spool")
    identities = load_identities([tmp_path / "key"])
    with Recording.open(spool.record_path(second["id"]), identities) as segment:
        assert segment.header.core.previous_json == {"recording": first["id"], "sha256": first["sha256"]}
        assert segment.status == "complete"
        assert [event["event"] for event in segment.events][:1] == ["call"]
    for row in (first, second):
        verdict = verify(spool, row["id"], archive.host_key.public, identities)
        assert verdict.ok, verdict.problems


def _raise_spool_error() -> None:
    raise SpoolError("Input/output error")
