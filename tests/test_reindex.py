"""The index made anew from the files is the index that was lost."""

import os
import shutil
import signal
import sqlite3
import sys

import pytest

from recorderd.errors import SpoolError
from recorderd.spool.budget import Limits, Room
from recorderd.spool.eviction import Evictor
from recorderd.spool.holds import place, release
from recorderd.spool.index import Index
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import alert_entry, call_entry, enter, learn, ledger_of, recording_entry
from recorderd.spool.reindex import outbox_lock, reindex
from recorderd.spool.stores import LocalStore
from recorderd.spool.sync import Synchronizer
from recorderd.spool.times import rfc3339
from tests.spool_builder import STARTED_US, fill, make_desk, summary
from tests.tools_runner import recorderctl

CONFIG = """\
spool: {path: spool}
encryption: {recipients: [identity.pub], suite: x25519}
sync:
  remotes:
    - {name: nas, type: file, path: nas}
"""


def call(number: int, outcome: str, reason: str, recording: str | None) -> dict[str, object]:
    return {
        "call_id": f"call-{number}@192.0.2.1",
        "from": f"10{number:02d}",
        "to": "200",
        "first_seen": rfc3339(STARTED_US + number * 1_000_000 - 500_000),
        "answered_at": rfc3339(STARTED_US + number * 1_000_000) if outcome != "unanswered" else None,
        "ended_at": rfc3339(STARTED_US + number * 1_000_000 + 3_000_000),
        "outcome": outcome,
        "reason": reason,
        "recording": recording,
    }


@pytest.fixture
def home(tmp_path):
    """A spool with everything: sealed and recovered recordings, one to review, one reviewed, one held, one
    that was held, some evicted, one brought back, one in progress, calls that were not recorded, alerts."""
    desk = make_desk(tmp_path)
    spool = desk.spool
    (tmp_path / "nas").mkdir()
    (tmp_path / "config.yaml").write_text(CONFIG)
    ledger = ledger_of(spool)
    stores = {"nas": LocalStore.create(tmp_path / "nas")}
    with Index.open(spool) as index:
        ids = []
        for number in range(8):
            needed = number in (2, 3)
            told = {**summary(number), "review": {"needed": needed, "causes": ["noise"] if needed else []}}
            writer = desk.start(number)
            fill(writer, 2)
            sealed = writer.seal(told)
            index.recording_finished(
                sealed.recording, "sealed", told, sealed.path, sealed.sha256, sealed.bytes
            )
            row = call(number, "complete", "", sealed.recording)
            index.call_saved(row)
            made = recording_entry(
                sealed.recording, "sealed", sealed.path, sealed.sha256, sealed.bytes, STARTED_US
            )
            enter(ledger, index, [made, call_entry(row, STARTED_US)])
            ids.append(sealed.recording)
        for number, outcome, reason in (
            (20, "missing", "disk full: what is left is kept for the calls in progress"),
            (21, "unanswered", "486 Busy Here"),
            (22, "excluded", "a rule"),
        ):
            row = call(number, outcome, reason, None)
            index.call_saved(row)
            enter(ledger, index, [call_entry(row, STARTED_US)])
        alert = {"kind": "disk", "time_ns": STARTED_US * 1000, "fields": {"full": "80%"}}
        index.alert_added(alert)
        enter(ledger, index, [alert_entry(alert, STARTED_US)])
        running = desk.start(30)
        index.recording_started(running.recording_id, {**summary(30), "tracks": []})
        Synchronizer(spool, index, stores).run(force=True)
        assert recorderctl("--spool", spool.path, "review", ids[3], "--done").code == 0
        place(index, ledger, [ids[4], ids[5]], "case", "a letter", "user root", STARTED_US)
        release(index, ledger, [ids[5]], "case", "closed", "user root", STARTED_US)
        # Two go, one of them comes back.
        room = Room(10**9, 0, sum(index.recording(each)["bytes"] for each in ids), Limits(reserve_bytes=0))
        Evictor(spool, index, stores, ledger).evict(room, relieving=True)
        assert len(index.evicted()) >= 2
        assert recorderctl("-c", tmp_path / "config.yaml", "restore", index.evicted()[0]).code == 0
        learn(ledger, index)
        yield tmp_path, desk, ids
    running.abandon()


def content(index: Index) -> dict[str, object]:
    """All that an index says, but for what only the remotes know."""
    recordings = index.recordings()
    for row in recordings:
        del row["sync"]
        row.pop("duration_s")
    ledger = index.query("SELECT * FROM ledger_entries ORDER BY leaf")
    holds = index.query("SELECT * FROM holds ORDER BY id")
    for row in holds:
        row.pop("id")
    alerts = [{key: value for key, value in alert.items() if key != "id"} for alert in index.alerts_pending()]
    columns = "id, state, started_at, caller, callee, call_ids, review, path, sha256, bytes, held, present"
    rows = index.query(f"SELECT {columns} FROM recordings ORDER BY id")
    return {
        "recordings": recordings,
        "rows": rows,
        "calls": index.calls(),
        "ledger": ledger,
        "holds": holds,
        "alerts": alerts,
        "call_recordings": index.query("SELECT * FROM call_recordings ORDER BY 1, 2"),
    }


