"""What the index is to be told: gathered, and written in one transaction at a time, in a thread of its own.

The recordings are the truth and the index can be rebuilt from them, so an index that cannot be written to (a
full disk, another process that holds it) stops no recording: what it is to be told waits until it can be.

Finished recordings, outcomes and alerts go into the ledger first, all of a round together, and wait just so.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final

from recorderd.errors import RecorderError
from recorderd.service.worker import Worker
from recorderd.spool.index import Index
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import alert_entry, call_entry, recording_entry

log = logging.getLogger(__name__)

EVERY_S: Final = 0.5

LAST_TRIES: Final = 2
"""At the end, for an index that another process holds: each waits for the lock as long as any other."""

MAX_WAITING: Final = 200_000
"""Entries that wait for a disk that stays full; beyond it the oldest are given up, with a line in the log."""

MAX_ENTERED: Final = 2_000
"""Entries of one append to the ledger."""

_Entry = tuple[str, tuple[Any, ...]]
_Unentered = tuple[str, tuple[Any, ...], int, str | None]
"""As it was added, when (us since 1970), and the SHA-256 of the manifest where it is known."""

_ALIKE: Final[dict[str, Callable[[Index, Iterable[Any]], None]]] = {
    "recording_started": Index.recordings_started,
    "recording_finished": Index.recordings_finished,
    "call_noted": Index.calls_noted,
    "call_saved": Index.calls_saved,
}
"""What the index is told of every call, and how it is told that of several."""

_ENTERED: Final = frozenset({"recording_finished", "call_saved", "alert_added"})
"""What the index is told that becomes an entry of the ledger."""


def _entry(
    method: str, arguments: tuple[Any, ...], time_us: int, manifest_sha256: str | None, numbers: bool
) -> Entry:
    if method == "call_saved":
        return call_entry(arguments[0], time_us, numbers=numbers)
    if method == "alert_added":
        return alert_entry(arguments[0], time_us, numbers=numbers)
    recording, state, _, path, sha256, size = arguments[:6]
    return recording_entry(recording, state, path, sha256, size, time_us, manifest_sha256)


class Journal:
    """Calls of the index's methods that are yet to be made, in order.

    The index is the thread's own until :meth:`close`. ``trouble`` is told, in that thread, why it could not
    be written to. ``numbers``: whether entries of the ledger have those of the calls.
    """

    def __init__(
        self,
        index: Index,
        trouble: Callable[[RecorderError], None],
        every_s: float = EVERY_S,
        ledger: Ledger | None = None,
        *,
        numbers: bool = True,
    ) -> None:
        self._index, self._trouble, self._ledger = index, trouble, ledger
        index.undo_in_memory()
        self._numbers = numbers
        self._unentered: deque[_Unentered] = deque()
        self._ledger_failing = False
        self._lock = threading.RLock()
        self._waiting: dict[Hashable, _Entry] = {}
        self._worker = Worker("journal", self._round, every_s)

    def __len__(self) -> int:
        """How many entries wait."""
        return len(self._waiting)

    @property
    def unentered(self) -> int:
        """How many entries wait for the ledger."""
        return len(self._unentered)

    def together(self) -> AbstractContextManager[Any]:
        """What one thread adds inside the block reaches the index in one transaction."""
        return self._lock

    def add(
        self, method: str, *arguments: Any, key: Hashable | None = None, manifest_sha256: str | None = None
    ) -> None:
        """Call ``index.method(*arguments)`` soon; from any thread.

        An entry that waits with the same ``key`` is what this one overwrites, and is not made. The ledger
        reads the manifest of a finished recording where it is not told its ``manifest_sha256``.
        """
        key = object() if key is None else key
        with self._lock:
            self._waiting.pop(key, None)
            if len(self._waiting) >= MAX_WAITING:
                oldest = self._waiting.pop(next(iter(self._waiting)))
                log.error("the index cannot be written to and too much waits: an entry is lost: %s", oldest)
            self._waiting[key] = (method, arguments)
            if self._ledger is not None and method in _ENTERED:
                self._unentered.append((method, arguments, time.time_ns() // 1000, manifest_sha256))
                if len(self._unentered) > MAX_WAITING:
                    # What is about recordings and calls is found at the next start, as the index has them.
                    self._unentered.popleft()

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
        if self._unentered:
            log.error("the ledger cannot be written to: %d entries wait for a start", len(self._unentered))

    def _round(self) -> None:
        with self._lock:
            taken, self._waiting = self._waiting, {}
        # What comes in meanwhile waits for the next round: nothing is in the index before it was entered.
        taken |= self._enter()
        if not taken:
            return
        try:
            self._tell_index(taken.values())
        except RecorderError as error:
            with self._lock:
                self._waiting = taken | self._waiting
            self._trouble(error)

    def _tell_index(self, entries: Iterable[_Entry]) -> None:
        # Of what has a key there is one entry, so those of one kind may come together.
        told: dict[str, list[tuple[Any, ...]]] = {}
        for method, arguments in entries:
            told.setdefault(method, []).append(arguments)
        with self._index.batch():
            for method, each in told.items():
                if (together := _ALIKE.get(method)) is not None:
                    together(self._index, each)
                    continue
                for arguments in each:
                    getattr(self._index, method)(*arguments)

    def _enter(self) -> dict[Hashable, _Entry]:
        """Into the ledger, durably, before the index says that it is so; what the index is to be told of
        that."""
        told: dict[Hashable, _Entry] = {}
        while self._ledger is not None and self._unentered:
            with self._lock:
                taken = [self._unentered.popleft() for _ in range(min(len(self._unentered), MAX_ENTERED))]
            entries = [_entry(*each, self._numbers) for each in taken]
            try:
                if self._ledger_failing:
                    # The index knows what waited, so others may have entered it meanwhile.
                    entries = [each for each in entries if not self._index.ledger_has(each)]
                leaves = self._ledger.append(entries)
            except RecorderError as error:
                with self._lock:
                    self._unentered.extendleft(reversed(taken))
                self._cannot_enter(error)
                break
            self._ledger_failing = False
            told[object()] = ("ledger_entered", (leaves.start, entries))
            while self._ledger.repairs:
                self._tell(self._ledger.repairs.pop())
        return told

    def _cannot_enter(self, error: RecorderError) -> None:
        if not self._ledger_failing:
            self._ledger_failing = True
            log.error("the ledger, whose entries wait: %s", error)
            self._tell(str(error))

    def _tell(self, error: str) -> None:
        self.add("alert_added", {"kind": "ledger", "time_ns": time.time_ns(), "fields": {"error": error}})
