import json
import multiprocessing
import os
import shutil
import sqlite3
import stat

import pytest

from recorderd.errors import NoSuchRecording, SpoolCorrupt, SpoolError
from recorderd.spool.database import NoIndex
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from tests.bounds import cpu_ms
from tests.read_only import read_only
from tests.spool_builder import STARTED_NS, make_desk, summary


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool").prepare()


@pytest.fixture
def index(spool):
    with Index.open(spool) as index:
        yield index


def name(number: int) -> str:
    return f"20261121T2005{number:02d}Z-{number:010x}"


def finish(index, number, state="sealed", **changes):
    path = f"/spool/{name(number)}.rec"
    index.recording_finished(
        name(number), state, {**summary(number), **changes}, path, "ab" * 32, 1000 + number
    )


# Recordings

CONTRACT = {
    "id",
    "state",
    "call_ids",
    "from",
    "to",
    "started_at",
    "duration_s",
    "tracks",
    "review",
    "sync",
    "sha256",
}


def test_a_recording_from_its_start_to_its_end(index):
    index.recording_started(name(1), {"call_ids": ["a@b"], "started_at": "2026-11-21T20:05:01.000Z"})
    (row,) = index.recordings()
    assert {*CONTRACT, "bytes"} <= set(row)
    assert (row["state"], row["sha256"], row["bytes"], row["from"]) == ("recording", None, None, None)
    assert row["review"] == {"needed": False, "causes": []}
    finish(index, 1, review={"needed": True, "causes": ["caller: silent"]})
    (row,) = index.recordings()
    assert (row["state"], row["sha256"], row["bytes"], row["from"]) == ("sealed", "ab" * 32, 1001, "1001")
    assert row["review"]["causes"] == ["caller: silent"]
    assert index.recording(name(1)) == row
    assert index.has_recording(name(1))


def test_an_unknown_recording(index):
    with pytest.raises(NoSuchRecording, match="nothing"):
        index.recording("nothing")
    assert not index.has_recording("nothing")


def test_the_order_is_that_of_the_contract(index):
    """Start, from, to, call ids, id: the same for the same calls, whatever the ids."""
    same = {"started_at": "2026-11-21T20:05:01.000Z"}
    finish(index, 9, **same, **{"from": "1", "to": "1", "call_ids": ["a"]})
    finish(index, 3, **same, **{"from": "2", "to": "1", "call_ids": ["a"]})
    finish(index, 4, **same, **{"from": "1", "to": "2", "call_ids": ["a"]})
    finish(index, 2, **same, **{"from": "1", "to": "2", "call_ids": ["b"]})
    finish(index, 8, **same, **{"from": "1", "to": "2", "call_ids": ["b"]})
    finish(index, 5, started_at="2026-11-21T20:05:00.999Z")
    assert [row["id"] for row in index.recordings()] == [name(number) for number in (5, 9, 4, 2, 8, 3)]


def test_filters(index):
    for number in range(6):
        finish(index, number, "recovered" if number == 2 else "sealed")
    finish(index, 6, review={"needed": True, "causes": ["x"]}, call_ids=["odd%_", "call-6"])
    ids = lambda **filters: [row["id"] for row in index.recordings(**filters)]  # noqa: E731
    assert ids(since="2026-11-21T20:05:04", until="2026-11-21T20:05:06") == [name(3), name(4)]
    assert ids(number="1003") == [name(3)]
    assert ids(number="100") == [name(number) for number in range(7)]
    assert ids(number="%") == []
    assert ids(call_id="call-4@192.0.2.1") == [name(4)]
    assert ids(call_id="odd%_") == ids(call_id="call-6") == [name(6)]
    assert ids(call_id="call-4") == []
    assert ids(state="recovered") == [name(2)]
    assert ids(review=True) == [name(6)]
    assert ids(limit=2) == [name(5), name(6)]
    assert ids(limit=2, state="sealed", number="1001") == [name(1)]


