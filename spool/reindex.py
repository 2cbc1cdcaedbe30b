"""The whole index made anew from the files: manifests, ledger, recordings in progress.

It is made beside the old one and takes its place in one rename, so a crash leaves either of them. Of an old
index that can still be read, what no file has is taken along: alerts that were not delivered, and which store
each remote is.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recorderd.errors import RecorderError, SpoolCorrupt, SpoolError
from recorderd.spool.database import Json
from recorderd.spool.destruction_progress import half_destroyed
from recorderd.spool.durable import disk_error, sync_folder
from recorderd.spool.holds import restore_holds
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import learn, ledger_of
from recorderd.spool.rebuild import enter_parts, rebuild
from recorderd.spool.signing import HostPublic
from recorderd.spool.times import rfc3339

OUTBOX_LOCK = "outbox.lock"
_BATCH = 500


@dataclass
class Reindexed:
    """How many of each were entered, and what was wrong with files that were not."""

    recordings: int = 0
    away: int = 0
    calls: int = 0
    held: int = 0
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For ``reindex --json``."""
        counts = {"recordings": self.recordings, "away": self.away, "calls": self.calls, "held": self.held}
        return {**counts, "problems": list(self.problems)}


@contextlib.contextmanager
def outbox_lock(spool: Spool) -> Iterator[None]:
    """Held by who uses the index for long without the spool's lock. Raises SpoolError where another does."""
    path = spool.path / OUTBOX_LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise disk_error(error, path) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SpoolError(f"{spool.path}: in use by another recorderd outbox") from None
    finally:
        os.close(descriptor)


def reindex(
    spool: Spool, public: HostPublic | None, told: Callable[[str], None] = lambda _: None
) -> Reindexed:
    """Make the index anew, with the spool's lock taken through ``spool``. ``told`` gets what is being done.

    Raises DiskFull and SpoolError: the old index is as it was then.
    """
    fresh = Spool(spool.path, spool.recordings)
    fresh.index_path = spool.index_path.with_name(spool.index_path.name + ".new")
    _remove(fresh.index_path)
    with Index.open(fresh) as index:
        done = _fill(spool, index, public, told)
        _take_along(spool, index, done)
        index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # Without a log beside it, one file is all there is to rename.
        index.execute("PRAGMA journal_mode=DELETE")
    _put_in_place(fresh.index_path, spool.index_path)
    return done


def _fill(spool: Spool, index: Index, public: HostPublic | None, told: Callable[[str], None]) -> Reindexed:
    done = Reindexed()
    told("manifests")
    done.recordings, done.problems = rebuild(spool, index, public)
    enter_parts(spool, index)
    told("ledger")
    take_ledger(spool, index, done)
    _mark_half_destroyed(spool, index, done)
    away = index.evicted()
    done.away = len(away)
    for each in away:
        if not index.ledger_rows(kind="evicted", subject=each, limit=1):
            done.problems.append(
                f"{spool.record_path(each)}: gone, and the ledger does not say that it was to go"
            )
    return done


def _mark_half_destroyed(spool: Spool, index: Index, done: Reindexed) -> None:
    """What a `purge` has to go on with: its keys may be gone already, so it is too late for a hold."""
    try:
        with index.batch():
            index.destroying(name for name in half_destroyed(spool) if not index.is_destroyed(name))
    except SpoolCorrupt as error:
        done.problems.append(str(error))


def take_ledger(spool: Spool, index: Index, done: Reindexed) -> None:
    """Enter what the ledger says of calls, reviews, holds, periods and what was destroyed; the recordings are
    entered already."""
    ledger = ledger_of(spool)
    if not ledger.path.is_dir():
        return
    try:
        learn(ledger, index)
        done.calls = _replay(ledger, index)
        done.held = restore_holds(index, ledger)
    except SpoolCorrupt as error:
        done.problems.append(str(error))


def _replay(ledger: Ledger, index: Index) -> int:
    """What the ledger says of calls and of reviews; how many calls."""
    calls: set[tuple[str, str]] = set()
    entries = ledger.entries()
    while batch := [data for _, data in zip(range(_BATCH), entries, strict=False)]:
        with index.batch():
            for entry in map(Entry.from_bytes, batch):
                if entry.kind == "call":
                    row = {name: value for name, value in entry.fields.items() if value is not None}
                    if {"call_id", "first_seen"} <= row.keys():
                        index.call_saved(_whole(row))
                        calls.add((row["first_seen"], row["call_id"]))
                elif entry.kind == "reviewed" and index.has_recording(entry.subject):
                    note, by = entry.fields.get("note"), str(entry.fields.get("by") or "")
                    index.recording_reviewed(entry.subject, by, rfc3339(entry.time_us), note)
    return len(calls)


def _whole(row: Json) -> Json:
    return {
        **dict.fromkeys(("from", "to", "answered_at", "ended_at", "outcome", "reason", "recording")),
        **row,
    }


def _take_along(spool: Spool, index: Index, done: Reindexed) -> None:
    """What only the old index knows, where it can be read."""
    if not spool.index_path.exists():
        return
    try:
        with Index.read(spool) as old:
            alerts = old.query(
                "SELECT alert, delivered_ns FROM alerts WHERE delivered_ns IS NULL ORDER BY id"
            )
            remotes = old.query("SELECT name, identity, active FROM remotes")
            open_calls = old.query("SELECT call FROM calls WHERE outcome IS NULL")
            running = old.recordings(state="recording")
    except RecorderError as error:
        done.problems.append(f"the old index: {error}")
        return
    with index.batch():
        for row in alerts:
            index.execute("INSERT INTO alerts (alert) VALUES (?)", [row["alert"]])
        for row in remotes:
            index.execute(
                "INSERT OR REPLACE INTO remotes (name, identity, active) VALUES (?, ?, ?)", [*row.values()]
            )
        for row in open_calls:
            index.call_noted(_whole(index.load(row["call"])))
        for row in running:
            if spool.part_path(row["id"]).exists():
                index.recording_started(row["id"], row)
        # Of what is entered anew nobody knows yet where it is.
        index.execute("UPDATE recordings SET carried = 0")


def _put_in_place(new: Path, old: Path) -> None:
    try:
        descriptor = os.open(new, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # A log of the old index must never be taken for one of the new: without it the old one is only older.
        for beside in ("-wal", "-shm"):
            old.with_name(old.name + beside).unlink(missing_ok=True)
        new.rename(old)
        sync_folder(old.parent)
    except OSError as error:
        raise disk_error(error, old) from None


def _remove(path: Path) -> None:
    """What an earlier try left."""
    for beside in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
