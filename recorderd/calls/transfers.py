"""Transfers: who was sent where (REFER, RFC 3515), and which new call is what came of it.

A blind transfer's new call goes to the one that Refer-To names, from who was sent there or from a B2BUA on
their behalf. An attended one's has Replaces (RFC 3891) and takes the place of a call that has begun already;
Join (RFC 3911) and Target-Dialog (RFC 4538) name a call as well.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from recorderd.calls.call import Call
from recorderd.calls.conversations import Conversation, Conversations
from recorderd.calls.events import Side, other
from recorderd.calls.identity import bounded_id
from recorderd.calls.numbers import tail
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sip import SipMessage
from recorderd.wire.sip_references import DialogName, dialog_named, refer_to

PATIENCE_NS: Final = 60_000_000_000
"""How long after a REFER its receiver may call."""

NAMING: Final = frozenset({"replaces", "join"})
"""The headers of an INVITE that name a dialog."""

MAX_REFERRALS: Final = 1024

Find = Callable[[str, Iterable[str]], tuple[str, Side] | None]
"""The call with a Call-ID and some tags, and the side that the first of the tags is of."""


@dataclass(slots=True, eq=False)
class Referral:
    """Somebody was sent somewhere."""

    call: str
    conversation: Conversation | None
    receiver: Side
    host: str
    """Where the REFER went."""
    target: str
    replaces: DialogName | None
    until: int


class Transfers:
    """The transfers under way."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._referrals: list[Referral] = []
        self.find: Find = lambda call_id, tags: None

    @property
    def pending(self) -> bool:
        """Whether anybody was sent elsewhere of late."""
        return bool(self._referrals)

    def referred(self, call: Call, by: Side, message: SipMessage, destination: Endpoint, now: int) -> None:
        """One side of a call sends the other one elsewhere."""
        where = refer_to(message)
        if where is None or where.method != "INVITE":
            return
        self._referrals = [known for known in self._referrals if known.until > now][-MAX_REFERRALS:]
        user = where.party.user or where.party.host
        replaced = self._found(where.replaces)
        if any(known.call == call.key and known.target == user for known in self._referrals):
            return  # repeated
        self._referrals.append(
            Referral(
                call.key,
                self._conversations.of(call.key),
                other(by),
                destination.host,
                user,
                where.replaces,
                now + PATIENCE_NS,
            )
        )
        if replaced is not None:
            self._conversations.relate(call.key, replaced[0], "transfer")

    def _found(self, name: DialogName | None) -> tuple[str, Side] | None:
        if name is None:
            return None
        return self.find(bounded_id(name.call_id), (bounded_id(name.addressed), bounded_id(name.opposite)))

    def named(self, call: Call, message: SipMessage) -> bool:
        """Join a call whose INVITE names another dialog."""
        if message.method is None:
            return False
        replaces = dialog_named(message, "replaces")
        found = self._found(replaces)
        if replaces is not None:
            for known in self._referrals:
                if known.replaces == replaces and self._follow(call, known):
                    if found is not None:
                        self._conversations.relate(call.key, found[0], "transfer")
                    return True
        found = found or self._found(dialog_named(message, "join"))
        if found is not None:
            leg = self._conversations.leg(found[0])
            return leg is not None and self._conversations.replaced(call, leg, found[1], "transfer")
        return False

    def meant(self, call: Call, message: SipMessage, source: Endpoint, now: int) -> bool:
        """Join a call that goes where somebody was sent."""
        if message.method is None:
            return False
        self._referrals = [known for known in self._referrals if known.until > now]
        wanted = {tail(call.to_user), tail(_user(message.uri))} - {None}
        fitting = [
            known
            for known in self._referrals
            if tail(known.target) in wanted and self._by_receiver(known, call, message, source)
        ]
        if len({self._conversations.key(known.call) for known in fitting}) != 1:
            return False
        here = [known for known in fitting if known.host == source.host]
        return self._follow(call, (here or fitting)[-1])

    def _by_receiver(self, known: Referral, call: Call, message: SipMessage, source: Endpoint) -> bool:
        """Whether a call comes from who was sent there, or from the host on behalf of one of the two."""
        if message.header("referred-by") is not None:
            return True
        if known.conversation is None:
            return False
        legs = known.conversation.legs
        parties = {tail(end.user) for leg in legs.values() for end in leg.ends.values()}
        sent = tail(legs[known.call].ends[known.receiver].user)
        caller = tail(call.from_user)
        return caller is not None and (caller == sent or (known.host == source.host and caller in parties))

    def _follow(self, call: Call, known: Referral) -> bool:
        leg = self._conversations.leg(known.call)
        if leg is not None:
            return self._conversations.transferred(call, leg, known.receiver, "transfer")
        # Its recording is sealed: the new one can only name it.
        new = self._conversations.of(call.key)
        if new is not None and known.conversation is not None:
            new.related.setdefault(known.conversation.key, (known.conversation, "transfer"))
        return False


def _user(uri: str) -> str:
    rest = uri.partition(":")[2]
    return rest.partition("@")[0] if "@" in rest else ""
