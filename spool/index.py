"""The index of a spool: recordings, calls, alerts and what each remote has, in SQLite.

It can be rebuilt from the manifests (:mod:`recorderd.spool.rebuild`), calls and alerts apart. Every method
raises SpoolCorrupt, DiskFull or SpoolError where the database cannot serve. Times are texts of RFC 3339 in
UTC, as they are shown; those that are only compared are integers in ns since 1970.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from recorderd.errors import NoSuchRecording
from recorderd.spool.database import Json, database_text, filters, json_text, row_limit
from recorderd.spool.index_calls import CallRows
from recorderd.spool.index_holds import HoldRows
from recorderd.spool.index_ledger import LedgerRows
from recorderd.spool.index_retention import DESTROYED, RetentionRows
from recorderd.spool.index_room import RoomRows
from recorderd.spool.index_sync import SyncRows

# What `list --json` always has.
_RECORDING: Json = {
    "id": None,
    "state": "recording",
    "call_ids": [],
    "from": None,
    "to": None,
    "started_at": None,
    "duration_s": None,
    "tracks": [],
    "review": {"needed": False, "causes": []},
    "sync": [],
    "sha256": None,
    "bytes": None,
    "present": True,
    "outcome": None,
    "capture_drops": None,
    "retention": None,
    "held": False,
}


_IN_COLUMNS = {"id", "state", "sha256", "bytes", "held", "present", "sync"}
_COLUMNS = "id, state, sha256, bytes, summary, retention, expires_at, held, present"
_ORDER = ("started_at", "caller", "callee", "call_ids", "id")
_PUT = """INSERT INTO recordings
    (id, state, started_at, caller, callee, call_ids, review, path, sha256, bytes, summary,
    retention, expires_at)"""
_PUT_AGAIN = """ON CONFLICT (id) DO UPDATE SET state = excluded.state, started_at = excluded.started_at,
    caller = excluded.caller, callee = excluded.callee, call_ids = excluded.call_ids,
    review = excluded.review, path = excluded.path, sha256 = excluded.sha256, bytes = excluded.bytes,
    summary = excluded.summary,
    retention = CASE WHEN recordings.state = 'recording' OR recordings.retention IS NULL
        THEN excluded.retention ELSE recordings.retention END,
    expires_at = CASE WHEN recordings.state = 'recording' OR recordings.retention IS NULL
        THEN excluded.expires_at ELSE recordings.expires_at END"""


class Index(CallRows, HoldRows, LedgerRows, RetentionRows, RoomRows, SyncRows):
    """An open index: :meth:`open` it (or :meth:`read` it), use it as a context manager or :meth:`close` it.

    One thread's own.
    """

    def recording_started(self, recording_id: str, summary: Json) -> None:
        """A recording has begun (or what is known of it has changed). ``summary`` holds keys of the list
        contract."""
        self.recordings_started([(recording_id, summary)])

    def recordings_started(self, each: Iterable[tuple[str, Json]]) -> None:
        """The same with the arguments of several."""
        self._put_recordings([(name, "recording", summary, None, None, None) for name, summary in each])

    def recording_finished(
        self,
        recording_id: str,
        state: str,
        summary: Json,
        path: Path | str,
        sha256: str | None,
        size: int | None,
        text: bytes | None = None,
    ) -> None:
        """A recording was sealed, recovered or damaged. ``sha256`` (hex) and ``size`` are of the whole
        file, ``text`` is the summary's JSON, for who has that already."""
        self.recordings_finished([(recording_id, state, summary, path, sha256, size, text)])

    def recordings_finished(self, each: Iterable[tuple[Any, ...]]) -> None:
        """The same with the arguments of several."""
        self._put_recordings(list(each))

    def recordings(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        number: str | None = None,
        call_id: str | None = None,
        state: str | None = None,
        review: bool | None = None,
        limit: int | None = None,
    ) -> list[Json]:
        """Recordings of the list contract, in order of start, from, to, call ids and id.

        ``since`` (inclusive) and ``until`` (exclusive) are compared with ``started_at`` as text; ``number``
        is part of ``from`` or ``to``; ``limit`` keeps the newest.
        """
        where, values = filters(
            ("started_at >= ?", since),
            ("started_at < ?", until),
            (_state_clause(state), state),
            ("(instr(caller, ?) OR instr(callee, ?))", number),
            # By the Call-IDs that it ever had, then by those it has.
            ("id IN (SELECT recording FROM call_recordings WHERE call_id = ?)", call_id),
            ("EXISTS (SELECT 1 FROM json_each(call_ids) WHERE value = ?)", call_id),
        )
        if review is not None:
            where += f" AND review = {int(review)}"
        newest = ", ".join(f"{column} DESC" for column in _ORDER)
        sql = f"SELECT {_COLUMNS} FROM recordings WHERE {where} ORDER BY {newest} LIMIT ?"  # noqa: S608
        rows = self.query(sql, [*values, row_limit(limit)])
        rows.reverse()
        return self._with_sync(rows)

    def recording(self, recording_id: str) -> Json:
        """One recording of the list contract; raises NoSuchRecording."""
        rows = self.query(f"SELECT {_COLUMNS} FROM recordings WHERE id = ?", [recording_id])  # noqa: S608
        if not rows:
            raise NoSuchRecording(f"{recording_id}: no such recording in the index")
        return self._with_sync(rows)[0]

    def has_recording(self, recording_id: str) -> bool:
        """Whether the index knows this id."""
        return bool(self.query("SELECT 1 FROM recordings WHERE id = ?", [recording_id]))

    def ids_like(self, prefix: str, limit: int = 3) -> list[str]:
        """Recording ids that begin so; for people who type the first letters."""
        sql = "SELECT id FROM recordings WHERE id >= ? AND substr(id, 1, ?) = ? ORDER BY id LIMIT ?"
        return [row["id"] for row in self.query(sql, [prefix, len(prefix), prefix, limit])]

    def _put_recordings(self, each: Sequence[tuple[Any, ...]]) -> None:
        self.insert(_PUT, (_values(*told) for told in each), _PUT_AGAIN)
        for recording_id, _, summary, *_ in each:
            self.hold_if_concerned(recording_id, summary)
        calls = ((name, told[0]) for told in each for name in told[2].get("call_ids") or ())
        self.insert(
            "INSERT OR IGNORE INTO call_recordings", ((database_text(name), of) for name, of in calls)
        )

    def _retention(self, row: Json) -> Json | None:
        """How long a recording is kept: what was sealed with it, and what holds now."""
        if row["retention"] is None:
            return None
        sealed = self.load(row["summary"]).get("retention") or {}
        return {**sealed, "class": row["retention"], "expires_at": row["expires_at"]}

    def _with_sync(self, rows: list[Json]) -> list[Json]:
        """Rows of the table as objects of the list contract."""
        remotes = [row["name"] for row in self.query("SELECT name FROM remotes WHERE active ORDER BY name")]
        states: dict[tuple[str, str], Json] = {}
        if remotes and rows:
            sql = (
                "SELECT recording, remote, state, verified_at FROM sync"
                " WHERE recording IN (SELECT value FROM json_each(?))"
            )
            for row in self.query(sql, [json.dumps([row["id"] for row in rows])]):
                states[row["recording"], row["remote"]] = row
        return [
            {
                **_RECORDING,
                **self.load(row["summary"]),
                "id": row["id"],
                "state": row["state"],
                "sha256": row["sha256"],
                "bytes": row["bytes"],
                "retention": self._retention(row),
                "held": bool(row["held"]),
                "present": bool(row["present"]),
                "sync": [
                    _sync_json(remote, states.get((row["id"], remote)))
                    for remote in remotes
                    if row["state"] != DESTROYED
                ],
            }
            for row in rows
        ]


