"""Which entry of the ledger is about what; made from the ledger's files where it is missing."""

from collections.abc import Sequence

from recorderd.spool.database import Json, SpoolDatabase, database_text, filters, row_limit
from recorderd.spool.ledger_entries import MAX_SUBJECT, Entry

_ROWS = 200
"""Of one statement: SQLite numbers its values up to 999 in old versions."""

_ENTERED = "EXISTS (SELECT 1 FROM ledger_entries WHERE subject = {} AND kind = '{}')"
_RECORDING_LACKS = "NOT " + _ENTERED.format("recordings.id", "recording")
_CALL_LACKS = "NOT " + _ENTERED.format(f"substr(first_seen || '/' || call_id, 1, {MAX_SUBJECT})", "call")


class LedgerRows(SpoolDatabase):
    """The part of the index that finds entries of the ledger."""

    def ledger_entered(self, first: int, entries: Sequence[Entry]) -> None:
        """The ledger has these entries, from number ``first`` on."""
        for start in range(0, len(entries), _ROWS):
            some, values = entries[start : start + _ROWS], list[object]()
            for leaf, entry in enumerate(some, first + start):
                subject = database_text(entry.subject[:MAX_SUBJECT])
                values += (leaf, entry.kind, subject, int(entry.time_us))
            rows = ", ".join(["(?, ?, ?, ?)"] * len(some))
            self.execute(f"INSERT OR REPLACE INTO ledger_entries VALUES {rows}", values)  # noqa: S608

    def ledger_known(self) -> int:
        """The number of the first entry that is not known here."""
        (row,) = self.query("SELECT count(*) AS count, coalesce(max(leaf), -1) AS last FROM ledger_entries")
        if row["count"] == row["last"] + 1:
            return int(row["count"])
        (gap,) = self.query(
            "SELECT min(leaf) AS leaf FROM (SELECT 0 AS leaf UNION ALL SELECT leaf + 1 FROM ledger_entries)"
            " WHERE leaf NOT IN (SELECT leaf FROM ledger_entries)"
        )
        return int(gap["leaf"])

    def ledger_forget(self, size: int) -> int:
        """Forget entries from number ``size`` on, which the ledger has not; returns how many."""
        return self.execute("DELETE FROM ledger_entries WHERE leaf >= ?", [size]).rowcount

    def ledger_rows(
        self, *, kind: str | None = None, subject: str | None = None, limit: int | None = None
    ) -> list[Json]:
        """``leaf, kind, subject, time_us`` in order, of one ``kind`` and about one ``subject`` where given;
        ``limit`` keeps the newest.
        """
        where, values = filters(("kind = ?", kind), ("subject = ?", subject))
        sql = f"SELECT * FROM ledger_entries WHERE {where} ORDER BY leaf DESC LIMIT ?"  # noqa: S608
        rows = self.query(sql, [*values, row_limit(limit)])
        rows.reverse()
        return rows

    def ledger_last(self, kind: str) -> int | None:
        """When the newest entry of a kind was made, in us since 1970; None where there is none."""
        sql = "SELECT time_us FROM ledger_entries WHERE kind = ? ORDER BY leaf DESC LIMIT 1"
        rows = self.query(sql, [kind])
        return int(rows[0]["time_us"]) if rows else None

    def ledger_lacks_recordings(
        self,
        since: str | None = None,
        until: str | None = None,
        limit: int = 500,
        after: str | None = None,
    ) -> list[Json]:
        """Finished recordings without an entry: ``id, state, sha256, bytes``, in order of the ids; those that
        began between two times of RFC 3339, and whose id comes ``after`` one, where given."""
        where, values = filters(("started_at >= ?", since), ("started_at < ?", until), ("id > ?", after))
        return self.query(
            "SELECT id, state, sha256, bytes FROM recordings WHERE state IN ('sealed', 'recovered')"  # noqa: S608
            f" AND {where} AND {_RECORDING_LACKS} ORDER BY id LIMIT ?",
            [*values, limit],
        )

    def ledger_lacks_calls(
        self, since: str | None = None, until: str | None = None, limit: int = 500
    ) -> list[Json]:
        """Calls with an outcome and without an entry, oldest first, keys as in ``calls --json``."""
        where, values = filters(("first_seen >= ?", since), ("first_seen < ?", until))
        rows = self.query(
            f"SELECT call FROM calls WHERE outcome IS NOT NULL AND {where} AND {_CALL_LACKS}"  # noqa: S608
            " ORDER BY first_seen, call_id LIMIT ?",
            [*values, limit],
        )
        return [self.load(row["call"]) for row in rows]
