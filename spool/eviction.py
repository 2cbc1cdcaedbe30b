"""Takes recordings off this disk that every remote has: the file goes, manifest and key slots stay
(docs/operations.md, "When the disk fills up").

Every copy is looked at again before its original goes. The order is: write down what is about to go; remove
the files; tell the ledger; tell the index; write down that it is done. After a crash in between the next
round finds what was written down, and brings ledger and index into line with the files.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from recorderd.errors import RemoteError, SpoolCorrupt, SpoolError
from recorderd.spool.budget import DAY_S, Limits, Local, Room, to_go
from recorderd.spool.durable import disk_error, sync_folder
from recorderd.spool.index import Index
from recorderd.spool.intent import EVICTING, Intent
from recorderd.spool.layout import MANIFEST_SUFFIX, RECORD_SUFFIX, SLOT_SUFFIX, Spool
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter
from recorderd.spool.readback import copy_damage
from recorderd.spool.signing import find_host_public
from recorderd.spool.stores import RemoteOutage, Store
from recorderd.spool.sync import probe_known
from recorderd.spool.times import rfc3339

log = logging.getLogger(__name__)

BATCH: Final = 100
"""So many go between two syncs."""

LOOKED_AT: Final = 500

PASS_OVER_S: Final = 600.0

SOLE_DAYS: Final = 1.0
"""A copy that is nowhere else is believed no longer than this after it was read back."""


def _never() -> bool:
    return False


@dataclass
class Evictor:
    """Evicts; one in the process that has the network. ``clock`` is in ns since 1970."""

    spool: Spool
    index: Index
    remotes: Mapping[str, Store]
    ledger: Ledger | None
    clock: Callable[[], int] = time.time_ns

    def __post_init__(self) -> None:
        self._intent = Intent(self.spool.path / EVICTING)
        self._passed, self._passed_at = "", -math.inf

    def prepare(self) -> None:
        """Finish what a crash interrupted. Raises DiskFull and SpoolError."""
        self._intent.prepare()
        self._finish()

    def evict(
        self,
        room: Room,
        *,
        relieving: bool,
        stopping: Callable[[], bool] = _never,
        alive: Callable[[], None] = lambda: None,
    ) -> int:
        """Have go what may and should go, oldest first; how many bytes that were.

        Raises RemoteOutage where a copy cannot be looked at; DiskFull and SpoolError where the disk does not
        take what has to be written: what went until then is gone, and told in the next round.
        """
        self._finish()
        freed = 0
        batch: list[Local] = []
        for each in to_go(self._candidates(room.limits, alive), room, relieving=relieving):
            alive()
            if not batch and not freed:
                self._identify()
            if stopping():
                break
            batch.append(each)
            if len(batch) == BATCH:
                freed += self._go(batch, room.limits, alive)
                batch = []
        return freed + (self._go(batch, room.limits, alive) if batch else 0)

    # -- which

    def _candidates(self, limits: Limits, alive: Callable[[], None]) -> Iterator[Local]:
        """What is here and may go, oldest first. What was brought back counts as new for the local window.

        Where nothing at the beginning may go, it is not looked at again for some minutes: with copies that
        are only ``stored`` that may be most of a spool.
        """
        now = time.monotonic()
        if now - self._passed_at > PASS_OVER_S:
            self._passed, self._passed_at = "", now
        after, beginning = self._passed, True
        while rows := self.index.may_go(after, LOOKED_AT):
            alive()
            after = rows[-1]["id"]
            beginning = beginning and not any(row["verified"] for row in rows)
            if beginning:
                self._passed = after
            for row in rows:
                if row["verified"]:
                    yield self._local(row, limits)

    def _local(self, row: dict[str, Any], limits: Limits) -> Local:
        age_days = (self.clock() / 1e9 - _began(row["id"])) / DAY_S
        old = limits.keep_days is not None and age_days > limits.keep_days
        return Local(row["id"], row["bytes"], age_days, self._here_days(row["id"]) if old else age_days)

    def _here_days(self, recording_id: str) -> float:
        try:
            since_ns = self.spool.record_path(recording_id).stat().st_mtime_ns
        except OSError:
            return 0.0
        return (self.clock() - since_ns) / 1e9 / DAY_S

    def _identify(self) -> None:
        """Raises RemoteOutage where a remote is away: an empty folder in its place would look like a loss of
        all copies."""
        for name, store in self.remotes.items():
            probe_known(name, store, self.index.remote_identity(name))

    # -- what becomes of them

    def _go(self, batch: Sequence[Local], limits: Limits, alive: Callable[[], None]) -> int:
        standing = []
        for each in batch:
            alive()
            if self._copies_stand(each, limits):
                standing.append(each)
        # Who places a hold, or sees something to review, comes before this or after it.
        with self.index.batch():
            safe = [each for each in standing if self.index.still_may_go(each.id)]
            if safe:
                self._intent.write([each.id for each in safe])
                self._remove([each.id for each in safe])
        if safe:
            self._finish()
        return sum(each.bytes for each in safe)

    def _remove(self, recordings: Sequence[str]) -> None:
        paths = [self.spool.record_path(each) for each in recordings]
        try:
            for path in paths:
                path.unlink(missing_ok=True)
            for folder in {path.parent for path in paths}:
                sync_folder(folder)
        except OSError as error:
            raise disk_error(error, self.spool.path) from None

    def _finish(self) -> None:
        """Bring ledger and index into line with what went."""
        names = self._intent.read()
        if not names:
            return
        known = set(self.index.evicted(names))
        gone = [each for each in names if each not in known and not self.spool.record_path(each).exists()]
        if gone:
            self._tell(gone)
            self.index.set_present(gone, False, durably=True)
            log.info("%d recordings went from here: every remote has them", len(gone))
        self._intent.write([])

    def _tell(self, gone: Sequence[str]) -> None:
        entries = []
        for each in gone:
            remotes = [copy["remote"] for copy in self.index.copies_known(each)]
            entries.append(Entry("evicted", self._now(), each, {"remotes": remotes}))
        self._enter(entries)

    # -- the copies

    def _copies_stand(self, local: Local, limits: Limits) -> bool:
        """Whether every remote has this recording now; where one does not, it is sent again."""
        paths = self.spool.record_path(local.id), self.spool.manifest_path(local.id)
        if not all(path.exists() for path in paths):
            return False  # lost here: for those to tell who look for that
        copies = self.index.copies_known(local.id)
        if not copies or {copy["remote"] for copy in copies} - set(self.remotes):
            return False  # a remote that this process does not know cannot be asked
        for copy in copies:
            # What is nowhere else is not let go on the strength of its size.
            days = min(limits.recheck_days, SOLE_DAYS) if len(copies) == 1 else limits.recheck_days
            damage = self._damage(local, copy, days)
            if damage is not None:
                remote = copy["remote"]
                log.error("%s: %s; the recording stays here and is sent again", remote, damage)
                self.index.sync_state(local.id, remote, "failed", error=damage)
                self._enter(
                    [Entry("remote-damage", self._now(), local.id, {"remote": remote, "found": damage})]
                )
                return False
        return True

    def _damage(self, local: Local, copy: dict[str, Any], days: float) -> str | None:
        """What is wrong with a remote's copy, which was believed for so many days, or None. Raises
        RemoteOutage."""
        store, recording_id = self.remotes[copy["remote"]], local.id
        base = f"{self.spool.folder(recording_id).name}/{recording_id}"
        has_slots = copy["slots_sha256"] is not None
        try:
            for suffix in (SLOT_SUFFIX, MANIFEST_SUFFIX, RECORD_SUFFIX)[not has_slots :]:
                found = store.size(base + suffix)
                if found is None:
                    return f"{base}{suffix}: gone"
                if suffix == RECORD_SUFFIX and found != local.bytes:
                    return f"{base}{suffix}: {found} bytes, not {local.bytes}"
            # What was read in times to come was read before the clock was put right: no one knows when.
            if copy["read_at"] is not None and 0 <= self._age_days(copy["read_at"]) <= days:
                return None
            sha256 = self.index.recording(recording_id)["sha256"]
            public = find_host_public(self.spool)
            damage = copy_damage(store, self.spool, recording_id, sha256, public, copy["slots_sha256"])
        except RemoteOutage:
            raise
        except RemoteError as error:
            return str(error)
        if damage is None:
            self.index.sync_checked(copy["remote"], [recording_id], rfc3339(self._now()))
            return None
        return str(damage)

    def _age_days(self, time_text: str) -> float:
        moment = datetime.fromisoformat(time_text)
        return (self.clock() / 1e9 - moment.timestamp()) / DAY_S

    def _enter(self, entries: Sequence[Entry]) -> None:
        """Into the ledger, where there is one. A damaged one is told by its own checks; the index has to say
        what is so."""
        if self.ledger is None:
            return
        try:
            enter(self.ledger, self.index, entries)
        except SpoolCorrupt as error:
            log.error("the ledger: %s", error)

    def _now(self) -> int:
        return self.clock() // 1000


def _began(recording_id: str) -> float:
    """When a recording began, by its id: seconds since 1970."""
    try:
        return datetime.strptime(recording_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise SpoolError(f"{recording_id}: no time of the calendar in this id") from None
