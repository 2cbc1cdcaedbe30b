"""Which conversation a new call belongs to, told by the INVITE that begins it: rules from the surest on.

What a B2BUA passes on has nothing in common with what it got but what its maker put there. Explicit marks
come first (a header, a Session-ID, the Call-ID, the tags), then transfers, then numbers and time on the same
host. Where several calls could be meant, none is taken: an open `Question` may be settled by what is heard.
"""

import re
from collections.abc import Callable, Iterator

from recorderd.calls.call import Call
from recorderd.calls.conversations import Conversation, Conversations, Leg
from recorderd.calls.events import Side
from recorderd.calls.identity import bounded_id
from recorderd.calls.join_settings import (
    ELSEWHERE,
    HERE,
    MAX_CANDIDATES,
    MAX_QUESTIONS,
    MAX_SHARED,
    MISORDER_NS,
    JoinSettings,
)
from recorderd.calls.numbers import Numbers, tail
from recorderd.calls.questions import Question
from recorderd.calls.states import ENDED
from recorderd.calls.transfers import NAMING, Transfers
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sip import SipMessage
from recorderd.wire.sip_party import Party
from recorderd.wire.sip_references import header_marks, is_focus, session_ids

#: Sippy's B2BUA makes the Call-ID of the second call so.
_SUFFIX = re.compile(r"[-_.]b2b(?:ua)?_?[0-9]*$")

#: Parameters of a conference's URI that say how to get there; others may say which it is.
_WAY = re.compile(r";(?:transport|lr|ob|isfocus)\b[^;]*", re.IGNORECASE)


