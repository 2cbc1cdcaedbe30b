"""What the index is to be told: gathered during a window, written in one transaction when it closes.

The recordings are the truth and the index can be rebuilt from them, so an index that cannot be written to (a
full disk) stops no recording: what it is to be told waits until there is room again.
"""

import logging
from typing import Any, Final

from recorderd.errors import RecorderError
from recorderd.spool.index import Index

log = logging.getLogger(__name__)

MAX_WAITING: Final = 200_000
"""Entries that wait for a disk that stays full; beyond it the oldest are given up, with a line in the log."""


class Journal:
    """Calls of the index's methods that are yet to be made, in order."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._waiting: list[tuple[str, tuple[Any, ...]]] = []

    def add(self, method: str, *arguments: Any) -> None:
        """Call ``index.method(*arguments)`` at the next :meth:`write`."""
        if len(self._waiting) >= MAX_WAITING:
            log.error(
                "the index cannot be written to and too much waits for it: an entry is lost: %s",
                self._waiting[0],
            )
            del self._waiting[0]
        self._waiting.append((method, arguments))

    def write(self) -> RecorderError | None:
        """Tell the index everything that waits, or nothing; returns why nothing."""
        if not self._waiting:
            return None
        try:
            with self._index.batch():
                for method, arguments in self._waiting:
                    getattr(self._index, method)(*arguments)
        except RecorderError as error:
            return error
        self._waiting.clear()
        return None
