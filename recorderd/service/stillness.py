"""Calls whose BYE was not seen: answered, not on hold, and without media for long."""

from collections.abc import Collection
from typing import Final

from recorderd.calls.call import Call
from recorderd.calls.conversations import Conversation
from recorderd.calls.events import CallEvent
from recorderd.calls.outcomes import STILL
from recorderd.calls.states import ENDED
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
        if self._held:
            numbers = {session.number for session in self._recordings}
            self._held = {number: since for number, since in self._held.items() if number in numbers}
        doubtful = self._doubtful(now_ns)
        seen_ns = self._streams.last_seen_ns.tolist() if doubtful else []
        events: list[CallEvent] = []
        for session, conversation in doubtful:
            calls = [leg.call for leg in conversation.legs.values() if leg.call.state is not ENDED]
            calls.sort(key=lambda call: call.first_seen)
            since_ns = self._still_since(session, calls, seen_ns, now_ns)
            if since_ns is not None and now_ns - since_ns >= self._timeout_ns:
                for call in calls:
                    events += self._calls.end(call.key, now_ns, since_ns, f"{STILL} {self._timeout_s:g} s")
        return events

    def _doubtful(self, now_ns: int) -> Collection[tuple[Session, Conversation]]:
        """The recordings with a call that may be still for too long, or that is on hold or not answered.

        Whatever else a recording has, it is still since the last of its calls was answered at the earliest.
        """
        found: dict[int, tuple[Session, Conversation]] = {}
        for call in self._calls.active():
            answered_ns = call.answered_at
            if answered_ns is not None and now_ns - answered_ns < self._timeout_ns and not call.holding:
                continue
            session, conversation = self._recordings.of(call.key), self._calls.conversations.of(call.key)
            if session is not None and conversation is not None:
                found[session.number] = session, conversation
        return found.values()

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
