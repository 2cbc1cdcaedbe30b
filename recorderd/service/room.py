"""The outbox's part of the disk budget: makes room while that can be done, and tells where it cannot."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from recorderd.config import Config
from recorderd.errors import DiskFull, RecorderError, SpoolError
from recorderd.spool.budget import EVICT_ABOVE, EVICT_TO, GB, Limits, Marks, Room
from recorderd.spool.eviction import Evictor
from recorderd.spool.free_space import measure
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_keeping import alert_entry, enter, ledger_of
from recorderd.spool.stores import RemoteOutage, Retrying, Store, open_store

log = logging.getLogger(__name__)

EVERY_S: Final = 10.0
"""How often the room is looked at; every second while it is being made."""

LONGEST_S: Final = 20.0
"""A round of evictions ends after so long: alerts wait meanwhile."""

STAYS: Final = {
    "unsynced": "not on every remote",
    "stored": "stored on a remote and never read back",
    "held": "held",
    "review": "to be reviewed",
}


class RoomKeeper:
    """Keeps room in a spool; for the process that has the network."""

    def __init__(
        self,
        spool: Spool,
        index: Index,
        remotes: Mapping[str, Store],
        limits: Limits,
        ledger: Ledger | None = None,
        *,
        clock: Callable[[], int] = time.time_ns,
        every_s: float = EVERY_S,
    ) -> None:
        """``clock`` is in ns since 1970."""
        self._every_s = every_s
        self._spool, self._index, self._limits, self._clock = spool, index, limits, clock
        self._ledger, self._remotes = ledger, remotes
        self._evictor = Evictor(spool, index, remotes, ledger, clock)
        self._marks = Marks(limits.marks)
        self._relieving = self._prepared = False
        self._due = 0.0
        self._said = ""
        self._untold: float | None = None  # a mark, as long as the index does not take its alert

    @classmethod
    def of(cls, config: Config, spool: Spool, index: Index) -> Self:
        """As the configuration says."""
        # Stores of its own: those of the carrying may be another thread's.
        ledger = ledger_of(spool) if config.ledger.enabled else None
        remotes = {each.name: Retrying(open_store(each)) for each in config.sync.remotes}
        return cls(spool, index, remotes, config.spool.budget.limits, ledger)

    def keep(self, stopping: Callable[[], bool], alive: Callable[[], None]) -> None:
        """Look at the room, at most every few seconds; make some, and tell which marks were passed.

        Raises DiskFull and SpoolError where the index does not take what it has to be told.
        """
        if (now := time.monotonic()) < self._due:
            return
        self._due = now + self._every_s
        room = self._make_room(stopping, alive)
        self._untold = self._marks.look(room.fill) or self._untold
        if self._untold is not None:
            self._alert(room, self._untold)
            self._untold = None

    def _make_room(self, stopping: Callable[[], bool], alive: Callable[[], None]) -> Room:
        try:
            if not self._prepared:
                self._evictor.prepare()
                self._prepared = True
            room = self._measure()
            self._relieving = room.fill >= (EVICT_TO if self._relieving else EVICT_ABOVE)
            if self._relieving or self._limits.keep_days is not None:
                until = time.monotonic() + LONGEST_S
                freed = self._evictor.evict(
                    room,
                    relieving=self._relieving,
                    stopping=lambda: stopping() or time.monotonic() > until,
                    alive=alive,
                )
                if freed:
                    self._due = 0.0
            self._said = ""
        except (RemoteOutage, DiskFull, SpoolError) as error:
            # What keeps recordings from going keeps nobody from carrying others.
            if str(error) != self._said:
                log.warning("no room can be made: %s", error)
            self._said = str(error)
        return self._measure()

    def _measure(self) -> Room:
        return measure(self._spool.path, self._index.bytes_here(), self._limits)

    def _alert(self, room: Room, mark: float) -> None:
        fields: dict[str, Any] = {
            "spool": str(self._spool.path),
            "full": f"{mark:.0%}",
            "left_gb": round(max(0, room.left) / GB, 3),
        }
        stays = self._index.what_stays()
        told = [f"{stays[key]} {text}" for key, text in STAYS.items() if stays[key]]
        fields["stays"] = told if self._remotes else ["everything: there is no remote"]
        log.warning(
            "the room for recordings is used to %s, %s GB are left", fields["full"], fields["left_gb"]
        )
        alert = {"kind": "disk", "time_ns": self._clock(), "fields": fields}
        if self._ledger is not None:
            with contextlib.suppress(RecorderError):
                enter(self._ledger, self._index, [alert_entry(alert, self._clock() // 1000)])
        self._index.alert_added(alert)
