"""What the index knows of how long recordings are kept, and what is left in it of destroyed ones."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from recorderd.spool.database import Json, SpoolDatabase, json_text
from recorderd.spool.times import microseconds

DESTROYING: Final = "destroying"
"""The state of a recording whose destruction has begun."""
DESTROYED: Final = "destroyed"

_KEPT: Final = ("started_at", "duration_s")
"""What is left of a destroyed recording's summary, beside its class."""
_FINISHED = "state IN ('sealed', 'recovered')"
_COLUMNS = "id, state, started_at, sha256, bytes, retention, expires_at, held, present, summary"


class RetentionRows(SpoolDatabase):
    """The part of the index that keeps classes and expiries. Times are texts of RFC 3339."""

    def newest_us(self) -> int:
        """When the newest recording began, in us since 1970; 0 where there is none."""
        (row,) = self.query("SELECT max(started_at) AS newest FROM recordings")
        return microseconds(row["newest"]) if row["newest"] else 0

    def due(self, now: str) -> list[Json]:
        """Finished recordings that have expired, in order of their ids."""
        return self.query(
            f"SELECT {_COLUMNS} FROM recordings WHERE expires_at <= ? AND {_FINISHED} ORDER BY id",  # noqa: S608
            [now],
        )

    def retained(self, ids: Sequence[str] | None = None) -> list[Json]:
        """What is known of how long recordings are kept: of these, or of all finished ones."""
        if ids is None:
            sql = f"SELECT {_COLUMNS} FROM recordings WHERE {_FINISHED} ORDER BY id"  # noqa: S608
            return self.query(sql)
        sql = f"SELECT {_COLUMNS} FROM recordings WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"  # noqa: S608
        return self.query(sql, [json_text(list(ids))])

    def last_changed(self, recording_id: str) -> int | None:
        """The number of the ledger's newest entry that gives a recording another expiry; None for none."""
        sql = "SELECT max(leaf) AS leaf FROM ledger_entries WHERE subject = ? AND kind = 'retention'"
        (row,) = self.query(sql, [recording_id])
        return None if row["leaf"] is None else int(row["leaf"])

    def is_destroyed(self, recording_id: str) -> bool:
        """Whether a recording was destroyed, or is about to be."""
        sql = "SELECT 1 FROM recordings WHERE id = ? AND state IN (?, ?)"
        return bool(self.query(sql, [recording_id, DESTROYING, DESTROYED]))

    def set_retention(self, recording_id: str, name: str | None, expires_at: str | None) -> None:
        """Give a recording another class, or another expiry."""
        self.execute(
            "UPDATE recordings SET retention = ?, expires_at = ? WHERE id = ?",
            [name, expires_at, recording_id],
        )

    def copies_of(self, ids: Sequence[str]) -> list[Json]:
        """Which remotes are known to have had which of these recordings, those not active any more as well:
        ``recording, remote``."""
        sql = "SELECT recording, remote FROM sync WHERE recording IN (SELECT value FROM json_each(?))"
        return self.query(sql, [json_text(list(ids))])

    def destroying(self, ids: Iterable[str]) -> None:
        """The destruction of recordings begins; for who has seen, in the same transaction, that they may be
        destroyed."""
        for each in ids:
            sql = "UPDATE recordings SET state = ? WHERE id = ?"
            self.execute(sql, [DESTROYING, each])

    def destroyed(self, ids: Iterable[str]) -> None:
        """Recordings are gone: of what the index knew of them only times, class and hash are left, and of
        their calls no number."""
        for each in ids:
            rows = self.query("SELECT summary FROM recordings WHERE id = ?", [each])
            summary = self.load(rows[0]["summary"]) if rows else {}
            self.execute(
                "UPDATE recordings SET state = ?, caller = NULL, callee = NULL, call_ids = '[]', review = 0,"
                " path = NULL, present = 0, summary = ? WHERE id = ?",
                [DESTROYED, json_text(_left(summary)), each],
            )
            self.execute("DELETE FROM call_recordings WHERE recording = ?", [each])
            self.execute("DELETE FROM sync WHERE recording = ?", [each])
            self.execute(
                "UPDATE calls SET caller = NULL, callee = NULL, call = json_remove(call, '$.from', '$.to')"
                " WHERE recording = ?",
                [each],
            )

    def forget_alerts(self) -> None:
        """Delivered alerts about destroyed recordings name people: they go, too."""
        self.execute(
            "DELETE FROM alerts WHERE delivered_ns IS NOT NULL AND json_valid(alert) AND"
            " json_extract(alert, '$.fields.recording') IN (SELECT id FROM recordings WHERE state = ?)",
            [DESTROYED],
        )

    def tombstone(self, recording_id: str, facts: Json) -> None:
        """Enter a destroyed recording that the index does not know, with what the ledger says of it."""
        self.execute(
            "INSERT OR IGNORE INTO recordings (id, state, started_at, call_ids, review, sha256, bytes,"
            " summary, present, retention, expires_at) VALUES (?, ?, ?, '[]', 0, ?, ?, ?, 0, ?, ?)",
            [
                recording_id,
                DESTROYED,
                facts.get("started_at"),
                facts.get("sha256"),
                facts.get("bytes"),
                json_text(_left(facts)),
                facts.get("class"),
                facts.get("expires_at"),
            ],
        )


def _left(summary: Json) -> dict[str, Any]:
    return {name: summary[name] for name in _KEPT if summary.get(name) is not None}
