"""Calls that are one conversation: what a B2BUA passes on, what a transfer continues, who is in a conference.

A *conversation* has *legs* (calls, that is dialogs) and *participants*. On each leg each side is a
participant's own phone, or something that passes on what others say: then what comes from there is a *copy*.
`rank` tells how far a copy is from the phone; a phone's own stream has 0. A copy holds what everybody said
but the one it is sent to, and besides what nobody else's stream has: ringing, announcements, music.

                 leg 1                            leg 2
    phone A <-----------------> B2BUA <-----------------> phone B
       caller            callee       caller         callee
       rank 0            rank 1       rank 1         rank 0

The labels are those of the tracks: `caller` and `callee` are the first two, `callee-2`, `callee-3` are those
whom the conversation reached later, `caller-2` those who called in.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from recorderd.calls.call import Call
from recorderd.calls.events import Side, other

MAX_CALLS: Final = 64
"""Calls of one conversation; further ones are recorded by themselves."""

MAX_RELATED: Final = 16

MIXED: Final = 2
"""The rank of further mixes of a conference."""


@dataclass(slots=True, eq=False)
class Participant:
    """Somebody who takes part, as the signalling names them."""

    label: str
    user: str
    uri: str
    display: str
    call: Call
    """By which they take part now."""


@dataclass(slots=True, eq=False)
class Leg:
    """One call of a conversation.

    Attributes:
        how: the rule by which it joined; empty for the first.
        ends: who is at each side, be it behind something that passes their voice on.
        rank: how far each side's stream is from that one's phone, in dialogs.
        before: the leg that it passes on, nearer to the caller.
        focus: the side where a conference is mixed.
    """

    call: Call
    how: str
    ends: dict[Side, Participant]
    rank: dict[Side, int]
    before: "Leg | None" = None
    over: bool = False
    focus: Side | None = None

    @property
    def role(self) -> str:
        """`direct`: phone to phone; `upstream` and `downstream` of a B2BUA; `between` two of them."""
        return {
            (0, 0): "direct", (0, 1): "upstream", (1, 0): "downstream"
        }.get((min(1, self.rank["caller"]), min(1, self.rank["callee"])), "between")  # fmt: skip


class Voice(NamedTuple):
    """Whose voice a stream carries.

    Attributes:
        label: the track that it belongs to.
        call: the call that it is a stream of; likewise `side`.
        rank: how many dialogs it is away from the phone.
        hop: how many hops of the signalling of its own dialog, at most: only to be compared.
        toward: for a copy, the label of whom it is sent to: all others are in it.
        mixed: whether it is a further mix of a conference. Besides those whose calls are known, whoever hosts
            it is in it, and others who dialled in elsewhere: only another mix has all of them.
    """

    label: str
    call: str
    side: Side
    rank: int
    hop: int
    toward: str
    mixed: bool = False

    @property
    def copied(self) -> bool:
        """Whether it is known not to be the phone's own stream."""
        return self.rank > 0 or self.hop > 0

    def covers(self, copy: "Voice") -> bool:
        """Whether, as long as this is heard, the other has nothing that is not recorded already.

        Of two equal ones either covers the other: the one that is recorded stays.
        """
        if (self.call, self.side) == (copy.call, copy.side):
            return self.rank == copy.rank and self.hop < copy.hop  # a proxy relays the media of one dialog
        if copy.mixed:
            return self.label == copy.label and self.rank <= copy.rank
        if self.rank < copy.rank:
            return self.label != copy.toward
        return self.rank == copy.rank > 0 and self.label == copy.label and self.call != copy.call


