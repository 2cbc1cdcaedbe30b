"""New streams find their recordings: bound to a call and a speaker, given a lane, described."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from recorderd.calls.events import Side
from recorderd.calls.table import CallTable
from recorderd.media.streams import DISPLACED, IGNORED, StreamTable
from recorderd.service.binder import Binder, Leaves
from recorderd.service.colleagues import Colleagues
from recorderd.service.hearing import Hearing
from recorderd.service.recordings import Recordings
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
        hearing: Hearing,
        counters: Counter[str],
        colleagues: Colleagues | None,
    ) -> None:
        self._streams, self._calls, self._binder = streams, calls, binder
        self._recordings, self._hearing = recordings, hearing
        self._counters, self._colleagues = counters, colleagues
        binder.expectations.ask = self._is_heard

    def bind(self, end_ns: int, relief: Callable[[], None]) -> None:
        """Bind what began before ``end_ns``; ``relief`` is called where a recording begins."""
        for row, origin, binding in self._binder.bind(end_ns, self._heard_from, self._leaves()):
            if binding.encrypted:
                # Never written as if it were sound; the outcome says what it was.
                self._counters["streams_encrypted"] += 1
                self._streams.owner[row] = IGNORED
                continue
            session = self._recordings.of(binding.call)
            if session is None:
                relief()
                session = self._recordings.new(self._calls.get(binding.call), origin.since_ns)
            since_us = origin.since_ns // 1000
            stream = session.add_stream(
                row, origin.ssrc, origin.source, origin.destination, binding, since_us
            )
            if stream is None:
                self._counters["streams_over_limit"] += 1
                self._streams.owner[row] = IGNORED
                continue
            if session.shed:
                self._recordings.shed(row)
                continue
            if self._colleagues is not None:
                self._colleagues.say(binding.call, binding.speaker)
            self._streams.owner[row] = session.number
            self._streams.lane[row] = stream.number
            self._streams.meter[row] = stream.meter
            self.describe(row, session)
            for gone in session.displace(stream, since_us):
                self._counters["streams_displaced"] += 1
                self._streams.owner[gone] = DISPLACED

    def _is_heard(self, call: str, speaker: Side, source: Endpoint, destination: Endpoint) -> None:
        """Tell when the stream was heard that holds a place against a newcomer."""
        session = self._recordings.of(call)
        for stream in session.streams if session else ():
            if (stream.speaker, stream.source, stream.destination) == (speaker, source, destination):
                heard_ns = int(self._streams.last_seen_ns[stream.row])
                self._binder.expectations.heard(call, speaker, source, destination, heard_ns)

    def _leaves(self) -> Leaves | None:
        if self._colleagues is None:
            return None
        return partial(self._colleagues.leaves, self._streams)

    def _heard_from(self, call: str, speaker: Side) -> bool:
        session = self._recordings.of(call)
        if session is None:
            return self._colleagues is not None and self._colleagues.heard(call, speaker)
        return any(stream.speaker == speaker for stream in session.streams)

    def describe(self, row: int, session: Session) -> None:
        """Tell what the payload types of a stream mean."""
        formats = session.streams[int(self._streams.lane[row])].lane.formats
        self._streams.describe(row, {pt: (known.name, known.clock_rate) for pt, known in formats.items()})
        self._hearing.describe(row, formats)
