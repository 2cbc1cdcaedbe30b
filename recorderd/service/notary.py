"""Signs the ledger's checkpoints, in a thread of its own, and brings the ledger into line with the index: at
once at the start, at the end, and when a worker has died.

Whatever is wrong with the ledger is told once, and stops no recording.
"""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recorderd.config import Config
from recorderd.errors import RecorderError, SpoolCorrupt
from recorderd.service.worker import Worker
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import add_alert, alert_entry, enter, learn, ledger_of, reconcile
from recorderd.spool.signing import HostKey

log = logging.getLogger(__name__)


class Notary:
    """Keeps one spool's ledger until it is closed. ``index`` is the thread's own.

    What a crash left is entered, and ``alerts`` that the index has already: they tell of it.
    """

    def __init__(
        self,
        spool: Spool,
        index: Index,
        host_key: HostKey,
        host: str,
        every_s: float,
        *,
        numbers: bool = True,
        alerts: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self._spool, self._index, self._host_key, self._host = spool, index, host_key, host
        self._numbers = numbers
        self._alerts = deque(alerts)
        self._ledger = ledger_of(spool)
        self._began_us = time.time_ns() // 1000
        self._until_us: int | None = self._began_us
        # Nobody knows how far earlier lives came, how long ago they were, or what their clocks said.
        self._since_us: int | None = None
        self._asked = True
        self._told: set[type[RecorderError]] = set()
        self._guarded(lambda: self._say("started"))
        # Nobody waits for the first round: recording begins meanwhile.
        self._worker = Worker("notary", self._round, every_s, at_once=True)

    def settle(self) -> None:
        """Have everything entered that is over, and sign it; waits."""
        self.ask()
        self._worker.settle()

    def ask(self, alerts: Iterable[Mapping[str, Any]] = ()) -> None:
        """With the next round, look for what was not entered, and enter alerts that the index has."""
        self._alerts.extend(alerts)
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
        since, until, numbers = self._since_us, self._until_us, self._numbers
        entered = reconcile(
            self._spool, self._ledger, self._index, since_us=since, until_us=until, numbers=numbers
        )
        self._since_us, self._until_us = self._began_us, None
        if waiting := list(self._alerts):
            now = time.time_ns() // 1000
            enter(self._ledger, None, [alert_entry(each, now, numbers=numbers) for each in waiting])
            for _ in waiting:
                self._alerts.popleft()  # they are entered, whether the index can be told of that or not
            learn(self._ledger, self._index)
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
            add_alert(self._spool, self._index, alert)


@contextlib.contextmanager
def notary(
    config: Config, spool: Spool, host_key: HostKey, alerts: Iterable[Mapping[str, Any]] = ()
) -> Iterator[Notary | None]:
    """Keep the spool's ledger for as long as the block runs; None where the configuration has none.
    ``alerts`` as of :class:`Notary`."""
    if not config.ledger.enabled:
        yield None
        return
    with Index.open(spool) as index:
        settings = config.ledger
        keeper = Notary(
            spool,
            index,
            host_key,
            config.site.name,
            settings.checkpoint_s,
            numbers=settings.numbers,
            alerts=alerts,
        )
        with contextlib.closing(keeper):
            yield keeper
