"""Carries finished recordings to the remotes and proves that they are there.

A recording is ``verified`` on a remote when recording, key slots and manifest were read back from it and
their hashes are those that the host knows. Nothing else counts: no answer of the remote, no size, no earlier
success. The host's public key and the ledger go with them, so that a copy of a remote can be checked alone.
The state is in the index, so the work goes on where it stopped, whenever it stopped; what was sent but not
noted is found there and read back.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.pacing import LONGEST_PAUSE_S, Terms
from recorderd.spool.stores import RemoteConfig, RemoteOutage, Retrying, Store, open_store
from recorderd.spool.sync_check import Checker
from recorderd.spool.sync_remote import Progress, RemoteWorker, Stop
from recorderd.spool.sync_report import RemoteReport, Step, probe_known
from recorderd.spool.sync_store import Remote, never, sample_key

__all__ = [
    "LONGEST_PAUSE_S",
    "Remote",
    "RemoteReport",
    "Step",
    "Synchronizer",
    "configured_remotes",
    "open_remotes",
    "probe_known",
]

_BUSY_S = 0.2


def open_remotes(remotes: Iterable[RemoteConfig]) -> dict[str, Store]:
    """The stores of the configured remotes, by name; nothing is touched yet."""
    return {remote.name: Retrying(open_store(remote)) for remote in remotes}


class RemoteOnTerms(RemoteConfig, Protocol):
    """A remote of the configuration, and how it is to be used."""

    def terms(self) -> Terms:
        """Its hours, bandwidth and so on."""


def configured_remotes(remotes: Iterable[RemoteOnTerms]) -> dict[str, Remote]:
    """The configured remotes, by name, with their terms; nothing is touched yet."""
    return {remote.name: _remote(remote) for remote in remotes}


def _remote(remote: RemoteOnTerms) -> Remote:
    return Remote(Retrying(open_store(remote)), remote.terms())


def _ignore(step: Step) -> None:
    """Where nobody watches."""


class Synchronizer:
    """Carries to every remote; one in the process that has the network.

    ``remotes`` are :class:`Remote`, or a store each, for one recording after the other. ``index`` is of the
    calling thread; remotes that are carried to at once have one of their own each.
    """

    def __init__(
        self,
        spool: Spool,
        index: Index,
        remotes: Mapping[str, Store | Remote],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.spool, self.index, self._clock = spool, index, clock
        key = sample_key(spool)
        self.workers = {
            name: RemoteWorker(name, _as_remote(remote), spool, key, clock)
            for name, remote in remotes.items()
        }
        index.set_remotes(list(self.workers))

    def run(
        self,
        *,
        stopping: Stop = never,
        progress: Progress = _ignore,
        force: bool = False,
    ) -> list[RemoteReport]:
        """One pass over all remotes, all at once: everything that is due is copied and verified. ``force``
        passes over pauses and hours, and waits where another process carries to the same remote.

        ``stopping`` and ``progress`` are called from other threads, the latter by one at a time. A remote's
        failure is in its report and never keeps another remote waiting. Raises what the index raises.
        """
        if len(self.workers) < 2:
            return [
                self._wait(worker, self.index, stopping, progress, force) for worker in self.workers.values()
            ]
        lock = threading.Lock()

        def told(step: Step) -> None:
            with lock:
                progress(step)

        def one(worker: RemoteWorker) -> RemoteReport:
            with Index.open(self.spool) as index:
                return self._wait(worker, index, stopping, told, force)

        with ThreadPoolExecutor(len(self.workers), thread_name_prefix="sync") as pool:
            return list(pool.map(one, self.workers.values()))

    def _wait(
        self, worker: RemoteWorker, index: Index, stopping: Stop, progress: Progress, force: bool
    ) -> RemoteReport:
        while True:
            report = worker.run(index, stopping, progress, force)
            if not (report.busy and force and report.pending) or stopping():
                return report
            time.sleep(_BUSY_S)

    def adopt(self, remote: str) -> None:
        """Take a remote's store as it is now for the right one: the disk was changed on purpose.

        Nothing is taken to be there any more: everything is read back, and copied where it is not there.
        Raises RemoteOutage when it cannot be reached.
        """
        worker = self.workers[remote]
        store = worker.remote.store
        identity = store.probe() or store.claim()
        with self.index.batch():
            self.index.set_remote_identity(remote, identity)
            self.index.sync_forget(remote)
            self.index.set_remote_state(remote, {})
        worker.forget()

    def recheck(
        self,
        remote: str,
        *,
        stopping: Stop = never,
        progress: Progress = _ignore,
    ) -> RemoteReport:
        """Read every copy that a remote is said to have back again; returns how many, and what is wrong.

        A copy that is damaged or gone is failed from then on, and the next pass sends it again. A remote that
        is away is in the report's ``error``, and nothing is said of the copies that were not read.
        """
        report = RemoteReport(remote)
        worker = self.workers[remote]
        rows = self.index.sync_verified(remote)
        checker = Checker(remote, self.spool, self.index, worker.remote.store, worker.host_public())
        try:
            worker.identify(self.index, checker.store)
            for number, row in enumerate(rows, 1):
                if stopping():
                    break
                progress(Step(remote, row["id"], number, len(rows), 0, row["bytes"] or 0))
                damage = checker.check(row, self._clock())
                report.rechecked += 1
                if damage is not None:
                    report.damaged.append(str(damage))
            if not stopping():
                report.error = worker.recheck_ledger(self.index, checker.store, checker.witness)
        except RemoteOutage as error:
            report.outage, report.error = True, str(error)
        checker.witness.end(self._clock())
        return report


def _as_remote(remote: Store | Remote) -> Remote:
    return remote if isinstance(remote, Remote) else Remote(remote, Terms())
