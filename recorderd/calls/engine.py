"""One call from its messages: who is who, and where it is.

The caller is told by the From tag of the INVITE that formed the dialog, never by the direction of a
message: the callee may send BYE, re-INVITE and UPDATE too, with the tags the other way round.
"""

from typing import Final

from recorderd.calls.agreement import Agreement
from recorderd.calls.call import Call
from recorderd.calls.events import CallAnswered, CallEnded, CallEvent, Side
from recorderd.calls.hops import COOKIE, Hops, Transaction
from recorderd.calls.identity import bounded_id
from recorderd.calls.states import (
    CANCELLING,
    CHALLENGED,
    CLOSING,
    ENDED,
    TALKING,
    TRANSITIONS,
    Signal,
    State,
)
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.printable import printable
from recorderd.wire.sip import SipMessage
from recorderd.wire.sip_party import Party

#: Final responses after which the caller is expected to send another INVITE of the same call: RFC 3261
#: sections 8.1.3.4, 8.1.3.5 and 22, RFC 4028 (422), RFC 3578 (484), and those that fail over within the
#: call.
ASKS_AGAIN: Final = frozenset({*range(300, 400), 401, 407, 415, 416, 420, 421, 422, 428, 484, 488, 494, 503})

_UNANSWERED = frozenset({State.TRYING, State.EARLY, State.CHALLENGED, State.CANCELLING})
_LEAVING = frozenset({CLOSING, CANCELLING, CHALLENGED})
_MAX_ANSWERED = 16