class Joining:
    """Joins calls as they begin."""

    def __init__(self, conversations: Conversations, settings: JoinSettings | None = None) -> None:
        self.settings = settings or JoinSettings()
        self.conversations = conversations
        self.questions: dict[str, Question] = {}
        """By the key of the call whose place is open."""
        self.joined: list[tuple[str, str]] = []
        """Calls that joined a conversation, and by which rule, since somebody last took them."""
        self.begun: Callable[[str], bool] = lambda call: False
        """Whether a call is recorded by itself already: then it is too late to join."""
        self.transfers = Transfers(conversations)
        self._numbers = Numbers()
        self._marks: dict[tuple[str, str], str] = {}  # to the newest call with it
        self._marks_of: dict[str, list[tuple[str, str]]] = {}
        self._shared: dict[tuple[str, str], None] = {}  # marks of calls that are not one: they prove nothing
        self._alone: set[str] = set()  # calls that nothing was seen of before that they could be part of
        self._ends: dict[str, tuple[Endpoint, Endpoint]] = {}  # of each call, the caller's first
        self._hosts = {host: min(group) for group in self.settings.hosts for host in group}

    # -- calls begin and are over

    def began(
        self, call: Call, message: SipMessage, source: Endpoint, destination: Endpoint, now: int
    ) -> None:
        """A call began with a message that went this way."""
        if not self.settings.rules:
            return
        if message.method is None:
            source, destination = destination, source
        marks = self._marks_in(call, message)
        self._ends[call.key] = source, destination
        how = self._join(call, message, marks, source, destination, now)
        if how:
            self.joined.append((call.key, how))
        for mark in marks:
            known = self._marks.get(mark)
            if known is None:
                self._marks[mark] = call.key
            elif self.conversations.key(known) != self.conversations.key(call.key):
                self._share(mark)
        self._marks_of.setdefault(call.key, []).extend(marks)
        self._numbers.add(call, self._keys(call, destination))

    def _join(
        self,
        call: Call,
        message: SipMessage,
        marks: list[tuple[str, str]],
        source: Endpoint,
        destination: Endpoint,
        now: int,
    ) -> str:
        """By which rule it joined; empty where by none."""
        rules, told = self.settings.rules, message.first.keys()
        if "transfer" in rules and not told.isdisjoint(NAMING) and self.transfers.named(call, message):
            return "transfer"
        for mark in marks:
            key = self._marks.get(mark) if mark not in self._shared else None
            if key is None and mark[0] == "header":
                key = self._marks.get(("call-id", mark[1]))  # it may name the other call's Call-ID
            found = self.conversations.of(key) if key is not None else None
            by = self._nearest(found, source) if found is not None else None
            if by is None or not self._plausible(call, by, source, destination):
                continue
            if self._pass_on(call, by, source, destination, mark[0]):
                return mark[0]
        sent = "transfer" in rules and self.transfers.pending and not self._exactly(call, source, destination)
        if sent and self.transfers.meant(call, message, source, now):
            return "transfer"
        if "conference" in rules and (focus := is_focus(message)) and message.method is not None:
            return "conference" if self._confer(call, focus.uri, "caller") else ""
        if "numbers" in rules or "media" in rules:
            return self._by_numbers(call, source, destination, now)
        return ""

    def focus(self, call: Call, found: Party, *, by_caller: bool) -> None:
        """One end of a call turns out to be the focus of a conference."""
        if "conference" not in self.settings.rules:
            return
        leg = self.conversations.leg(call.key)
        if leg is None or leg.how == "conference":
            return
        if self._confer(call, found.uri, "caller" if by_caller else "callee"):
            self.joined.append((call.key, "conference"))

    def _confer(self, call: Call, uri: str, focus: Side) -> bool:
        """Into the conversation of the conference; False where it is the first call of it."""
        room = tail(call.from_user if focus == "caller" else call.to_user)
        if room is None:
            return False
        # Some bridges put the same URI into all their conferences.
        mark = ("conference", f"{_WAY.sub('', uri)} {room}")
        known = self.conversations.of(self._marks.get(mark, ""))
        self._marks.setdefault(mark, call.key)
        if known is None:
            self._marks[mark] = call.key
            known = self.conversations.of(call.key)
        self._marks_of.setdefault(call.key, []).append(mark)
        if known is None:
            return False
        alone = known is self.conversations.of(call.key)
        if not alone and self.begun(call.key):
            self.conversations.relate(call.key, known.key, "conference")
            return False
        return self.conversations.conferred(call, known, focus) and not alone

    def over(self, call: str) -> None:
        """A call is done with."""
        for mark in self._marks_of.pop(call, ()):
            if self._marks.get(mark) == call:
                del self._marks[mark]
                heir = next(iter(self._others(call)), None) if mark[0] == "conference" else None
                if heir is not None:
                    self._marks[mark] = heir
                    self._marks_of.setdefault(heir, []).append(mark)
        self._numbers.drop(call)
        self._ends.pop(call, None)
        self._alone.discard(call)
        self.questions.pop(call, None)

    def _others(self, call: str) -> Iterator[str]:
        found = self.conversations.of(call)
        return (key for key, leg in found.legs.items() if not leg.over and key != call) if found else iter(())

    # -- marks

    def _marks_in(self, call: Call, message: SipMessage) -> list[tuple[str, str]]:
        rules, told, found = self.settings.rules, message.first.keys(), []
        if "header" in rules and not told.isdisjoint(self.settings.headers):
            values = header_marks(message, self.settings.headers)
            found += [("header", bounded_id(value)) for value in values if value != call.call_id]
        if "session-id" in rules and "session-id" in told:
            found += [("session-id", uuid) for uuid in session_ids(message)[:1]]
        if "call-id" in rules:
            found.append(
                ("call-id", _SUFFIX.sub("", call.call_id) if "b2b" in call.call_id else call.call_id)
            )
        if "tags" in rules and len(message.from_.tag) >= 6 and call.from_user:
            # A proxy that hides Call-IDs leaves the tags as they are.
            found.append(("tags", f"{bounded_id(message.from_.tag)} {call.from_user}"))
        return found

    def _share(self, mark: tuple[str, str]) -> None:
        """Some makers put the same into all their calls."""
        self._shared[mark] = None
        if len(self._shared) > MAX_SHARED:
            del self._shared[next(iter(self._shared))]

    def _plausible(self, call: Call, by: Leg, source: Endpoint, destination: Endpoint) -> bool:
        """Whether an equal mark may mean one call, for an outsider can send any: both numbers are the same,
        or the one call leaves where the other went.
        """
        pairs = (call.from_user, by.call.from_user), (call.to_user, by.call.to_user)
        if all(tail(mine) == tail(known) is not None for mine, known in pairs):
            return True
        ends = self._ends[by.call.key]
        before = self._one(ends[0].host) == self._one(destination.host)
        return before or self._goes_on(by.call, source, destination)

    def _nearest(self, found: Conversation, source: Endpoint) -> Leg | None:
        """The leg of a conversation that a call continues: the one that went where this comes from."""
        living = [
            leg
            for leg in found.legs.values()
            if not leg.over and leg.call.state is not ENDED and leg.call.key in self._ends
        ]
        for leg in reversed(living):
            if self._one(self._ends[leg.call.key][1].host) == self._one(source.host):
                return leg
        for leg in reversed(living):
            if leg.before in living and self._ends[leg.call.key][0].host == source.host:
                return leg.before  # another branch of the same
        return living[-1] if living else None

    def _pass_on(self, call: Call, by: Leg, source: Endpoint, destination: Endpoint, how: str) -> bool:
        if (
            self._left_for(by.call, source, destination)
            and by.before is None
            and call.first_seen - by.call.first_seen < MISORDER_NS
        ):
            return self.conversations.precedes(call, by, how)
        return self.conversations.passed_on(call, by, how)

    # -- numbers and time

    def _one(self, host: str) -> str:
        """A host by one of its addresses."""
        return self._hosts.get(host, host)

    def learn(self, one: str, other: str) -> None:
        """Two addresses turned out to be of one machine."""
        if len(self._hosts) < 1024:
            same = min(self._one(one), self._one(other))
            for host in (one, other, self._one(one), self._one(other)):
                self._hosts[host] = same

    def _keys(self, call: Call, destination: Endpoint) -> list[tuple[str, ...]]:
        caller, callee = tail(call.from_user), tail(call.to_user)
        there = self._one(destination.host)
        keys: list[tuple[str, ...]] = [("at", there)]
        keys += [("from", there, caller)] if caller else []
        keys += [("to", there, callee)] if callee else []
        keys += [("both", caller, callee)] if caller and callee else []
        return keys

    def _by_numbers(self, call: Call, source: Endpoint, destination: Endpoint, now: int) -> str:
        caller, callee = tail(call.from_user), tail(call.to_user)
        here = self._one(source.host)
        keys = ("both", caller or "", callee or ""), ("from", here, caller or ""), ("to", here, callee or "")
        if not self._numbers.any(*keys, ("at", here)):
            self._alone.add(call.key)
            return ""
        both = self._numbers.all_of(ELSEWHERE, *keys[0]) if caller and callee else []
        callers = self._numbers.all_of(HERE, *keys[1]) if caller else []
        callees = self._numbers.all_of(HERE, *keys[2]) if callee else []
        from_caller = [one for one in callers if self._continues(one, source, destination)]
        fresh = [one for one in from_caller if self._fresh(one, now) or self._unanswered_for(one)]
        to_callee = [one for one in callees if self._continues(one, source, destination)]
        # Whoever calls with another number is somebody else, unless what is heard tells otherwise.
        known_by = {one.key for one in from_caller}
        doubtful = [one for one in to_callee if one.key not in known_by and self._fresh(one, now)]
        exact = [one for one in from_caller if tail(one.to_user) == callee]
        for tier in (exact, fresh) if "numbers" in self.settings.rules else ():
            alike = [
                one
                for one in callers
                if self._goes_on(one, source, destination)
                and (tier is not exact or tail(one.to_user) == callee)
            ]
            found = {id(one): one for known in tier if (one := self.conversations.of(known.key))}
            same = {id(self.conversations.of(one.key)) for one in (*both, *alike)}
            if len(found) == 1 and same == found.keys() and not self._asked_for(alike[0]):
                by = self._nearest(next(iter(found.values())), source)
                if by is not None and self.conversations.passed_on(call, by, "numbers"):
                    return "numbers"
            if found:
                return self._ask(call, list(tier))
        if doubtful:
            return self._ask(call, doubtful)
        return self._by_time(call, both, source, destination, now)

    def _by_time(
        self, call: Call, both: list[Call], source: Endpoint, destination: Endpoint, now: int
    ) -> str:
        """What was passed on may be shown first; else only what is heard can tell. ``both`` are the calls
        with both numbers.
        """
        misordered = [
            leg
            for known in both
            if known.key in self._alone
            and self._left_for(known, source, destination)
            and now - known.first_seen < MISORDER_NS
            and (leg := self.conversations.leg(known.key)) is not None
            and not leg.how
        ]
        if (
            "numbers" in self.settings.rules
            and len(misordered) == len(both) == 1
            and self.conversations.precedes(call, misordered[0], "numbers")
        ):
            return "numbers"
        if "media" in self.settings.rules:
            strangers = [
                known
                for known in both
                if self._fresh(known, now) and self._elsewhere(known, source, destination)
            ]
            here_now = [
                known
                for known in self._numbers.newest(MAX_CANDIDATES, "at", self._one(source.host))
                if self._goes_on(known, source, destination) and self._fresh(known, now)
                and self._unanswered_for(known)
            ]  # fmt: skip
            if strangers or here_now:
                return self._ask(call, [*strangers, *here_now])
        self._alone.add(call.key)
        return ""

    def _asked_for(self, known: Call) -> bool:
        """Whether another call may be what became of a known one: then numbers do not tell."""
        return any(
            one.key == known.key for question in self.questions.values() for one in question.candidates
        )

    def _exactly(self, call: Call, source: Endpoint, destination: Endpoint) -> list[Call]:
        """The calls with both numbers of a call that it may continue, where that is a rule."""
        caller, callee = tail(call.from_user), tail(call.to_user)
        told = caller and callee and "numbers" in self.settings.rules
        both = self._numbers.all_of(ELSEWHERE, "both", caller or "", callee or "") if told else []
        return [one for one in both if self._continues(one, source, destination)] if both else []

    def _continues(self, known: Call, source: Endpoint, destination: Endpoint) -> bool:
        """Whether a call may be what the host made of a known one that has reached nobody so far."""
        return self._goes_on(known, source, destination) and not self._connected(known)

    def _connected(self, known: Call) -> bool:
        """Whether a call was passed on to somebody who answered and is still there."""
        found, mine = self.conversations.of(known.key), self.conversations.leg(known.key)
        return found is not None and any(
            leg.before is mine and not leg.over and leg.call.answered_at is not None
            for leg in found.legs.values()
        )

    def _left_for(self, known: Call, source: Endpoint, destination: Endpoint) -> bool:
        """Whether a known call left where this one goes to."""
        left = self._one(self._ends[known.key][0].host)
        return left == self._one(destination.host) != self._one(source.host)

    def _ask(self, call: Call, candidates: list[Call]) -> str:
        one_each = {one.key: one for one in candidates}
        wanted = "media" in self.settings.rules and len(self.questions) < MAX_QUESTIONS
        if wanted and len(one_each) <= MAX_CANDIDATES:
            self.questions[call.key] = Question(call, list(one_each.values()))
        return ""

    def _goes_on(self, known: Call, source: Endpoint, destination: Endpoint) -> bool:
        """Whether a call may be what the host made of a known one: it leaves where that one went to."""
        ends = self._ends.get(known.key)
        here = self._one(source.host)
        if ends is None or known.state is ENDED or self._one(ends[1].host) != here:
            return False
        # Where all is on one host only the ports tell who is who.
        return self._one(ends[0].host) != here or (ends[1] == source and ends[0] != destination)

    def _elsewhere(self, known: Call, source: Endpoint, destination: Endpoint) -> bool:
        """Whether nothing tells that the host of a known call is not this one by another address."""
        ends = self._ends.get(known.key)
        if ends is None or known.state is ENDED:
            return False
        return source.host not in (ends[0].host, ends[1].host) and destination.host != ends[1].host

    def _fresh(self, known: Call, now: int) -> bool:
        since = known.answered_at
        window = int(self.settings.window_s * 1e9)
        return now - known.first_seen < 12 * window if since is None else now - since < window

    def _unanswered_for(self, known: Call) -> bool:
        """Whether nobody was reached for it so far: whoever is called next may be it."""
        leg = self.conversations.leg(known.key)
        return leg is not None and not leg.rank["callee"]

    def settled(self, question: Question, by: Call) -> bool:
        """What was heard tells which call it is that the question was about."""
        self.questions.pop(question.call.key, None)
        leg = self.conversations.leg(by.key)
        mine = self.conversations.leg(question.call.key)
        if leg is None or mine is None or not {by.key, question.call.key} <= self._ends.keys():
            return False
        self.learn(self._ends[by.key][1].host, self._ends[question.call.key][0].host)
        if self.begun(question.call.key):
            self.conversations.relate(question.call.key, by.key, "media")
            return False
        if self.conversations.passed_on(question.call, leg, "media"):
            self.joined.append((question.call.key, "media"))
            return True
        return False
