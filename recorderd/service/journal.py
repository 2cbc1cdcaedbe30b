"""What the index is to be told: gathered, and written in one transaction at a time, in a thread of its own.

The recordings are the truth and the index can be rebuilt from them, so an index that cannot be written to (a
full disk, another process that holds it) stops no recording: what it is to be told waits until it can be.
"""

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final

from recorderd.errors import RecorderError
from recorderd.service.worker import Worker
from recorderd.spool.index import Index

log = logging.getLogger(__name__)

EVERY_S: Final = 0.5

LAST_TRIES: Final = 2
"""At the end, for an index that another process holds: each waits for the lock as long as any other."""

MAX_WAITING: Final = 200_000
"""Entries that wait for a disk that stays full; beyond it the oldest are given up, with a line in the log."""

_Entry = tuple[str, tuple[Any, ...]]


class Journal:
    """Calls of the index's methods that are yet to be made, in order.

    The index is the thread's own until :meth:`close`. ``trouble`` is told, in that thread, why it could not
    be written to.
    """

    def __init__(
        self, index: Index, trouble: Callable[[RecorderError], None], every_s: float = EVERY_S
    ) -> None:
        self._index, self._trouble = index, trouble
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, _Entry] = {}
        self._worker = Worker("journal", self._round, every_s)

    def __len__(self) -> int:
        """How many entries wait."""
        return len(self._waiting)

    def add(self, method: str, *arguments: Any, key: Hashable | None = None) -> None:
        """Call ``index.method(*arguments)`` soon; from any thread.

        An entry that waits with the same ``key`` is what this one overwrites, and is not made.
        """
        key = object() if key is None else key
        with self._lock:
            self._waiting.pop(key, None)
            if len(self._waiting) >= MAX_WAITING:
                oldest = self._waiting.pop(next(iter(self._waiting)))
                log.error("the index cannot be written to and too much waits: an entry is lost: %s", oldest)
            self._waiting[key] = (method, arguments)

    def check(self) -> None:
        """Raise what killed the thread, if something did."""
        self._worker.check()

    def settle(self) -> None:
        """Wait until the index was told everything, or refused it."""
        self._worker.settle()

    def close(self) -> None:
        """Tell the index what waits, and leave it alone from now on."""
        self._worker.close()
        for _ in range(LAST_TRIES):
            self._round()
        if self._waiting:
            log.error("the index cannot be written to: %d entries are lost", len(self._waiting))

    def _round(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, {}
        if not taken:
            return
        try:
            with self._index.batch():
                for method, arguments in taken.values():
                    getattr(self._index, method)(*arguments)
        except RecorderError as error:
            with self._lock:
                self._waiting = taken | self._waiting
            self._trouble(error)
