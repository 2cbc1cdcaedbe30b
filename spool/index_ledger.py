"""Which entry of the ledger is about what; made from the ledger's files where it is missing."""

from collections.abc import Sequence

from recorderd.spool.database import Json, SpoolDatabase, database_text, filters, row_limit
from recorderd.spool.ledger_entries import MAX_SUBJECT, Entry

_ENTERED = "EXISTS (SELECT 1 FROM ledger_entries WHERE subject = {} AND kind = '{}')"
_RECORDING_LACKS = "NOT " + _ENTERED.format("recordings.id", "recording")
_CALL_LACKS = "NOT " + _ENTERED.format("first_seen || '/' || call_id", "call")


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

    def ledger_has(self, entry: Entry) -> bool:
        """Whether there is an entry of this recording or this call, of which there is to be one; alerts and
        whatever else has no name of its own may be there many times.
        """
        return entry.kind in ("recording", "call") and bool(
            self.ledger_rows(kind=entry.kind, subject=entry.subject, limit=1)
        )

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
        self,
        since: str | None = None,
        until: str | None = None,
        limit: int = 500,
        after: tuple[str, str] | None = None,
    ) -> list[Json]:
        """Calls with an outcome and without an entry, oldest first, keys as in ``calls --json``; ``after``
        the ``first_seen`` and ``call_id`` of one, where given."""
        where, values = filters(("first_seen >= ?", since), ("first_seen < ?", until))
        if after is not None:
            where += " AND (first_seen, call_id) > (?, ?)"
            values += [after[0], database_text(after[1])]
        rows = self.query(
            f"SELECT call FROM calls WHERE outcome IS NOT NULL AND {where} AND {_CALL_LACKS}"  # noqa: S608
            " ORDER BY first_seen, call_id LIMIT ?",
            [*values, limit],
        )
        return [self.load(row["call"]) for row in rows]
