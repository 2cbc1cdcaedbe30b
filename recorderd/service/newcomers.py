"""New streams find their recordings: bound to a call and a speaker, given a lane, described."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from recorderd.calls.binding import Binding, Standing
from recorderd.calls.conversations import Voice
from recorderd.calls.events import MediaExpected, Side
from recorderd.calls.table import CallTable
from recorderd.media.streams import DISPLACED, IGNORED, StreamTable
from recorderd.service.admission import Admission
from recorderd.service.binder import Binder, Leaves, Origin
from recorderd.service.colleagues import Colleagues
from recorderd.service.copies import AT_ONCE_US, Copies
from recorderd.service.hearing import Hearing
from recorderd.service.pausing import Pausing
from recorderd.service.questions import Questions
from recorderd.service.recordings import Recordings
from recorderd.service.reports import Reports
from recorderd.service.secured import Secured
from recorderd.service.session import Session
from recorderd.wire.endpoint import Endpoint


class Newcomers:
    """Takes the streams that the binder can explain into the sessions of their calls."""

    def __init__(
        self,
        streams: StreamTable,
        calls: CallTable,
        binder: Binder,
        recordings: Recordings,
        copies: Copies,
        questions: Questions,
        hearing: Hearing,
        counters: Counter[str],
        colleagues: Colleagues | None,
        admission: Admission,
        pausing: Pausing,
        secured: Secured,
    ) -> None:
        self._streams, self._calls, self._binder = streams, calls, binder
        self._recordings, self.copies, self._hearing = recordings, copies, hearing
        self._counters, self._colleagues = counters, colleagues
        self._questions = questions
        self._admission, self._pausing, self._secured = admission, pausing, secured
        self.reports = Reports(streams, counters)
        self.reports.opened = secured.open_rtcp
        binder.expectations.ask = self._is_heard

    def bind(self, end_ns: int, relief: Callable[[], None], opened: Callable[[], bool]) -> None:
        """Bind what began before ``end_ns``; ``relief`` is called where a recording begins.

        ``opened`` opens SRTP, whose packets tell whose it is; whether there was any that nobody had before.
        """
        self.copies.look(end_ns)
        copies = self._bind_first(end_ns, relief)
        if opened():
            copies = self._bind_first(end_ns, relief)
        for row, origin, binding, voice in copies:
            session = self._recordings.of(binding.call)
            cover = self.copies.cover(session, voice, origin.source, end_ns) if session is not None else None
            if session is None or cover is None:
                self._take(row, origin, binding, voice, end_ns, relief)
            elif cover.since_us - origin.since_ns // 1000 <= AT_ONCE_US:
                self.copies.put_aside(row, session, voice, binding.hops, cover)
            else:
                self._take(row, origin, binding, voice, end_ns, relief)
                self.copies.covered_by(cover, session, end_ns)

    def _bind_first(
        self, end_ns: int, relief: Callable[[], None]
    ) -> list[tuple[int, Origin, Binding, Voice]]:
        """Bind what is no copy of anything; returns what may be."""
        copies: list[tuple[int, Origin, Binding, Voice]] = []
        for row, origin, binding in self._binder.bind(end_ns, self._heard_from, self._leaves(end_ns)):
            if binding.besides and self._binder.kinds(row) <= binding.besides:
                self._counters["streams_besides"] += 1  # video on the port of the audio
                self._streams.owner[row] = IGNORED
                continue
            if self._calls.get(binding.call).excluded:
                self._admission.leave_out(row, binding.call)
                continue
            if self._secured.awaits(row, origin, binding):
                continue  # never written as if it were sound; the outcome says what it was
            voice = self.copies.nearest((binding.call, *binding.also), binding.speaker, binding.hops)
            if voice.copied:
                copies.append((row, origin, binding, voice))  # only when the others are known
            else:
                self._take(row, origin, binding, voice, end_ns, relief)
        return copies

    def _take(
        self,
        row: int,
        origin: Origin,
        binding: Binding,
        voice: Voice,
        end_ns: int,
        relief: Callable[[], None],
    ) -> None:
        """Record a stream from its first packet on."""
        session = self._recordings.of(binding.call)
        if session is None:
            relief()
            session = self._recordings.new(self._calls.get(binding.call), origin.since_ns)
            self._pausing.begun(session)
        since_us = origin.since_ns // 1000
        if voice.call != binding.call:
            binding = binding._replace(call=voice.call)
        label = f"{voice.label}-line-{binding.line + 1}" if binding.line else voice.label
        stream = session.add_stream(
            row, origin.ssrc, origin.source, origin.destination, binding, since_us, label
        )
        if stream is None:
            self._counters["streams_over_limit"] += 1
            self._streams.owner[row] = IGNORED
            return
        if session.shed:
            self._recordings.shed(row)
            return
        if self._colleagues is not None:
            self._colleagues.say(binding.call, binding.speaker)
        self._streams.owner[row] = session.number
        self._streams.lane[row] = stream.number
        self._streams.meter[row] = stream.meter
        self.describe(row, session)
        self.reports.bound(stream)
        for gone in session.displace(stream, since_us):
            self._counters["streams_displaced"] += 1
            self._streams.owner[gone] = DISPLACED
            if session.streams[int(self._streams.lane[gone])].standing is Standing.STRANGER:
                self._binder.set_apart(gone, binding.call)
        self.copies.covered_by(stream, session, end_ns)

    def _is_heard(self, call: str, speaker: Side, source: Endpoint, destination: Endpoint) -> None:
        """Tell when the stream was heard that holds a place against a newcomer."""
        session = self._recordings.of(call)
        for stream in session.streams if session else ():
            place = stream.speaker, stream.source, stream.destination
            if place == (speaker, source, destination) and not stream.retired:
                heard_ns = int(self._streams.last_seen_ns[stream.row])
                self._binder.expectations.heard(call, speaker, source, destination, heard_ns)

    def _leaves(self, end_ns: int) -> Leaves | None:
        if self._colleagues is not None:
            return partial(self._colleagues.leaves, self._streams)
        if self._questions.asking:
            return lambda row, origin, call: self._questions.waits(origin, call, end_ns)
        return None

    def _heard_from(self, call: str, speaker: Side) -> bool:
        session = self._recordings.of(call)
        if session is None:
            return self._colleagues is not None and self._colleagues.heard(call, speaker)
        return any((stream.call, stream.speaker) == (call, speaker) for stream in session.streams)

    def secure(self, session: Session, event: MediaExpected) -> None:
        """An offer or answer may say that a call goes on as SRTP."""
        self._secured.expected(session, event)

    def describe(self, row: int, session: Session) -> None:
        """Tell what the payload types of a stream mean."""
        formats = session.streams[int(self._streams.lane[row])].lane.formats
        self._streams.describe(row, formats)
        self._hearing.describe(row, formats)
