"""Group commit: everything that was recorded becomes durable together, every second, in a thread of its
own; and so do the ends of recordings.

The kernel has each record when it is written, so the death of the process loses none; this is for the power
cut. One syncfs(2) costs the same for one call as for a thousand. In a round (docs/format.md, "How it is
written") the end records and manifests of what is over are written, the file system is synced, and only then
is a recording renamed and said to be sealed.
"""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from recorderd.errors import DiskFull, RecorderError, SpoolError
from recorderd.service.worker import Worker
from recorderd.spool.layout import Spool
from recorderd.spool.writer import Sealed

log = logging.getLogger(__name__)

EVERY_S: Final = 1.0

MAX_ENDED: Final = 1000
"""Recordings that are over and were not looked at yet; each has a descriptor. One more has to wait."""

MAX_ENDS: Final = 100
"""Ends written before a sync: the recordings in progress wait for it meanwhile. The rest has the next one."""


class Rounds:
    """Syncs of the whole spool. What was written while ``begun`` was *n* is durable once ``done`` is more."""

    def __init__(self) -> None:
        self.begun = 0
        self.done = 0
        """The number of the last that succeeded."""


class Written(Protocol):
    """A recording as it is written; see :class:`recorderd.spool.writer.RecordingWriter` and
    :class:`recorderd.service.segments.SegmentedRecording`.
    """

    @property
    def recording_id(self) -> str:
        """The id of its present file."""

    def loss(self) -> SpoolError | None:
        """What the disk lost of it, by its descriptor; in any thread."""

    def end(self, summary: dict[str, Any]) -> None:
        """Write its end. Raises DiskFull (once more later) or SpoolError."""

    def finish(self) -> Sealed:
        """Give it its name; its end is durable. Raises SpoolError."""

    def seal(self, summary: dict[str, Any]) -> Sealed:
        """Both, durably, of this one alone. Raises DiskFull or SpoolError."""

    def abandon(self) -> None:
        """Close the file as it is."""


class Ended(NamedTuple):
    """A recording that is over and yet to be sealed, and the account of its calls."""

    writer: Written
    summary: dict[str, Any]
    calls: list[dict[str, Any]]


class Keeper(Protocol):
    """Who is told what became of the recordings; in the thread of the commits."""

    def running(self) -> Sequence[Written]:
        """The recordings in progress; each until it was given to :meth:`GroupCommit.seal`."""

    def sealed(self, ended: Ended, sealed: Sealed) -> None:
        """A recording is finished, and durable."""

    def unsealed(self, ended: Ended, error: RecorderError) -> None:
        """A recording cannot be finished; its file stays as it is."""

    def torn(self, writer: Written, error: RecorderError) -> bool | None:
        """The disk has lost something of a recording; no more is to be written to that file. Whether what is
        missing comes into another one: else the recording cannot be sealed.
        """

    def mend(self) -> None:
        """Go on in new files where old ones are lost."""

    def trouble_met(self, error: RecorderError) -> None:
        """The disk does not take what it should."""


class GroupCommit:
    """Commits a spool until it is closed."""

    def __init__(self, spool: Spool, keeper: Keeper, every_s: float = EVERY_S) -> None:
        self._spool, self._keeper = spool, keeper
        self.commits = self.failures = 0
        self.rounds = Rounds()
        self.longest_s = 0.0
        """How long the longest sync took."""
        self._lock = threading.Lock()
        self._ended: list[Ended] = []
        self._refused = 0  # so many of the first of them the disk had no room for
        self._losses: dict[str, SpoolError] = {}
        """What the disk lost something of. The kernel says so once; the commits after this one succeed."""
        self._worker = Worker("commit", self._round, every_s)

    def seal(self, ended: Ended) -> None:
        """Seal a recording with the next commit. Waits for that one where too many wait already."""
        with self._lock:
            self._ended.append(ended)
            many = len(self._ended) - self._refused > MAX_ENDED
        if many:
            self._worker.settle()

    def check(self) -> None:
        """Raise what killed the thread, if something did."""
        self._worker.check()

    def settle(self) -> None:
        """Commit, and wait until that is done: what was given to :meth:`seal` is sealed, or cannot be yet."""
        self._worker.settle()

    def close(self) -> None:
        """Commit a last time. What the disk still has no room for is left as it is, to be recovered."""
        self._worker.close()
        for ended in self._ended:
            ended.writer.abandon()
        self._ended.clear()

    def _round(self) -> None:
        self._refused = 0
        self._keeper.mend()
        self._commit()
        while self._ended and not self._refused:
            self._commit()

    def _commit(self) -> None:
        with self._lock:
            batch = self._ended[:MAX_ENDS]
            del self._ended[:MAX_ENDS]
        ready = self._write_ends(batch)
        began = time.monotonic()
        self.rounds.begun += 1
        try:
            self._spool.flush()
        except (DiskFull, SpoolError) as error:
            self.failures += 1
            self._doubt(error, ready)
        else:
            self.commits += 1
            self.rounds.done = self.rounds.begun
            for ended in ready:
                self._finish(ended)
        self.longest_s = max(self.longest_s, time.monotonic() - began)

    def _write_ends(self, batch: list[Ended]) -> list[Ended]:
        """Those whose end is written; where the disk is full, the others wait, the oldest first."""
        ready = []
        for number, ended in enumerate(batch):
            try:
                self._believe(ended.writer)
                ended.writer.end(ended.summary)
            except DiskFull as error:
                self._keeper.trouble_met(error)
                with self._lock:
                    self._ended[:0] = batch[number:]
                    self._refused = len(self._ended)
                break
            except (SpoolError, ValueError) as error:
                self._give_up(ended, error)
            else:
                ready.append(ended)
        return ready

    def _believe(self, writer: Written) -> None:
        """Raise SpoolError for a recording that the disk lost something of."""
        if writer.recording_id in self._losses:
            raise self._losses.pop(writer.recording_id)

    def _finish(self, ended: Ended) -> None:
        try:
            sealed = ended.writer.finish()
        except SpoolError as error:
            self._give_up(ended, error)
        else:
            self._keeper.sealed(ended, sealed)

    def _doubt(self, failure: RecorderError, ready: list[Ended]) -> None:
        """The sync failed: something was lost, and syncing again would not tell what. Each recording is
        asked by its own descriptor; what is over is made durable alone, or not called sealed.
        """
        log.error("commit failed, what was recorded since the last one may be lost: %s", failure)
        self._keeper.trouble_met(failure)
        running = self._keeper.running()
        with self._lock:  # a recording comes here before it leaves those in progress: none is passed over
            over = [ended.writer for ended in self._ended]
        for writer in {each.recording_id: each for each in (*running, *over)}.values():
            loss = writer.loss()
            if loss is not None and not self._keeper.torn(writer, loss):
                self._losses[writer.recording_id] = loss
        self._keeper.mend()
        for ended in ready:
            try:
                sealed = ended.writer.seal(ended.summary)
            except DiskFull as error:
                self._keeper.trouble_met(error)
                with self._lock:
                    self._ended.insert(0, ended)
                    self._refused = len(self._ended)
            except SpoolError as error:
                self._give_up(ended, error)
            else:
                self._keeper.sealed(ended, sealed)

    def _give_up(self, ended: Ended, error: RecorderError | ValueError) -> None:
        ended.writer.abandon()
        known = error if isinstance(error, RecorderError) else SpoolError(f"cannot be written: {error}")
        self._keeper.unsealed(ended, known)
