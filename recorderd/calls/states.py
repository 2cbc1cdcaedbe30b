"""The states of a call as a tap sees them: one table, nothing else decides.

An end knows what it has sent and may refuse what does not fit. A tap sees both ends, some messages twice,
some never, and on a mirror port some before those that they answer. So every signal may come in every
state, the table has every pair, and a signal that comes too late to mean anything leaves the state as it
is. Hold is no state of a call: each side holds or does not (see `negotiation`). docs/call-states.md is made
from this table.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final


class State(Enum):
    """Where a call is."""

    __hash__ = object.__hash__  # each is one object; an Enum's own is slow, and is asked for each message

    TRYING = "trying"  #: an INVITE was seen, and at most a 100
    EARLY = "early"  #: a provisional answer was seen: it rings, or early media flows
    CHALLENGED = "challenged"  #: refused in a way that asks for another INVITE (401, 407, 302, 422 ...)
    CANCELLING = "cancelling"  #: the caller gave up, the INVITE's own answer is still to come
    TALKING = "talking"  #: answered
    CLOSING = "closing"  #: one end hung up, its BYE is not confirmed
    ENDED = "ended"  #: over; kept for a while so that late repetitions are recognised


# Asked for with each message, and an Enum takes its time to find a member.
TRYING: Final = State.TRYING
CHALLENGED: Final = State.CHALLENGED
CANCELLING: Final = State.CANCELLING
TALKING: Final = State.TALKING
CLOSING: Final = State.CLOSING
ENDED: Final = State.ENDED


class Signal(Enum):
    """What a message, or the lack of one, means for the state of its call."""

    __hash__ = object.__hash__  # as above

    INVITE = "INVITE"  #: a new INVITE that forms the dialog; never a repetition, never a re-INVITE
    PROGRESS = "101-199"  #: to such an INVITE
    ANSWER = "2xx"  #: to such an INVITE, or the ACK that proves it
    CHALLENGE = "refused, try again"  #: to the last such INVITE still open
    REFUSAL = "refused"  #: to the last such INVITE still open
    CANCEL = "CANCEL"  #: of the last such INVITE still open
    BYE = "BYE"  #: of the dialog that was answered, by either end
    BYE_DONE = "BYE confirmed"  #: any final response to it other than a challenge
    BYE_CHALLENGE = "BYE challenged"  #: 401 or 407 to it: the call goes on until it is sent again
    EXPIRY = "nothing for too long"  #: see `timers`


_T, _E, _H, _X, _A, _C, _Z = State

_ROWS: Final[Mapping[State, tuple[State, ...]]] = {
    # In the order of Signal: INVITE PROGRESS ANSWER CHALLENGE REFUSAL CANCEL BYE BYE_DONE BYE_CHALLENGE
    # EXPIRY A BYE before the answer is another way to give up (RFC 3261 section 15), and may cross the 200
    # like a CANCEL.
    State.TRYING: (_T, _E, _A, _H, _Z, _X, _X, _T, _T, _Z),
    State.EARLY: (_E, _E, _A, _H, _Z, _X, _X, _E, _E, _Z),
    State.CHALLENGED: (_T, _E, _A, _H, _Z, _H, _H, _H, _H, _Z),
    # RFC 3261 section 9.1: the CANCEL may cross the 200, then the call is answered after all.
    State.CANCELLING: (_X, _X, _A, _Z, _Z, _X, _X, _X, _X, _Z),
    # The other branches of a forked INVITE are refused or cancelled after the first was answered.
    State.TALKING: (_A, _A, _A, _A, _A, _A, _C, _Z, _A, _Z),
    State.CLOSING: (_C, _C, _C, _C, _C, _C, _C, _Z, _A, _Z),
    State.ENDED: (_Z, _Z, _Z, _Z, _Z, _Z, _Z, _Z, _Z, _Z),
}

TRANSITIONS: Final[Mapping[tuple[State, Signal], State]] = {
    (state, signal): after for state, row in _ROWS.items() for signal, after in zip(Signal, row, strict=True)
}


def diagram() -> str:
    """The changes of state as a Mermaid state diagram; what leaves the state as it is, is not drawn."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.TRYING.value}: INVITE"]
    for state in State:
        for after in State:
            signals = [s.value for s in Signal if TRANSITIONS[state, s] is after and after is not state]
            if signals:
                lines.append(f"    {state.value} --> {after.value}: {' / '.join(signals)}")
    lines.append(f"    {State.ENDED.value} --> [*]: forgotten")
    return "\n".join(lines)


def matrix() -> str:
    """The whole table in Markdown, one row a signal, one column a state."""
    rows = [
        "| | " + " | ".join(state.value for state in State) + " |",
        "|" + "---|" * (len(State) + 1),
    ]
    rows += [
        f"| {signal.value} | " + " | ".join(TRANSITIONS[state, signal].value for state in State) + " |"
        for signal in Signal
    ]
    return "\n".join(rows)