def test_first_letters_find_ids(index):
    for number in (10, 11, 20):
        finish(index, number)
    assert index.ids_like("20261121T20052") == [name(20)]
    assert index.ids_like("20261121T20051") == [name(10), name(11)]
    assert index.ids_like("%") == index.ids_like("_") == []


def test_peers_text_of_any_kind_is_kept(index):
    texts = ["Jürgen 李 😀", "a\0b", "'; DROP TABLE recordings; --", "\x1b[31m", "\ud800 lone", "x" * 10_000]
    for number, text in enumerate(texts):
        finish(index, number, **{"from": text, "call_ids": [text]})
        call = {
            "call_id": text,
            "first_seen": "2026-11-21T20:05:00.000Z",
            "from": text,
            "outcome": "complete",
        }
        index.call_saved(call)
    assert [row["from"] for row in index.recordings()] == texts
    assert sorted(call["from"] for call in index.calls()) == sorted(texts)


# Calls


def call(number, **changes):
    return {
        "call_id": f"call-{number}",
        "from": f"10{number:02d}",
        "to": "200",
        "first_seen": f"2026-11-21T20:05:{number:02d}.000Z",
        "answered_at": None,
        "ended_at": None,
        "outcome": "complete",
        "reason": "all speakers were recorded",
        "recording": None,
        **changes,
    }


def test_calls_are_kept_and_updated(index):
    index.call_saved(call(2, outcome=None, reason=None))
    index.call_saved(call(1))
    index.call_saved(call(2, recording=name(2)))
    assert index.calls() == [call(1), call(2, recording=name(2))]
    assert index.calls(recording=name(2)) == [call(2, recording=name(2))]


def test_a_call_id_used_again_is_another_call(index):
    index.call_saved(call(1, outcome="unanswered"))
    index.call_saved(call(1, first_seen="2026-11-21T21:00:00.000Z"))
    assert [each["outcome"] for each in index.calls()] == ["unanswered", "complete"]


def test_filters_of_calls(index):
    for number in range(5):
        index.call_saved(call(number, outcome="missing" if number == 3 else "complete"))
    assert index.calls(outcome="missing") == [call(3, outcome="missing")]
    assert index.calls(number="1004") == [call(4)]
    assert index.calls(since="2026-11-21T20:05:01", until="2026-11-21T20:05:02") == [call(1)]
    assert [each["call_id"] for each in index.calls(limit=2)] == ["call-3", "call-4"]


def test_a_call_whose_recording_was_sealed_has_the_outcome_sealed_with_it(index):
    for number, state in ((1, "sealed"), (2, "recovered"), (3, "sealed")):
        facts = {} if number == 3 else {"outcome": "complete" if state == "sealed" else "partial"}
        finish(index, number, state, **facts)
        index.call_saved(call(number, outcome=None, reason=None, recording=name(number)))
    found = index.calls_interrupted("the recorder was restarted", now_ns=STARTED_NS)
    assert [(each["outcome"], each["reason"]) for each in found] == [
        ("complete", ""),
        ("partial", "the recorder was restarted"),
        ("partial", "the recorder was restarted"),
    ]
    assert found[0] == call(1, recording=name(1), reason="")
    first, _ = index.alerts_pending()
    assert first == {
        "id": 1,
        "kind": "recovered",
        "time_ns": STARTED_NS,
        "fields": {"recording": name(2), "call_id": "call-2", "from": "1002", "to": "200"},
    }


def test_calls_that_a_crash_cut_off_get_an_outcome(index):
    index.recording_started(name(1), summary(1))
    index.call_saved(call(0))
    index.call_saved(call(1, call_id="call-1@192.0.2.1", outcome=None, reason=None))
    index.call_saved(call(2, outcome=None, reason=None))
    found = index.calls_interrupted("the recorder was restarted")
    assert [(each["outcome"], each["recording"]) for each in found] == [
        ("partial", name(1)),
        ("missing", None),
    ]
    assert [each["reason"] for each in index.calls()][1:] == ["the recorder was restarted"] * 2
    assert index.calls_interrupted("again") == []


