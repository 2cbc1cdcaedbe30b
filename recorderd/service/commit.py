"""Group commit: everything that was recorded becomes durable together, every other second, in a thread of its
own.

The kernel has each record when it is written, so the death of the process loses none; this is for the power
cut. One syncfs(2) costs the same for one call as for a thousand.
"""

import logging
import threading
from typing import Final

from recorderd.errors import DiskFull, SpoolError
from recorderd.spool.layout import Spool

log = logging.getLogger(__name__)

EVERY_S: Final = 2.0


class GroupCommit:
    """Commits a spool until it is closed."""

    def __init__(self, spool: Spool, every_s: float = EVERY_S) -> None:
        self._spool, self._every_s = spool, every_s
        self.commits = self.failures = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._spool.flush()
            except (DiskFull, SpoolError) as error:
                # What the kernel could not write is lost to it; it is told each time, and never believed on
                # retry.
                self.failures += 1
                log.error(
                    "commit failed, what was recorded since the last one may be lost in a power cut: %s",
                    error,
                )
            else:
                self.commits += 1

    def close(self) -> None:
        """Stop committing."""
        self._stop.set()
        self._thread.join()
