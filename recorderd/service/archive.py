"""Writes what the engine makes to the spool: recordings, the index, the account of every call, and what needs
a review.
"""

import logging
from collections.abc import Sequence
from typing import Any

from recorderd.calls.outcomes import MediaFacts, outcome
from recorderd.calls.table import Call
from recorderd.errors import DiskFull, RecorderError, SpoolError
from recorderd.quality.review import Review, Thresholds, review
from recorderd.service.engine import Engine
from recorderd.service.session import Session, Sink
from recorderd.spool.index import Index
from recorderd.spool.keys import Recipient
from recorderd.spool.layout import Spool, new_recording_id
from recorderd.spool.signing import HostKey
from recorderd.spool.times import rfc3339
from recorderd.spool.writer import RecordingWriter

log = logging.getLogger(__name__)


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
        self.spool, self.index, self.recipients, self.host_key = spool, index, list(recipients), host_key
        self.host, self.thresholds = host, thresholds
        self.trouble: RecorderError | None = None
        """The first thing that kept a recording from the disk."""
        self._writers: dict[str, RecordingWriter] = {}
        self._batch: list[tuple[str, tuple[Any, ...]]] = []
        self.sealed = 0

    def begin(self, call: Call, started_ns: int) -> tuple[str, Sink]:
        """Start the call's recording."""
        recording = new_recording_id(started_ns)
        try:
            writer = RecordingWriter.create(
                self.spool,
                recording,
                started_ns=started_ns,
                host=self.host,
                recipients=self.recipients,
                signer=self.host_key,
            )
            writer.event({"event": "call", "time_us": call.first_seen // 1000, **_identity(call)})
        except (DiskFull, SpoolError) as error:
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
        self._later("recording_started", recording, summary)
        return recording, writer

    def call_seen(self, call: Call) -> None:
        """Account for a call that began, so that a crash cannot make it disappear."""
        self._later("call_saved", _call_row(call, None, None, None))

    def call_over(self, call: Call, session: Session | None, engine: Engine, interrupted: str | None) -> None:
        """Seal the recording, judge it, and account for the call."""
        tracks = session.tracks(engine.streams, engine.sequencer) if session else []
        facts = MediaFacts(
            tracks={track.side: track.facts.packets for track in tracks},
            # Drops that cost this call nothing (its packets all came) are not held against it.
            recorder_drops=session.capture_drops if session and any(t.facts.lost for t in tracks) else 0,
            interrupted=interrupted,
            failure=session.failure if session else None,
        )
        result = outcome(call, facts)
        recording = session.recording if session and session.recording else None
        if session is not None and recording:
            verdict = review(
                [track.facts for track in tracks], self.thresholds, expected=call.expected_speakers()
            )
            self._seal(call, session, [track.described() for track in tracks], verdict, result.name)
        self._later("call_saved", _call_row(call, result.name, result.reason, recording))

    def _seal(
        self, call: Call, session: Session, tracks: list[dict[str, Any]], verdict: Review, outcome_name: str
    ) -> None:
        writer = self._writers.pop(session.recording)
        start, end = session.start_us(), session.end_us()
        summary = {
            "id": session.recording,
            "state": "sealed",
            "call_ids": [call.call_id],
            "from": call.from_user,
            "to": call.to_user,
            "started_at": rfc3339(round(start)) if start is not None else None,
            "duration_s": round((end - start) / 1e6, 6) if start is not None and end is not None else 0.0,
            "tracks": tracks,
            "review": {"needed": verdict.needed, "causes": list(verdict.causes)},
            "outcome": outcome_name,
            "capture_drops": session.capture_drops,
        }
        try:
            sealed = writer.seal(summary)
        except (DiskFull, SpoolError) as error:
            self._note(error)
            writer.abandon()
            return
        self.sealed += 1
        self._later(
            "recording_finished",
            session.recording,
            "sealed",
            summary,
            sealed.path,
            sealed.sha256,
            sealed.bytes,
        )
        if verdict.needed:
            self._later(
                "alert_added",
                {
                    "kind": "review",
                    "recording": session.recording,
                    "time_ns": call.ended_at,
                    "fields": {
                        "recording": session.recording,
                        "call_id": call.call_id,
                        "from": call.from_user,
                        "to": call.to_user,
                        "causes": list(verdict.causes),
                    },
                },
            )

    def _note(self, error: RecorderError) -> None:
        if self.trouble is None:
            self.trouble = error
        log.error("%s", error)

    def _later(self, method: str, *arguments: Any) -> None:
        self._batch.append((method, arguments))

    def window_closed(self, end_ns: int) -> None:
        """Write what has gathered to the index, in one transaction."""
        if not self._batch:
            return
        with self.index.batch():
            for method, arguments in self._batch:
                getattr(self.index, method)(*arguments)
        self._batch.clear()


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
