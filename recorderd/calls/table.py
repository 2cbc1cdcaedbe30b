"""All calls: which message belongs to which call, when a call is given up, and how many there may be.

A call is found by its Call-ID and the caller's tag, which is the From tag of what the caller sends and the
To tag of what the callee sends. Call-ID alone would not do: some equipment keeps it from one leg to the
next, or uses it again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from recorderd.calls.call import Call
from recorderd.calls.conversations import Conversations
from recorderd.calls.engine import CallEngine, address
from recorderd.calls.events import CallEvent, CallStarted, MediaExpected, Side
from recorderd.calls.identity import bounded_id, bounded_tags
from recorderd.calls.join_settings import JoinSettings
from recorderd.calls.joining import Joining
from recorderd.calls.states import CHALLENGED, ENDED, State
from recorderd.calls.timers import Limits, Timers
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.printable import printable
from recorderd.wire.sip import SipMessage
from recorderd.wire.sip_party import Party
from recorderd.wire.sip_references import is_focus

_MAX_TEXT = 128  # characters of a name or address that are shown

#: States in the order in which calls are given up when there is no room: first those that cost least to lose.
_SHED = (State.CLOSING, State.CHALLENGED, State.CANCELLING, State.TRYING, State.EARLY)

_ABOUT_CALLS = frozenset({"INVITE", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE"})


class CallTable:
    """All calls in progress, and those that ended a moment ago.

    When there is no room for another call, the one that waits longest in the least valuable state ends, as
    `call table full` if nothing better is known. Calls that are talking are never given up; when all are,
    the new one ends at once.

    Attributes:
        counters: `messages`; `calls`; `full` (calls ended for want of room); `stray` (messages of a dialog
            that was never seen, a BYE for instance); `late` (messages of a call that is over); `other` (not
            about calls).
    """

    def __init__(self, limits: Limits | None = None, joining: JoinSettings | None = None) -> None:
        self.counters: Counter[str] = Counter()
        self.conversations = Conversations()
        self.joining = Joining(self.conversations, joining)
        self.joining.transfers.find = self._named
        self._limits = limits or Limits()
        self._timers = Timers(self._limits)
        self._calls: dict[str, CallEngine] = {}
        self._dialogs: dict[tuple[str, str], str] = {}  # (Call-ID, caller's tag) to the newest call with them
        self._newest: dict[str, str] = {}  # Call-ID to the newest call with it
        self._weight = 0
        self._forgotten: set[str] = set()  # ended calls that are done with
        self._lingered: set[str] = set()  # ended calls that nothing late comes for any more
        self._serial = 0

    def __len__(self) -> int:
        """How many calls are in progress."""
        return len(self._calls) - self._timers.count(ENDED) - len(self._lingered)

    def message(
        self, message: SipMessage, source: Endpoint, destination: Endpoint, now: int
    ) -> list[CallEvent]:
        """Take a message from the wire, of any method, seen for the first time or again.

        Args:
            message: as parsed.
            source: where it came from.
            destination: where it went.
            now: when it was captured, ns since the epoch.
        """
        self.counters["messages"] += 1
        self._timers.advance(now)
        tags = bounded_tags(message)
        engine = self._find(message, tags)
        if engine is not None and engine.call.state is ENDED:
            if message.method != "INVITE" or message.to.tag or engine.repeats(message):
                self.counters["late"] += 1
                return []
            engine = None  # the Call-ID is used again
        if engine is not None:
            return self._pass_on(engine, message, tags, source, destination, now)
        if message.request_method != "INVITE":
            self.counters["stray" if message.request_method in _ABOUT_CALLS else "other"] += 1
            return []
        events = self._make_room(now)
        engine = self._begin(message, now)
        events.append(CallStarted(engine.call.key, now))
        if len(self) > self._limits.calls:
            self.counters["full"] += 1
            events += engine.expire(now, "call table full")
            self._timers.arm(engine.call.key, State.TRYING, engine.call.state)
            return events
        self.joining.began(engine.call, message, source, destination, now)
        return events + self._pass_on(engine, message, tags, source, destination, now)

    def tick(self, now: int) -> list[CallEvent]:
        """Let time pass: calls of which nothing was heard for too long end."""
        self._timers.advance(now)
        events: list[CallEvent] = []
        for key, state in self._timers.due():
            if state is not ENDED:
                events += self._end(key, now, "timeout")
            elif key in self._forgotten:
                self._remove(key)
            else:
                self._timers.disarm(key, state)
                self._lingered.add(key)
        return events

    def leapt(self, by: int) -> None:
        """The clock was set ahead by so many ns: that nothing was heard meanwhile means nothing."""
        self._timers.leapt(by)

    def end(self, call: str, now: int, since: int, cause: str) -> list[CallEvent]:
        """Say that a call in progress is over and was so since a moment: there is reason to believe it."""
        events = self._end(call, now, cause)
        ended = self._calls[call].call
        ended.ended_at = max(since, ended.answered_at or ended.first_seen)
        return events

    def unsignalled(
        self, call_id: str, source: Endpoint, destination: Endpoint, since: int
    ) -> tuple[Call, list[CallEvent]]:
        """Say that media runs between two addresses since a moment, as of a call that is talking, and that
        its signalling was not seen. It must be ended with :meth:`end`.
        """
        self._serial += 1
        call = Call(
            f"call-{self._serial}", bounded_id(call_id), str(source), str(destination), "", "", "", "", since
        )
        call.answered_at, call.state, call.unsignalled = since, State.TALKING, True
        call.senders = frozenset()
        engine = self._calls[call.key] = CallEngine(call, Party())
        self._timers.arm(call.key, None, call.state)
        self._weigh(engine)
        self.conversations.began(call)
        events: list[CallEvent] = [CallStarted(call.key, since)]
        ends: tuple[tuple[Side, Endpoint], ...] = (("callee", destination), ("caller", source))
        for side, endpoint in ends:
            expected = MediaExpected(call.key, side, endpoint, {}, "sendrecv", False, since)
            call.expectations[side, endpoint] = expected
            events.append(expected)
        return call, events

    def get(self, call: str) -> Call:
        """A call that was not forgotten, or ended not longer ago than `Limits.ended_s`.

        Raises:
            KeyError: there is none such.
        """
        return self._calls[call].call

    def in_progress(self, call: str) -> Call | None:
        """A call; None where it ended."""
        engine = self._calls.get(call)
        return None if engine is None or engine.call.state is ENDED else engine.call

    def of(self, message: SipMessage) -> tuple[Call, Side] | None:
        """The call in progress that a message belongs to, and the side that its From names."""
        tags = bounded_tags(message)
        engine = self._find(message, tags)
        if engine is None or engine.call.state is ENDED:
            return None
        return engine.call, engine.ends(message, tags)[0]

    def active(self) -> Iterator[Call]:
        """The calls in progress, oldest first."""
        return (engine.call for engine in self._calls.values() if engine.call.state is not ENDED)

    def forget(self, call: str) -> None:
        """Say that a call is done with; every call that was started must be forgotten some day.

        One that ended is kept for a while, to recognise late repetitions.
        """
        self.conversations.over(call)
        self.joining.over(call)
        engine = self._calls.get(call)
        if engine is None:
            return
        lingers = engine.call.state is ENDED and call not in self._lingered
        if lingers and self._timers.count(ENDED) <= self._limits.ended_calls:
            self._forgotten.add(call)
        else:
            self._remove(call)

    # -- which call

    def _find(self, message: SipMessage, tags: tuple[str, str]) -> CallEngine | None:
        call_id = bounded_id(message.call_id)
        from_tag, to_tag = tags
        key = self._dialogs.get((call_id, from_tag)) or self._dialogs.get((call_id, to_tag))
        return self._challenged(message, call_id) if key is None else self._calls[key]

    def _named(self, call_id: str, tags: Iterable[str]) -> tuple[str, Side] | None:
        """The call in progress with these tags, and the side that the first of them is of."""
        first, *_ = tags = list(tags)
        for tag in tags:
            key = self._dialogs.get((call_id, tag))
            if key is not None and self._calls[key].call.state is not ENDED:
                return key, "caller" if tag == first else "callee"
        return None

    def _challenged(self, message: SipMessage, call_id: str) -> CallEngine | None:
        """Some ends choose another tag for the INVITE that answers a challenge (RFC 3261 section 22.2)."""
        engine = self._calls.get(self._newest.get(call_id, ""))
        if (
            engine is None
            or engine.call.state is not CHALLENGED
            or message.method != "INVITE"
            or message.to.tag
            or address(message.from_) != engine.caller
        ):
            return None
        self._dialogs.pop((call_id, engine.caller_tag), None)
        engine.caller_tag = bounded_id(message.from_.tag)
        self._dialogs[call_id, engine.caller_tag] = engine.call.key
        return engine

    def _begin(self, message: SipMessage, now: int) -> CallEngine:
        """A new call. Whoever sent the first request that was seen is taken for the caller."""
        self._serial += 1
        self.counters["calls"] += 1
        from_, to = message.from_, message.to
        call = Call(
            key=f"call-{self._serial}",
            call_id=bounded_id(message.call_id),
            from_user=_user(from_),
            to_user=_user(to),
            from_uri=printable(from_.uri, _MAX_TEXT),
            to_uri=printable(to.uri, _MAX_TEXT),
            from_display=printable(from_.display, _MAX_TEXT),
            to_display=printable(to.display, _MAX_TEXT),
            first_seen=now,
            joined=message.method is not None and bool(to.tag),
        )
        if call.joined:
            call.note("already in progress when first seen")
        if message.method is None:
            call.note("a response was seen before its INVITE")
        engine = self._calls[call.key] = CallEngine(call, from_)
        self._dialogs[call.call_id, engine.caller_tag] = call.key
        self._newest[call.call_id] = call.key
        self._timers.arm(call.key, None, call.state)
        self._weigh(engine)
        self.conversations.began(call)
        return engine

    def _pass_on(
        self,
        engine: CallEngine,
        message: SipMessage,
        tags: tuple[str, str],
        source: Endpoint,
        destination: Endpoint,
        now: int,
    ) -> list[CallEvent]:
        call = engine.call
        before = call.state
        if message.method == "REFER":
            side, _ = engine.ends(message, tags)
            self.joining.transfers.referred(call, side, message, destination, now)
        elif 200 <= message.status < 300 and message.cseq_method == "INVITE":
            focus = is_focus(message)
            if focus is not None:
                self.joining.focus(call, focus, by_caller=engine.ends(message, tags)[0] == "callee")
        events = engine.message(message, tags, source, destination, now)
        self._timers.arm(call.key, before, call.state)
        self._weigh(engine)
        return events

    # -- how many

    def _make_room(self, now: int) -> list[CallEvent]:
        events: list[CallEvent] = []
        while len(self) >= self._limits.calls or self._weight > self._limits.megabytes << 20:
            oldest = next((key for state in _SHED if (key := self._timers.oldest(state)) is not None), None)
            if oldest is None:
                break
            self.counters["full"] += 1
            events += self._end(oldest, now, "call table full")
        return events

    def _end(self, key: str, now: int, cause: str) -> list[CallEvent]:
        engine = self._calls[key]
        before = engine.call.state
        events = engine.expire(now, cause)
        self._timers.arm(key, before, engine.call.state)
        self._weigh(engine)
        return events

    def _weigh(self, engine: CallEngine) -> None:
        weight = 0 if engine.call.state is ENDED else engine.weight
        self._weight += weight - engine.weighed
        engine.weighed = weight

    def _remove(self, key: str) -> None:
        engine = self._calls.pop(key)
        call_id = engine.call.call_id
        self._weight -= engine.weighed
        self._timers.disarm(key, engine.call.state)
        self._forgotten.discard(key)
        self._lingered.discard(key)
        if self._dialogs.get((call_id, engine.caller_tag)) == key:
            del self._dialogs[call_id, engine.caller_tag]
        if self._newest.get(call_id) == key:
            del self._newest[call_id]


def _user(party: Party) -> str:
    """What a call is listed under: the number or name, or the host where there is none."""
    return printable(party.user or party.host, _MAX_TEXT)


__all__ = ["Call", "CallTable", "Limits"]
