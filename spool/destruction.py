"""Destroys what was proposed, approved, and has expired: first every copy of the key slots, then recording
and manifest, here and on every remote (docs/retention.md).

A destruction that was killed is finished by running it again: what has begun is gone on with, everything else
is looked at anew.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from recorderd.errors import RemoteError, SpoolCorrupt
from recorderd.spool.approvals import Approval, Rules, account, check_approvals, earliest
from recorderd.spool.clock_check import Clock, check_clock
from recorderd.spool.destruction_progress import Copy, Part, Progress, Work
from recorderd.spool.durable import disk_error, sync_folder
from recorderd.spool.holds import RETENTION, held_by
from recorderd.spool.index import Index
from recorderd.spool.index_holds import NUMBER, concerns
from recorderd.spool.index_retention import DESTROYED, DESTROYING
from recorderd.spool.layout import MANIFEST_SUFFIX, RECORD_SUFFIX, SLOT_SUFFIX, Spool
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter
from recorderd.spool.manifest import Manifest, load_manifest
from recorderd.spool.proposals import Proposal
from recorderd.spool.signing import HostPublic
from recorderd.spool.slot_files import changing
from recorderd.spool.stores import RemoteOutage, Store
from recorderd.spool.sync import probe_known
from recorderd.spool.times import microseconds, rfc3339

LOCAL: Final = "local"
BATCH: Final = 100
# The keys first: from then on nobody opens what is left, whatever happens.
PARTS: Final[tuple[tuple[Part, str], ...]] = (
    ("slots", SLOT_SUFFIX),
    ("recording", RECORD_SUFFIX),
    ("manifest", MANIFEST_SUFFIX),
)


@dataclass
class Outcome:
    """What a run came to. ``left`` are the ids that were not destroyed, and why; ``trouble`` is why it
    stopped before its end."""

    progress: Progress
    left: dict[str, str] = field(default_factory=dict)
    trouble: RemoteError | None = None

    @property
    def done(self) -> dict[str, Work]:
        """What was destroyed, in this run or an earlier one."""
        return {name: work for name, work in self.progress.works.items() if work.done_at is not None}


def _ignore(done: int, total: int) -> None:
    """Where nobody watches."""


@dataclass
class Destroyer:
    """Destroys in one spool and on its remotes. ``stores`` are all that are configured, opened with
    credentials that may delete."""

    spool: Spool
    index: Index
    ledger: Ledger
    stores: Mapping[str, Store]
    clock: Clock
    host: HostPublic
    last_entry_us: int | None = None
    """The time of the ledger's newest entry, before this run made any."""
    _held: frozenset[str] = frozenset()

    def run(
        self,
        proposal: Proposal,
        approvals: Sequence[Approval],
        rules: Rules,
        *,
        progress: Callable[[int, int], None] = _ignore,
    ) -> Outcome:
        """Destroy. Raises NotAllowed, before anything is touched, where approvals or clock do not allow it,
        RemoteOutage where a remote cannot be reached, SpoolError, DiskFull.
        """
        now = self.clock.wall_us()
        check_clock(self.clock, proposal.clock, self.last_entry_us)
        check_approvals(proposal, approvals, rules, now)
        for name, store in self.stores.items():
            probe_known(name, store, self.index.remote_identity(name))
        outcome = Outcome(Progress(self.spool, proposal))
        with outcome.progress.alone():
            self._note_approvals(outcome.progress, proposal, approvals)
            by = earliest(approvals, now)
            self._held = held_by(self.ledger)
            for start in range(0, len(proposal.items), BATCH):
                progress(start, len(proposal.items))
                items = {item["id"]: item for item in proposal.items[start : start + BATCH]}
                try:
                    self._batch(items, by, proposal, outcome)
                except RemoteOutage as error:
                    outcome.trouble = error
                    break
            try:
                if outcome.trouble is None:
                    self._sweep(outcome)
            except RemoteOutage as error:
                outcome.trouble = error
            self.index.forget_alerts()
        done = outcome.done
        for item in proposal.items:
            if item["id"] not in done:
                begun = item["id"] in outcome.progress.works
                word = "not finished: run the purge again" if begun else "not reached"
                outcome.left.setdefault(item["id"], word)
        return outcome

    def _note_approvals(self, progress: Progress, proposal: Proposal, approvals: Sequence[Approval]) -> None:
        if progress.works:
            return
        enter(self.ledger, self.index, account(proposal, approvals, self.clock.wall_us()))

    def _batch(
        self, items: Mapping[str, dict[str, Any]], by_us: int, proposal: Proposal, outcome: Outcome
    ) -> None:
        progress = outcome.progress
        self._begin(items, by_us, outcome)
        todo = [name for name in items if name in progress.works and name not in outcome.left]
        open_ones = [name for name in todo if progress.works[name].done_at is None or self._is_back(name)]
        for part, suffix in PARTS:
            self._local(open_ones, part, suffix, progress)
            for where, store in self.stores.items():
                self._remote(open_ones, where, store, part, suffix, outcome)
        finished = [name for name in open_ones if name not in outcome.left]
        at = rfc3339(self.clock.wall_us())
        progress.done(finished, at)
        self._account(todo, items, proposal, progress)

    # -- what may be destroyed

    def _begin(self, items: Mapping[str, dict[str, Any]], by_us: int, outcome: Outcome) -> None:
        """Mark those that may go; a hold that is placed from now on comes too late."""
        begun = outcome.progress.works
        manifests = {name: self._manifest(name) for name in items if name not in begun}
        with self.index.batch():
            rows = {row["id"]: row for row in self.index.retained(list(items))}
            away = self._away(list(items))
            new = {}
            for name, item in items.items():
                row = rows.get(name)
                if name in begun and (row is None or row["state"] == DESTROYING or begun[name].done_at):
                    continue
                manifest = manifests.get(name) or self._manifest(name)
                why = self._kept_because(item, row, manifest, by_us) or away.get(name)
                if why is not None:
                    outcome.left[name] = why
                elif row is not None:
                    facts = {key: row[key] for key in ("started_at", "sha256", "bytes", "expires_at")}
                    new[name] = Work(self._is_detached(name, manifest), {**facts, "class": row["retention"]})
            outcome.progress.begin(new)
            self.index.destroying(new)

    def _kept_because(
        self, item: dict[str, Any], row: dict[str, Any] | None, manifest: Manifest | None, by_us: int
    ) -> str | None:
        """Why a recording may not be destroyed; None where it may."""
        if row is None:
            return "the index does not know it"
        if row["state"] == DESTROYED:
            return "destroyed before, by another proposal"
        if row["state"] not in ("sealed", "recovered"):
            return f"it is {row['state']}"
        if row["held"] or self._is_held(item["id"], manifest):
            return "held"
        changed = [key for key in ("sha256", "bytes", "expires_at") if row[key] != item[key]]
        if changed or row["retention"] != item["class"]:
            return f"changed since the proposal: {', '.join(changed) or 'class'}"
        if manifest is None:
            # Without it nobody knows what period was sealed, nor whose calls these are.
            return "its manifest is missing, or not what this host signed (`restore --manifests` brings it)"
        if manifest.sha256 != item["sha256"]:
            return "its manifest is of other bytes"
        latest = self._expires_us(row, manifest)
        if latest is None or latest > by_us:
            until = "for ever" if latest is None else f"until {rfc3339(latest)}"
            return f"not expired at {rfc3339(by_us)}: kept {until}"
        return None

    def _expires_us(self, row: dict[str, Any], manifest: Manifest | None) -> int | None:
        """When a recording expires, by what was signed and what the index says, the later of the two."""
        changed = self._changed_to(row["id"])
        if changed is not None:
            expiries = [row["expires_at"], *changed]
        else:
            stated = None if manifest is None else manifest.summary.get("retention")
            expiries = [row["expires_at"], *([stated["expires_at"]] if stated else [])]
        return None if None in expiries else max(map(microseconds, expiries))

    def _is_held(self, recording: str, manifest: Manifest | None) -> bool:
        """By the ledger, whatever the index says."""
        summary = {} if manifest is None else manifest.summary
        numbers = [each.removeprefix(NUMBER) for each in self._held if each.startswith(NUMBER)]
        return recording in self._held or any(concerns(summary, number) for number in numbers)

    def _changed_to(self, recording: str) -> tuple[str | None] | None:
        """The expiry that the ledger says a recording was given after it was sealed; None for none."""
        leaf = self.index.last_changed(recording)
        if leaf is None:
            return None
        entry = Entry.from_bytes(next(self.ledger.entries(leaf, leaf + 1)))
        if (entry.kind, entry.subject) != (RETENTION, recording):
            return None
        return (entry.fields.get("expires_at"),)

    def _away(self, ids: list[str]) -> dict[str, str]:
        """Recordings that a remote had which is not configured any more: its copies would be left."""
        return {
            row["recording"]: f"the remote {row['remote']} has a copy, and is not configured"
            for row in self.index.copies_of(ids)
            if row["remote"] not in self.stores
        }

    def _manifest(self, name: str) -> Manifest | None:
        try:
            return load_manifest(self.spool.manifest_path(name), self.host)
        except SpoolCorrupt:
            return None

    def _is_back(self, name: str) -> bool:
        """Whether what was destroyed is here again: from a backup, perhaps."""
        return self.spool.slot_path(name).exists() or self.spool.record_path(name).exists()

    def _is_detached(self, name: str, manifest: Manifest | None) -> bool:
        """Whether the keys are outside of the recording; where that is not known, they are taken to be
        inside."""
        stated = manifest is not None and manifest.slots_sha256 is not None
        return stated or self.spool.slot_path(name).exists()

    # -- how it is destroyed

    def _local(self, ids: Sequence[str], part: Part, suffix: str, progress: Progress) -> None:
        """Remove a part of recordings here, with what a crash left half written of it."""
        wanted = frozenset(ids)
        for folder in sorted({self.spool.folder(name) for name in ids}):
            if not folder.is_dir():
                continue
            with changing(folder):
                try:
                    for file_name in os.listdir(folder):
                        name = file_name.partition(".")[0]
                        if name in wanted and file_name.startswith(name + suffix):
                            (folder / file_name).unlink()
                    sync_folder(folder)
                except OSError as error:
                    raise disk_error(error, folder) from None
        progress.note((name, Copy(LOCAL, part, "gone")) for name in ids)

    def _remote(
        self, ids: Sequence[str], where: str, store: Store, part: Part, suffix: str, outcome: Outcome
    ) -> None:
        found: list[tuple[str, Copy]] = []
        try:
            for recording in ids:
                name = f"{self.spool.folder(recording).name}/{recording}{suffix}"
                try:
                    answer = store.delete(name)
                    if answer.outcome == "gone" and part == "slots" and store.size(name) is not None:
                        raise RemoteError(f"{where}: {name} was deleted and is still there")
                except RemoteOutage:
                    raise
                except RemoteError as error:
                    outcome.left[recording] = f"not finished: {error}"
                    continue
                if answer.outcome == "refused":
                    outcome.left[recording] = (
                        f"not finished: {where} does not let these credentials delete"
                        f" (--credentials {where}=FILE)"
                    )
                found.append((recording, Copy(where, part, answer.outcome, answer.until, answer.versions)))
        finally:
            outcome.progress.note(found)

    def _sweep(self, outcome: Outcome) -> None:
        """Keys that came to a remote while they were being destroyed: somebody was sending them."""
        done = outcome.done
        folders = {self.spool.folder(name).name for name in done}
        for where, store in self.stores.items():
            for folder in sorted(folders):
                for stored in list(store.list(f"{folder}/")):
                    for part, suffix in PARTS[:2]:
                        name = stored.name.rpartition("/")[2].removesuffix(suffix)
                        if not stored.name.endswith(suffix) or name not in done:
                            continue
                        known = done[name].copies.get((where, part))
                        if part == "slots" or (known is not None and known.outcome == "gone"):
                            self._remote([name], where, store, part, suffix, outcome)

    def _account(
        self, ids: Sequence[str], items: Mapping[str, dict[str, Any]], proposal: Proposal, progress: Progress
    ) -> None:
        """What is done is entered into the ledger and the index, where a crash has not kept that."""
        rows = {row["id"]: row["state"] for row in self.index.retained(ids)}
        new = [name for name in ids if progress.works[name].done_at and rows.get(name) != DESTROYED]
        now = self.clock.wall_us()
        entries = []
        for name in new:
            work = progress.works[name]
            kept = [f"{copy.where}: {copy.part}" for copy in work.copies.values() if copy.outcome != "gone"]
            fields = {**work.facts, "proposal": proposal.sha256, "detached": work.detached, "kept": kept}
            entries.append(Entry("destroyed", now, name, fields))
        with self.index.batch():
            self.index.destroyed(new)
            for name in new:
                if name not in rows:
                    self.index.tombstone(name, progress.works[name].facts)
            enter(self.ledger, self.index, entries)


def last_entry_us(ledger: Ledger) -> int | None:
    """When the ledger's newest entry was made; None where it has none. Raises SpoolCorrupt, SpoolError."""
    size = ledger.size
    newest = [Entry.from_bytes(data).time_us for data in ledger.entries(max(0, size - 64), size)]
    return max(newest, default=None)
