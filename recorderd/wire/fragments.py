"""Reassembly of IP fragments, bounded in memory and in age.

RFC 791 section 3.2 and RFC 8200 section 4.5; overlaps after RFC 5722: a datagram with overlapping fragments
is dropped whole, and so are those of its fragments that are still to come, because nobody can tell which
bytes the receiver used. An exact repetition is no overlap: mirror ports deliver each packet twice.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

MAX_PAYLOAD = 65535
MAX_PIECES = 128
"""Of one datagram: 65,535 bytes are 119 fragments where the MTU is 576, the smallest that IPv4 hosts meet."""


class Fragment(NamedTuple):
    """One fragment. ``header`` is the IP header (IPv4 without options, IPv6 without extensions) of the whole
    datagram.

    Its length field is filled in on completion. ``key`` tells the datagram: addresses, identification and,
    for IPv4, protocol. ``offset`` is in bytes. ``time_ns`` is the capture clock.
    """

    key: bytes
    header: bytes
    offset: int
    more: bool
    payload: bytes
    time_ns: int


class _Fate(Enum):
    OPEN = auto()
    DONE = auto()
    """Complete: a repetition within a second is a mirror's, not a new datagram's."""
    SPOILED = auto()
    """Overlapping or absurd: what still comes of it is dropped."""


@dataclass(slots=True, eq=False)
class _Partial:
    """What is known of one datagram."""

    first_seen: int
    pieces: dict[int, bytes] = field(default_factory=dict)
    header: bytes = b""
    length: int | None = None
    held: int = 0
    fate: _Fate = _Fate.OPEN


class Reassembler:
    """Holds fragments until their datagram is complete, too old, or in the way.

    ``max_bytes`` bounds the payload held, ``max_datagrams`` how many datagrams are remembered, ``max_age_ns``
    how long one may take by the capture clock. When there is no room the oldest goes. Counts 'fragments' (all
    that came), 'reassembled', 'fragments_duplicate', 'fragments_dropped' (of spoiled datagrams) and
    'fragments_expired' (held in vain).
    """

    def __init__(
        self,
        counters: Counter[str],
        *,
        max_bytes: int = 8 << 20,
        max_datagrams: int = 4096,
        max_age_ns: int = 30_000_000_000,
        repetition_ns: int = 1_000_000_000,
    ) -> None:
        self.counters = counters
        self._max_bytes, self._max_datagrams = max_bytes, max_datagrams
        self._max_age, self._repetition = max_age_ns, repetition_ns
        self._partials: OrderedDict[bytes, _Partial] = OrderedDict()
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """Payload bytes of incomplete datagrams."""
        return self._held

    def __len__(self) -> int:
        """How many datagrams are remembered, finished and spoiled ones included."""
        return len(self._partials)

    def add(self, fragment: Fragment) -> bytes | None:
        """Take one fragment; returns the whole IP packet when this was the last one missing."""
        self.counters["fragments"] += 1
        self.expire(fragment.time_ns)
        partial = self._partials.get(fragment.key)
        if partial is not None and partial.fate is _Fate.DONE:
            if abs(fragment.time_ns - partial.first_seen) <= self._repetition:
                self.counters["fragments_duplicate"] += 1
                return None
            self._forget(fragment.key)
            partial = None
        if partial is None:
            partial = self._partials[fragment.key] = _Partial(fragment.time_ns)
        if partial.fate is _Fate.SPOILED:
            self.counters["fragments_dropped"] += 1
            return None
        if partial.pieces.get(fragment.offset) == fragment.payload:
            self.counters["fragments_duplicate"] += 1
            return None
        if not self._fits(partial, fragment):
            self.counters["fragments_dropped"] += len(partial.pieces) + 1
            self._release(partial, _Fate.SPOILED)
            self._make_room()
            return None
        self._hold(partial, fragment)
        whole = self._completed(partial)
        self._make_room()
        return whole

    def expire(self, now: int) -> None:
        """Forget what is older than the bound; ``now`` is the capture clock in ns."""
        while self._partials:
            key, oldest = next(iter(self._partials.items()))
            if now - oldest.first_seen <= self._max_age:
                return
            self._forget(key)

    def _fits(self, partial: _Partial, fragment: Fragment) -> bool:
        end = fragment.offset + len(fragment.payload)
        if not fragment.payload or end > MAX_PAYLOAD or len(partial.pieces) >= MAX_PIECES:
            return False
        if fragment.more and len(fragment.payload) % 8:
            return False
        if partial.length is not None and (
            end > partial.length or (not fragment.more and end != partial.length)
        ):
            return False
        if not fragment.more and any(at + len(piece) > end for at, piece in partial.pieces.items()):
            return False
        return all(end <= at or fragment.offset >= at + len(piece) for at, piece in partial.pieces.items())

    def _hold(self, partial: _Partial, fragment: Fragment) -> None:
        partial.pieces[fragment.offset] = fragment.payload
        partial.held += len(fragment.payload)
        self._held += len(fragment.payload)
        if fragment.offset == 0:
            partial.header = fragment.header  # RFC 8200: the first fragment's header tells what follows
        if not fragment.more:
            partial.length = fragment.offset + len(fragment.payload)

    def _completed(self, partial: _Partial) -> bytes | None:
        # Pieces do not overlap, so that as many bytes as the datagram is long are all of it.
        if partial.length is None or partial.held != partial.length:
            return None
        payload = b"".join(partial.pieces[at] for at in sorted(partial.pieces))
        header = partial.header
        self._release(partial, _Fate.DONE)
        self.counters["reassembled"] += 1
        if header[0] >> 4 == 4:
            # More than 65,535 with the header would be no IPv4 packet: then the UDP length does not fit it.
            total = min(len(header) + len(payload), MAX_PAYLOAD)
            return header[:2] + total.to_bytes(2, "big") + header[4:] + payload
        return header[:4] + len(payload).to_bytes(2, "big") + header[6:] + payload

    def _release(self, partial: _Partial, fate: _Fate) -> None:
        self._held -= partial.held
        partial.pieces, partial.held, partial.fate = {}, 0, fate

    def _forget(self, key: bytes) -> None:
        partial = self._partials.pop(key)
        self._held -= partial.held
        self.counters["fragments_expired"] += len(partial.pieces)

    def _make_room(self) -> None:
        while self._held > self._max_bytes or len(self._partials) > self._max_datagrams:
            self._forget(next(iter(self._partials)))
