"""What each remote has of each recording, as far as it was read back from there."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from recorderd.spool.database import Json, SpoolDatabase, database_text, json_text
from recorderd.spool.index_schema import SET_CARRIED
from recorderd.spool.pacing import LONGEST_PAUSE_S

_FINISHED = "recordings.state IN ('sealed', 'recovered')"
_PUT = """INSERT INTO sync (recording, remote, state, sha256, verified_at, error, attempts, next_ns,
    versions, slots_sha256, checked_at) VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?)
    ON CONFLICT (recording, remote) DO UPDATE SET state = excluded.state, sha256 = excluded.sha256,
    verified_at = excluded.verified_at, error = excluded.error, attempts = attempts + 1,
    next_ns = excluded.next_ns, versions = excluded.versions, slots_sha256 = excluded.slots_sha256,
    checked_at = excluded.checked_at"""


class Noted(NamedTuple):
    """What a remote has of a recording: ``verified`` (read back, with the hash ``sha256``), ``stored`` (sent,
    and of the right size), or ``failed`` (again not before ``next_ns``).

    ``slots_sha256`` is of the key slots that it has, ``versions`` its ids for what it stored, by name.
    """

    recording: str
    state: str
    sha256: str | None = None
    verified_at: str | None = None
    error: str | None = None
    next_ns: int = 0
    versions: dict[str, list[str]] | None = None
    slots_sha256: str | None = None


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
            self.execute("DELETE FROM ledger_sync WHERE remote = ?", [remote])
            self.execute(SET_CARRIED)

    def sync_verified(self, remote: str, *, after: str = "", limit: int = -1) -> list[Json]:
        """Recordings that a remote has, as far as is known, oldest first, ids greater than ``after``:
        ``id, sha256, bytes, slots_sha256, state``."""
        return self.query(
            "SELECT recordings.id, recordings.sha256, recordings.bytes, sync.slots_sha256,"  # noqa: S608
            " sync.state FROM recordings JOIN sync ON sync.recording = recordings.id AND sync.remote = ?"
            f" WHERE {_FINISHED} AND sync.state IN ('verified', 'stored') AND recordings.id > ?"
            " ORDER BY recordings.id LIMIT ?",
            [remote, after, limit],
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
        """Note one recording; see :class:`Noted`."""
        self.sync_noted(remote, [Noted(recording_id, state, sha256, verified_at, error, next_ns)])

    def sync_noted(self, remote: str, noted: Iterable[Noted]) -> None:
        """Note what a remote has of some recordings, in one transaction."""
        with self.batch():
            for each in noted:
                values = [
                    each.recording,
                    remote,
                    each.state,
                    each.sha256,
                    each.verified_at,
                    database_text(each.error),
                    each.next_ns,
                    json_text(each.versions) if each.versions else None,
                    each.slots_sha256,
                    each.verified_at,
                ]
                self.execute(_PUT, values)
                self.execute(f"{SET_CARRIED} AND id = ?", [each.recording])

    def sync_checked(self, remote: str, recordings: Iterable[str], checked_at: str) -> None:
        """A remote's copies of these were read back, and are what they should be."""
        with self.batch():
            for recording in recordings:
                self.execute(
                    "UPDATE sync SET state = 'verified', checked_at = ?,"
                    " verified_at = coalesce(verified_at, ?) WHERE recording = ? AND remote = ?"
                    " AND state IN ('verified', 'stored')",
                    [checked_at, checked_at, recording, remote],
                )

    def sync_due_to_check(self, remote: str, before: str, now: str, limit: int) -> list[Json]:
        """Verified copies that were last read back before a time, or (by a clock that was wrong) after
        ``now``, longest ago first: as :meth:`sync_verified`, and ``checked_at``."""
        columns = (
            "SELECT sync.recording AS id, recordings.sha256, recordings.bytes, sync.slots_sha256,"
            " sync.state, sync.checked_at FROM sync JOIN recordings ON recordings.id = sync.recording"
            " WHERE sync.remote = ? AND sync.state = 'verified'"
        )
        rows = self.query(
            f"{columns} AND sync.checked_at < ? ORDER BY sync.checked_at LIMIT ?", [remote, before, limit]
        )
        return rows or self.query(
            f"{columns} AND sync.checked_at > ? ORDER BY sync.checked_at LIMIT ?", [remote, now, limit]
        )

    def sync_again(self, remote: str, recordings: Iterable[str]) -> None:
        """Something of these changed here, and is to be carried again; nobody takes them for verified until
        it was."""
        with self.batch():
            for recording in recordings:
                self.execute(
                    "UPDATE sync SET state = 'pending', next_ns = 0, attempts = 0 WHERE recording = ?"
                    " AND remote = ? AND state IN ('verified', 'stored')",
                    [recording, remote],
                )
                self.execute(f"{SET_CARRIED} AND id = ?", [recording])

    def sync_slots(self, remote: str, first: str, last: str) -> dict[str, str | None]:
        """The hash of the key slots that a remote has of the recordings from one id to another, where it has
        the recordings."""
        rows = self.query(
            "SELECT recording, slots_sha256 FROM sync WHERE recording BETWEEN ? AND ? AND remote = ?"
            " AND state IN ('verified', 'stored')",
            [first, last, remote],
        )
        return {row["recording"]: row["slots_sha256"] for row in rows}

    def sync_pending(
        self,
        remote: str,
        *,
        now_ns: int | None = None,
        limit: int = 1000,
        after: str | None = None,
        newest_first: bool = False,
    ) -> list[Json]:
        """Finished recordings that are to be carried to a remote, in the order of their ids, those beyond
        ``after``: ``id, sha256, bytes, attempts, present``.

        Those whose time for another try has not come at ``now_ns`` are left out; a time further off than
        any pause is that of a clock that was wrong, and counts as come.
        """
        now = (1 << 62) if now_ns is None else now_ns
        if after is None:
            after = "~" if newest_first else ""
        beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
        return self.query(
            "SELECT recordings.id, recordings.sha256, recordings.bytes, recordings.present,"  # noqa: S608
            " coalesce(sync.attempts, 0) AS attempts"
            " FROM recordings LEFT JOIN sync ON sync.recording = recordings.id AND sync.remote = ?"
            f" WHERE {self._may_lack(remote)} AND coalesce(sync.state, '') NOT IN ('verified', 'stored')"
            f" AND coalesce(sync.next_ns, 0) NOT BETWEEN ? AND ? AND recordings.id {beyond} ?"
            f" ORDER BY recordings.id {order} LIMIT ?",
            [remote, now + 1, now + LONGEST_PAUSE_S * 1_000_000_000, after, limit],
        )

    def _may_lack(self, remote: str) -> str:
        """The condition of the finished recordings that a remote does perhaps not have: a few of all."""
        return f"carried = 0 AND {_FINISHED}" if remote in self._active() else _FINISHED

    def sync_backlog(self, remote: str) -> Json:
        """What is to be carried to a remote: ``{recordings, bytes, oldest}``, the last an id or None."""
        (row,) = self.query(
            "SELECT count(*) AS recordings, coalesce(sum(recordings.bytes), 0) AS bytes,"  # noqa: S608
            " min(recordings.id) AS oldest FROM recordings"
            " LEFT JOIN sync ON sync.recording = recordings.id AND sync.remote = ?"
            f" WHERE {self._may_lack(remote)} AND coalesce(sync.state, '') NOT IN ('verified', 'stored')",
            [remote],
        )
        return row

    def sync_counts(self, remote: str) -> Json:
        """``{verified, failed, pending, error}`` of a remote; ``error`` is the last one.

        What is ``stored`` there, and was not read back, is counted with :meth:`sync_stored`; here it is
        neither.
        """
        rows = self.query(
            "SELECT coalesce(sync.state, 'pending') AS state, count(*) AS number FROM recordings"  # noqa: S608
            " LEFT JOIN sync ON sync.recording = recordings.id AND sync.remote = ?"
            f" WHERE {self._may_lack(remote)} GROUP BY 1",
            [remote],
        )
        counts = {"verified": 0, "failed": 0, "pending": 0}
        counts.update({row["state"]: row["number"] for row in rows if row["state"] in counts})
        (finished,) = self.query(
            "SELECT (SELECT count(*) FROM recordings) - (SELECT count(*) FROM recordings"
            " WHERE state != 'sealed' AND state != 'recovered') AS number"
        )
        had = finished["number"] - counts["failed"] - counts["pending"]
        counts["verified"] = had - self.sync_stored(remote)
        last = self.query(
            "SELECT error FROM sync WHERE remote = ? AND error IS NOT NULL ORDER BY next_ns DESC LIMIT 1",
            [remote],
        )
        return {**counts, "error": last[0]["error"] if last else None}

    def sync_bytes(self, remote: str) -> int:
        """How many bytes of recordings were verified on a remote."""
        (row,) = self.query(
            "SELECT coalesce(sum(recordings.bytes), 0) AS bytes FROM sync"
            " JOIN recordings ON recordings.id = sync.recording"
            " WHERE sync.remote = ? AND sync.state = 'verified'",
            [remote],
        )
        return int(row["bytes"])

    def sync_stored(self, remote: str) -> int:
        """How many recordings a remote was sent and acknowledged that were not read back."""
        (row,) = self.query(
            "SELECT count(*) AS number FROM sync WHERE remote = ? AND state = 'stored'", [remote]
        )
        return int(row["number"])

    def remote_state(self, remote: str) -> Json:
        """How the carrying to a remote went when that was last noted; empty where it was never."""
        rows = self.query("SELECT state FROM remotes WHERE name = ?", [remote])
        return self.load(rows[0]["state"]) if rows and rows[0]["state"] else {}

    def set_remote_state(self, remote: str, state: Json) -> None:
        """Note how it goes, for a restart and for those who look."""
        self.execute("UPDATE remotes SET state = ? WHERE name = ?", [json_text(state), remote])

    def ledger_sent(self, remote: str) -> Json | None:
        """How much of the ledger a remote was given: ``size``, and ``sent``, the checkpoint (text)."""
        rows = self.query("SELECT size, sent FROM ledger_sync WHERE remote = ?", [remote])
        return rows[0] if rows else None

    def set_ledger_sent(self, remote: str, size: int, sent: str | None) -> None:
        """A remote was given the ledger up to this size."""
        self.execute(
            "INSERT INTO ledger_sync (remote, size, sent) VALUES (?, ?, ?) ON CONFLICT (remote)"
            " DO UPDATE SET size = excluded.size, sent = excluded.sent",
            [remote, size, sent],
        )
