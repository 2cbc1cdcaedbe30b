"""A recording that goes on in a new file where the disk has lost something of the old one.

What a failed sync cost nobody can say: the kernel may have dropped it, and a second sync would succeed. So
the old file takes nothing more, and is recovered as after a crash from what the disk gives back. What no
commit had made durable yet is still in memory here, and is written once more into the next segment, which
names the old one and its hash (docs/format.md, "Segments"). While no file can be made, the newest is kept and
the rest counted (:mod:`recorderd.service.kept`).

Packets and events come in the engine's thread and never wait for a sync; files are left and made in that of
the commits.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from recorderd.errors import DiskFull, RecorderError, SpoolError
from recorderd.service.commit import Rounds
from recorderd.service.kept import NOWHERE, Kept
from recorderd.service.unwritten import Unwritten
from recorderd.spool.container import Even, json_plaintext
from recorderd.spool.header import Previous
from recorderd.spool.layout import new_recording_id
from recorderd.spool.recovery import Recovered
from recorderd.spool.times import microseconds, rfc3339
from recorderd.spool.writer import RecordingWriter, Sealed

LONGEST_WAIT_S: Final = 60.0
"""A disk that loses all that is written gets new files more and more seldom."""


class Files(Protocol):
    """Makes and leaves the files of a recording; in the thread of the commits."""

    def make(
        self, of: "SegmentedRecording", recording: str, started_ns: int, previous: Previous | None
    ) -> RecordingWriter:
        """Begin its next file. Raises DiskFull, SpoolError."""

    def leave(self, of: "SegmentedRecording", reason: str) -> Recovered:
        """Recover its present file, which the disk lost something of, from what the disk gives back. Raises
        DiskFull, SpoolError."""

    def tell(self, of: "SegmentedRecording") -> None:
        """Its file in progress, or what is known of it, has changed."""

    def trouble_met(self, error: RecorderError) -> None:
        """The disk does not take what it should."""


class SegmentedRecording:
    """Where one recording is written, be it one file or several."""

    def __init__(
        self,
        writer: RecordingWriter,
        rounds: Rounds,
        files: Files,
        row: dict[str, Any],
        call: dict[str, Any],
        began: dict[str, Any],
    ) -> None:
        """``row`` is what the index says of it while it runs, ``call`` what a docket has of the first call,
        if there is one, and ``began`` the event that was written first."""
        self.row, self.call = row, call
        self._writer, self._files = writer, files
        self._lock = threading.RLock()
        self._kept = Kept(rounds, began)
        self._waiting: bytes | None = None
        """What the writer held back when it was last looked at."""
        self._loss: RecorderError | None = None
        self._left = False
        self._previous: Previous | None = None
        self._next = ""
        self._begun_us = self._last_us = int(began["time_us"])
        self._tries, self._try_at = 0, 0.0
        self.earlier: list[str] = []
        """The ids of the segments before this one."""
        self.reasons: list[str] = []
        """Why each of them was left."""
        self.acknowledged_lost = False
        """Whether the disk lost something that it had acknowledged."""

    @property
    def recording_id(self) -> str:
        """The id of the segment that is written now."""
        return self._writer.recording_id

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all segments."""
        return (*self.earlier, self.recording_id)

    @property
    def packets_lost(self) -> int:
        """Packets that are in no file."""
        return self._kept.packets_lost

    # -- what comes to be recorded, in the engine's thread

    def media(
        self, base_time_us: int, rows: memoryview, payload: bytes | memoryview, even: Even | None = None
    ) -> None:
        """Write packets; see :meth:`RecordingWriter.media`. That the disk fails is no error here: they wait
        for the next segment."""
        with self._lock:
            self._last_us = base_time_us
            if self._loss is not None:
                # A view holds a window of all calls, and this may take long.
                self._kept.media(NOWHERE, base_time_us, bytes(rows), bytes(payload))
                return
            record = base_time_us, rows, payload
            self._write(lambda: self._writer.media(*record, even), self._kept.media, record)

    def unwritten(self) -> Unwritten:
        """The packets that are in no file, where it is known which they are; asked when no more come."""
        with self._lock:
            return self._kept.unwritten()

    def event(self, event: dict[str, Any]) -> None:
        """Write what happened; see :meth:`media`."""
        with self._lock:
            self._last_us = event["time_us"]
            if self._loss is not None:
                json_plaintext(event)  # raises where no file can have it, as the writer would
                self._kept.event(NOWHERE, event)
                return
            self._write(lambda: self._writer.event(event), self._kept.event, (event,))

    def _write(self, write: Callable[[], None], keep: Callable[..., None], record: tuple[Any, ...]) -> None:
        """Write a record, and keep it behind so many bytes as the file had before it."""
        size = self._writer.size
        try:
            write()
        except DiskFull:
            keep(self._writer.size, *record)
            self._no_room()
            raise
        except SpoolError as error:
            keep(self._writer.size, *record)
            self.lose(error)
        else:
            if self._waiting is not None:
                size += self._has_room()
            keep(size, *record)

    def _has_room(self) -> int:
        """The writer holds nothing back any more; the bytes of what it has written."""
        assert self._waiting is not None
        written, self._waiting = len(self._waiting), None
        self._kept.written()
        return written

    def _no_room(self) -> None:
        """The newest is held back by the writer, until there is room, or in no file."""
        waiting, before = self._writer.waiting, self._waiting
        if waiting is before:
            self._kept.refused()
            return
        if before is not None:
            self._kept.written()
        self._kept.waits()
        self._waiting = waiting

    def tell(self, row: dict[str, Any]) -> None:
        """More is known of the recording: ``row`` as the index is to have it."""
        with self._lock:
            mine = {key: told for key, told in self.row.items() if key in ("id", "started_at", "previous")}
            self.row = {**row, **mine}
            if not self._left:
                self._files.tell(self)

    # -- what the commits do

    def loss(self) -> SpoolError | None:
        """See :meth:`RecordingWriter.loss`; None where that file is given up already."""
        return self._writer.loss() if self._loss is None else None

    def lose(self, error: RecorderError) -> None:
        """Write nothing more to this file; from any thread."""
        with self._lock:
            if self._loss is None:
                self._loss = self._writer.fail(error).anew()
                self._files.trouble_met(error)
                self._kept.own()

    def go_on(self, *, at_once: bool = False) -> bool:
        """Begin the next segment where the last one was lost, if it is time to try; whether there is one.

        To be called now and then also of one that nothing comes for: what is durable is forgotten here.
        """
        if self._loss is None:
            if self._kept.durable:  # asked of all recordings: without the lock
                with self._lock:
                    self._kept.forget()
            return True
        now = time.monotonic()
        if now < self._try_at and not at_once:
            return False
        if self._kept.proved:
            self._tries, self._kept.proved = 0, False
        self._try_at = now + min(LONGEST_WAIT_S, 2.0**self._tries - 1)
        self._tries += 1
        if not self._left:
            self._leave()
        first_us = self._kept.begins_us()
        begins_us = self._last_us if first_us is None else first_us
        try:
            writer = self._files.make(self, self._next, begins_us * 1000, self._previous)
        except (DiskFull, SpoolError) as error:
            self._loss = error.anew()
            self._files.trouble_met(error)
            return False
        with self._lock:
            try:
                self._kept.write_to(writer)
            except (DiskFull, SpoolError) as error:
                self._loss = failed = error.anew()
            else:
                self.earlier.append(self._writer.recording_id)
                self._writer, self._loss, self._left, self._begun_us = writer, None, False, begins_us
                self._waiting = None
                begun: dict[str, Any] = {
                    "id": self.recording_id,
                    "started_at": rfc3339(begins_us),
                    "previous": self.earlier[-1],
                }
                self.row = {**self.row, **begun}
                self._files.tell(self)
                return True
        writer.discard()
        self._files.trouble_met(failed)
        return False

    def _leave(self) -> None:
        assert self._loss is not None
        self._writer.abandon()
        self.reasons.append(str(self._loss))
        self._next = new_recording_id(self._last_us * 1000)
        try:
            found = self._files.leave(self, f"the disk failed; goes on in {self._next}")
        except (DiskFull, SpoolError) as error:
            # The next start recovers it.
            self._files.trouble_met(error)
            self._previous, self._left = self._writer.as_previous(), True
            with self._lock:
                self._kept.recovered(self._writer.size, self._writer.size)
            return
        self._previous, self._left = found.previous, True
        with self._lock:
            self.acknowledged_lost |= self._kept.recovered(found.intact_bytes, self._writer.size)

    # -- its end

    def end(self, summary: dict[str, Any]) -> None:
        """See :meth:`RecordingWriter.end`."""
        if self._loss is not None and not self.go_on(at_once=True):
            raise self._loss.anew()
        self._writer.end(self.told(summary))

    def finish(self) -> Sealed:
        """See :meth:`RecordingWriter.finish`."""
        return self._writer.finish()

    def seal(self, summary: dict[str, Any]) -> Sealed:
        """See :meth:`RecordingWriter.seal`; in a further segment where this one is lost."""
        try:
            return self._writer.seal(self.told(summary))
        except SpoolError as error:
            if self._writer.failure is None:
                # Its records are durable: it is the manifest that is to be written anew.
                return self._writer.seal(self.told(summary))
            self.lose(error)
        self.end(summary)
        return self._writer.seal(self.told(summary))

    def abandon(self) -> None:
        """Close the file as it is."""
        self._writer.abandon()

    def told(self, summary: dict[str, Any]) -> dict[str, Any]:
        """What is said of the recording in its last segment."""
        if not self.earlier:
            return summary
        name, reason = self.judged(summary["outcome"], summary["reason"])
        causes = list(summary["review"]["causes"]) + ([] if self.whole else [self.reasons[-1]])
        told = {
            **summary,
            "id": self.recording_id,
            "segment": len(self.earlier),
            "previous": self.earlier[-1],
            "review": {"needed": bool(causes), "causes": causes},
            "outcome": name,
            "reason": reason,
        }
        if summary["started_at"] is not None:
            whole_us = microseconds(summary["started_at"])
            begun_us = max(self._begun_us, whole_us)
            told["started_at"] = rfc3339(begun_us)
            told["duration_s"] = max(0.0, round(summary["duration_s"] - (begun_us - whole_us) / 1e6, 6))
        return told

    @property
    def whole(self) -> bool:
        """Whether the segments together have all that was to be recorded."""
        return self._loss is None and not self.packets_lost and not self.acknowledged_lost

    def judged(self, name: str | None, reason: str | None) -> tuple[str | None, str | None]:
        """An outcome and its reason, with what the disk did to the recording."""
        if not self.reasons:
            return name, reason
        said = [f"goes on from {', '.join(self.earlier)}" if self.earlier else "", self.reasons[-1]]
        said += [f"the disk lost {self.packets_lost} packets"] if self.packets_lost else []
        said += ["the disk lost what it had acknowledged"] if self.acknowledged_lost else []
        name = "partial" if name == "complete" and not self.whole else name
        return name, "; ".join(filter(None, [reason, *said]))
