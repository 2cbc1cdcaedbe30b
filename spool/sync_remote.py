"""One remote's part of the outbox: its passes, its pauses, and what is noted of them.

What was carried is noted in groups, one transaction each; after a crash the last group is read back, and sent
only where it is not there. A pause survives a restart, and a clock that jumps does not stretch it.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from recorderd.errors import RemoteError, SpoolCorrupt
from recorderd.spool.evidence import Damage, Witness, keep
from recorderd.spool.index import Index
from recorderd.spool.index_sync import Noted
from recorderd.spool.layout import SLOT_SUFFIX, Spool
from recorderd.spool.ledger_keeping import add_alert
from recorderd.spool.pacing import S_NS, Meter, is_waiting, pause_ns
from recorderd.spool.signing import HOST_PUBLIC_NAME, HostPublic
from recorderd.spool.stores import RemoteOutage, Store, stored_hash
from recorderd.spool.sync_carry import Carrier, Job, Outcome, deliver_small, local_hash
from recorderd.spool.sync_ledger import LedgerCarrier
from recorderd.spool.sync_report import RemoteReport, Step, probe_known
from recorderd.spool.sync_slots import SlotWatch
from recorderd.spool.sync_store import Paced, Remote, Stopping, carrying_alone, pace_of
from recorderd.spool.times import rfc3339

_PAGE: Final = 200
GROUP: Final = 64
GROUP_S: Final = 1.0
"""What was carried is noted when there is so much of it, or after so long."""

TELL_S: Final = 3600
"""A remote that is away for so long is told of, once."""

Stop = Callable[[], bool]
Progress = Callable[[Step], None]


@dataclass(slots=True)
class _Pass:
    """What a pass goes by, and what it has done so far."""

    index: Index
    report: RemoteReport
    witness: Witness
    stopping: Stop
    progress: Progress
    force: bool
    waiting: list[Outcome] = field(default_factory=list)
    noted_s: float = field(default_factory=time.monotonic)
    outage: RemoteOutage | None = None


class RemoteWorker:
    """Carries to one remote; passes are one at a time, each with an index of the thread that makes it."""

    def __init__(
        self,
        name: str,
        remote: Remote,
        spool: Spool,
        sample_key: bytes,
        clock: Callable[[], int] = time.time_ns,
        drawn: Callable[[], float] = random.random,
    ) -> None:
        self.name, self.remote = name, remote
        self._spool, self._clock, self._drawn = spool, clock, drawn
        self._sample_key = sample_key
        self._pace = pace_of(remote.terms.bandwidth)
        self._store = Paced(remote.store, self._pace)
        self._lock_path = spool.path / f"sync-{name}.lock"
        self._slots = SlotWatch(spool, name)
        self._ledger = LedgerCarrier(spool, name, clock)
        self._meter = Meter()
        self._keyed = False
        """Whether the remote was seen to have the host's public key."""

    def run(
        self, index: Index, stopping: Stop, progress: Progress, force: bool, *, counted: bool = True
    ) -> RemoteReport:
        """One pass: everything that is due is carried. ``force`` passes over pauses and hours; what is
        missing then is only in the report if it is to be ``counted``.

        The remote's failures are in the report. Raises what the index raises.
        """
        report = RemoteReport(self.name)
        now = self._clock()
        state = index.remote_state(self.name)
        if stopping():
            pass
        elif not force and is_waiting(int(state.get("until_ns", 0)), now):
            report.outage, report.error = True, str(state.get("error"))
        elif not force and not self.remote.terms.timetable.is_open(now):
            report.closed = True
        else:
            with carrying_alone(self._lock_path) as alone:
                if alone:
                    self._run(index, report, stopping, progress, force)
                else:
                    report.busy = True
        if counted:
            backlog = index.sync_backlog(self.name)
            report.pending, report.pending_bytes = backlog["recordings"], backlog["bytes"]
        return report

    def _run(
        self, index: Index, report: RemoteReport, stopping: Stop, progress: Progress, force: bool
    ) -> None:
        witness = Witness(self._spool, index, self.name)
        work = _Pass(index, report, witness, stopping, progress, force)
        before = index.remote_state(self.name)
        self._pace.stopping = stopping
        try:
            witness.resume()
            self.identify(index, self._store)
            self._bring_host_key(self._store, report)
            if self.remote.terms.key_slots:
                self._slots.look(index, everything=force)
            self._carry(work)
            if work.outage is not None:
                raise work.outage
            if not stopping():
                report.error = self._ledger.carry(index, self._store, witness, force) or report.error
        except Stopping:
            pass
        except RemoteOutage as error:
            report.outage, report.error = True, str(error)
            self._pause(index, {} if report.verified or report.stored else before, str(error))
        else:
            if before.get("failures") and not (report.verified or report.stored or report.failed):
                index.set_remote_state(self.name, {})
        finally:
            witness.end(self._clock())

    def _pause(self, index: Index, before: dict[str, Any], error: str) -> None:
        """Leave the remote alone for a while, a longer one each time."""
        failures, now = int(before.get("failures", 0)) + 1, self._clock()
        since_ns = int(before.get("since_ns", now))
        state = {"failures": failures, "until_ns": now + pause_ns(failures, self._drawn), "error": error}
        told = bool(before.get("told"))
        if not told and failures > 1 and abs(now - since_ns) >= TELL_S * S_NS:
            told = True
            fields = {"remote": self.name, "since": rfc3339(since_ns // 1000), "error": error}
            add_alert(self._spool, index, {"kind": "remote-away", "time_ns": now, "fields": fields})
        index.set_remote_state(self.name, {**state, "since_ns": since_ns, "told": told})

    def identify(self, index: Index, store: Store) -> None:
        """An unmounted disk leaves an empty folder behind that looks like a new store: it is not the one
        that was used. Raises RemoteOutage."""
        known = index.remote_identity(self.name)
        found = probe_known(self.name, store, known)
        if known is None:
            index.set_remote_identity(self.name, found or _claimed(store))

    def forget(self) -> None:
        """Believe nothing of what was seen there."""
        self._keyed = False
        self._ledger.forget()

    def recheck_ledger(self, index: Index, store: Store, witness: Witness) -> str | None:
        """Read all of the ledger back that is there; returns what is wrong. Raises RemoteOutage."""
        return self._ledger.carry(index, store, witness, True, everything=True)

    def host_public(self) -> HostPublic | None:
        """The key that manifests are signed with."""
        path = self._spool.host_public_path
        return HostPublic.load(path) if path.exists() else None

    def _bring_host_key(self, store: Store, report: RemoteReport) -> None:
        """Put the host's public key beside the copies; one that is there already must be the same."""
        path = self._spool.host_public_path
        if self._keyed or not path.exists():
            return
        try:
            sha256 = local_hash(path)
            if store.size(HOST_PUBLIC_NAME) is None:
                deliver_small(store, HOST_PUBLIC_NAME, path, sha256)
            elif stored_hash(store, HOST_PUBLIC_NAME) != sha256:
                raise RemoteError(
                    f"{self.name}: {HOST_PUBLIC_NAME} there is not the key of this recorder, and is left"
                    " alone; does another recorder use this remote? (if it is damaged: remove it there)"
                )
        except RemoteOutage:
            raise
        except (RemoteError, SpoolCorrupt) as error:
            report.error = str(error)
        else:
            self._keyed = True

    # -- recordings

    def _carry(self, work: _Pass) -> None:
        """All that is due, several at once."""
        terms = self.remote.terms
        carrier = Carrier(self._spool, self._store, terms, self.host_public(), self._sample_key, self._keep)
        jobs = self._jobs(work)
        try:
            if terms.parallel == 1:
                for job in jobs:
                    self._done(work, self._one(work, carrier, job))
            else:
                self._carry_in_threads(work, carrier, jobs)
        finally:
            self._note(work)

    def _keep(self, recording: str, damage: Damage) -> None:
        """Evidence is on the disk before the bytes are replaced; in any thread."""
        keep(self._spool, self.name, recording, damage, self._clock())

    def _carry_in_threads(self, work: _Pass, carrier: Carrier, jobs: Iterator[Job]) -> None:
        count = self.remote.terms.parallel
        lock = threading.Lock()
        told = work.progress

        def progress(step: Step) -> None:
            with lock:
                told(step)

        work.progress = progress
        first = next(jobs, None)
        if first is None:
            return
        with ThreadPoolExecutor(count, thread_name_prefix=f"sync-{self.name}") as pool:
            under_way: set[Future[Outcome]] = set()
            waiting = itertools.chain([first], jobs)
            while True:
                for job in itertools.islice(waiting, count - len(under_way)):
                    under_way.add(pool.submit(self._one, work, carrier, job))
                if not under_way:
                    return
                done, under_way = wait(under_way, timeout=GROUP_S, return_when=FIRST_COMPLETED)
                for future in done:
                    self._done(work, future.result())
                if not done:
                    self._note(work)

    def _jobs(self, work: _Pass) -> Iterator[Job]:
        """What is due, until told to stop, or an outage, or the end of the remote's hours."""
        after, number, total = None, 0, 0
        terms = self.remote.terms
        while True:
            # What failed in this pass may be due again at once; it waits for the next pass.
            page = work.index.sync_pending(
                self.name,
                now_ns=None if work.force else self._clock(),
                limit=_PAGE,
                after=after,
                newest_first=terms.newest_first,
            )
            if page and not total:
                total = work.index.sync_backlog(self.name)["recordings"]
            for row in page:
                if work.outage is not None or work.stopping():
                    return
                if not self._wanted(work.index, row["id"]):
                    continue
                if not work.force and not terms.timetable.is_open(self._clock()):
                    work.report.closed = True
                    return
                number += 1
                yield Job(
                    row["id"],
                    row["sha256"],
                    row["bytes"] or 0,
                    row["attempts"],
                    bool(row["present"]),
                    number,
                    max(total, number),
                )
            if len(page) < _PAGE:
                return
            after = page[-1]["id"]

    def _wanted(self, index: Index, recording: str) -> bool:
        """Whether it is still to be kept: others destroy recordings meanwhile."""
        found = index.query(
            "SELECT 1 FROM recordings WHERE id = ? AND state IN ('sealed', 'recovered')", [recording]
        )
        return bool(found)

    def _one(self, work: _Pass, carrier: Carrier, job: Job) -> Outcome:
        """Carry one; in any thread."""
        tell = partial(Step, self.name, job.recording, job.number, job.total)
        return carrier.carry(job, lambda sent: work.progress(tell(sent, job.bytes)))

    def _done(self, work: _Pass, outcome: Outcome) -> None:
        if outcome.outage is not None:
            if work.outage is None or isinstance(work.outage, Stopping):
                work.outage = outcome.outage
            return
        work.waiting.append(outcome)
        if len(work.waiting) >= GROUP or time.monotonic() - work.noted_s >= GROUP_S:
            self._note(work)

    def _note(self, work: _Pass) -> None:
        """One transaction for all that waits to be noted."""
        carried, work.waiting = work.waiting, []
        outcomes: list[Outcome] = []
        work.noted_s = time.monotonic()
        for outcome in carried:
            if self._wanted(work.index, outcome.job.recording):
                outcomes.append(outcome)
            elif outcome.slots_sha256 is not None:
                self._take_back(work, outcome.job.recording)
        if not outcomes:
            return
        now = self._clock()
        at = rfc3339(now // 1000)
        report = work.report
        for outcome in outcomes:
            for damage in outcome.damages:
                work.witness.note(damage, outcome.job.recording, now)
        with work.index.batch():
            work.index.sync_noted(self.name, [self._noted(outcome, now, at) for outcome in outcomes])
            kept = [outcome for outcome in outcomes if outcome.state is not None]
            self._meter.add(len(kept), sum(outcome.job.bytes for outcome in kept), work.noted_s)
            recordings, size = self._meter.rates(work.noted_s)
            rates: dict[str, Any] = {"recordings_s": recordings, "bytes_s": size, "rate_ns": now}
            work.index.set_remote_state(self.name, rates)
        for outcome in outcomes:
            report.verified += outcome.state == "verified"
            report.stored += outcome.state == "stored"
            if outcome.error is not None:
                report.failed += 1
                report.error = str(outcome.error)

    def _take_back(self, work: _Pass, recording: str) -> None:
        """It was destroyed while it was carried: nothing may be left there that opens it."""
        name = f"{self._spool.folder(recording).name}/{recording}{SLOT_SUFFIX}"
        try:
            left = self.remote.store.delete(name)
            problem: str | None = None if left.outcome == "gone" else left.outcome
        except RemoteError as error:
            problem = str(error)
        if problem is not None:
            fields = {"remote": self.name, "recording": recording, "name": name, "error": problem}
            work.report.error = f"{self.name}: {name} was destroyed, and is there again: {problem}"
            alert = {"kind": "undestroyed", "time_ns": self._clock(), "fields": fields}
            add_alert(self._spool, work.index, alert)

    def _noted(self, outcome: Outcome, now: int, at: str) -> Noted:
        job = outcome.job
        if outcome.state is None:
            again = now + pause_ns(job.attempts + 1, self._drawn)
            return Noted(job.recording, "failed", error=str(outcome.error), next_ns=again)
        verified = outcome.state == "verified"
        return Noted(
            job.recording,
            outcome.state,
            sha256=outcome.sha256 if verified else None,
            verified_at=at if verified else None,
            versions=outcome.versions,
            slots_sha256=outcome.slots_sha256,
        )


def _claimed(store: Store) -> str:
    """Claims, and looks whether the claim is there."""
    identity = store.claim()
    if store.probe() != identity:
        raise RemoteOutage("the store does not keep its identity")
    return identity
