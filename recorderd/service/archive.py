"""Writes what the engine makes to the spool: recordings, the index, the account of every call, and what needs
a review.

The engine's thread writes records and waits for nothing. What waits for the disk has threads of its own:
recordings are sealed by :mod:`recorderd.service.commit`, the index is told by
:mod:`recorderd.service.journal`.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from recorderd.calls.outcomes import MediaFacts, Outcome, outcome
from recorderd.calls.table import Call
from recorderd.errors import DiskFull, RecorderError, SpoolError
from recorderd.quality.review import Thresholds, review
from recorderd.service.commit import EVERY_S, Ended, GroupCommit
from recorderd.service.engine import Engine
from recorderd.service.journal import Journal
from recorderd.service.session import Session, Sink
from recorderd.service.track import Track
from recorderd.spool.index import Index
from recorderd.spool.keys import Recipient
from recorderd.spool.layout import Spool, new_recording_id
from recorderd.spool.signing import HostKey
from recorderd.spool.times import rfc3339
from recorderd.spool.writer import RecordingWriter, Sealed

log = logging.getLogger(__name__)


class SpoolArchive:
    """The engine's way into one spool. To be closed, or used as a context manager.

    ``index`` is its own until then.
    """

    def __init__(
        self,
        spool: Spool,
        index: Index,
        recipients: Sequence[Recipient],
        host_key: HostKey,
        *,
        host: str,
        thresholds: Thresholds,
        commit_s: float = EVERY_S,
    ) -> None:
        self.spool, self.recipients, self.host_key = spool, list(recipients), host_key
        self.host, self.thresholds = host, thresholds
        self.trouble: RecorderError | None = None
        """The first thing that kept a recording from the disk."""
        self.recordings_sealed = 0
        self._writers: dict[str, RecordingWriter] = {}
        self._torn: deque[tuple[RecordingWriter, RecorderError]] = deque()
        self._told: set[type[RecorderError]] = set()
        self._telling = threading.Lock()
        self.journal = Journal(index, self.trouble_met)
        self.commit = GroupCommit(spool, self, commit_s)

    def __enter__(self) -> "SpoolArchive":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def settle(self) -> None:
        """Wait until what is over is sealed, or cannot be for now, and the index says so."""
        self.commit.settle()
        self.journal.settle()

    def close(self) -> None:
        """Settle, and end. Recordings in progress stay as they are, to be recovered."""
        try:
            self.commit.close()
        finally:
            self.journal.close()
        for writer in self._writers.values():
            writer.abandon()

    def begin(self, call: Call, started_ns: int, recording: str | None = None) -> tuple[str, Sink]:
        """Start the call's recording, under an id of its own where none is given."""
        recording = new_recording_id(started_ns) if recording is None else recording
        created = False
        try:
            writer = RecordingWriter.create(
                self.spool,
                recording,
                started_ns=started_ns,
                host=self.host,
                recipients=self.recipients,
                signer=self.host_key,
            )
            created = True
            writer.event({"event": "call", "time_us": call.first_seen // 1000, **_identity(call)})
        except (DiskFull, SpoolError) as error:
            if created:
                writer.abandon()
                writer.path.unlink(missing_ok=True)
            self.trouble_met(error)
            raise
        self._writers[recording] = writer
        summary = {
            "id": recording,
            "state": "recording",
            "call_ids": [call.call_id],
            "from": call.from_user,
            "to": call.to_user,
            "started_at": rfc3339(started_ns // 1000),
            "duration_s": None,
            "tracks": [],
            "review": {"needed": False, "causes": []},
            "sync": [],
            "sha256": None,
            "bytes": None,
        }
        self._tell_recording("recording_started", recording, summary)
        return recording, writer

    def call_seen(self, call: Call) -> None:
        """Account for a call that began, so that a crash cannot make it disappear."""
        self.note_call(call_row(call, None, None, None))

    def note_call(self, row: dict[str, Any]) -> None:
        """Account for a call, unless it has an outcome already."""
        self.journal.add("call_noted", row, key=("call", row["call_id"], row["first_seen"]))

    def call_left(self, call: Call) -> None:
        """Another worker accounts for it: what was told of it stands until that one tells more."""

    def call_over(self, call: Call, session: Session | None, engine: Engine, interrupted: str | None) -> None:
        """Judge the recording, have it sealed, and account for the call once it is."""
        tracks = session.tracks(engine.streams, engine.sequencer) if session else []
        facts = MediaFacts(
            # What could not be written down was not recorded, however well it was heard.
            tracks={t.side: t.facts.packets for t in tracks} if session and session.recording else {},
            recorder_drops=_recorder_drops(call, session, tracks, engine),
            interrupted=interrupted,
            failure=session.failure if session else None,
            unannounced=session is None and engine.unannounced(call),
        )
        result = outcome(call, facts)
        recording = session.recording if session and session.recording else None
        row = call_row(call, result.name, result.reason, recording)
        if result.name == "missing":
            self._alert("missing", call, reason=result.reason)
        if session is None or recording is None:
            self._tell_call(row)
            return
        verdict = review(
            [track.facts for track in tracks], self.thresholds, expected=call.expected_speakers()
        )
        causes = [*verdict.causes, *(track.complaint for track in tracks if track.complaint)]
        if causes:
            self._alert("review", call, recording=recording, causes=causes)
        summary = _summary(call, session, tracks, causes, result)
        self.commit.seal(Ended(self._writers[recording], summary, row))
        del self._writers[recording]

    def window_closed(self, end_ns: int) -> None:
        """See to what the other threads met. Raises what killed one of them."""
        self.commit.check()
        self.journal.check()
        while self._torn:
            writer, error = self._torn.popleft()
            if writer.recording_id in self._writers:
                writer.fail(error)

    # -- what the commits tell, in their thread

    def running(self) -> list[RecordingWriter]:
        """The recordings in progress."""
        return list(self._writers.values())

    def sealed(self, ended: Ended, sealed: Sealed) -> None:
        """The index may say so now."""
        self.recordings_sealed += 1
        with self._telling:
            self._told.clear()
        where = (sealed.path, sealed.sha256, sealed.bytes)
        self._tell_recording("recording_finished", sealed.recording, "sealed", ended.summary, *where)
        self._tell_call(ended.call)

    def unsealed(self, ended: Ended, error: RecorderError) -> None:
        """The file is recovered at the next start; the call is not as complete as it seemed."""
        self.trouble_met(error)
        reasons = [ended.call["reason"], f"not sealed: {error}"]
        self._tell_call({**ended.call, "outcome": "partial", "reason": "; ".join(filter(None, reasons))})

    def torn(self, writer: RecordingWriter, error: RecorderError) -> None:
        """Nothing more is written to that file, from the next window on."""
        self._torn.append((writer, error))

    def trouble_met(self, error: RecorderError) -> None:
        """Keep the first trouble; tell each kind once until something could be sealed again."""
        with self._telling:
            self.trouble = self.trouble or error
            told = type(error) in self._told
            self._told.add(type(error))
        if not told:
            log.error("%s", error)
            alert = {"kind": "disk", "time_ns": time.time_ns(), "fields": {"error": str(error)}}
            self.journal.add("alert_added", alert)

    def _alert(self, kind: str, call: Call, **fields: Any) -> None:
        who = {"call_id": call.call_id, "from": call.from_user, "to": call.to_user}
        alert = {"kind": kind, "time_ns": call.ended_at or call.first_seen, "fields": {**fields, **who}}
        self.journal.add("alert_added", alert)

    def _tell_recording(self, method: str, recording: str, *rest: Any) -> None:
        self.journal.add(method, recording, *rest, key=("recording", recording))

    def _tell_call(self, row: dict[str, Any]) -> None:
        self.journal.add("call_saved", row, key=("call", row["call_id"], row["first_seen"]))


def _recorder_drops(call: Call, session: Session | None, tracks: Sequence[Track], engine: Engine) -> int:
    """What the recorder lost in a call's time. What cost this call nothing is not held against it: all its
    packets came, and no loss was where there is no packet of it.
    """
    lost = engine.lost_during(call) if session is None else session.losses
    if not lost.count or call.answered_at is None:
        return 0
    if session is None:
        return lost.count
    if not session.recording:
        return 0  # what it does not record has a reason of its own
    start_us, end_us = call.answered_at / 1000, (call.ended_at or engine.closed_ns or 0) / 1000
    if session.given_up_us is not None:
        end_us = min(end_us, session.given_up_us)
    edges = any(session.may_lack(side, start_us, end_us) for side in call.expected_speakers())
    return lost.count if edges or any(track.facts.lost for track in tracks) else 0


def _summary(
    call: Call, session: Session, tracks: Sequence[Track], causes: list[str], result: Outcome
) -> dict[str, Any]:
    start, end = session.start_us(), session.end_us()
    return {
        "id": session.recording,
        "state": "sealed",
        "call_ids": [call.call_id],
        "from": call.from_user,
        "to": call.to_user,
        "started_at": rfc3339(round(start)) if start is not None else None,
        "duration_s": round((end - start) / 1e6, 6) if start is not None and end is not None else 0.0,
        "tracks": [track.described() for track in tracks],
        "review": {"needed": bool(causes), "causes": causes},
        "outcome": result.name,
        "reason": result.reason,
        "capture_drops": session.losses.count,
    }


def _identity(call: Call) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "from": call.from_user,
        "to": call.to_user,
        "from_uri": call.from_uri,
        "to_uri": call.to_uri,
    }


def call_row(call: Call, name: str | None, reason: str | None, recording: str | None) -> dict[str, Any]:
    """A call as the index has it, with its outcome's ``name``, if it has one."""

    def when(time_ns: int | None) -> str | None:
        return rfc3339(time_ns // 1000) if time_ns is not None else None

    return {
        "call_id": call.call_id,
        "from": call.from_user,
        "to": call.to_user,
        "first_seen": when(call.first_seen),
        "answered_at": when(call.answered_at),
        "ended_at": when(call.ended_at),
        "outcome": name,
        "reason": reason,
        "recording": recording,
    }
