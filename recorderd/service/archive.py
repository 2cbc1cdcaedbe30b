"""Writes what the engine makes to the spool: recordings, the index, the account of every call, and what needs
a review.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recorderd.calls.outcomes import MediaFacts, Outcome, outcome
from recorderd.calls.table import Call
from recorderd.errors import DiskFull, RecorderError, SpoolError
from recorderd.quality.review import Thresholds, review
from recorderd.service.engine import Engine
from recorderd.service.journal import Journal
from recorderd.service.session import Session, Sink
from recorderd.service.track import Track
from recorderd.spool.index import Index
from recorderd.spool.keys import Recipient
from recorderd.spool.layout import Spool, new_recording_id
from recorderd.spool.signing import HostKey
from recorderd.spool.times import rfc3339
from recorderd.spool.writer import RecordingWriter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A recording that is over and yet to be sealed."""

    writer: RecordingWriter
    summary: dict[str, Any]


class SpoolArchive:
    """The engine's way into one spool."""

    def __init__(
        self,
        spool: Spool,
        index: Index,
        recipients: Sequence[Recipient],
        host_key: HostKey,
        *,
        host: str,
        thresholds: Thresholds,
    ) -> None:
        self.spool, self.recipients, self.host_key = spool, list(recipients), host_key
        self.host, self.thresholds = host, thresholds
        self.trouble: RecorderError | None = None
        """The first thing that kept a recording from the disk."""
        self._writers: dict[str, RecordingWriter] = {}
        self._ended: list[_Ended] = []
        self._told: set[type[RecorderError]] = set()
        self.journal = Journal(index)
        self.sealed = 0

    def begin(self, call: Call, started_ns: int) -> tuple[str, Sink]:
        """Start the call's recording."""
        recording = new_recording_id(started_ns)
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
            self._note(error)
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
        self.journal.add("recording_started", recording, summary)
        return recording, writer

    def call_seen(self, call: Call) -> None:
        """Account for a call that began, so that a crash cannot make it disappear."""
        self.journal.add("call_saved", _call_row(call, None, None, None))

    def call_over(self, call: Call, session: Session | None, engine: Engine, interrupted: str | None) -> None:
        """Seal the recording, judge it, and account for the call."""
        tracks = session.tracks(engine.streams, engine.sequencer) if session else []
        facts = MediaFacts(
            # What could not be written down was not recorded, however well it was heard.
            tracks={t.side: t.facts.packets for t in tracks} if session and session.recording else {},
            # Drops that cost this call nothing (its packets all came) are not held against it.
            recorder_drops=session.capture_drops if session and any(t.facts.lost for t in tracks) else 0,
            interrupted=interrupted,
            failure=session.failure if session else None,
            unannounced=session is None and engine.binder.unannounced(call),
        )
        result = outcome(call, facts)
        recording = session.recording if session and session.recording else None
        if session is not None and recording:
            verdict = review(
                [track.facts for track in tracks], self.thresholds, expected=call.expected_speakers()
            )
            causes = [*verdict.causes, *(track.complaint for track in tracks if track.complaint)]
            self._ended.append(
                _Ended(self._writers.pop(recording), _summary(call, session, tracks, causes, result))
            )
            self._seal_ended()
            if causes:
                self._alert("review", call, recording=recording, causes=causes)
        if result.name == "missing":
            self._alert("missing", call, reason=result.reason)
        self.journal.add("call_saved", _call_row(call, result.name, result.reason, recording))

    def _alert(self, kind: str, call: Call, **fields: Any) -> None:
        who = {"call_id": call.call_id, "from": call.from_user, "to": call.to_user}
        alert = {"kind": kind, "time_ns": call.ended_at or call.first_seen, "fields": {**fields, **who}}
        self.journal.add("alert_added", alert)

    def _seal_ended(self) -> None:
        """Seal what is over, the oldest first; a full disk makes it wait."""
        while self._ended:
            writer, summary = self._ended[0].writer, self._ended[0].summary
            try:
                sealed = writer.seal(summary)
            except DiskFull as error:
                self._note(error)
                return
            except (SpoolError, ValueError) as error:
                # The file stays as it is, and is recovered at the next start.
                self._note(error)
                writer.abandon()
            else:
                self.sealed += 1
                self._told.clear()
                where = (sealed.path, sealed.sha256, sealed.bytes)
                self.journal.add("recording_finished", summary["id"], "sealed", summary, *where)
            del self._ended[0]

    def _note(self, error: RecorderError | ValueError) -> None:
        """Keep the first trouble, and tell each kind once until something could be written again."""
        error = error if isinstance(error, RecorderError) else SpoolError(f"cannot be written: {error}")
        self.trouble = self.trouble or error
        if type(error) not in self._told:
            self._told.add(type(error))
            log.error("%s", error)

    def window_closed(self, end_ns: int) -> None:
        """Write what has gathered to the index, in one transaction, and try again what the disk refused."""
        self._seal_ended()
        refusal = self.journal.write()
        if refusal is not None:
            self._note(refusal)


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
        "capture_drops": session.capture_drops,
    }


def _identity(call: Call) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "from": call.from_user,
        "to": call.to_user,
        "from_uri": call.from_uri,
        "to_uri": call.to_uri,
    }


def _call_row(call: Call, name: str | None, reason: str | None, recording: str | None) -> dict[str, Any]:
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
