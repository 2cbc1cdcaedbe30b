"""The recordings in progress: one session a conversation, begun, given up, and ended here."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from recorderd.calls.conversations import Conversations
from recorderd.calls.outcomes import NO_ROOM, OVERLOADED, REFUSED
from recorderd.calls.table import Call
from recorderd.errors import DiskFull, NoRoom, SpoolError
from recorderd.media.streams import SHED, StreamTable
from recorderd.service.hearing import Hearing
from recorderd.service.overload import Level
from recorderd.service.session import Session, Sink


class Beginning(Protocol):
    """What is needed of the archive here."""

    def begin(self, call: Call, started_ns: int) -> tuple[str, Sink]:
        """Start a recording; returns its id and where to write it. Raises DiskFull, SpoolError."""

    def call_joined(self, session: Session, call: Call, how: str) -> None:
        """A call is recorded in a recording that has begun."""


class Recordings:
    """All sessions, by call and by the number that their streams are marked with."""

    def __init__(
        self,
        archive: Beginning,
        streams: StreamTable,
        hearing: Hearing,
        counters: Counter[str],
        conversations: Conversations,
    ) -> None:
        self._conversations = conversations
        self._archive, self._streams, self._hearing, self._counters = archive, streams, hearing, counters
        self.level = Level.NONE
        """What is left out for lack of time; see :mod:`recorderd.service.overload`."""
        self.budget: int | None = None
        """How many calls can be recorded, where that is known to be too few."""
        self.short: Callable[[], bool] = lambda: False
        """Whether memory is short."""
        self.shed_streams = 0
        """Streams of calls that are not recorded for lack of time."""
        self._given_up = 0
        self._sessions: dict[str, Session] = {}
        self._numbers: dict[int, Session] = {}
        self._next_number = 0

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def __len__(self) -> int:
        """How many calls are recorded; those given up are not."""
        return len(self._sessions) - self._given_up

    def of(self, call: str) -> Session | None:
        """The session of a call: that of its conversation."""
        return self._sessions.get(self._conversations.key(call)) if self._sessions else None

    def numbered(self, number: int) -> Session:
        """The session that streams with this owner belong to."""
        return self._numbers[number]

    def new(self, call: Call, started_ns: int) -> Session:
        """Begin to record a call, or only to account for it where it is one too many."""
        too_many = self.budget is not None and len(self) >= self.budget
        conversation = self._conversations.of(call.key)
        first = call if conversation is None else conversation.outermost().call
        if self.level >= Level.NO_NEW_CALLS or too_many or self.short():
            key = self._conversations.key(call.key)
            session = Session(self._next_number, key, "", None, None, self._hearing)
            session.give_up(OVERLOADED, started_ns // 1000)
            self._given_up += 1
            self._counters["calls_refused"] += 1
        else:
            session = self._begin(first, started_ns)
        session.started_ns, session.begun_for, session.conversation = started_ns, call, conversation
        if conversation is not None:
            conversation.recording = session.recording
            for leg in conversation.legs.values():
                if leg.call is not first:
                    self._archive.call_joined(session, leg.call, leg.how)
        self._next_number = (self._next_number + 1) % (1 << 22)
        self._sessions[session.call] = self._numbers[session.number] = session
        return session

    def _begin(self, call: Call, started_ns: int) -> Session:
        recording, sink, failure = "", None, None
        try:
            recording, sink = self._archive.begin(call, started_ns)
        except NoRoom:
            failure = NO_ROOM
        except DiskFull:
            failure = REFUSED
        except SpoolError as error:
            failure = f"spool: {error}"
        key = self._conversations.key(call.key)
        session = Session(self._next_number, key, recording, sink, failure, self._hearing)
        if call.answered_at is not None:
            session.event("answered", call.answered_at // 1000)
        for span in call.besides:
            session.event("besides", span.since // 1000, kind=span.kind, state="agreed")
        return session

    def resume(self, session: Session, call: Call, now_ns: int) -> None:
        """Try again what a full disk prevented."""
        if session.recording or session.sink is not None or session.shed:
            return
        try:
            recording, sink = self._archive.begin(call, now_ns)
        except (DiskFull, SpoolError):
            return
        session.resume(recording, sink)

    def give_up(self, count: int, now_ns: int) -> int:
        """For lack of time record no more of the ``count`` newest calls; returns how many there were."""
        newest = [session for session in self if not session.shed][::-1][:count]
        for session in newest:
            session.give_up(OVERLOADED, now_ns // 1000)
            for stream in session.streams:
                if self._streams.owner[stream.row] == session.number:
                    self.shed(stream.row)
        self._given_up += len(newest)
        self._counters["calls_given_up"] += len(newest)
        return len(newest)

    def shed(self, row: int) -> None:
        """Drop what comes of a stream from now on."""
        self._streams.owner[row] = SHED
        self.shed_streams += 1

    def judge(self, calls: Iterable[str]) -> None:
        """Work out together how the tracks sound of all recordings that end with these calls."""
        ending = frozenset(calls)
        sessions = {session.number: session for call in ending if (session := self.of(call)) is not None}
        over = [each for each in sessions.values() if each.recording and each.all_over(ending)]
        self._hearing.judge([meter for session in over for meter in session.meters.values()])

    def end(self, session: Session) -> None:
        """Take out the session of a conversation that is over; to be forgotten when it was accounted for."""
        del self._sessions[session.call], self._numbers[session.number]
        self._given_up -= session.shed

    def forget(self, session: Session) -> None:
        """Give back what an ended session had of the hearing."""
        rows = [stream.row for stream in session.streams]
        if self.shed_streams:
            self.shed_streams -= sum(self._streams.owner.item(row) == SHED for row in rows)
        self._hearing.over(list(session.meters.values()), rows)

    def status(self) -> dict[str, Any]:
        """For the control socket."""
        return {"recording": len(self), "level": self.level.name.lower()}
