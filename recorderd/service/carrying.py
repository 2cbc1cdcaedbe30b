"""The outbox's threads: one carries to each remote, so that none waits for another, and one reads again what
was verified."""

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Self

from recorderd.config import Config
from recorderd.errors import RecorderError
from recorderd.service.worker import Worker
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.stores import Store
from recorderd.spool.sync import configured_remotes
from recorderd.spool.sync_remote import RemoteWorker
from recorderd.spool.sync_report import Step
from recorderd.spool.sync_scrub import Scrubber, ScrubTerms
from recorderd.spool.sync_store import Remote, sample_key

log = logging.getLogger(__name__)

SCRUB_S = 10.0
"""How often a little is read again."""

Stop = Callable[[], bool]


class Carrying:
    """The threads, until they are closed; each has an index of its own."""

    def __init__(
        self,
        spool: Spool,
        remotes: Mapping[str, Remote],
        scrub: ScrubTerms,
        interval_s: float,
        stopping: Stop,
    ) -> None:
        self._open = contextlib.ExitStack()
        key = sample_key(spool)
        self._workers = []
        for name, remote in remotes.items():
            worker = RemoteWorker(name, remote, spool, key)
            carry = _Carrying(self._index(spool), worker, remote.store, stopping)
            self._workers.append(Worker(f"sync-{name}", carry, interval_s))
        if scrub.every_days:
            scrubber = Scrubber(spool, self._index(spool), remotes, scrub)
            self._workers.append(Worker("scrub", _Scrubbing(scrubber, stopping), SCRUB_S))

    @classmethod
    def of(cls, config: Config, spool: Spool, stopping: Stop) -> Self:
        """As the configuration says."""
        scrub = config.sync.scrub
        terms = ScrubTerms(scrub.every_days, scrub.bandwidth, scrub.local)
        return cls(spool, configured_remotes(config.sync.remotes), terms, config.sync.interval_s, stopping)

    def _index(self, spool: Spool) -> Index:
        return self._open.enter_context(Index.open(spool))

    def check(self) -> None:
        """Raise what killed a thread, if something did."""
        for worker in self._workers:
            worker.check()

    def close(self) -> None:
        """Wait for the threads, which stop at the next bytes that go or come."""
        with self._open:
            for worker in self._workers:
                worker.close()


class _Carrying:
    """Passes over one remote: a line where its state changed and, once, what it does not enforce."""

    def __init__(self, index: Index, worker: RemoteWorker, store: Store, stopping: Stop) -> None:
        self._index, self._worker, self._store, self._stopping = index, worker, store, stopping
        self._said: str | None = None
        self._examined = False

    def __call__(self) -> None:
        try:
            report = self._worker.run(self._index, self._stopping, _unwatched, force=False, counted=False)
        except RecorderError as error:
            # The index, mostly: what could not be noted is read back in the next pass.
            said: str | None = str(error)
        else:
            said = report.error
            if not (self._examined or report.outage or report.closed):
                self._examine()
        if said != self._said:
            if said is None:
                log.info("%s: all is well again", self._worker.name)
            else:
                log.warning("%s", said)
            self._said = said

    def _examine(self) -> None:
        """Tell what is to be known of the remote before somebody relies on it; `doctor` tells all of it."""
        try:
            findings = self._store.examine()
        except RecorderError as error:
            log.info("%s: not examined yet: %s", self._worker.name, error)
            return
        self._examined = True
        for finding in findings:
            if finding.ok is False:
                log.warning("%s: %s: %s", self._worker.name, finding.what, finding.detail)


class _Scrubbing:
    """One round of scrubbing."""

    def __init__(self, scrubber: Scrubber, stopping: Stop) -> None:
        self._scrubber, self._stopping = scrubber, stopping

    def __call__(self) -> None:
        try:
            done = self._scrubber.run(self._stopping)
        except RecorderError as error:
            log.error("%s", error)
            return
        for damage in done.damaged:
            log.error("scrub: %s", damage)
        for recording in done.restored:
            log.warning("scrub: %s was restored from a remote", recording)


def _unwatched(step: Step) -> None:
    """Nobody watches the service's passes; `recorderctl sync --status` tells how far they are."""