@dataclass(slots=True, eq=False)
class Conversation:
    """Some calls; its key is that of the first of them."""

    key: str
    legs: dict[str, Leg] = field(default_factory=dict)
    participants: list[Participant] = field(default_factory=list)
    related: "dict[str, tuple[Conversation, str]]" = field(default_factory=dict)
    """Other conversations by key, and how they belong to this one."""
    recording: str = ""
    """Where it is recorded; whoever records it says so."""

    def outermost(self) -> Leg:
        """The leg that began it: the caller's own."""
        first, *others = self.legs.values()
        return next((leg for leg in (first, *others) if not leg.rank["caller"]), first) if others else first

    def behind(self, leg: Leg) -> list[Leg]:
        """The legs that one was passed on as, oldest first."""
        return [known for known in self.legs.values() if known.before is leg]

    def participant(self, kind: Side, call: Call) -> Participant:
        """Another one: who called in, or who was called."""
        count = sum(known.label.partition("-")[0] == kind for known in self.participants)
        label = kind if not count else f"{kind}-{count + 1}"
        new = Participant(label, *_named(call, kind), call)
        self.participants.append(new)
        return new


def _named(call: Call, side: Side) -> tuple[str, str, str]:
    if side == "caller":
        return call.from_user, call.from_uri, call.from_display
    return call.to_user, call.to_uri, call.to_display


