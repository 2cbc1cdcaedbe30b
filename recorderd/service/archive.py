"""Writes what the engine makes to the spool: recordings, the index, the account of every call, and what needs
a review.

The engine's thread writes records and waits for nothing. What waits for the disk has threads of its own:
recordings are sealed by :mod:`recorderd.service.commit`, the index is told by
:mod:`recorderd.service.journal`.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from recorderd.calls.outcomes import MediaFacts, outcome
from recorderd.calls.privacy import Masks
from recorderd.calls.table import Call
from recorderd.errors import DiskFull, NoRoom, RecorderError, SpoolError
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
from recorderd.service.commit import EVERY_S, Ended, GroupCommit, Written
from recorderd.service.engine import Engine
from recorderd.service.journal import Journal
from recorderd.service.keeping import Keeping
from recorderd.service.reserve import Reserve
from recorderd.service.segments import SegmentedRecording
from recorderd.service.session import Session, Sink
from recorderd.service.tracks import tracks_of
from recorderd.spool.budget import Limits
from recorderd.spool.durable import disk_error, forget_cached
from recorderd.spool.free_space import bytes_of
from recorderd.spool.header import Previous
from recorderd.spool.index import Index
from recorderd.spool.keys import Recipient
from recorderd.spool.layout import RECORD_SUFFIX, Spool, new_recording_id
from recorderd.spool.ledger_keeping import ledger_of
from recorderd.spool.recovery import Recovered, recover_part
from recorderd.spool.retention import Schedule
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
        detached_slots: bool = True,
        ledger: bool = False,
        ledger_numbers: bool = True,
        limits: Limits | None = None,
        retention: Schedule | None = None,
    ) -> None:
        self.spool, self.recipients, self.host_key = spool, list(recipients), host_key
        self.host, self.thresholds = host, thresholds
        self.masks = masks or Masks()
        """What the index and the manifests may have of numbers."""
        self._detached_slots = detached_slots
        self._keeping = Keeping(retention or Schedule(), index.newest_us())
        self.trouble: RecorderError | None = None
        """The first thing that kept a recording from the disk."""
        self.recordings_sealed = 0
        self._writers: dict[str, SegmentedRecording] = {}
        self._told: set[type[RecorderError]] = set()
        self._telling = threading.Lock()
        entered = ledger_of(spool) if ledger else None
        self.journal = Journal(index, self.trouble_met, ledger=entered, numbers=ledger_numbers)
        self.commit = GroupCommit(spool, self, commit_s)
        self.reserve = Reserve(spool, limits or Limits(), self._bytes_running, self._tell_room)

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
        self.reserve.close()
        try:
            self.commit.close()
        finally:
            self.journal.close()
        for writer in self._writers.values():
            writer.abandon()

    def begin(self, call: Call, started_ns: int, recording: str | None = None) -> tuple[str, Sink]:
        """Start the call's recording, under an id of its own where none is given."""
        recording = new_recording_id(started_ns) if recording is None else recording
        in_hand = self._take_in_hand(call, recording)
        began = {"event": "call", "time_us": call.first_seen // 1000, **identity(call)}
        self._admit()
        writer = None
        try:
            writer = self._create(recording, started_ns, None)
            writer.event(began)
        except (DiskFull, SpoolError) as error:
            if writer is not None:
                writer.discard()
            self.trouble_met(error)
            raise
        row = self.masks.shown({**_running(recording, [call], started_ns), **self._keeping.began(call)})
        made = SegmentedRecording(writer, self.commit.rounds, self, row, in_hand, began)
        self._writers[recording] = made
        self._tell_recording("recording_started", recording, row)
        return recording, made

    def _take_in_hand(self, call: Call, recording: str) -> dict[str, Any]:
        """What is noted of a recording before its file is there; one process alone needs no note."""
        return {}

    def _admit(self) -> None:
        """Raises NoRoom where only the reserve is left, which is for the calls in progress."""
        try:
            self.reserve.admit()
        except NoRoom as error:
            self.trouble = self.trouble or error.anew()
            raise

    def _bytes_running(self) -> int:
        paths = [self.spool.part_path(each.recording_id) for each in self.running()]
        return sum(map(bytes_of, paths))

    def _tell_room(self, fields: dict[str, Any]) -> None:
        self.journal.add("alert_added", {"kind": "disk", "time_ns": time.time_ns(), "fields": fields})

    def _create(self, recording: str, started_ns: int, previous: Previous | None) -> RecordingWriter:
        return RecordingWriter.create(
            self.spool,
            recording,
            started_ns=started_ns,
            host=self.host,
            recipients=self.recipients,
            signer=self.host_key,
            previous=previous,
            detached=self._detached_slots,
        )

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
            running = self.masks.shown(
                {**_running(session.recording, calls, session.started_ns), **self._keeping.began(*calls)}
            )
            self._writers[session.recording].tell(running)

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
        told = summary(session, tracks, causes, together(results))
        text = self.masks.shown({**told, **self._keeping.over([over.call for over in session.over])})
        self.commit.seal(Ended(self._writers[recording], text, rows))
        del self._writers[recording]

    def window_closed(self, end_ns: int) -> None:
        """See to what the other threads met. Raises what killed one of them."""
        self.commit.check()
        self.journal.check()
        self.reserve.check()

    # -- what the commits tell, in their thread

    def running(self) -> list[SegmentedRecording]:
        """The recordings in progress."""
        return list(self._writers.values())

    def sealed(self, ended: Ended, sealed: Sealed) -> None:
        """The index may say so now."""
        self.recordings_sealed += 1
        with self._telling:
            self._told.clear()
        where = (sealed.stem + RECORD_SUFFIX, sealed.sha256, sealed.bytes, sealed.summary)
        recording = self._of(ended)
        told = recording.told(ended.summary)
        stated = sealed.manifest_sha256
        with self.journal.together():  # nobody reads of a sealed recording whose calls have no outcome
            self._tell_recording(
                "recording_finished", sealed.recording, "sealed", told, *where, stated=stated
            )
            for row in ended.calls:
                name, reason = recording.judged(row["outcome"], row["reason"])
                self._tell_call({**row, "outcome": name, "reason": reason, "recording": sealed.recording})

    @staticmethod
    def _of(ended: Ended) -> SegmentedRecording:
        assert isinstance(ended.writer, SegmentedRecording)
        return ended.writer

    def unsealed(self, ended: Ended, error: RecorderError) -> None:
        """The file is recovered at the next start; the call is not as complete as it seemed."""
        self.trouble_met(error)
        for row in ended.calls:
            # Of what was not recorded nothing is lost.
            name = row["outcome"] if row["outcome"] in ("unanswered", "excluded") else "partial"
            reasons = filter(None, [row["reason"], f"not sealed: {error}"])
            recording = ended.writer.recording_id
            self._tell_call({**row, "outcome": name, "reason": "; ".join(reasons), "recording": recording})

    def torn(self, writer: Written, error: RecorderError) -> bool:
        """Nothing more is written to that file; what it may lack comes into the next one."""
        assert isinstance(writer, SegmentedRecording)
        writer.lose(error)
        return True

    def mend(self) -> None:
        """Go on in new files where old ones are lost."""
        for recording in self.running():
            recording.go_on()

    def make(
        self, of: SegmentedRecording, recording: str, started_ns: int, previous: Previous | None
    ) -> RecordingWriter:
        """Begin a further file of a recording."""
        return self._create(recording, started_ns, previous)

    def leave(self, of: SegmentedRecording, reason: str) -> Recovered:
        """Recover a file that the disk lost something of, from what the disk gives back."""
        name = of.recording_id
        with contextlib.suppress(OSError):
            forget_cached(self.spool.part_path(name))
        known = {
            **of.row,
            "review": {"needed": True, "causes": [reason]},
            "outcome": "partial",
            "reason": reason,
        }
        try:
            found = recover_part(self.spool, name, self.host_key, known=known)
        except OSError as error:
            raise disk_error(error, self.spool.part_path(name)) from None
        told = {**known, "duration_s": found.elapsed_s, **self._keeping.cut_off(known, found.elapsed_s)}
        where = found.path, found.sha256, found.bytes
        self._tell_recording("recording_finished", name, found.state, told, *where)
        return found

    def tell(self, of: SegmentedRecording) -> None:
        """The index has the recording in progress so."""
        self._tell_recording("recording_started", of.recording_id, of.row)

    def trouble_met(self, error: RecorderError) -> None:
        """Keep the first trouble; tell each kind once until something could be sealed again."""
        with self._telling:
            self.trouble = self.trouble or error.anew()
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

    def _tell_recording(self, method: str, recording: str, *rest: Any, stated: str | None = None) -> None:
        self.journal.add(method, recording, *rest, key=("recording", recording), manifest_sha256=stated)

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
