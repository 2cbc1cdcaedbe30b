"""The files of one recording, on a disk that fails as it is told."""

import contextlib
import errno
import os
from typing import Any

import pytest

from recorderd.errors import DiskFull, SpoolError
from recorderd.service.commit import Rounds
from recorderd.service.segments import SegmentedRecording
from recorderd.spool.durable import forget_cached
from recorderd.spool.header import Previous
from recorderd.spool.reader import Recording
from recorderd.spool.recovery import Recovered, recover_part
from recorderd.spool.verify import verify
from recorderd.spool.writer import RecordingWriter
from tests.spool_builder import STARTED_US, Desk, summary, window

CALL = {"event": "call", "time_us": STARTED_US, "call_id": "a@b"}
STREAMS = [
    {"event": "stream", "stream": number, "time_us": STARTED_US, "track": track}
    for number, track in enumerate(("caller", "callee"))
]
PACKETS = len(window(0)[1])
"""Of each window."""


def lost() -> SpoolError:
    return SpoolError("the disk lost it")


def complete() -> dict[str, Any]:
    """What is told of the recording at its end."""
    return {**summary(), "outcome": "complete", "reason": ""}


class Disk:
    """Does to the writes of recordings in progress what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        """For so many writes; None: for all."""
        self.fails = False
        """The next write fails."""
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def full(self, yes: bool) -> None:
        """Whether there is no room from now on."""
        self.room = 0 if yes else None

    def write(self, descriptor: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".rec.part"):
            if self.fails:
                self.fails = False
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if self.room is not None:
                if not self.room:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.room -= 1
        return self._write(descriptor, data)


class Shelf:
    """Files of one recording, and what was told of them."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.rounds = desk, Rounds()
        self.troubles: list[Exception] = []
        self.told: list[dict[str, Any]] = []
        self.left: list[tuple[Recovered, str]] = []
        self.broken: Exception | None = None
        """Why no further file can be made."""
        writer = desk.start()
        writer.event(CALL)
        self.recording = SegmentedRecording(writer, self.rounds, self, {"id": writer.recording_id}, {}, CALL)
        for event in STREAMS:
            self.recording.event(event)

    def make(
        self, of: SegmentedRecording, recording: str, started_ns: int, previous: Previous | None
    ) -> RecordingWriter:
        if self.broken is not None:
            raise self.broken
        return self.desk.start(1, recording, previous=previous)

    def leave(self, of: SegmentedRecording, reason: str) -> Recovered:
        forget_cached(self.desk.spool.part_path(of.recording_id))
        found = recover_part(self.desk.spool, of.recording_id, self.desk.signer)
        self.left.append((found, reason))
        return found

    def tell(self, of: SegmentedRecording) -> None:
        self.told.append(of.row)

    def trouble_met(self, error: Exception) -> None:
        self.troubles.append(error)

    def record(self, *numbers: int) -> None:
        for number in numbers:
            base, rows, payload = window(number)
            self.recording.media(base, rows.tobytes(), payload.tobytes())

    def try_to_record(self, *numbers: int) -> None:
        """Who records goes on where there is no room."""
        for number in numbers:
            with contextlib.suppress(DiskFull):
                self.record(number)

    def commit(self) -> None:
        self.rounds.begun += 1
        self.rounds.done = self.rounds.begun

    def cut(self, size: int) -> None:
        """The disk has so many bytes of the file that is written now."""
        os.truncate(self.desk.spool.part_path(self.recording.recording_id), size)

    def size(self) -> int:
        """Bytes of that file."""
        return self.desk.spool.part_path(self.recording.recording_id).stat().st_size

    def windows(self, name: str) -> list[int]:
        """Which windows a file has."""
        with Recording.open(self.desk.spool.record_path(name), [self.desk.identity]) as recording:
            times = [media.base_time_us for media in recording.media()]
            self.events = [event["event"] for event in recording.events]
            self.previous = recording.header.core.previous_json
        verdict = verify(self.desk.spool, name, self.desk.signer.public, [self.desk.identity])
        assert verdict.ok, verdict.problems
        return [(time_us - STARTED_US) // 1_000_000 for time_us in times]
