"""Calls that may be what a B2BUA made of others, where numbers do not tell which: equal media tells.

The new streams of all calls in question wait for a moment, so that each is recorded where it belongs from its
first packet on. What cannot be told by then is recorded by itself, and when it is told later, as related.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from recorderd.calls.call import Call
from recorderd.calls.events import Side
from recorderd.calls.joining import Joining, Question
from recorderd.calls.states import State
from recorderd.media.likeness import Prints, likeness, prints
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

DISTINCT: Final = 3
CLEAR_US: Final = 5000
"""Where several calls carry the same sound, the next best must be further off by this factor and so much."""


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
        rows = self._rows(end_ns)
        heard = self._prints([row for of_call in rows.values() for row, _ in of_call])
        for question in questions:
            best = self._best(question, rows, heard) if heard is not None else None
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

    def _rows(self, end_ns: int) -> dict[str, list[tuple[int, Side]]]:
        """The streams of the calls in question: waiting ones, and those that are recorded."""
        found: dict[str, list[tuple[int, Side]]] = {}
        for row in self._streams.unbound().tolist():
            origin = self._binder.origin(row)
            who = self._binder.expectations.speaker(origin.source, origin.destination, origin.since_ns)
            if who is not None and who[0] in self._asked:
                found.setdefault(who[0], []).append((row, who[1]))
        for call in self._asked:
            session = self._recordings.of(call)
            for stream in session.streams if session is not None else ():
                if stream.call == call and not stream.retired:
                    found.setdefault(call, []).append((stream.row, stream.speaker))
        return found

    def _prints(self, rows: list[int]) -> Prints | None:
        packets = self._table.of(np.array(sorted(rows), np.int32)) if rows else None
        return prints(packets) if packets is not None else None

    def _best(
        self, question: Question, rows: dict[str, list[tuple[int, Side]]], heard: Prints
    ) -> Call | None:
        """The call whose very payloads the one in question has, if it is certain which that is."""
        of_row = {row: (call, side) for call in question.candidates for row, side in rows.get(call.key, ())}
        nearest: dict[str, float] = {}
        for mine, side in rows.get(question.call.key, ()):
            for row, like in likeness(heard.of(mine), heard).items():
                call, spoken = of_row.get(row, (None, side))
                # The caller is heard on the caller's own call first, the callee on what was made of it.
                lag_us = like.lag_us if side == "caller" else -like.lag_us
                if call is not None and spoken == side and like.count >= ENOUGH and lag_us > 0:
                    nearest[call.key] = min(lag_us, nearest.get(call.key, NEAR_US))
        found = sorted((lag, key) for key, lag in nearest.items() if lag < NEAR_US)
        if not found or (len(found) > 1 and found[1][0] < DISTINCT * found[0][0] + CLEAR_US):
            return None
        return next(call for call in question.candidates if call.key == found[0][1])
