"""Calls that may be what a B2BUA made of others, where numbers do not tell which: equal media tells.

The new streams of all calls in question wait for a moment, so that each is recorded where it belongs from its
first packet on. What cannot be told by then is recorded by itself, and when it is told later, as related.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from recorderd.calls.call import Call
from recorderd.calls.events import Side
from recorderd.calls.joining import Joining
from recorderd.calls.numbers import tail
from recorderd.calls.questions import Question
from recorderd.calls.states import State
from recorderd.media.likeness import Prints, likeness, prints, telling
from recorderd.media.streams import StreamTable
from recorderd.media.table import PacketTable
from recorderd.service.binder import Binder, Origin
from recorderd.service.recordings import Recordings

HOLD_NS: Final = 3_000_000_000
"""How long a stream waits for the answer; packets wait longer for their call."""

GIVEN_UP_NS: Final = 10_000_000_000
"""A question is given up when media was there for so long without an answer."""

ENOUGH: Final = 5
"""So many different payloads must be equal."""

NEAR_US: Final = 100_000
"""What a relay takes at most; jitter buffers included."""

SKEW_US: Final = 1000
"""Times are measured so well."""

MAX_BESIDES: Final = 512
"""So many streams of calls that nothing is asked about are looked at: what they have, too, tells nothing."""


class Questions:
    """Asks the media, window by window."""

    def __init__(
        self,
        joining: Joining,
        streams: StreamTable,
        table: PacketTable,
        binder: Binder,
        recordings: Recordings,
    ) -> None:
        self._joining, self._streams, self._table = joining, streams, table
        self._binder, self._recordings = binder, recordings
        self._since: dict[str, int] = {}  # when media of a call in question was first looked at
        self._asked: dict[str, Call] = {}

    def settle(self, end_ns: int, joined: Callable[[], None]) -> None:
        """Answer what can be answered at the close of a window; ``joined`` is told that calls have joined."""
        if not self._joining.questions:
            self._asked = {}
            self._since.clear()
            return
        questions = list(self._joining.questions.values())
        self._asked = {call.key: call for one in questions for call in (one.call, *one.candidates)}
        rows = self._rows()
        heard = self._prints(rows)
        for question in questions:
            best = self._best(question, rows, heard, end_ns) if heard is not None else None
            if best is not None:
                self._joining.settled(question, best)
                joined()
            elif self._stale(question, rows, end_ns):
                self._joining.questions.pop(question.call.key, None)

    @property
    def asking(self) -> bool:
        """Whether there is any question."""
        return bool(self._asked)

    def waits(self, origin: Origin, call: str, end_ns: int) -> bool:
        """Whether a stream of a call is to wait for an answer."""
        asked = self._asked.get(call)
        # Of a call that is over nothing more will be heard.
        return asked is not None and asked.state is not State.ENDED and origin.since_ns + HOLD_NS > end_ns

    def _stale(self, question: Question, rows: dict[str, list[tuple[int, Side]]], end_ns: int) -> bool:
        call = question.call
        if call.state is State.ENDED:
            return True
        if call.key in rows:
            return end_ns - self._since.setdefault(call.key, end_ns) > GIVEN_UP_NS
        return call.answered_at is not None and end_ns - call.answered_at > 3 * GIVEN_UP_NS

    def _rows(self) -> dict[str, list[tuple[int, Side]]]:
        """The streams of the calls in question, waiting ones and those that are recorded, and those of others
        that wait.
        """
        found: dict[str, list[tuple[int, Side]]] = {}
        besides = 0
        for row in self._streams.unbound().tolist():
            origin = self._binder.origin(row)
            who = self._binder.expectations.speaker(origin.source, origin.destination, origin.since_ns)
            if who is None:
                continue
            besides += who[0] not in self._asked
            if who[0] in self._asked or besides <= MAX_BESIDES:
                found.setdefault(who[0], []).append((row, who[1]))
        for call in self._asked:
            session = self._recordings.of(call)
            for stream in session.streams if session is not None else ():
                if stream.call == call and not stream.retired:
                    found.setdefault(call, []).append((stream.row, stream.speaker))
        return found

    def _prints(self, rows: dict[str, list[tuple[int, Side]]]) -> Prints | None:
        """What tells; what is heard of three conversations does not."""
        numbers: dict[str, int] = {}
        party = {
            row: numbers.setdefault(self._joining.conversations.key(call), len(numbers))
            for call, of_call in rows.items()
            for row, _ in of_call
        }
        packets = self._table.of(np.array(sorted(party), np.int32)) if party else None
        return telling(prints(packets), party) if packets is not None else None

    def _best(
        self, question: Question, rows: dict[str, list[tuple[int, Side]]], heard: Prints, end_ns: int
    ) -> Call | None:
        """The call whose very payloads the one in question has, if it is certain which that is.

        Both directions must say so. Music that a host plays to many comes from the callee's side, so that the
        caller's voice alone is enough if by the end of the wait the callee has said nothing, and the numbers
        do not contradict.
        """
        mine = rows.get(question.call.key, [])
        told: dict[Side, list[Prints]] = {}
        for row, side in mine:
            told.setdefault(side, []).append(heard.of(row))
        said = [side for side, of in told.items() if any(len(np.unique(one.hashes)) >= ENOUGH for one in of)]
        meant = {side: self._meant(question, side, told[side], rows, heard) for side in said}
        found, lag_us = meant.get("caller") or (None, 0.0)
        if found is None:
            return None
        if "callee" in said:
            # A mirror may show one call's media a little later than the other's: in the sum this is nothing.
            also, back_us = meant["callee"] or (None, 0.0)
            return found if self._same(found, also) and lag_us + back_us > -SKEW_US else None
        numbers = tail(question.call.from_user), tail(found.from_user)
        if lag_us <= 0 or (None not in numbers and numbers[0] != numbers[1]):
            return None
        since_ns = min(self._binder.origin(row).since_ns for row, _ in mine)
        waited = question.call.state is State.ENDED or since_ns + HOLD_NS <= end_ns
        return found if waited else None

    def _same(self, one: Call, other: Call | None) -> bool:
        key = self._joining.conversations.key
        return other is not None and key(one.key) == key(other.key)

    def _meant(
        self,
        question: Question,
        side: Side,
        told: list[Prints],
        rows: dict[str, list[tuple[int, Side]]],
        heard: Prints,
    ) -> tuple[Call, float] | None:
        """The only conversation whose stream of one side has the same payloads: of its calls the nearest, and
        how much further from the speaker the call in question is, in us.
        """
        of_row = {
            row: call
            for call in question.candidates
            for row, spoken in rows.get(call.key, ())
            if spoken == side
        }
        nearest: dict[str, tuple[float, Call]] = {}
        for mine in told:
            for row, like in likeness(mine, heard).items():
                call = of_row.get(row)
                if call is None or like.payloads < ENOUGH or abs(like.lag_us) >= NEAR_US:
                    continue
                # The caller is heard on the caller's own call first, the callee on what was made of it.
                lag_us = like.lag_us if side == "caller" else -like.lag_us
                key = self._joining.conversations.key(call.key)
                if key not in nearest or abs(lag_us) < abs(nearest[key][0]):
                    nearest[key] = lag_us, call
        (only,) = nearest.values() if len(nearest) == 1 else (None,)
        return (only[1], only[0]) if only is not None else None
