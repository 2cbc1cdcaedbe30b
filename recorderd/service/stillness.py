"""Calls whose BYE was not seen: answered, not on hold, and without media for long."""

from typing import Final

from recorderd.calls.call import Call
from recorderd.calls.events import CallEvent
from recorderd.calls.outcomes import STILL
from recorderd.calls.table import CallTable
from recorderd.media.streams import StreamTable
from recorderd.service.recordings import Recordings
from recorderd.service.session import Session

EVERY_NS: Final = 5_000_000_000
"""How often all calls are looked at."""


class Stillness:
    """Ends the calls of recordings in which nothing is heard any more.

    A call of which nothing ever was heard is left to the table's own timers, and so is one that is excluded.
    """

    def __init__(
        self, calls: CallTable, recordings: Recordings, streams: StreamTable, timeout_s: float
    ) -> None:
        """``timeout_s`` 0 is for ever."""
        self._calls, self._recordings, self._streams = calls, recordings, streams
        self._timeout_s, self._timeout_ns = timeout_s, round(timeout_s * 1e9)
        self._next_ns = 0
        self._held: dict[int, int] = {}
        """When a recording was last seen with a call on hold, by number."""

    def over(self, now_ns: int) -> list[CallEvent]:
        """End what is still for too long; what follows from it."""
        if not self._timeout_ns or (now_ns < self._next_ns and self._next_ns - now_ns <= EVERY_NS):
            return []
        self._next_ns = now_ns + EVERY_NS
        together: dict[int, tuple[Session, list[Call]]] = {}
        for call in self._calls.active():
            session = self._recordings.of(call.key)
            if session is not None:
                known = together.get(session.number)
                if known is None:
                    together[session.number] = session, [call]
                else:
                    known[1].append(call)
        self._held = {number: since for number, since in self._held.items() if number in together}
        seen_ns = self._streams.last_seen_ns.tolist()
        events: list[CallEvent] = []
        for session, calls in together.values():
            since_ns = self._still_since(session, calls, seen_ns, now_ns)
            if since_ns is not None and now_ns - since_ns >= self._timeout_ns:
                for call in calls:
                    events += self._calls.end(call.key, now_ns, since_ns, f"{STILL} {self._timeout_s:g} s")
        return events

    def leapt(self, by_ns: int) -> None:
        """The clock was set ahead: that nothing was heard meanwhile means nothing."""
        self._held = {number: since + by_ns for number, since in self._held.items()}
        self._streams.last_seen_ns += by_ns * (self._streams.last_seen_ns > 0)

    def _still_since(
        self, session: Session, calls: list[Call], seen_ns: list[int], now_ns: int
    ) -> int | None:
        """Since when nothing was heard that should have been; None while that is right.

        ``seen_ns`` has when each row of the stream table last had a packet.
        """
        since_ns = self._held.get(session.number, 0)
        for call in calls:
            answered_ns = call.answered_at
            if call.holding or answered_ns is None:
                self._held[session.number] = now_ns
                return None
            if answered_ns > since_ns:
                since_ns = answered_ns
        for stream in session.streams:
            heard_ns = seen_ns[stream.row]
            if heard_ns > since_ns and not stream.retired:
                since_ns = heard_ns
        return since_ns
