"""One direction of a TCP connection, put together again by somebody who only listens (RFC 9293 section 3.4).

A listener acknowledges nothing and can ask for nothing: what it missed never comes again, though the ends
have it. So a hole is waited for a while and then given up, and whoever reads the bytes is told of it.

Sequence numbers wrap; here they go on counting from the first one seen (`_unwrapped`). Of bytes that came
twice the first ones count, as they do for most receivers.
"""

from bisect import bisect_left
from collections import Counter
from typing import Final, NamedTuple

FIN, SYN, RST = 0x01, 0x02, 0x04

WAIT_NS: Final = 2_000_000_000
"""How long a hole may take to close: a retransmission comes after 0.2 to 1 s (RFC 6298)."""
MAX_HELD: Final = 512 * 1024
"""Bytes behind a hole; more than any usual window has in flight for signalling."""
MAX_PIECES: Final = 512
MAX_CUTS: Final = 64
LEAP: Final = 1 << 20
"""A segment further than this from where the stream was is of another connection, or of one long unseen."""


class Segment(NamedTuple):
    """One TCP segment. ``missing``: bytes of it, at its end, that the capture did not keep."""

    sequence: int
    flags: int
    payload: bytes
    time_ns: int
    missing: int = 0


GAP: Final = None
"""In the place of bytes that will never come."""


class Direction:
    """Takes the segments of one direction in any order and gives its bytes in theirs.

    Counts 'tcp_repeated' (segments with nothing new), 'tcp_conflicts' (bytes repeated, but others),
    'tcp_holes' (given up), 'tcp_leaps' (a port used again, or much lost), 'tcp_resets'.
    """

    __slots__ = ("_counters", "_cuts", "_first", "_next", "_pieces", "_starts", "held", "waits_since")

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._first: int | None = None
        self._next: int | None = None
        self._starts: list[int] = []
        self._pieces: dict[int, bytes] = {}
        self._cuts: dict[int, int] = {}
        self.held = 0
        """Bytes that wait behind a hole."""
        self.waits_since: int | None = None
        """When the hole that is waited for was first seen."""

    def begins_anew(self, segment: Segment) -> bool:
        """Whether the segment opens another connection than the one known: the ports are used again."""
        return bool(segment.flags & SYN) and self._first is not None and not self._is_first(segment)

    def add(self, segment: Segment) -> list[bytes | None]:
        """Take a segment; returns what is in order now, :data:`GAP` where bytes are lost.

        Where the beginning was not seen, the stream begins with the first segment that was.
        """
        out: list[bytes | None] = []
        start = (segment.sequence + bool(segment.flags & SYN)) & 0xFFFFFFFF
        if self._next is None:
            self._first = self._next = start
        at = self._unwrapped(start)
        if abs(at - self._next) > LEAP and (segment.payload or segment.flags & SYN):
            self._counters["tcp_leaps"] += 1
            out += [*self._drop(), GAP]
            self._next = at
            if segment.flags & SYN:
                self._first = start
        if segment.payload or segment.missing:
            self._hold(at, segment.payload)
            if segment.missing:
                self._cut(at + len(segment.payload), segment.missing)
            out += self._in_order(segment.time_ns)
        if segment.flags & RST:
            self._counters["tcp_resets"] += 1
            out += [*self._drop(), GAP]
        while self.held > MAX_HELD or len(self._starts) > MAX_PIECES:
            out += self.skip(segment.time_ns)
        return out

    def skip(self, now: int) -> list[bytes | None]:
        """Give up the hole that is waited for; returns what is behind it."""
        if not self._starts:
            return []
        self._counters["tcp_holes"] += 1
        self._next = self._starts[0]
        return [GAP, *self._in_order(now)]

    def _is_first(self, segment: Segment) -> bool:
        return (segment.sequence + 1) & 0xFFFFFFFF == self._first

    def _unwrapped(self, sequence: int) -> int:
        """The number that is nearest to where the stream is, of those that are the same modulo 2^32."""
        assert self._next is not None
        distance = (sequence - self._next) & 0xFFFFFFFF
        return self._next + (distance - 0x100000000 if distance >= 0x80000000 else distance)

    def _cut(self, at: int, length: int) -> None:
        if len(self._cuts) < MAX_CUTS:
            self._cuts[at] = at + length

    def _hold(self, at: int, payload: bytes) -> None:
        """Keep what is new of a segment: what overlaps neither what was given nor what is held."""
        assert self._next is not None
        end, new = at + len(payload), 0
        here = max(at, self._next)
        place = max(0, bisect_left(self._starts, here + 1) - 1)
        while here < end:
            start = self._starts[place] if place < len(self._starts) else end
            stop = start + len(self._pieces[start]) if place < len(self._starts) else end
            if stop <= here:
                place += 1
                continue
            if start <= here:
                both = min(stop, end)
                known = self._pieces[start][here - start : both - start]
                self._counters["tcp_conflicts"] += known != payload[here - at : both - at]
                here = both
                continue
            until = min(start, end)
            self._starts.insert(place, here)
            self._pieces[here] = payload[here - at : until - at]
            new += until - here
            here = until
        self.held += new
        if payload and not new:
            self._counters["tcp_repeated"] += 1

    def _in_order(self, now: int) -> list[bytes | None]:
        """What follows what was given, as far as it is there."""
        assert self._next is not None
        out: list[bytes | None] = []
        count = 0
        while True:
            if count < len(self._starts) and self._starts[count] <= self._next:
                piece = self._pieces.pop(self._starts[count])
                count += 1
                self.held -= len(piece)
                self._next += len(piece)
                out.append(piece)
            elif (end := self._cuts.pop(self._next, None)) is not None:
                # Nobody will ever show these: there is nothing to wait for.
                self._counters["tcp_cut"] += 1
                following = self._starts[count] if count < len(self._starts) else end
                self._next = min(end, following)
                out.append(GAP)
            else:
                break
        del self._starts[:count]
        if self._cuts:
            self._cuts = {at: end for at, end in self._cuts.items() if at > self._next}
        if not self._starts:
            self.waits_since = None
        elif out or self.waits_since is None:
            self.waits_since = now
        return out

    def _drop(self) -> list[bytes | None]:
        """Give out what is held, holes and all: its connection is over."""
        out: list[bytes | None] = []
        while self._starts:
            out += self.skip(0)
        self._cuts.clear()
        return out