# Alerts


def test_alerts_wait_until_they_are_delivered(index):
    first = index.alert_added({"kind": "review", "recording": name(1)})
    second = index.alert_added({"kind": "review", "recording": name(2)})
    assert index.alerts_pending() == [
        {"kind": "review", "recording": name(1), "id": first},
        {"kind": "review", "recording": name(2), "id": second},
    ]
    index.alert_delivered(first)
    assert [alert["id"] for alert in index.alerts_pending()] == [second]
    assert index.alerts_pending(limit=0) == []


# Remotes


def test_what_a_remote_lacks_is_pending(index):
    index.set_remotes(["nas", "vault"])
    index.recording_started(name(0), summary(0))
    finish(index, 1)
    finish(index, 2, "recovered")
    finish(index, 3, "damaged")
    assert [row["id"] for row in index.sync_pending("nas")] == [name(1), name(2)]
    index.sync_state(name(1), "nas", "verified", sha256="ab" * 32, verified_at="2026-11-21T20:06:00.000Z")
    assert [row["id"] for row in index.sync_pending("nas")] == [name(2)]
    assert [row["id"] for row in index.sync_pending("vault")] == [name(1), name(2)]
    assert index.recording(name(1))["sync"] == [
        {"remote": "nas", "state": "verified", "verified_at": "2026-11-21T20:06:00.000Z"},
        {"remote": "vault", "state": "pending", "verified_at": None},
    ]
    assert index.sync_counts("nas") == {"verified": 1, "failed": 0, "pending": 1, "error": None}


def test_a_failed_copy_waits_for_its_time(index):
    finish(index, 1)
    index.sync_state(name(1), "nas", "failed", error="wrong bytes", next_ns=STARTED_NS + 10)
    assert index.sync_pending("nas", now_ns=STARTED_NS) == []
    (row,) = index.sync_pending("nas", now_ns=STARTED_NS + 10)
    assert row["attempts"] == 1
    assert len(index.sync_pending("nas")) == 1
    assert index.sync_counts("nas")["error"] == "wrong bytes"


@pytest.mark.parametrize("jump_s", [-3600, -5 * 365 * 86_400, 5 * 365 * 86_400])
def test_a_clock_that_jumps_does_not_hold_a_copy_back(index, jump_s):
    finish(index, 1)
    index.sync_state(name(1), "nas", "failed", error="x", next_ns=STARTED_NS + 5 * 10**9)
    assert len(index.sync_pending("nas", now_ns=STARTED_NS + jump_s * 10**9)) == 1


def test_another_store_has_nothing_of_ours(index):
    index.set_remotes(["nas"])
    finish(index, 1)
    index.set_remote_identity("nas", "one")
    index.sync_state(name(1), "nas", "verified", sha256="x", verified_at="t")
    index.set_remote_identity("nas", "one")
    assert index.sync_pending("nas") == []
    index.set_remote_identity("nas", "two")
    assert index.remote_identity("nas") == "two"
    assert len(index.sync_pending("nas")) == 1


def test_remotes_that_are_configured_no_more_are_not_shown(index):
    finish(index, 1)
    index.set_remotes(["old", "new"])
    index.set_remotes(["new"])
    assert [state["remote"] for state in index.recording(name(1))["sync"]] == ["new"]


# The database


def test_a_batch_is_one_transaction(index, spool):
    with Index.open(spool) as other:
        with index.batch():
            finish(index, 1)
            with index.batch():
                finish(index, 2)
            assert other.recordings() == []
        assert len(other.recordings()) == 2
        with pytest.raises(KeyError):
            finish_then_fail(index)
        assert len(index.recordings()) == len(other.recordings()) == 2
        finish(index, 4)
        assert len(other.recordings()) == 3


def finish_then_fail(index):
    with index.batch():
        finish(index, 3)
        index.call_saved({})


