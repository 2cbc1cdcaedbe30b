"""Which entry of the ledger is about what; made from the ledger's files where it is missing."""

from collections.abc import Sequence

from recorderd.spool.database import Json, SpoolDatabase, database_text, filters, row_limit
from recorderd.spool.ledger_entries import MAX_SUBJECT, Entry

_ENTERED = "EXISTS (SELECT 1 FROM ledger_entries WHERE subject = {} AND kind = '{}')"
_RECORDING_LACKS = "NOT " + _ENTERED.format("recordings.id", "recording")
_CALL_LACKS = "NOT " + _ENTERED.format(f"substr(first_seen || '/' || call_id, 1, {MAX_SUBJECT})", "call")


class LedgerRows(SpoolDatabase):
    """The part of the index that finds entries of the ledger."""

    def ledger_entered(self, first: int, entries: Sequence[Entry]) -> None:
        """The ledger has these entries, from number ``first`` on."""
        rows = (
            (leaf, entry.kind, database_text(entry.subject[:MAX_SUBJECT]), int(entry.time_us))
            for leaf, entry in enumerate(entries, first)
        )
        self.insert("INSERT OR REPLACE INTO ledger_entries", rows)

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

    def ledger_lived(self, before_us: int) -> int | None:
        """When the newest start was, of those before a time, that lived to enter something; in us since 1970,
        None where there is none.
        """
        rows = self.query(
            "SELECT time_us FROM ledger_entries AS start WHERE kind = 'started' AND time_us < ? AND EXISTS"
            " (SELECT 1 FROM ledger_entries WHERE leaf > start.leaf AND time_us < ?"
            " AND kind IN ('recording', 'call', 'stopped')) ORDER BY leaf DESC LIMIT 1",
            [before_us, before_us],
        )
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
