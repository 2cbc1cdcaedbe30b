"""The way into the spool of one worker of several: it keeps a docket of what it has in hand."""

from typing import Any

from recorderd.calls.outcomes import RESTARTED, MediaFacts, outcome
from recorderd.calls.table import Call
from recorderd.service.account import call_row
from recorderd.service.archive import SpoolArchive
from recorderd.service.colleagues import Colleagues
from recorderd.service.docket import Docket
from recorderd.service.engine import Engine
from recorderd.service.segments import SegmentedRecording
from recorderd.service.session import Session
from recorderd.spool.header import Previous
from recorderd.spool.writer import RecordingWriter


class WorkerArchive(SpoolArchive):
    """A :class:`SpoolArchive` beside others of the same spool."""

    def __init__(self, *arguments: Any, docket: Docket, colleagues: Colleagues, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._docket, self._colleagues = docket, colleagues

    def _take_in_hand(self, call: Call, recording: str) -> dict[str, Any]:
        row = self.masks.shown(call_row(call, None, None, recording))
        self._docket.note(row)
        return row

    def make(
        self, of: SegmentedRecording, recording: str, started_ns: int, previous: Previous | None
    ) -> RecordingWriter:
        """The same of its further files."""
        self._docket.note({**of.call, "recording": recording})
        return super().make(of, recording, started_ns, previous)

    def call_seen(self, call: Call) -> None:
        """Take a call in hand."""
        self._docket.note(self.masks.shown(call_row(call, None, None, None)))
        super().call_seen(call)

    def call_left(self, call: Call) -> None:
        """Another worker has it from now on."""
        self._docket.leave(call_row(call, None, None, None))

    def call_over(self, call: Call, engine: Engine, interrupted: str | None) -> None:
        """Account for a call's end; what the death of its own worker cost is the recorder's fault."""
        if self._colleagues.ownership.adopted(call.key):
            result = outcome(call, MediaFacts(interrupted=RESTARTED))
            # Its own worker may have got so far as to record something of it: then that stands.
            self.note_call(call_row(call, result.name, result.reason, None))
        else:
            super().call_over(call, engine, interrupted)
        self._docket.over(call_row(call, None, None, None), call.ended_at or call.first_seen)

    def recording_over(self, session: Session, engine: Engine) -> None:
        """The same for calls that were recorded."""
        adopted = self._colleagues.ownership.adopted
        session.over = [
            over._replace(interrupted=over.interrupted or (RESTARTED if adopted(over.call.key) else None))
            for over in session.over
        ]
        super().recording_over(session, engine)
        for over in session.over:
            call = over.call
            self._docket.over(call_row(call, None, None, None), call.ended_at or call.first_seen)
