"""What each remote has of each recording, as far as it was read back from there."""

from collections.abc import Sequence

from recorderd.spool.database import Json, SpoolDatabase, database_text

FINISHED_STATES = ("sealed", "recovered")
LONGEST_PAUSE_S = 600


class SyncRows(SpoolDatabase):
    """The part of the index that the carrying of recordings keeps."""

    def set_remotes(self, names: Sequence[str]) -> None:
        """The remotes that recordings are to reach; those not named any more are shown no longer."""
        with self.batch():
            self.execute("UPDATE remotes SET active = 0")
            for name in names:
                self.execute(
                    "INSERT INTO remotes (name, identity, active) VALUES (?, NULL, 1)"
                    " ON CONFLICT (name) DO UPDATE SET active = 1",
                    [name],
                )

    def remote_identity(self, remote: str) -> str | None:
        """The identity that a remote's store had when it was first used."""
        rows = self.query("SELECT identity FROM remotes WHERE name = ?", [remote])
        return rows[0]["identity"] if rows else None

    def set_remote_identity(self, remote: str, identity: str | None) -> None:
        """Remember a store's identity. Another one than before means that the store has nothing of ours
        yet."""
        with self.batch():
            if self.remote_identity(remote) not in (None, identity):
                self.sync_forget(remote)
            self.execute(
                "INSERT INTO remotes (name, identity, active) VALUES (?, ?, 1)"
                " ON CONFLICT (name) DO UPDATE SET identity = excluded.identity",
                [remote, identity],
            )

    def sync_forget(self, remote: str) -> None:
        """Believe nothing of what a remote is said to have."""
        self.execute("DELETE FROM sync WHERE remote = ?", [remote])

    def sync_verified(self, remote: str) -> list[Json]:
        """Recordings that a remote had when it was last read, oldest first: ``id, sha256, bytes``."""
        return self.query(
            "SELECT recordings.id, recordings.sha256, recordings.bytes FROM recordings"
            " JOIN sync ON sync.recording = recordings.id AND sync.remote = ?"
            " WHERE recordings.state IN (?, ?) AND sync.state = 'verified' ORDER BY recordings.id",
            [remote, *FINISHED_STATES],
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
        self.execute(
            "INSERT INTO sync VALUES (?, ?, ?, ?, ?, ?, 1, ?) ON CONFLICT (recording, remote) DO UPDATE SET"
            " state = excluded.state, sha256 = excluded.sha256, verified_at = excluded.verified_at,"
            " error = excluded.error, attempts = attempts + 1, next_ns = excluded.next_ns",
            [recording_id, remote, state, sha256, verified_at, database_text(error), next_ns],
        )

    def sync_pending(self, remote: str, *, now_ns: int | None = None, limit: int = 1000) -> list[Json]:
        """Finished recordings that a remote does not verifiably have, oldest first: ``id, sha256, bytes,
        attempts``.

        Those whose time for another try has not come at ``now_ns`` are left out; a time further off than
        any pause is that of a clock that was wrong, and counts as come.
        """
        now = (1 << 62) if now_ns is None else now_ns
        return self.query(
            "SELECT recordings.id, recordings.sha256, recordings.bytes,"
            " coalesce(sync.attempts, 0) AS attempts"
            " FROM recordings LEFT JOIN sync ON sync.recording = recordings.id AND sync.remote = ?"
            " WHERE recordings.state IN (?, ?) AND coalesce(sync.state, '') != 'verified'"
            " AND coalesce(sync.next_ns, 0) NOT BETWEEN ? AND ? ORDER BY recordings.id LIMIT ?",
            [remote, *FINISHED_STATES, now + 1, now + LONGEST_PAUSE_S * 1_000_000_000, limit],
        )

    def sync_counts(self, remote: str) -> Json:
        """``{verified, failed, pending, error}`` of a remote; ``error`` is the last one."""
        rows = self.query(
            "SELECT coalesce(sync.state, 'pending') AS state, count(*) AS number FROM recordings"
            " LEFT JOIN sync ON sync.recording = recordings.id AND sync.remote = ?"
            " WHERE recordings.state IN (?, ?) GROUP BY 1",
            [remote, *FINISHED_STATES],
        )
        counts = {"verified": 0, "failed": 0, "pending": 0}
        counts.update({row["state"]: row["number"] for row in rows})
        last = self.query(
            "SELECT error FROM sync WHERE remote = ? AND error IS NOT NULL ORDER BY next_ns DESC LIMIT 1",
            [remote],
        )
        return {**counts, "error": last[0]["error"] if last else None}
