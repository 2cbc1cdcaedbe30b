"""How long a call may stay in a state without a message, and which calls have stayed too long."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from recorderd.calls.states import State

SECOND: Final = 1_000_000_000  # ns

#: A single step of the clock counts at most this much, and a step back counts nothing: when the host's
#: clock is set, years do not pass for the calls in progress.
MAX_STEP: Final = 3600 * SECOND


class Limits(NamedTuple):
    """Bounds of the call table. Times are seconds without a message of the call.

    Attributes:
        unanswered_s: an INVITE without a final response. (Proxies give up after three minutes without a
            provisional response, RFC 3261 section 16.6.)
        challenged_s: for the second INVITE after a challenge or redirection.
        cancelling_s: for the 487 after a CANCEL; 64 T1, RFC 3261 section 9.1.
        talking_s: an answered call without a message. Not every call has session timers (RFC 4028).
        closing_s: for the answer to a BYE, before it is believed without one.
        ended_s: how long repetitions are recognised; longer than the 32 s for which a 2xx is repeated.
        calls: calls in progress at most; see `CallTable` for those that are given up.
        megabytes: roughly what the calls in progress may take together.
        ended_calls: of more ended calls than this, repetitions are not recognised once they are forgotten.
    """

    unanswered_s: float = 300
    challenged_s: float = 10
    cancelling_s: float = 32
    talking_s: float = 24 * 3600
    closing_s: float = 5
    ended_s: float = 64
    calls: int = 25_000
    megabytes: int = 128
    ended_calls: int = 20_000

    def of(self, state: State) -> int:
        """The limit of a state in ns."""
        seconds = {
            State.TRYING: self.unanswered_s,
            State.EARLY: self.unanswered_s,
            State.CHALLENGED: self.challenged_s,
            State.CANCELLING: self.cancelling_s,
            State.TALKING: self.talking_s,
            State.CLOSING: self.closing_s,
            State.ENDED: self.ended_s,
        }
        return round(seconds[state] * SECOND)


class Timers:
    """Calls by state, each state in the order in which its calls were last heard of.

    All calls of a state have the same limit, so the first of each is the next that is due, and arming,
    disarming and looking cost the same for one call and for a hundred thousand.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = {state: limits.of(state) for state in State}
        self._armed: dict[State, dict[str, int]] = {state: {} for state in State}
        self._elapsed = 0
        self._last: int | None = None

    def advance(self, now: int) -> None:
        """Tell the time, in ns since the epoch."""
        if self._last is not None and now > self._last:
            step = now - self._last
            self._elapsed += step if step < MAX_STEP else MAX_STEP
        self._last = now

    def leapt(self, by: int) -> None:
        """The clock was set ahead by so many ns: no time has passed."""
        if self._last is not None:
            self._last += by

    def arm(self, key: str, before: State | None, state: State) -> None:
        """A call was heard of, now in `state`; `before` is what it was armed with last, None if never."""
        if before is not None:
            self._armed[before].pop(key, None)
        self._armed[state][key] = self._elapsed

    def disarm(self, key: str, state: State) -> None:
        """A call is forgotten."""
        self._armed[state].pop(key, None)

    def due(self) -> Iterator[tuple[str, State]]:
        """The calls that stayed too long; arm or disarm each before the next is asked for."""
        for state, armed in self._armed.items():
            while armed:
                key, since = next(iter(armed.items()))
                if self._elapsed - since < self._limits[state]:
                    break
                yield key, state

    def oldest(self, state: State) -> str | None:
        """The call of this state that was not heard of for longest."""
        return next(iter(self._armed[state]), None)

    def count(self, state: State) -> int:
        """How many calls are in this state."""
        return len(self._armed[state])
