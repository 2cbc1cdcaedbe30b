"""Watches the room on the spool's disk while calls are recorded: with the reserve begun, no call that begins
is recorded, and those in progress go on.

In a thread of its own, since a disk that hangs must hold up nobody else.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from recorderd.calls.outcomes import NO_ROOM
from recorderd.errors import NoRoom, RecorderError
from recorderd.service.worker import Worker
from recorderd.spool.budget import GB, Admittance, Limits, Room, Trend
from recorderd.spool.free_space import measure
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool

log = logging.getLogger(__name__)

EVERY_S: Final = 1.0

SUM_S: Final = 30.0
"""How often the index is asked what the finished recordings take; others let some go, too."""

BEGUN: Final = "calls that begin are not recorded: what is left is kept for those in progress"
OVER: Final = "over, calls that begin are recorded again"


class Reserve:
    """The room as it was a second ago. ``running`` tells the bytes of the recordings in progress, ``tell``
    gets an alert's fields when the reserve is begun, and when that is over."""

    def __init__(
        self,
        spool: Spool,
        limits: Limits,
        running: Callable[[], int],
        tell: Callable[[dict[str, Any]], None],
        every_s: float = EVERY_S,
    ) -> None:
        self._spool, self._limits = spool, limits
        self._running, self._tell = running, tell
        self._admittance, self._trend = Admittance(), Trend()
        self._room: Room | None = None
        self._full_in_s: float | None = None
        self._used, self._free, self._summed = 0, 0, -math.inf
        self._failing = False
        self._lock = threading.Lock()
        self._round()
        self._worker = Worker("reserve", self._round, every_s)

    @property
    def full(self) -> bool:
        """Whether no more calls are begun."""
        return self._admittance.full

    def admit(self) -> None:
        """Raises NoRoom where a call that begins is not to be recorded."""
        if self._admittance.full:
            raise NoRoom(f"{self._spool.path}: {NO_ROOM}")

    def check(self) -> None:
        """Raise what killed the thread, if something did."""
        self._worker.check()

    def settle(self) -> None:
        """Wait until the room was looked at."""
        self._worker.settle()

    def close(self) -> None:
        """Look no more."""
        self._worker.close()

    def status(self) -> dict[str, Any]:
        """For the control socket: ``level`` (``none`` or ``no_new_calls``), how full, what is left beside the
        reserve and in how many seconds it is used up at the pace of the last hour (None: it is not)."""
        with self._lock:
            room, full_in_s = self._room, self._full_in_s
        if room is None:
            return {
                "level": "unknown",
                "fill": 0.0,
                "left_bytes": None,
                "free_bytes": None,
                "full_in_s": None,
            }
        return {
            "level": "no_new_calls" if self.full else "none",
            "fill": round(room.fill, 4),
            "left_bytes": room.left,
            "free_bytes": room.free,
            "full_in_s": None if full_in_s is None else round(full_in_s),
        }

    def _round(self) -> None:
        now = time.monotonic()
        try:
            room = self._measure(now)
        except RecorderError as error:
            if not self._failing:
                log.error("the room on the spool's disk cannot be told: %s", error)
            self._failing = True
            return
        self._failing = False
        full_in_s = self._trend.look(now, room.left)
        with self._lock:
            self._room, self._full_in_s = room, full_in_s
        before = self.full
        if self._admittance.look(room.left, room.reserve) != before:
            what = OVER if before else BEGUN
            (log.warning if before else log.error)("disk full: %s", what)
            left_gb = round(max(0, room.free) / GB, 3)
            self._tell({"spool": str(self._spool.path), "full": what, "free_gb": left_gb})

    def _measure(self, now: float) -> Room:
        if now - self._summed >= SUM_S:
            self._summed = now
            with Index.read(self._spool) as index:
                self._used = index.bytes_here() + self._running()
            room = measure(self._spool.path, self._used, self._limits)
            self._free = room.free
            return room
        # Since the last sum all that the file system lost is taken to be recordings.
        room = measure(self._spool.path, self._used, self._limits)
        return room._replace(used=self._used + max(0, self._free - room.free))