class CallEngine:
    """The messages of one call, in the order in which they were captured, to events.

    Attributes:
        call: what came of it so far.
        caller: the caller's `address`.
        caller_tag: the caller's tag, see `bounded_id`.
        weighed: the `weight` that the table has counted.
    """

    __slots__ = (
        "_agreement",
        "_answered",
        "_dropped",
        "_events",
        "_hops",
        "_leaving",
        "call",
        "caller",
        "caller_tag",
        "weighed",
    )

    def __init__(self, call: Call, caller: Party) -> None:
        self.call = call
        self.caller = address(caller)
        self.caller_tag = bounded_id(caller.tag)
        self.weighed = 0
        self._hops = Hops()
        self._agreement = Agreement(call)
        self._answered: list[str] = []  # tags of the callees that accepted, the one that talks first
        self._dropped: list[str] = []  # tags of those that the caller then hung up on
        self._leaving: tuple[int, str] | None = None  # (when, why) of an end that is not yet certain
        self._events: list[CallEvent] = []

    def message(
        self, message: SipMessage, tags: tuple[str, str], source: Endpoint, destination: Endpoint, now: int
    ) -> list[CallEvent]:
        """Take the next message of the call; the table has made sure that it is one.

        ``tags`` are its `bounded_tags`.
        """
        call, method = self.call, message.method
        if message.defects:
            call.note(*message.defects)
        side, fork = self.ends(message, tags)
        hosts = call.hosts
        if source.host not in hosts or destination.host not in hosts:
            # A response runs against its request; who sent that, the From tag tells.
            by_caller = (side == "caller") == (method is not None)
            call.signalled(source.host, destination.host, by_caller=by_caller)
        if method == "ACK":
            self._ack(message, side, fork, self._hops.leg(source, destination), now)
        elif method == "CANCEL":
            self._cancel(message, now)
        elif message.request_method in ("INVITE", "UPDATE", "PRACK", "BYE"):
            transaction = self._transaction(message, side, source, destination)
            if method is None:
                self._response(message, transaction, side, fork, now)
            else:
                self._request(message, transaction, side, fork, now)
        if call.state is not ENDED:
            self._events += self._agreement.settle(self._answered[0] if self._answered else None, now)
        return self._take_events()

    def expire(self, now: int, cause: str = "timeout") -> list[CallEvent]:
        """Nothing was heard of the call for too long, or there is no room for it any more."""
        self._signal(Signal.EXPIRY, now, cause)
        return self._take_events()

    def ends(self, message: SipMessage, tags: tuple[str, str]) -> tuple[Side, str]:
        """(the side that From names, the callee's tag) of a message with these `bounded_tags`."""
        from_tag, to_tag = tags
        if from_tag != to_tag:
            return ("caller", to_tag) if from_tag == self.caller_tag else ("callee", from_tag)
        # No tags at all (RFC 2543), or the same on both ends: the addresses must tell.
        backwards = self.caller == address(message.to) != address(message.from_)
        return ("callee" if backwards else "caller"), from_tag

    def repeats(self, message: SipMessage) -> bool:
        """Whether an INVITE is one that this call has already seen, on any hop, or seen a response to."""
        unique = message.branch.startswith(COOKIE)
        known = self._hops.find(message)
        return known is not None or (not unique and any(t.cseq == message.cseq for t in self._hops.forming()))

    @property
    def weight(self) -> int:
        """Roughly how many bytes the call takes."""
        return 3000 + self._hops.weight + self._agreement.weight

    def _take_events(self) -> list[CallEvent]:
        events, self._events = self._events, []
        return events

    def _transaction(
        self, message: SipMessage, side: Side, source: Endpoint, destination: Endpoint
    ) -> Transaction:
        known = self._hops.find(message)
        if known is not None:
            self._hops.learn(known, source, destination)
            return known
        forming = message.request_method == "INVITE" and self._forms(message, side)
        return self._hops.begin(message, source, destination, forming=forming)

    def _forms(self, message: SipMessage, side: Side) -> bool:
        """Whether an INVITE, or one that a response is for, forms the dialog rather than changes it."""
        if side == "callee":
            return False
        if self.call.state in _UNANSWERED:
            return True
        # One more branch of the forked INVITE that was answered. A re-INVITE has a number of its own.
        return any(known.cseq == message.cseq for known in self._hops.forming())

    # -- requests

    def _request(
        self, message: SipMessage, transaction: Transaction, side: Side, fork: str, now: int
    ) -> None:
        if message.method == "BYE":
            self._bye(fork, now)
            return
        if transaction.requested:
            return  # repeated, or seen twice
        transaction.requested = True
        if transaction.forming and transaction.open:
            self._signal(Signal.INVITE, now)
        self._agreement.request(message, transaction.leg, side, fork, in_dialog=not transaction.forming)

    def _ack(self, message: SipMessage, side: Side, fork: str, leg: int, now: int) -> None:
        if side == "caller" and fork and self.call.state in _UNANSWERED and self._proves_answer(message):
            self.call.note("the answer was not seen")
            self._accept(fork, now)
        if self.call.state is not ENDED:
            self._agreement.acknowledged(message, leg, side, fork)

    def _proves_answer(self, ack: SipMessage) -> bool:
        """Whether an ACK is of a 2xx: that of a refusal has the branch of its INVITE (RFC 3261 17.1.1.3)."""
        forming = [known for known in self._hops.forming() if known.cseq == ack.cseq]
        return (
            any(known.open for known in forming)
            and ack.branch.startswith(COOKIE)
            and all(known.branch.startswith(COOKIE) and known.branch != ack.branch for known in forming)
        )

    def _cancel(self, message: SipMessage, now: int) -> None:
        cancelled = self._hops.cancelled_by(message)
        if cancelled is not None:
            cancelled.cancelled = True
        if cancelled is None or self._hops.decides(cancelled):
            self._signal(Signal.CANCEL, now, "cancelled")

    def _bye(self, fork: str, now: int) -> None:
        if len(self._answered) > 1 and fork in self._answered:
            # Several callees answered, and the caller drops one of them.
            self._answered.remove(fork)
            self._dropped.append(fork)
        elif self._talks(fork):
            self._signal(Signal.BYE, now, "bye" if self._answered else "bye before answer")

    def _talks(self, fork: str) -> bool:
        """Whether a dialog is the one that was answered, as far as tags tell."""
        return not self._answered or fork == self._answered[0] or "" in (fork, self._answered[0])

    # -- responses

    def _response(
        self, message: SipMessage, transaction: Transaction, side: Side, fork: str, now: int
    ) -> None:
        status = message.status
        first, transaction.open = transaction.open, transaction.open and status < 200
        if message.cseq_method == "BYE":
            if first and status >= 200 and self._talks(fork):
                challenged = status in (401, 407)
                self._signal(Signal.BYE_CHALLENGE if challenged else Signal.BYE_DONE, now, "bye")
            return
        if transaction.forming and 200 <= status < 300:
            self._accept(fork, now)  # also by a second callee, after the first final response
        elif transaction.forming and first:
            self._not_accepted(message, transaction, now)
        if self.call.state is not ENDED:
            self._agreement.response(message, transaction.leg, side, fork)

    def _accept(self, fork: str, now: int) -> None:
        seen = (*self._answered, *self._dropped)
        if fork not in seen and len(seen) < _MAX_ANSWERED:
            self._answered.append(fork)
        self._signal(Signal.ANSWER, now)

    def _not_accepted(self, message: SipMessage, transaction: Transaction, now: int) -> None:
        status = message.status
        if status == 100:
            return
        if status < 200:
            if self.call.ringing_at is None:
                self.call.ringing_at = now
            self._signal(Signal.PROGRESS, now)
        elif self._hops.decides(transaction):
            signal = Signal.CHALLENGE if status in ASKS_AGAIN else Signal.REFUSAL
            self._signal(signal, now, _refusal(message))

    # -- state

    def _signal(self, signal: Signal, now: int, cause: str = "") -> None:
        call = self.call
        before = call.state
        call.state = after = TRANSITIONS[before, signal]
        if after is CHALLENGED and signal is Signal.CHALLENGE:
            self._leaving = (now, cause)
        if after is before:
            return
        if after is ENDED:
            self._end(signal, before, now, cause)
        elif after in _LEAVING:
            self._leaving = (now, cause)
        else:
            self._leaving = None
            if after is TALKING and call.answered_at is None:
                call.answered_at = max(now, call.first_seen)
                self._events.append(CallAnswered(call.key, now))

    def _end(self, signal: Signal, before: State, now: int, cause: str) -> None:
        ended = now
        if self._leaving is not None and (before is CLOSING or signal is Signal.EXPIRY):
            # What began the end counts, not what confirmed it, nor that nothing did.
            ended, cause = self._leaving
        elif self._leaving is not None and signal is Signal.CHALLENGE:
            cause = self._leaving[1]  # who cancelled does not answer a challenge
        call = self.call
        call.ended_at = max(ended, call.answered_at or call.first_seen)
        call.end_cause = cause
        self._agreement.end(self._answered[0] if self._answered else None)
        self._events.append(CallEnded(call.key, now, cause))


def address(party: Party) -> tuple[str, str]:
    """(user, host) of an end, to compare."""
    return bounded_id(party.user), bounded_id(party.host)


def _refusal(message: SipMessage) -> str:
    if message.status == 487:
        return "cancelled"
    verb = "redirected" if message.status < 400 else "rejected"
    return printable(f"{verb} {message.status} {message.reason}".strip(), 80)
