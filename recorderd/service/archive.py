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

from recorderd.calls.outcomes import MediaFacts, outcome
from recorderd.calls.privacy import Masks
from recorderd.calls.table import Call
from recorderd.errors import DiskFull, RecorderError, SpoolError
from recorderd.quality.review import Thresholds, review
from recorderd.service.account import (
    call_ids,
    call_row,
    expected_labels,
    identity,
    in_order,
    judge,
    lost_by,
    summary,
    together,
)
from recorderd.service.commit import EVERY_S, Ended, GroupCommit
from recorderd.service.engine import Engine
from recorderd.service.journal import Journal
from recorderd.service.session import Session, Sink
from recorderd.service.tracks import tracks_of
from recorderd.spool.index import Index
from recorderd.spool.keys import Recipient
from recorderd.spool.layout import RECORD_SUFFIX, Spool, new_recording_id
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
        masks: Masks | None = None,
    ) -> None:
        self.spool, self.recipients, self.host_key = spool, list(recipients), host_key
        self.host, self.thresholds = host, thresholds
        self.masks = masks or Masks()
        """What the index and the manifests may have of numbers."""
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
            writer.event({"event": "call", "time_us": call.first_seen // 1000, **identity(call)})
        except (DiskFull, SpoolError) as error:
            if created:
                writer.abandon()
                writer.path.unlink(missing_ok=True)
            self.trouble_met(error)
            raise
        self._writers[recording] = writer
        running = self.masks.shown(_running(recording, [call], started_ns))
        self._tell_recording("recording_started", recording, running)
        return recording, writer

    def call_seen(self, call: Call) -> None:
        """Account for a call that began, so that a crash cannot make it disappear."""
        # Of what is not recorded nothing more will come to be known.
        self.note_call(call_row(call, "excluded" if call.excluded else None, call.excluded or None, None))

    def note_call(self, row: dict[str, Any]) -> None:
        """Account for a call, unless it has an outcome already."""
        self.journal.add("call_noted", self.masks.shown(row), key=("call", row["call_id"], row["first_seen"]))

    def call_left(self, call: Call) -> None:
        """Another worker accounts for it: what was told of it stands until that one tells more."""

    def call_over(self, call: Call, engine: Engine, interrupted: str | None) -> None:
        """Account for a call that was not recorded."""
        facts = MediaFacts(
            recorder_drops=lost_by(call, engine.lost_during(call)),
            interrupted=interrupted,
            excluded=call.excluded or None,
            unannounced=engine.unannounced(call),
        )
        result = outcome(call, facts)
        if result.name == "missing":
            self.alert("missing", call, reason=result.reason)
        self._tell_call(call_row(call, result.name, result.reason, None))

    def call_joined(self, session: Session, call: Call, how: str) -> None:
        """A call of the same conversation is recorded in a recording that has begun."""
        session.event("call", call.first_seen // 1000, **identity(call), joined_by=how)
        if session.recording in self._writers:
            # Should the recorder die, every call is found by its Call-ID.
            calls = in_order(session.conversation, session.first_call())
            running = self.masks.shown(_running(session.recording, calls, session.started_ns))
            self._tell_recording("recording_started", session.recording, running)

    def recording_over(self, session: Session, engine: Engine) -> None:
        """Judge a recording, have it sealed, and account for its calls once it is."""
        tracks = tracks_of(session, engine.streams, engine.sequencer, engine.hearing)
        results = [(over.call, judge(session, over, tracks, engine.closed_ns or 0)) for over in session.over]
        recording = session.recording or None
        rows = [call_row(call, result.name, result.reason, recording) for call, result in results]
        for call, result in results:
            if result.name == "missing":
                self.alert("missing", call, reason=result.reason)
        if recording is None:
            for row in rows:
                self._tell_call(row)
            return
        verdict = review([t.facts for t in tracks], self.thresholds, expected=expected_labels(session))
        causes = [*verdict.causes, *(track.complaint for track in tracks if track.complaint)]
        if causes:
            self.alert("review", session.first_call(), recording=recording, causes=causes)
        text = self.masks.shown(summary(session, tracks, causes, together(results)))
        self.commit.seal(Ended(self._writers[recording], text, rows))
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
        where = (sealed.stem + RECORD_SUFFIX, sealed.sha256, sealed.bytes, sealed.summary)
        self._tell_recording("recording_finished", sealed.recording, "sealed", ended.summary, *where)
        for row in ended.calls:
            self._tell_call(row)

    def unsealed(self, ended: Ended, error: RecorderError) -> None:
        """The file is recovered at the next start; the call is not as complete as it seemed."""
        self.trouble_met(error)
        for row in ended.calls:
            # Of what was not recorded nothing is lost.
            name = row["outcome"] if row["outcome"] in ("unanswered", "excluded") else "partial"
            reasons = filter(None, [row["reason"], f"not sealed: {error}"])
            self._tell_call({**row, "outcome": name, "reason": "; ".join(reasons)})

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

    def alert(self, kind: str, call: Call, **fields: Any) -> None:
        """Have people told something about a call."""
        who = {"call_id": call.call_id, "from": call.from_user, "to": call.to_user}
        fields = self.masks.shown({**fields, **who})
        alert = {"kind": kind, "time_ns": call.ended_at or call.first_seen, "fields": fields}
        self.journal.add("alert_added", alert)

    def _tell_recording(self, method: str, recording: str, *rest: Any) -> None:
        self.journal.add(method, recording, *rest, key=("recording", recording))

    def _tell_call(self, row: dict[str, Any]) -> None:
        self.journal.add("call_saved", self.masks.shown(row), key=("call", row["call_id"], row["first_seen"]))


def _running(recording: str, calls: Sequence[Call], started_ns: int) -> dict[str, Any]:
    """What the index says of a recording in progress."""
    return {
        "id": recording,
        "state": "recording",
        "call_ids": call_ids(calls),
        "from": calls[0].from_user,
        "to": calls[0].to_user,
        "started_at": rfc3339(started_ns // 1000),
        "duration_s": None,
        "tracks": [],
        "review": {"needed": False, "causes": []},
        "sync": [],
        "sha256": None,
        "bytes": None,
    }
