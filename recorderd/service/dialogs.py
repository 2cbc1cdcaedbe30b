"""What is said of calls: the signalling of a window, and what follows from it for their recordings."""

from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from recorderd.calls.events import (
    SIDES,
    CallAnswered,
    CallEnded,
    CallEvent,
    CallStarted,
    MediaExpected,
    MediaWithdrawn,
)
from recorderd.calls.table import Call, CallTable
from recorderd.service.admission import Admission
from recorderd.service.binder import Binder
from recorderd.service.colleagues import Colleagues
from recorderd.service.newcomers import Newcomers
from recorderd.service.orphans import Orphans
from recorderd.service.pausing import Pausing
from recorderd.service.recordings import Recordings
from recorderd.service.session import Session, as_formats
from recorderd.service.stillness import Stillness
from recorderd.service.successions import Successions
from recorderd.wire.signalling import Signalling
from recorderd.wire.sip import SipError, SipMessage, parse_sip

LINGER_NS: Final = 1_000_000_000
"""How long after its end a call's last packets are still taken."""

RELIEF: Final = 64
"""Messages of the signalling taken in between two calls for relief."""


class Accounts(Protocol):
    """What is needed of the archive here."""

    def call_seen(self, call: Call) -> None:
        """Account for a call that began, or was answered."""

    def call_joined(self, session: Session, call: Call, how: str) -> None:
        """A call is recorded in a recording that has begun."""

    def call_left(self, call: Call) -> None:
        """Another worker accounts for the call from now on."""


class Dialogs:
    """The way of signalling to the calls, and of their events to whom they concern."""

    def __init__(
        self,
        accounts: Accounts,
        calls: CallTable,
        binder: Binder,
        recordings: Recordings,
        newcomers: Newcomers,
        counters: Counter[str],
        colleagues: Colleagues | None,
        admission: Admission,
        pausing: Pausing,
        stillness: Stillness,
        orphans: Orphans,
    ) -> None:
        self._accounts, self._calls, self._binder = accounts, calls, binder
        self._recordings, self._newcomers = recordings, newcomers
        self._counters, self._colleagues = counters, colleagues
        self._admission, self._pausing = admission, pausing
        self.stillness, self.orphans = stillness, orphans
        self.ending: dict[str, int] = {}
        """When the calls that are over have had their last packets, in ns."""
        self.successions = Successions(binder, recordings)
        self._signals: list[Signalling] = []

    def add(self, *signals: Signalling) -> None:
        """Keep what was said until its window closes."""
        self._signals.extend(signals)

    def earliest_ns(self, now_ns: int) -> int:
        """The time of the first thing that waits, or now."""
        return min((signal.time_ns for signal in self._signals), default=now_ns)

    def take(self, end_ns: int, relief: Callable[[], None]) -> None:
        """Take in what was said before ``end_ns``; ``relief`` is called now and then."""
        due = [signal for signal in self._signals if signal.time_ns < end_ns]
        if due:
            self._signals = [signal for signal in self._signals if signal.time_ns >= end_ns]
        due.sort(key=lambda signal: signal.time_ns)
        for first in range(0, len(due), RELIEF):
            if first:
                relief()
            # All are read before the first is heeded: the processor's caches hold the code of one of the two.
            part = due[first : first + RELIEF]
            for signal, message in [(signal, self._read(signal)) for signal in part]:
                if message is not None:
                    events = self._calls.message(message, signal.source, signal.destination, signal.time_ns)
                    if events:
                        self._admit(events, message, signal)
                    if self._calls.joining.joined:
                        self.joined()
                    self._pausing.heed(message, signal.time_ns)
                    if events:
                        self._events(events)
        self._pausing.tick(end_ns // 1000)
        self._events(self._calls.tick(end_ns))
        self._events(self.stillness.over(end_ns))
        self._events(self.orphans.found(end_ns))
        if self._colleagues is not None:
            self._colleagues.ownership.tick(end_ns)

    def ours(self, call: str) -> bool:
        """Whether this engine accounts for a call."""
        return self._colleagues is None or self._colleagues.ownership.mine(call)

    def over(self, call: str) -> None:
        """A call was accounted for."""
        self.ending.pop(call, None)
        self._pausing.over(call)
        self._binder.expectations.release(call)
        self._calls.forget(call)

    def _read(self, signal: Signalling) -> SipMessage | None:
        try:
            message = parse_sip(signal.payload)
        except SipError:
            self._counters["sip_malformed"] += 1
            return None
        self._counters["sip_messages"] += 1
        return message

    def _admit(self, events: list[CallEvent], message: SipMessage, signal: Signalling) -> None:
        for event in events:
            if isinstance(event, CallStarted):
                call = self._calls.get(event.call)
                conversation = self._calls.conversations.of(call.key)
                first = next(iter(conversation.legs.values())).call if conversation else call
                if first is not call:
                    self._admission.joined(call, first)
                else:
                    self._admission.began(call, message, signal.source, signal.destination)

    def _settle(self, event: MediaExpected) -> None:
        """An address may tell whose the call is."""
        assert self._colleagues is not None
        call, before = self._calls.get(event.call), self.ours(event.call)
        self._colleagues.ownership.expected(event, call.expectations)
        if self.ours(event.call) != before:
            (self._accounts.call_left if before else self._accounts.call_seen)(call)

    def joined(self) -> None:
        """Calls turned out to be of conversations that are there already."""
        joined, self._calls.joining.joined = self._calls.joining.joined, []
        for key, how in joined:
            call, conversation = self._calls.get(key), self._calls.conversations.of(key)
            if conversation is None:
                continue
            self._counters[f"calls_joined_by_{how}"] += 1
            first = next(iter(conversation.legs.values())).call
            if first is not call:
                self._admission.joined(call, first)
            session = self._recordings.of(key)
            if session is not None:
                self._accounts.call_joined(session, call, how)

    def _events(self, events: list[CallEvent]) -> None:
        for event in events:
            session = self._recordings.of(event.call)
            if isinstance(event, CallStarted):
                call = self._calls.get(event.call)
                if self._colleagues is not None:
                    self._colleagues.ownership.began(call.key, call.call_id, call.first_seen)
                if self.ours(event.call):
                    self._counters["calls"] += 1
                    self._accounts.call_seen(call)
            elif isinstance(event, MediaExpected):
                self._binder.expectations.expect(event)
                self._events(self.orphans.explained(event))
                self.successions.announced(event, self.ending)
                if self._colleagues is not None:
                    self._settle(event)
                if session is not None:
                    self._learn(session, event)
            elif isinstance(event, CallAnswered):
                # Again, so that a crash leaves the time of the answer known.
                if self.ours(event.call):
                    self._accounts.call_seen(self._calls.get(event.call))
            elif isinstance(event, MediaWithdrawn):
                self._binder.expectations.withdraw(event)
            elif isinstance(event, CallEnded):
                self.ending[event.call] = event.now + LINGER_NS
                self._binder.expectations.ended(event.call, event.now)
            if session is not None:
                session.signalled(event, self._calls.get(event.call).call_id)

    def _learn(self, session: Session, event: MediaExpected) -> None:
        """An offer or an answer may name payload types of either side."""
        self._newcomers.secure(session, event)
        for speaker in SIDES:
            formats = as_formats(self._binder.expectations.formats(event.call, speaker))
            for stream in session.add_formats(event.call, speaker, formats, event.now // 1000):
                self._newcomers.describe(stream.row, session)