def _values(
    recording_id: str,
    state: str,
    summary: Json,
    path: Path | str | None,
    sha256: str | None,
    size: int | None,
    text: bytes | None = None,
) -> list[object]:
    """A row as it is put into the table."""
    review = summary.get("review") or {}
    kept = summary.get("retention") or {}
    return [
        recording_id,
        state,
        summary.get("started_at"),
        database_text(summary.get("from")),
        database_text(summary.get("to")),
        json_text(summary.get("call_ids") or []),
        int(bool(review.get("needed"))),
        None if path is None else str(path),
        sha256,
        size,
        text.decode("ascii") if text is not None and text.isascii() else _text(summary),
        kept.get("class"),
        kept.get("expires_at"),
    ]


def _text(summary: Json) -> str:
    """What a summary has to say: what columns hold and what is meant anyway need no text."""
    return json_text(
        {
            key: value
            for key, value in summary.items()
            if key not in _IN_COLUMNS and (key not in _RECORDING or value != _RECORDING[key])
        }
    )


def _state_clause(state: str | None) -> str:
    # Said twice, so that SQLite sees that the index of those that are not sealed has them all.
    return "state = ?" if state == "sealed" else "state = ? AND state != 'sealed'"


def _sync_json(remote: str, row: Json | None) -> Json:
    state = "pending" if row is None else row["state"]
    return {"remote": remote, "state": state, "verified_at": None if row is None else row["verified_at"]}
