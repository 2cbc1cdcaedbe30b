"""The TCP connections of the signalling: segments go in, messages come out with the ends of their connection.

Each direction is put together (:mod:`recorderd.wire.tcp`) and read by what its port and its first bytes say
it is: SIP, SIP over WebSocket, or HEP. Everything is bounded: directions, the bytes they hold, and their age.
What a decision depends on is the capture's time, never how packets were batched.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from recorderd.wire.endpoint import Endpoint
from recorderd.wire.hep import HepStream
from recorderd.wire.signalling import Framed
from recorderd.wire.sip_stream import SipStream
from recorderd.wire.tcp import FIN, GAP, RST, SYN, WAIT_NS, Direction, Segment
from recorderd.wire.websocket import FIRST_BYTES, WebSocketStream

TLS: Final = (b"\x16\x03", b"\x17\x03")
"""How records of a handshake and of data begin (RFC 8446 section 5.1)."""
STALE_NS: Final = 10_000_000_000
"""How long the rest of a message may take."""


class Reader(Protocol):
    """Makes messages of the bytes of one direction."""

    @property
    def transport(self) -> str:
        """What its messages came over."""

    @property
    def held(self) -> int:
        """Bytes that wait."""

    def feed(self, data: bytes) -> list[Framed]:
        """Take the next bytes."""

    def gap(self) -> list[Framed]:
        """Bytes are missing here, or nothing more comes."""


class Heard(NamedTuple):
    """A message, and when it was whole."""

    time_ns: int
    source: Endpoint
    destination: Endpoint
    message: Framed
    transport: str


class _ByFirstBytes:
    """SIP, or WebSocket where the stream begins like one. TLS is SIP that cannot be read: 'tcp_tls'."""

    __slots__ = ("_begin", "_chosen", "_counters", "_fresh")

    def __init__(self, counters: Counter[str], *, fresh: bool) -> None:
        self._counters, self._fresh = counters, fresh
        self._begin = b""
        self._chosen: SipStream | WebSocketStream | None = None

    @property
    def transport(self) -> str:
        return "tcp" if self._chosen is None else self._chosen.transport

    @property
    def held(self) -> int:
        return len(self._begin) if self._chosen is None else self._chosen.held

    def feed(self, data: bytes) -> list[Framed]:
        if self._chosen is None:
            data, self._begin = self._begin + data, b""
            if data[:1] in (b"G", b"H") and len(data) < 5:
                self._begin = data
                return []
            http = data.startswith((b"GET ", b"HTTP/"))
            kind = WebSocketStream if http or data[0] in FIRST_BYTES else SipStream
            self._counters["tcp_tls"] += data.startswith(TLS)
            self._chosen = kind(self._counters, fresh=http or (self._fresh and kind is SipStream))
        return self._chosen.feed(data)

    def gap(self) -> list[Framed]:
        self._begin, self._fresh = b"", False
        return [] if self._chosen is None else self._chosen.gap()


@dataclass(slots=True, eq=False)
class _Side:
    """One direction of one connection."""

    source: Endpoint
    destination: Endpoint
    direction: Direction
    reader: Reader
    heard_ns: int
    held: int = 0
    queued_ns: int | None = None
    """When it is looked at next."""

    @property
    def due_ns(self) -> int:
        """When what waits here is given up."""
        hole = self.direction.waits_since
        return self.heard_ns + STALE_NS if hole is None else hole + WAIT_NS


class Conversations:
    """All directions of TCP that carry signalling. Pure.

    Counts 'tcp_messages', 'tcp_forgotten' (directions, for lack of room), 'tcp_tls' (directions that cannot
    be read), and what its parts count.
    """

    def __init__(
        self,
        counters: Counter[str],
        *,
        ws_ports: frozenset[int] = frozenset(),
        hep_ports: frozenset[int] = frozenset(),
        max_directions: int = 32_768,
        max_bytes: int = 32 << 20,
        max_age_ns: int = 3600 * 1_000_000_000,
    ) -> None:
        """``ws_ports`` carry WebSocket alone, ``hep_ports`` HEP; on the others a stream says what it is."""
        self._counters = counters
        self._ws_ports, self._hep_ports = ws_ports, hep_ports
        self._max_directions, self._max_bytes, self._max_age = max_directions, max_bytes, max_age_ns
        self._sides: OrderedDict[bytes, _Side] = OrderedDict()
        self._waiting: dict[bytes, None] = {}
        self.held_bytes = 0
        """Bytes that wait, of all directions."""
        self._due: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        """How many directions are known."""
        return len(self._sides)

    def add(
        self, key: bytes, segment: Segment, endpoints: Callable[[], tuple[Endpoint, Endpoint]]
    ) -> list[Heard]:
        """Take a segment; returns the messages that are whole now, of any connection.

        ``key`` tells the direction; ``endpoints`` its source and destination, asked where it is a new one.
        """
        heard = self.expire(segment.time_ns)
        side = self._sides.get(key)
        if side is not None and side.direction.begins_anew(segment):
            heard += self._read(side, [GAP], segment.time_ns)
            self._forget(key)
            side = None
        if side is None:
            if not (segment.payload or segment.flags & SYN):
                return heard  # nothing to learn from
            side = self._begin(key, segment, *endpoints())
        self._sides.move_to_end(key)
        if segment.payload:
            side.heard_ns = segment.time_ns
        pieces = side.direction.add(segment)
        if segment.flags & (FIN | RST) and not side.direction.held:
            pieces = [*pieces, GAP]  # what is in hand will not be completed
        heard += self._read(side, pieces, segment.time_ns)
        self._account(key, side)
        self._make_room(segment.time_ns)
        return heard

    def expire(self, now: int) -> list[Heard]:
        """Give up what has waited for too long by ``now``, the capture clock; returns what was behind it."""
        heard: list[Heard] = []
        while self._due and self._due[0][0] <= now:
            queued, key = heapq.heappop(self._due)
            side = self._sides.get(key)
            if side is None or side.queued_ns != queued:
                continue  # it was queued again, for an earlier time
            side.queued_ns = None
            if key in self._waiting and side.due_ns <= now:
                heard += self._give_up(key, side, side.due_ns)
            else:
                self._account(key, side)
        return heard

    def finish(self) -> list[Heard]:
        """Nothing more will come: give out all that waits."""
        heard: list[Heard] = []
        for key in list(self._waiting):
            while key in self._waiting:
                side = self._sides[key]
                heard += self._give_up(key, side, side.heard_ns)
        return heard

    def _give_up(self, key: bytes, side: _Side, now: int) -> list[Heard]:
        """Skip the first hole of a direction; where there is none, the message in hand has no end."""
        heard = self._read(side, side.direction.skip(now) or [GAP], now)
        self._account(key, side)
        return heard

    def _begin(self, key: bytes, segment: Segment, source: Endpoint, destination: Endpoint) -> _Side:
        ports = {source.port, destination.port}
        fresh = bool(segment.flags & SYN)
        reader: Reader
        if ports & self._hep_ports:
            reader = HepStream(self._counters)
        elif ports & self._ws_ports:
            reader = WebSocketStream(self._counters, fresh=fresh)
        else:
            reader = _ByFirstBytes(self._counters, fresh=fresh)
        side = _Side(source, destination, Direction(self._counters), reader, segment.time_ns)
        self._sides[key] = side
        return side

    def _read(self, side: _Side, pieces: list[bytes | None], now: int) -> list[Heard]:
        heard = []
        for piece in pieces:
            for message in side.reader.gap() if piece is None else side.reader.feed(piece):
                self._counters["tcp_messages"] += 1
                heard.append(Heard(now, side.source, side.destination, message, side.reader.transport))
        return heard

    def _account(self, key: bytes, side: _Side) -> None:
        held = side.direction.held + side.reader.held
        self.held_bytes += held - side.held
        side.held = held
        if not held:
            self._waiting.pop(key, None)
            return
        self._waiting[key] = None
        due = side.due_ns
        if side.queued_ns is None or due < side.queued_ns:
            side.queued_ns = due
            heapq.heappush(self._due, (due, key))

    def _forget(self, key: bytes) -> None:
        side = self._sides.pop(key)
        self._waiting.pop(key, None)
        self.held_bytes -= side.held

    def _make_room(self, now: int) -> None:
        while self.held_bytes > self._max_bytes and self._waiting:
            self._counters["tcp_forgotten"] += 1
            self._forget(next(iter(self._waiting)))
        while len(self._sides) > self._max_directions:
            self._counters["tcp_forgotten"] += 1
            self._forget(next(iter(self._sides)))
        oldest = next(iter(self._sides), None)
        if oldest is not None and now - self._sides[oldest].heard_ns > self._max_age:
            self._forget(oldest)
        if len(self._due) > 4 * self._max_directions:
            # Full of directions that are gone.
            self._due = [
                (side.queued_ns, key) for key, side in self._sides.items() if side.queued_ns is not None
            ]
            heapq.heapify(self._due)