def test_it_is_kept(spool):
    with Index.open(spool) as index:
        finish(index, 1)
    with Index.open(spool) as index:
        assert len(index.recordings()) == 1


def work(spool, first, count, barrier):
    barrier.wait()
    with Index.open(spool) as index:
        for number in range(first, first + count):
            with index.batch():
                index.recording_started(name(number), summary(number))
                finish(index, number)
            index.sync_pending("nas")
            index.sync_state(name(number), "nas", "verified", sha256="x", verified_at="t")


def test_two_processes_write_at_once(spool):
    """From the making of the file on; neither ever fails or loses anything."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    workers = [context.Process(target=work, args=(spool, start, 30, barrier)) for start in (0, 30, 60)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with Index.open(spool) as index:
        assert len(index.recordings()) == 90
        assert index.sync_pending("nas") == []


def test_a_writer_waits_for_another(spool, index):
    """A reader inside a batch never gets 'database is locked' because somebody wrote meanwhile."""
    with Index.open(spool) as other:
        other.recordings()
        finish(index, 1)
        with other.batch():
            assert len(other.recordings()) == 1
            finish(other, 2)
    assert len(index.recordings()) == 2


def test_writing_is_cheap(index):
    """A hundred finished calls in one window must not hold the recorder up: well under a millisecond each."""

    def write() -> None:
        with index.batch():
            for number in range(50):
                finish(index, number)
                index.call_saved(call(number))

    assert cpu_ms(write) < 500


@pytest.mark.parametrize(
    "content", [b"this is no database, whatever the name says" * 30, b"SQLite format 3\0" + b"\1" * 5000]
)
def test_a_damaged_index_is_one_clear_error(tmp_path, content):
    spool = Spool(tmp_path / "spool").prepare()
    spool.index_path.write_bytes(content)
    with pytest.raises(SpoolCorrupt, match=r"index\.db"):
        Index.open(spool)


@pytest.mark.parametrize("garbage", ["{", "[]", "", b"\xff\xfe", "[" * 100_000, None])
@pytest.mark.parametrize("table", ["recordings.summary", "calls.call", "alerts.alert", "recordings.call_ids"])
def test_garbage_in_a_column_is_one_clear_error(spool, index, table, garbage):
    finish(index, 1)
    index.call_saved(call(1, outcome=None))
    index.alert_added({"kind": "review"})
    name, column = table.split(".")
    index.close()
    with sqlite3.connect(spool.index_path) as connection:
        connection.execute("PRAGMA ignore_check_constraints=1")
        try:
            connection.execute(f"UPDATE {name} SET {column} = ?", [garbage])
        except sqlite3.IntegrityError:
            return  # NOT NULL
    ways = {
        "recordings": lambda index: index.recordings(call_id="call-1@192.0.2.1"),
        "calls": lambda index: (index.calls(), index.calls_interrupted("x")),
        "alerts": lambda index: index.alerts_pending(),
    }
    with Index.open(spool) as damaged:
        if column == "call_ids" and garbage == "[]":
            assert damaged.recordings(call_id="call-1@192.0.2.1") == []
        elif column == "summary":
            with pytest.raises(SpoolCorrupt, match=r"index\.db"):
                damaged.recordings()
        else:
            with pytest.raises(SpoolCorrupt, match=r"index\.db"):
                ways[name](damaged)


def test_a_missing_table_is_damage(spool, index):
    index.close()
    with sqlite3.connect(spool.index_path) as connection:
        connection.execute("DROP TABLE sync")
    with Index.open(spool) as damaged, pytest.raises(SpoolCorrupt, match="no such table"):
        damaged.sync_counts("nas")


def test_numbers_that_the_database_cannot_hold(index):
    finish(index, 1)
    index.call_saved(call(1))
    assert len(index.recordings(limit=10**30)) == len(index.calls(limit=10**30)) == 1
    with pytest.raises(SpoolCorrupt, match="too large"):
        index.recording_finished(name(2), "sealed", summary(2), "", "", 10**30)


def test_only_owner_and_group_may_read_it(tmp_path):
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "spool").prepare()
        with Index.open(spool) as index:
            finish(index, 1)
            modes = {stat.S_IMODE(path.stat().st_mode) for path in spool.path.glob("index.db*")}
    finally:
        os.umask(before)
    assert modes == {0o640}


# Only reading


def test_a_reader_sees_what_is_written_and_writes_nothing(spool, index):
    with pytest.raises(NoIndex):
        Index.read(Spool(spool.path / "elsewhere"))
    finish(index, 1)
    with Index.read(spool) as reader:
        assert len(reader.recordings()) == 1
        finish(index, 2)
        assert len(reader.recordings()) == 2
        with pytest.raises(SpoolError, match="readonly"):
            finish(reader, 3)
    assert len(index.recordings()) == 2


def test_an_empty_file_is_no_index(spool):
    spool.index_path.touch()
    with pytest.raises(NoIndex):
        Index.read(spool)
    assert spool.index_path.read_bytes() == b""


@pytest.mark.parametrize("log", [False, True])
def test_it_is_read_where_nothing_can_be_written(spool, index, tmp_path, log):
    """With a write-ahead log beside it too, as of a copy that was made while the recorder ran."""
    finish(index, 1)
    if not log:
        index.close()
    copy = Spool(tmp_path / "copy")
    shutil.copytree(spool.path, copy.path, ignore=shutil.ignore_patterns("*-shm"))
    assert copy.index_path.with_name("index.db-wal").exists() == log
    files = sorted(copy.path.iterdir())
    with read_only(copy.path):
        with Index.read(copy) as reader:
            assert [row["id"] for row in reader.recordings()] == [name(1)]
            with pytest.raises(SpoolError):
                finish(reader, 2)
        assert sorted(copy.path.iterdir()) == files


def test_an_index_of_a_later_version_is_left_alone(spool, index):
    with sqlite3.connect(spool.index_path) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(SpoolError, match="newer"):
        Index.open(spool)


def test_no_spool_no_index(tmp_path):
    with pytest.raises(SpoolError, match=r"index\.db"):
        Index.open(Spool(tmp_path / "nowhere"))


def test_a_sealed_recording_as_the_writer_made_it(tmp_path):
    desk = make_desk(tmp_path)
    sealed = desk.record()
    with Index.open(desk.spool) as index:
        desk.enter(index, sealed)
        row = index.recording(sealed.recording)
    assert (row["sha256"], row["bytes"]) == (sealed.sha256, sealed.bytes)


# What a large index relies on


def test_a_recording_is_found_by_the_call_ids_that_it_has(index):
    """Not by those that it was begun with and has no more."""
    index.recording_started(name(1), {**summary(1), "call_ids": ["old", "both"]})
    finish(index, 1, call_ids=["both", "new"])
    found = {text: [row["id"] for row in index.recordings(call_id=text)] for text in ("old", "both", "new")}
    assert found == {"old": [], "both": [name(1)], "new": [name(1)]}


def test_every_state_is_found(index):
    index.recording_started(name(0), summary(0))
    for number, state in enumerate(("sealed", "recovered", "damaged"), 1):
        finish(index, number, state)
    for number, state in enumerate(("recording", "sealed", "recovered", "damaged")):
        assert [row["id"] for row in index.recordings(state=state)] == [name(number)]
    finish(index, 0)
    assert index.recordings(state="recording") == []
    assert [row["id"] for row in index.recordings(review=False, state="sealed")] == [name(0), name(1)]


def test_what_all_remotes_have_comes_back_when_one_loses_it(index):
    """Whatever makes a copy doubtful, it is pending again: for the remote in question alone."""
    pending = lambda: {  # noqa: E731
        remote: [row["id"] for row in index.sync_pending(remote)] for remote in ("nas", "vault")
    }
    index.set_remotes(["nas", "vault"])
    for number in (1, 2):
        finish(index, number)
        for remote in ("nas", "vault"):
            index.sync_state(name(number), remote, "verified", sha256="ab" * 32, verified_at="t")
    assert pending() == {"nas": [], "vault": []}
    assert index.sync_counts("nas") == {"verified": 2, "failed": 0, "pending": 0, "error": None}
    index.sync_state(name(1), "nas", "failed", error="bytes rotted")
    assert pending() == {"nas": [name(1)], "vault": []}
    assert index.sync_counts("nas") == {"verified": 1, "failed": 1, "pending": 0, "error": "bytes rotted"}
    index.sync_forget("vault")
    assert pending() == {"nas": [name(1)], "vault": [name(1), name(2)]}
    index.set_remotes(["nas"])
    assert index.sync_counts("nas")["verified"] == 1
    index.set_remotes(["nas", "third"])
    assert [row["id"] for row in index.sync_pending("third")] == [name(1), name(2)]
    finish(index, 2, "recovered")
    assert index.sync_counts("third") == {"verified": 0, "failed": 0, "pending": 2, "error": None}


def test_asking_reads_an_index_and_not_every_recording(index, spool):
    """The plans of SQLite for what a large index is asked most: no scan of the table, no sorting of all."""
    index.set_remotes(["nas"])
    asked = []
    with Index.open(spool) as other:
        other.trace(asked.append)
        other.recordings(since="2026", until="2027", number="555", limit=50)
        other.recordings(call_id="x")
        other.recordings(state="recording")
        other.recordings(review=True, limit=50)
        other.recordings(limit=50)
        other.sync_pending("nas")
        other.calls(number="555", limit=50)
        other.calls(recording=name(1))
    with sqlite3.connect(spool.index_path) as connection:
        steps = [step for sql in asked for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert len(steps) > len(asked)
    for step in steps:
        assert not step.startswith(("SCAN recordings", "SCAN sync")) or " USING INDEX recordings_" in step


# Earlier versions

VERSION_1 = """
CREATE TABLE recordings (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, started_at TEXT, caller TEXT, callee TEXT,
    call_ids TEXT NOT NULL, review INTEGER NOT NULL, path TEXT, sha256 TEXT, bytes INTEGER,
    summary TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX recordings_by_start ON recordings (started_at, caller, callee, call_ids, id);
CREATE INDEX recordings_by_state ON recordings (state, id);
CREATE TABLE calls (
    call_id TEXT NOT NULL, first_seen TEXT NOT NULL, caller TEXT, callee TEXT, outcome TEXT,
    recording TEXT, call TEXT NOT NULL, PRIMARY KEY (call_id, first_seen)) WITHOUT ROWID;
CREATE INDEX calls_by_time ON calls (first_seen, call_id);
CREATE INDEX calls_by_recording ON calls (recording);
CREATE TABLE alerts (id INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL, delivered_ns INTEGER);
CREATE INDEX alerts_pending ON alerts (id) WHERE delivered_ns IS NULL;
CREATE TABLE remotes (name TEXT PRIMARY KEY, identity TEXT, active INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sync (
    recording TEXT NOT NULL, remote TEXT NOT NULL, state TEXT NOT NULL, sha256 TEXT, verified_at TEXT,
    error TEXT, attempts INTEGER NOT NULL, next_ns INTEGER NOT NULL,
    PRIMARY KEY (recording, remote)) WITHOUT ROWID;
CREATE INDEX sync_by_remote ON sync (remote, state);
PRAGMA user_version=1;
"""


def make_version_1(spool):
    """Two sealed recordings, one of them copied, and one in progress; a call of each, and an alert."""
    with sqlite3.connect(spool.index_path) as connection:
        connection.executescript(VERSION_1)
        for number in range(3):
            facts = summary(number)
            state = "recording" if number == 2 else "sealed"
            row = (name(number), state, facts["started_at"], facts["from"], facts["to"])
            told = (json.dumps(facts["call_ids"]), 0, "x.rec", "ab" * 32, 7, json.dumps(facts))
            connection.execute(f"INSERT INTO recordings VALUES ({','.join('?' * 11)})", row + told)
            known = call(number, outcome=None if number == 2 else "complete", recording=name(number))
            columns = [known[key] for key in ("call_id", "first_seen", "from", "to", "outcome", "recording")]
            connection.execute("INSERT INTO calls VALUES (?,?,?,?,?,?,?)", [*columns, json.dumps(known)])
        connection.execute("INSERT INTO remotes VALUES ('nas', 'one', 1)")
        connection.execute("INSERT INTO sync VALUES (?, 'nas', 'verified', 'x', 't', NULL, 1, 0)", [name(0)])
        connection.execute("INSERT INTO alerts (alert) VALUES ('{}')")
    connection.close()


def look_at_what_version_1_had(index):
    assert [(row["id"], row["state"]) for row in index.recordings()] == [
        (name(0), "sealed"),
        (name(1), "sealed"),
        (name(2), "recording"),
    ]
    assert {**summary(0), "bytes": 7}.items() <= index.recording(name(0)).items()
    assert [row["id"] for row in index.recordings(call_id="call-1@192.0.2.1", number="1001")] == [name(1)]
    assert [each["outcome"] for each in index.calls()] == ["complete", "complete", None]
    assert index.calls(recording=name(1)) == [call(1, recording=name(1))]
    assert [row["id"] for row in index.sync_pending("nas")] == [name(1)]
    assert index.remote_identity("nas") == "one"
    assert len(index.alerts_pending()) == 1


def test_an_index_of_version_1_is_carried_over(spool):
    make_version_1(spool)
    with Index.open(spool) as index:
        look_at_what_version_1_had(index)
        finish(index, 2)
        index.call_saved(call(2, recording=name(2)))
    with Index.open(spool) as index:
        assert [row["id"] for row in index.sync_pending("nas")] == [name(1), name(2)]
        assert len(index.calls()) == 3


def test_an_index_of_version_1_is_read_as_it_is(spool):
    make_version_1(spool)
    before = spool.index_path.read_bytes()
    with Index.read(spool) as index:
        look_at_what_version_1_had(index)
        with pytest.raises(SpoolError, match="readonly"):
            finish(index, 2)
    assert spool.index_path.read_bytes() == before


VERSION_2 = """
ALTER TABLE recordings DROP COLUMN present;
ALTER TABLE recordings DROP COLUMN held;
ALTER TABLE recordings DROP COLUMN retention;
ALTER TABLE recordings DROP COLUMN expires_at;
ALTER TABLE remotes DROP COLUMN state;
ALTER TABLE sync DROP COLUMN versions;
ALTER TABLE sync DROP COLUMN slots_sha256;
ALTER TABLE sync DROP COLUMN checked_at;
DROP TABLE ledger_entries;
DROP TABLE ledger_sync;
DROP TABLE holds;
PRAGMA user_version=2;
"""


SINCE_2 = "".join(
    f"DROP INDEX {name};"
    for name in (
        "recordings_to_expire",
        "recordings_here",
        "recordings_to_evict",
        "recordings_away",
        "sync_checked",
        "sync_stored",
    )
)


def schema(spool):
    with sqlite3.connect(spool.index_path) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            table: [(row[1:4], row[5]) for row in connection.execute(f"PRAGMA table_info({table})")]
            for table in tables
        }


def test_an_index_of_version_2_is_carried_over(spool):
    make_version_1(spool)
    with Index.open(spool) as index:
        look_at_what_version_1_had(index)
    new = schema(spool)
    with sqlite3.connect(spool.index_path) as connection:
        connection.executescript(SINCE_2 + VERSION_2)
    connection.close()
    with Index.open(spool) as index:
        look_at_what_version_1_had(index)
    assert schema(spool) == new