class Conversations:
    """All conversations whose calls are not all done with."""

    def __init__(self) -> None:
        self._of: dict[str, Conversation] = {}

    def __len__(self) -> int:
        return len({id(one) for one in self._of.values()})

    def key(self, call: str) -> str:
        """The conversation's key; that of the call itself, unless it joined another one."""
        found = self._of.get(call)
        return call if found is None else found.key

    def of(self, call: str) -> Conversation | None:
        """The conversation of a call that is not done with."""
        return self._of.get(call)

    def leg(self, call: str) -> Leg | None:
        """The call as a leg of its conversation."""
        found = self._of.get(call)
        return found.legs[call] if found is not None else None

    # -- who joins

    def began(self, call: Call) -> Conversation:
        """A call that (so far) is a conversation of its own."""
        # Most calls stay alone: this is done for each of them.
        caller = Participant("caller", call.from_user, call.from_uri, call.from_display, call)
        callee = Participant("callee", call.to_user, call.to_uri, call.to_display, call)
        leg = Leg(call, "", {"caller": caller, "callee": callee}, {"caller": 0, "callee": 0})
        found = self._of[call.key] = Conversation(call.key, {call.key: leg}, [caller, callee])
        return found

    def _admitted(self, call: Call, into: Conversation) -> bool:
        """Whether a call that is alone so far may join another conversation."""
        own = self._of.get(call.key)
        alone = own is None or (len(own.legs) == 1 and own is not into)
        return alone and len(into.legs) < MAX_CALLS

    def _add(self, into: Conversation, leg: Leg) -> None:
        self._of[leg.call.key] = into
        into.legs[leg.call.key] = leg

    def passed_on(self, call: Call, by: Leg, how: str) -> bool:
        """A B2BUA passes the leg ``by`` on as this call; False where there is no room."""
        into = self._of[by.call.key]
        if not self._admitted(call, into):
            return False
        taken = any(known.call.answered_at is not None for known in into.behind(by))
        callee = into.participant("callee", call) if taken else by.ends["callee"]
        leg = Leg(call, how, {"caller": by.ends["caller"], "callee": callee}, {"caller": 0, "callee": 0}, by)
        leg.rank["caller"] = by.rank["caller"] + 1
        nearer: Leg | None = by
        depth = 1
        while nearer is not None:
            nearer.rank["callee"] = max(nearer.rank["callee"], depth)
            nearer, depth = nearer.before, depth + 1
        callee.user, callee.uri, callee.display = _named(call, "callee")
        callee.call = call
        self._add(into, leg)
        return True

    def precedes(self, call: Call, leg: Leg, how: str) -> bool:
        """This call turns out to be what a B2BUA passes on as ``leg``: a mirror may show that one first."""
        into = self._of[leg.call.key]
        if leg.before is not None or not self._admitted(call, into):
            return False
        first = Leg(call, how, dict(leg.ends), {"caller": 0, "callee": leg.rank["callee"] + 1})
        leg.before = first
        waiting = [leg]
        while waiting:
            further = waiting.pop()
            further.rank["caller"] += 1
            waiting += into.behind(further)
        caller = leg.ends["caller"]
        caller.user, caller.uri, caller.display = _named(call, "caller")
        caller.call = call
        self._add(into, first)
        return True

    def transferred(self, call: Call, on: Leg, receiver: Side, how: str) -> bool:
        """Who is at ``receiver`` of a leg was sent on: this call is theirs to somebody new."""
        into = self._of[on.call.key]
        if not self._admitted(call, into):
            return False
        who, rank = on.ends[receiver], on.rank[receiver]
        if rank and receiver == "callee":
            # A B2BUA was told: it is whoever it connected last that goes on talking.
            talking = [leg for leg in into.behind(on) if leg.call.answered_at is not None]
            who = talking[-1].ends["callee"] if talking else who
        callee = into.participant("callee", call)
        ends: dict[Side, Participant] = {"caller": who, "callee": callee}
        before = on.before if rank and receiver == "caller" else None
        leg = Leg(call, how, ends, {"caller": rank, "callee": 0}, before)
        if not rank:
            who.call = call
        self._add(into, leg)
        return True

    def replaced(self, call: Call, leg: Leg, staying: Side, how: str) -> bool:
        """This call takes the place of a leg whose ``staying`` side it reaches (RFC 3891), or joins it."""
        into = self._of[leg.call.key]
        if not self._admitted(call, into):
            return False
        stays = leg.ends[staying]
        ends: dict[Side, Participant] = {"caller": into.participant("caller", call), "callee": stays}
        self._add(into, Leg(call, how, ends, {"caller": 0, "callee": leg.rank[staying]}))
        return True

    def conferred(self, call: Call, into: Conversation, focus: Side) -> bool:
        """The call is one of a conference, whose focus is at the ``focus`` side; what that sends is a mix.

        In the first call it is a voice like any other; further mixes are copies of that one.
        """
        if into is self._of.get(call.key):
            into.legs[call.key].focus = focus
            return True
        first = next((leg for leg in into.legs.values() if leg.focus is not None), None)
        if first is None or first.focus is None or not self._admitted(call, into):
            return False
        ends = {focus: first.ends[first.focus], other(focus): into.participant(other(focus), call)}
        rank: dict[Side, int] = {"caller": 0, "callee": 0}
        rank[focus] = MIXED
        self._add(into, Leg(call, "conference", ends, rank, focus=focus))
        return True

    def relate(self, call: str, with_call: str, how: str) -> None:
        """Two conversations that are not one belong together."""
        one, two = self._of.get(call), self._of.get(with_call)
        if one is None or two is None or one is two:
            return
        for mine, yours in ((one, two), (two, one)):
            if len(mine.related) < MAX_RELATED:
                mine.related.setdefault(yours.key, (yours, how))

    def over(self, call: str) -> None:
        """A call is done with; the conversation is when all its calls are."""
        found = self._of.get(call)
        if found is None:
            return
        found.legs[call].over = True
        if len(found.legs) == 1 or all(leg.over for leg in found.legs.values()):
            for key in found.legs:
                self._of.pop(key, None)
            # Told by now. In a row of transfers without end each would hold all before it.
            found.related.clear()

    # -- whose voice

    def label(self, call: str, side: Side) -> str:
        """Who is at a side of a call."""
        leg = self.leg(call)
        return leg.ends[side].label if leg is not None else side

    def voice(self, call: str, side: Side, hops: tuple[int, ...], last: int) -> Voice:
        """Whose voice a stream of a side of a call carries, that runs on ``hops`` of its signalling; they are
        numbered from 0 to ``last``.

        The caller's own phone is on the first hop and the callee's on the last (`calls.hops`): where a proxy
        relays media, the others have copies.
        """
        hop = min(hops, default=0) if side == "caller" else max(0, last - max(hops, default=0))
        leg = self.leg(call)
        if leg is None:
            return Voice(side, call, side, 0, hop, other(side))
        toward, mixed = leg.ends[other(side)].label, leg.focus == side and leg.how == "conference"
        return Voice(leg.ends[side].label, call, side, leg.rank[side], hop, toward, mixed)
