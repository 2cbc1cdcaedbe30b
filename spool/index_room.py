"""What the index knows of the room that recordings take here: which may go, which went, and which were
reviewed."""

from collections.abc import Collection, Sequence

from recorderd.errors import NoSuchRecording
from recorderd.spool.database import Json, SpoolDatabase, json_text

# On every active remote, and there is one: whatever `carried` says.
_VERIFIED_EVERYWHERE = """EXISTS (SELECT 1 FROM remotes WHERE active) AND NOT EXISTS (
    SELECT 1 FROM remotes WHERE active AND NOT EXISTS (SELECT 1 FROM sync
        WHERE recording = recordings.id AND remote = remotes.name AND state = 'verified'))"""


class RoomRows(SpoolDatabase):
    """The part of the index that the disk budget keeps."""

    def bytes_here(self) -> int:
        """What the finished recordings take that are here."""
        (row,) = self.query("SELECT coalesce(sum(bytes), 0) AS bytes FROM recordings WHERE present = 1")
        return int(row["bytes"])

    def may_go(self, after: str = "", limit: int = 500) -> list[Json]:
        """The next recordings that are here, on every active remote, not held, and of which no review is
        due, oldest first: ``id, bytes, verified``; ids greater than ``after``. Only what is ``verified`` on
        every remote may go."""
        return self.query(
            f"SELECT id, coalesce(bytes, 0) AS bytes, {_VERIFIED_EVERYWHERE} AS verified FROM recordings"  # noqa: S608
            " WHERE present = 1 AND carried = 1 AND held = 0 AND review = 0"
            " AND state IN ('sealed', 'recovered') AND id > ? ORDER BY id LIMIT ?",
            [after, limit],
        )

    def still_may_go(self, recording_id: str) -> bool:
        """Whether that is so now."""
        found = self.query(
            "SELECT 1 FROM recordings WHERE id = ? AND present = 1 AND held = 0 AND review = 0"  # noqa: S608
            f" AND state IN ('sealed', 'recovered') AND {_VERIFIED_EVERYWHERE}",
            [recording_id],
        )
        return bool(found)

    def what_stays(self) -> Json:
        """How many recordings may not go for which reason, some perhaps for several: ``{unsynced, stored,
        held, review}``."""
        (row,) = self.query(
            "SELECT (SELECT count(DISTINCT recording) FROM holds WHERE released_at IS NULL"
            "  AND recording IN (SELECT id FROM recordings)) AS held,"
            " (SELECT count(*) FROM recordings WHERE review = 1) AS review,"
            " (SELECT count(*) FROM recordings WHERE carried = 0 AND state IN ('sealed', 'recovered'))"
            " AS unsynced,"
            " (SELECT count(DISTINCT recording) FROM sync JOIN remotes ON name = remote AND active"
            "  WHERE sync.state = 'stored') AS stored"
        )
        return row

    def copies_known(self, recording_id: str) -> list[Json]:
        """What each active remote has of a recording: ``remote, read_at`` (when it was last read back) and
        ``slots_sha256``, in order of the remotes' names."""
        return self.query(
            "SELECT remote, coalesce(checked_at, verified_at) AS read_at, slots_sha256 FROM sync"
            " JOIN remotes ON remotes.name = sync.remote AND active WHERE recording = ? ORDER BY remote",
            [recording_id],
        )

    def set_present(self, recordings: Collection[str], present: bool, *, durably: bool = False) -> None:
        """The local files of these recordings went, or are here again."""
        if durably:
            self.execute("PRAGMA synchronous=FULL")
        try:
            with self.batch():
                for recording_id in recordings:
                    self.execute(
                        "UPDATE recordings SET present = ? WHERE id = ?", [int(present), recording_id]
                    )
        finally:
            if durably:
                self.execute("PRAGMA synchronous=NORMAL")

    def evicted(self, recordings: Sequence[str] | None = None) -> list[str]:
        """Ids of the finished recordings that are not here: of all, or of those asked for."""
        if recordings is None:
            rows = self.query(
                "SELECT id FROM recordings WHERE present = 0 AND state IN ('sealed', 'recovered') ORDER BY id"
            )
        else:
            rows = self.query(
                "SELECT id FROM recordings WHERE present = 0 AND state IN ('sealed', 'recovered')"
                " AND id IN (SELECT value FROM json_each(?)) ORDER BY id",
                [json_text(list(recordings))],
            )
        return [row["id"] for row in rows]

    def recording_reviewed(self, recording_id: str, by: str, at: str, note: str | None) -> None:
        """Somebody has listened: no review is due any more. Raises NoSuchRecording."""
        with self.batch():
            rows = self.query("SELECT summary FROM recordings WHERE id = ?", [recording_id])
            if not rows:
                raise NoSuchRecording(f"{recording_id}: no such recording in the index")
            summary = self.load(rows[0]["summary"])
            review = {**(summary.get("review") or {"causes": []}), "needed": False}
            review["reviewed"] = {"at": at, "by": by, "note": note}
            self.execute(
                "UPDATE recordings SET review = 0, summary = ? WHERE id = ?",
                [json_text({**summary, "review": review}), recording_id],
            )
