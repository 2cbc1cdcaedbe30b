"""Copies of what is recorded from elsewhere: set aside while the better stream is heard, taken back where it
falls silent.

A host that relays media shows every voice twice or more often, and what a phone is sent is a copy of the
others. Nearest the phone it is recorded. What only the copies have (ringing, announcements, music while
somebody is held) is recorded from them, for as long as nothing better is heard.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.calls.conversations import Conversations, Voice
from recorderd.calls.events import Side
from recorderd.calls.table import CallTable
from recorderd.media.streams import ASIDE, IGNORED, UNBOUND, StreamTable
from recorderd.media.table import PacketTable
from recorderd.service.binder import Binder, Origin
from recorderd.service.session import Session, Stream
from recorderd.service.window import WINDOW_NS
from recorderd.wire.endpoint import Endpoint

SILENT_NS: Final = 2_000_000_000
"""A stream that was not heard for so long covers nothing."""

AT_ONCE_US: Final = 100_000
"""A copy that began this much earlier than what it is a copy of has nothing of its own."""

MAX_ASIDE: Final = 64
"""Copies of one recording that are watched; further ones are ignored."""

MAX_RETURNS: Final = 32
"""How often copies of one recording are taken back: silence suppression may do it at every pause."""


@dataclass(slots=True, eq=False)
class Aside:
    """A copy that is not recorded at present."""

    row: int
    session: Session
    call: str
    side: Side
    hops: tuple[int, ...]
    cover: Stream
    """What is heard in its stead."""


class Copies:
    """The copies of all recordings, and which streams they are copies of."""

    def __init__(
        self,
        streams: StreamTable,
        table: PacketTable,
        calls: CallTable,
        binder: Binder,
        counters: Counter[str],
    ) -> None:
        self._streams, self._table, self._calls = streams, table, calls
        self._binder, self._counters = binder, counters
        self._aside: dict[int, list[Aside]] = {}  # by session number
        self._watched: tuple[list[Aside], NDArray[np.int32], NDArray[np.int32]] | None = None

    @property
    def _conversations(self) -> Conversations:
        return self._calls.conversations

    def voice(self, call: str, side: Side, hops: tuple[int, ...]) -> Voice:
        """Whose voice a stream carries, and how near to whom."""
        last = 0
        if side == "callee":
            expected = self._calls.get(call).expectations.values()
            last = max([event.legs[-1] for event in expected], default=0)
        return self._conversations.voice(call, side, hops, last)

    def nearest(self, calls: tuple[str, ...], side: Side, hops: tuple[int, ...]) -> Voice:
        """The same for a stream that runs between addresses which several calls announced."""
        if len(calls) == 1:
            return self.voice(calls[0], side, hops)
        key = self._conversations.key(calls[0])
        voices = [self.voice(call, side, hops) for call in calls if self._conversations.key(call) == key]
        return min(voices, key=lambda voice: voice.rank)

    def cover(self, session: Session, voice: Voice, source: Endpoint, end_ns: int) -> Stream | None:
        """What is recorded and heard, so that a copy from ``source`` has nothing more; None if nothing is."""
        for stream in session.streams:
            if stream.displaced or stream.retired:
                continue
            heard = int(self._streams.last_seen_ns[stream.row]) >= end_ns - WINDOW_NS - SILENT_NS
            if heard and self._covers(stream, voice, source):
                return stream
        return None

    def _covers(self, stream: Stream, copy: Voice, source: Endpoint) -> bool:
        same = (stream.call, stream.speaker) == (copy.call, copy.side)
        if same and stream.source.host == source.host != stream.destination.host:
            return False  # no relay, but the same phone, whose later messages take another way
        return self.voice(stream.call, stream.speaker, stream.hops).covers(copy)

    def put_aside(
        self, row: int, session: Session, voice: Voice, hops: tuple[int, ...], cover: Stream
    ) -> None:
        """Record nothing of a stream as long as another one is heard."""
        mine = self._aside.setdefault(session.number, [])
        if len(mine) >= MAX_ASIDE:
            self._streams.owner[row] = IGNORED
            return
        self._counters["streams_copied"] += 1
        self._streams.owner[row] = ASIDE
        mine.append(Aside(row, session, voice.call, voice.side, hops, cover))
        self._watched = None

    def covered_by(self, better: Stream, session: Session, end_ns: int) -> None:
        """A stream was bound: what is recorded and turns out to be a copy of it ends where it begins."""
        if len(session.streams) < 2:
            return
        for stream in session.streams:
            if stream is better or stream.displaced or stream.retired:
                continue
            copy = self.voice(stream.call, stream.speaker, stream.hops)
            # Nothing covers a phone's own stream.
            if copy.copied and self._covers(better, copy, stream.source):
                row = self._end(stream, better.since_us)
                session.event("covered", better.since_us, stream=stream.number)
                self.put_aside(row, session, copy, stream.hops, better)

    def _end(self, stream: Stream, at_us: int) -> int:
        """Take no more of a stream from a moment on; the row in which it goes on."""
        seen = int(self._streams.last_seen_ns[stream.row])
        old, new = self._binder.origin(stream.row), self._streams.succeed(stream.row)
        self._table.succeed(stream.row, at_us, new)
        self._binder.note(new, Origin(old.source, old.destination, old.ssrc, at_us * 1000, explained=True))
        self._streams.last_seen_ns[new] = seen
        stream.retired = True
        return new

    def look(self, end_ns: int) -> None:
        """At the close of a window: take back the copies of what is not heard any more."""
        if not self._aside:
            return
        if self._watched is None:
            all_aside = [aside for mine in self._aside.values() for aside in mine]
            rows = np.array([aside.row for aside in all_aside], np.int32)
            covers = np.array([aside.cover.row for aside in all_aside], np.int32)
            self._watched = all_aside, rows, covers
        watched, rows, covers = self._watched
        heard = end_ns - WINDOW_NS - SILENT_NS
        seen = self._streams.last_seen_ns
        for at in np.flatnonzero((seen[covers] < heard) & (seen[rows] >= heard)).tolist():
            self._look_again(watched[at], end_ns)

    def _look_again(self, aside: Aside, end_ns: int) -> None:
        voice = self.voice(aside.call, aside.side, aside.hops)
        source = self._binder.origin(aside.row).source
        cover = self.cover(aside.session, voice, source, end_ns)
        self._watched = None
        if cover is not None:
            aside.cover = cover
            return
        if aside.session.returns >= MAX_RETURNS:
            return
        aside.session.returns += 1
        self._counters["streams_taken_back"] += 1
        self._aside[aside.session.number].remove(aside)
        self._streams.owner[aside.row] = UNBOUND
        self._binder.offer(aside.row, end_ns - WINDOW_NS)

    def leg_over(self, session: Session, call: str, end_ns: int) -> None:
        """A call is over, and its conversation goes on: its streams are another's from now on."""
        for stream in session.streams:
            if stream.call == call and not stream.retired:
                new = self._end(stream, 0)  # what still waits came after its last packets
                self._streams.last_seen_ns[stream.row] = 0  # it covers nothing any more
                self._binder.give_back(new, end_ns)
        mine = self._aside.get(session.number, [])
        for aside in [aside for aside in mine if aside.call == call]:
            mine.remove(aside)
            self._binder.give_back(aside.row, end_ns)
        self._watched = None

    def over(self, session: Session, end_ns: int) -> None:
        """A recording is over: all its rows are free again."""
        for aside in self._aside.pop(session.number, ()):
            self._binder.give_back(aside.row, end_ns)
            self._watched = None
        for stream in session.streams:
            self._binder.give_back(stream.row, end_ns)
