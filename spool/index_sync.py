"""What each remote has of each recording, as far as it was read back from there."""

from collections.abc import Sequence

from recorderd.spool.database import Json, SpoolDatabase, database_text
from recorderd.spool.index_schema import SET_CARRIED

_FINISHED = "recordings.state IN ('sealed', 'recovered')"
LONGEST_PAUSE_S = 600


class SyncRows(SpoolDatabase):
    """The part of the index that the carrying of recordings keeps."""

    def set_remotes(self, names: Sequence[str]) -> None:
        """The remotes that recordings are to reach; those not named any more are shown no longer."""
        with self.batch():
            before = self._active()
            self.execute("UPDATE remotes SET active = 0")
            for name in names:
                self.execute(
                    "INSERT INTO remotes (name, identity, active) VALUES (?, NULL, 1)"
                    " ON CONFLICT (name) DO UPDATE SET active = 1",
                    [name],
                )
            if self._active() != before:
                self.execute(SET_CARRIED)

    def _active(self) -> set[str]:
        return {row["name"] for row in self.query("SELECT name FROM remotes WHERE active")}

    def remote_identity(self, remote: str) -> str | None:
        """The identity that a remote's store had when it was first used."""
        rows = self.query("SELECT identity FROM remotes WHERE name = ?", [remote])
        return rows[0]["identity"] if rows else None

    def set_remote_identity(self, remote: str, identity: str | None) -> None:
        """Remember a store's identity. Another one than before means that the store has nothing of ours
        yet."""
        with self.batch():
            new = remote not in self._active()
            if self.remote_identity(remote) not in (None, identity):
                self.sync_forget(remote)
            self.execute(
                "INSERT INTO remotes (name, identity, active) VALUES (?, ?, 1)"
                " ON CONFLICT (name) DO UPDATE SET identity = excluded.identity",
                [remote, identity],
            )
            if new:
                self.execute(SET_CARRIED)

    def sync_forget(self, remote: str) -> None:
        """Believe nothing of what a remote is said to have."""
        with self.batch():
            self.execute("DELETE FROM sync WHERE remote = ?", [remote])
            self.execute(SET_CARRIED)

    def sync_verified(self, remote: str) -> list[Json]:
        """Recordings that a remote had when it was last read, oldest first: ``id, sha256, bytes``."""
        return self.query(
            "SELECT recordings.id, recordings.sha256, recordings.bytes FROM recordings"  # noqa: S608
            " JOIN sync ON sync.recording = recordings.id AND sync.remote = ?"
            f" WHERE {_FINISHED} AND sync.state = 'verified' ORDER BY recordings.id",
            [remote],
        )

    def sync_state(
        self,
        recording_id: str,
        remote: str,
        state: str,
        *,
        sha256: str | None = None,
        verified_at: str | None = None,
        error: str | None = None,
        next_ns: int = 0,
    ) -> None:
        """What a remote has of a recording: ``failed`` (again not before ``next_ns``) or ``verified``.

        ``sha256`` is what was read back from the remote.
        """
        with self.batch():
            self.execute(
                "INSERT INTO sync (recording, remote, state, sha256, verified_at, error, attempts, next_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, 1, ?) ON CONFLICT (recording, remote) DO UPDATE"
                " SET state = excluded.state, sha256 = excluded.sha256, verified_at = excluded.verified_at,"
                " error = excluded.error, attempts = attempts + 1, next_ns = excluded.next_ns",
                [recording_id, remote, state, sha256, verified_at, database_text(error), next_ns],
            )
            self.execute(f"{SET_CARRIED} AND id = ?", [recording_id])

    def sync_pending(self, remote: str, *, now_ns: int | None = None, limit: int = 1000) -> list[Json]:
        """Finished recordings that a remote does not verifiably have, oldest first: ``id, sha256, bytes,
        attempts``.

        Those whose time for another try has not come at ``now_ns`` are left out; a time further off than
        any pause is that of a clock that was wrong, and counts as come.
        """
        now = (1 << 62) if now_ns is None else now_ns
        return self.query(
            "SELECT recordings.id, recordings.sha256, recordings.bytes,"  # noqa: S608
            " coalesce(sync.attempts, 0) AS attempts"
            " FROM recordings LEFT JOIN sync ON sync.recording = recordings.id AND sync.remote = ?"
            f" WHERE {self._may_lack(remote)} AND coalesce(sync.state, '') != 'verified'"
            " AND coalesce(sync.next_ns, 0) NOT BETWEEN ? AND ? ORDER BY recordings.id LIMIT ?",
            [remote, now + 1, now + LONGEST_PAUSE_S * 1_000_000_000, limit],
        )

    def _may_lack(self, remote: str) -> str:
        """The condition of the finished recordings that a remote does perhaps not have: a few of all."""
        return f"carried = 0 AND {_FINISHED}" if remote in self._active() else _FINISHED

    def sync_counts(self, remote: str) -> Json:
        """``{verified, failed, pending, error}`` of a remote; ``error`` is the last one."""
        rows = self.query(
            "SELECT coalesce(sync.state, 'pending') AS state, count(*) AS number FROM recordings"  # noqa: S608
            " LEFT JOIN sync ON sync.recording = recordings.id AND sync.remote = ?"
            f" WHERE {self._may_lack(remote)} GROUP BY 1",
            [remote],
        )
        counts = {"verified": 0, "failed": 0, "pending": 0}
        counts.update({row["state"]: row["number"] for row in rows})
        (finished,) = self.query(
            "SELECT (SELECT count(*) FROM recordings) - (SELECT count(*) FROM recordings"
            " WHERE state != 'sealed' AND state != 'recovered') AS number"
        )
        counts["verified"] = finished["number"] - counts["failed"] - counts["pending"]
        last = self.query(
            "SELECT error FROM sync WHERE remote = ? AND error IS NOT NULL ORDER BY next_ns DESC LIMIT 1",
            [remote],
        )
        return {**counts, "error": last[0]["error"] if last else None}
