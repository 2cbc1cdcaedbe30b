"""Signs the ledger's checkpoints, in a thread of its own, and brings the ledger into line with the index: at
the start, at the end, and when a worker has died.

Whatever is wrong with the ledger is told once, and stops no recording.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

from recorderd.config import Config
from recorderd.errors import RecorderError, SpoolCorrupt
from recorderd.service.worker import Worker
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter, learn, ledger_of, reconcile
from recorderd.spool.signing import HostKey

log = logging.getLogger(__name__)


class Notary:
    """Keeps one spool's ledger until it is closed. ``index`` is the thread's own."""

    def __init__(self, spool: Spool, index: Index, host_key: HostKey, host: str, every_s: float) -> None:
        self._spool, self._index, self._host_key, self._host = spool, index, host_key, host
        self._ledger = ledger_of(spool)
        self._until_us: int | None = time.time_ns() // 1000
        self._asked = True
        self._told: set[type[RecorderError]] = set()
        self._guarded(lambda: self._say("started"))
        self._worker = Worker("notary", self._round, every_s)

    def settle(self) -> None:
        """Have everything entered that is over, and sign it; waits."""
        self.ask()
        self._worker.settle()

    def ask(self) -> None:
        """With the next round, look for what was not entered."""
        self._asked = True

    def close(self) -> None:
        """Enter what is over, and the end, and sign a last time. Nobody else enters anything any more."""
        self._until_us, self._asked = None, True
        self._worker.close()
        self._guarded(lambda: self._say("stopped"))
        self._guarded(self._sign)

    def _round(self) -> None:
        if self._asked:
            self._asked = not self._guarded(self._reconcile)
        self._guarded(self._sign)

    def _reconcile(self) -> None:
        gone = learn(self._ledger, self._index)
        if gone:
            self._tell(SpoolCorrupt(f"{self._ledger.path}: {gone} entries are gone that the index knows"))
        entered = reconcile(self._spool, self._ledger, self._index, until_us=self._until_us)
        self._until_us = None
        if entered:
            log.warning("%d recordings and calls were not in the ledger; they are now", entered)

    def _say(self, kind: str) -> None:
        entry = Entry(kind, time.time_ns() // 1000, self._host, {"key": self._host_key.id.hex()})
        enter(self._ledger, self._index, [entry])

    def _sign(self) -> None:
        self._ledger.checkpoint(self._host_key)
        while self._ledger.repairs:
            self._tell(SpoolCorrupt(self._ledger.repairs.pop()))
        self._told.clear()

    def _guarded(self, act: Any) -> bool:
        """Do something; whether that went well."""
        try:
            act()
        except RecorderError as error:
            self._tell(error)
            return False
        return True

    def _tell(self, error: RecorderError) -> None:
        if type(error) in self._told:
            return
        self._told.add(type(error))
        log.error("the ledger: %s", error)
        alert = {"kind": "ledger", "time_ns": time.time_ns(), "fields": {"error": str(error)}}
        with contextlib.suppress(RecorderError):
            self._index.alert_added(alert)


@contextlib.contextmanager
def notary(config: Config, spool: Spool, host_key: HostKey) -> Iterator[Notary | None]:
    """Keep the spool's ledger for as long as the block runs; None where the configuration has none."""
    if not config.ledger.enabled:
        yield None
        return
    with Index.open(spool) as index:
        keeper = Notary(spool, index, host_key, config.site.name, config.ledger.checkpoint_s)
        with contextlib.closing(keeper):
            yield keeper
