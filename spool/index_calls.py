"""Calls with their outcomes, and the alerts that wait for delivery."""

import time
from collections.abc import Collection, Iterable

from recorderd.spool.database import Json, SpoolDatabase, database_text, filters, json_text, row_limit

CALL_KEYS = (
    "call_id",
    "from",
    "to",
    "first_seen",
    "answered_at",
    "ended_at",
    "outcome",
    "reason",
    "recording",
)
_UNKNOWN = dict.fromkeys(CALL_KEYS)


class CallRows(SpoolDatabase):
    """The part of the index that accounts for every call."""

    def call_saved(self, call: Json) -> None:
        """A call's outcome, keys as in ``calls --json``; the same Call-ID with the same ``first_seen`` is
        updated."""
        self.calls_saved([(call,)])

    def calls_saved(self, each: Iterable[tuple[Json]]) -> None:
        """The same with the arguments of several."""
        self.insert("INSERT OR REPLACE INTO calls", (_values(*arguments) for arguments in each))

    def call_noted(self, call: Json) -> None:
        """A call that is there; as :meth:`call_saved`, but what has an outcome stays as it is."""
        self.calls_noted([(call,)])

    def calls_noted(self, each: Iterable[tuple[Json]]) -> None:
        """The same with the arguments of several."""
        self.insert(
            "INSERT INTO calls",
            (_values(*arguments) for arguments in each),
            "ON CONFLICT DO UPDATE SET caller = excluded.caller, callee = excluded.callee,"
            " outcome = excluded.outcome, recording = excluded.recording, call = excluded.call"
            " WHERE calls.outcome IS NULL",
        )

    def calls(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        number: str | None = None,
        outcome: str | None = None,
        recording: str | None = None,
        limit: int | None = None,
    ) -> list[Json]:
        """Calls in order of ``first_seen`` and Call-ID; filters as for :meth:`recordings`."""
        where, values = filters(
            ("first_seen >= ?", since),
            ("first_seen < ?", until),
            ("outcome = ?", outcome),
            ("recording = ?", recording),
            ("(instr(caller, ?) OR instr(callee, ?))", number),
        )
        order = "ORDER BY first_seen DESC, call_id DESC LIMIT ?"
        sql = f"SELECT call FROM calls WHERE {where} {order}"  # noqa: S608
        rows = self.query(sql, [*values, row_limit(limit)])
        return [self._call(row) for row in reversed(rows)]

    def _call(self, row: Json) -> Json:
        return {**_UNKNOWN, **self.load(row["call"])}

    def calls_interrupted(
        self, reason: str, *, now_ns: int | None = None, only: Collection[tuple[str, str]] | None = None
    ) -> list[Json]:
        """Give an outcome to the calls that a crash left without one; returns them.

        ``only`` those (``first_seen`` and Call-ID), where not everything crashed.

        To be called after the recovery of the recordings. One whose recording turned out to be sealed has the
        outcome that was sealed with it. One whose recording was begun becomes ``partial``, and an alert of
        kind ``recovered`` waits; any other becomes ``missing``; both for ``reason``.
        """
        now = time.time_ns() if now_ns is None else now_ns
        found = []
        with self.batch():
            for row in self.query(
                "SELECT call FROM calls WHERE outcome IS NULL ORDER BY first_seen, call_id"
            ):
                call = self._call(row)
                if only is not None and (call["first_seen"], call["call_id"]) not in only:
                    continue
                call["recording"] = call["recording"] or self._recording_of(call["call_id"])
                sealed = self._sealed_summary(call["recording"])
                if sealed is not None:
                    call.update(outcome=sealed["outcome"], reason=sealed.get("reason") or "")
                else:
                    call.update(outcome="partial" if call["recording"] else "missing", reason=reason)
                    if call["recording"]:
                        self.alert_added(recovered_alert(call, now))
                self.call_saved(call)
                found.append(call)
        return found

    def _sealed_summary(self, recording: str | None) -> Json | None:
        """What was sealed with a recording, where that says what became of its call."""
        rows = self.query("SELECT summary FROM recordings WHERE id = ? AND state = 'sealed'", [recording])
        summary = self.load(rows[0]["summary"]) if rows else {}
        return summary if isinstance(summary.get("outcome"), str) else None

    def _recording_of(self, call_id: str) -> str | None:
        """The newest recording of a Call-ID (which may have been used before)."""
        rows = self.query(
            "SELECT id FROM call_recordings JOIN recordings ON id = recording WHERE call_id = ?"
            " AND state != 'damaged' AND EXISTS (SELECT 1 FROM json_each(call_ids) WHERE value = call_id)"
            " ORDER BY id DESC LIMIT 1",
            [database_text(call_id)],
        )
        return rows[0]["id"] if rows else None

    def alert_added(self, alert: Json) -> int:
        """Keep an alert until it was delivered; returns its number."""
        cursor = self.execute("INSERT INTO alerts (alert) VALUES (?)", [json_text(alert)])
        return int(cursor.lastrowid or 0)

    def alerts_pending(self, limit: int = 100) -> list[Json]:
        """Alerts not yet delivered, oldest first, each with its number as ``id``."""
        sql = "SELECT id, alert FROM alerts WHERE delivered_ns IS NULL ORDER BY id LIMIT ?"
        return [{**self.load(row["alert"]), "id": row["id"]} for row in self.query(sql, [limit])]

    def alert_delivered(self, alert_id: int, now_ns: int | None = None) -> None:
        """An alert has reached its receiver."""
        now = time.time_ns() if now_ns is None else now_ns
        self.execute("UPDATE alerts SET delivered_ns = ? WHERE id = ?", [now, alert_id])


def recovered_alert(call: Json, now_ns: int) -> Json:
    """The alert of a call whose recording a crash cut off."""
    fields = {key: call[key] for key in ("recording", "call_id", "from", "to")}
    return {"kind": "recovered", "time_ns": now_ns, "fields": fields}


def _values(call: Json) -> list[object]:
    """A row of the table."""
    return [
        call["first_seen"],
        database_text(call["call_id"]),
        database_text(call.get("from")),
        database_text(call.get("to")),
        call.get("outcome"),
        call.get("recording"),
        json_text({key: value for key in CALL_KEYS if (value := call.get(key)) is not None}),
    ]
