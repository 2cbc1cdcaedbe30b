"""A thread that does one thing in rounds: every so often, and when somebody waits for it.

What the disk or a lock can hold up is done in one, so that it never holds up the capture. A thread that dies
is never silent: what killed it is raised where the others look after it.
"""

import threading
import time
from collections.abc import Callable


class Worker:
    """Calls ``work`` in a thread of its own until it is closed, ``at_once`` for the first time or when a
    first interval has passed."""

    def __init__(self, name: str, work: Callable[[], None], every_s: float, *, at_once: bool = False) -> None:
        self._work, self._every_s = work, every_s
        self._changed = threading.Condition()
        self._asked = self._done = 0
        self._due = time.monotonic() + (0.0 if at_once else every_s)
        self._closing = self._ended = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last = False
        while not last:
            ticket, last = self._wait()
            try:
                self._work()
            except BaseException as error:
                self._failure, last = error, True
            with self._changed:
                self._done, self._ended = ticket, last
                self._changed.notify_all()

    def _wait(self) -> tuple[int, bool]:
        """Wait for the next round to begin; what it serves, and whether it is the last."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._asked > self._done or self._closing, max(0.0, self._due - time.monotonic())
            )
            self._due = time.monotonic() + self._every_s
            return self._asked, self._closing

    def check(self) -> None:
        """Raise what killed the thread, if something did."""
        if self._failure is not None:
            raise self._failure

    def settle(self) -> None:
        """Wait for a whole round that begins after this call; raises what :meth:`check` does."""
        with self._changed:
            self._asked += 1
            ticket = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._done >= ticket or self._ended)
        self.check()

    def close(self) -> None:
        """Do a last round and end; raises what :meth:`check` does."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self.check()