@pytest.mark.parametrize("how", ["whole", "gone", "rubbish"])
def test_it_says_the_same_as_before(home, how):
    folder, desk, _ = home
    spool = desk.spool
    with Index.open(spool) as index:
        before = content(index)
        index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if how != "whole":
        for beside in ("", "-wal", "-shm"):
            spool.index_path.with_name(f"index.db{beside}").unlink(missing_ok=True)
        if how == "rubbish":
            spool.index_path.write_bytes(os.urandom(10_000))
        before["alerts"] = []
        for rows in ("recordings", "rows"):
            before[rows] = [row for row in before[rows] if row["state"] != "recording"]
        before["call_recordings"] = [
            row for row in before["call_recordings"] if row["call_id"] != "call-30@192.0.2.1"
        ]
    answer = recorderctl("-c", folder / "config.yaml", "reindex", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["recordings"] == 8
    assert answer.json["calls"] == 11
    assert answer.json["held"] == 1
    assert answer.json["away"] >= 1
    with Index.open(spool) as index:
        after = content(index)
        if how != "whole":
            # Of the call in progress only the file is left, which says when it began.
            (running,) = index.recordings(state="recording")
            assert running["started_at"] == "2026-11-21T20:05:31.000Z"
            for rows in ("recordings", "rows"):
                after[rows] = [row for row in after[rows] if row["state"] != "recording"]
        for part, expected in before.items():
            assert after[part] == expected, part
        assert {row["state"] for row in index.query("SELECT state FROM sync")} == set()
    sent = {path: path.stat().st_mtime_ns for path in (folder / "nas").rglob("*.rec")}
    answer = recorderctl("-c", folder / "config.yaml", "sync", "--json")
    assert {path: path.stat().st_mtime_ns for path in (folder / "nas").rglob("*.rec")} == sent
    assert answer.code == 0, answer.out
    assert answer.json["remotes"][0]["verified"] == 8


def test_not_beside_a_daemon_or_an_outbox(home):
    folder, desk, _ = home
    with desk.spool.lock():
        answer = recorderctl("-c", folder / "config.yaml", "reindex")
    assert answer.code == SpoolError.exit_code
    assert "in use by another recorderd" in answer.err
    with outbox_lock(desk.spool):
        answer = recorderctl("-c", folder / "config.yaml", "reindex")
    assert answer.code == SpoolError.exit_code
    assert "outbox" in answer.err
    assert recorderctl("-c", folder / "config.yaml", "reindex").code == 0


def test_what_went_without_the_ledger_knowing_is_told(home):
    folder, desk, ids = home
    desk.spool.record_path(ids[7]).unlink()
    answer = recorderctl("-c", folder / "config.yaml", "reindex")
    assert answer.code == 0
    assert f"{ids[7]}.rec: gone, and the ledger does not say" in answer.err


def test_a_damaged_manifest_keeps_the_others_from_nothing(home):
    folder, desk, ids = home
    path = desk.spool.manifest_path(ids[6])
    path.write_bytes(path.read_bytes()[:-10])
    answer = recorderctl("-c", folder / "config.yaml", "reindex", "--json")
    assert answer.json["recordings"] == 7
    assert any(ids[6] in problem for problem in answer.json["problems"])


@pytest.mark.parametrize("act", range(1, 8))
def test_a_crash_leaves_the_old_index_or_the_new_one(home, act):
    folder, desk, _ = home
    spool = desk.spool
    with Index.open(spool) as index:
        before = content(index)
    shutil.copytree(spool.path, folder / "kept")
    pid = os.fork()
    if pid == 0:
        try:
            left = act

            def guard(kind: str, arguments: object) -> None:
                nonlocal left
                if kind in ("os.remove", "os.rename") or kind.startswith("sqlite3.connect/"):
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(guard)
            reindex(spool, desk.signer.public)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] in (signal.SIGKILL, 0)
    with sqlite3.connect(spool.index_path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with Index.open(spool) as index:
        assert content(index) == before
    with spool.lock():
        reindex(spool, desk.signer.public)
    with Index.open(spool) as index:
        assert content(index) == before


def test_the_ledger_alone_gives_back_the_calls(home):
    _, desk, _ = home
    entries = [Entry.from_bytes(data) for data in ledger_of(desk.spool).entries()]
    assert sum(entry.kind == "call" for entry in entries) == 11
