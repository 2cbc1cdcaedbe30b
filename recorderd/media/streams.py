"""The stream table: every RTP stream that is being followed, one row a stream, one column a fact.

A stream is what one sender sends on one 5-tuple under one SSRC (RFC 3550 section 3). Packets are mapped to
rows of this table a whole batch at a time; nothing here is called once a packet.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.formats import Format
from recorderd.media.lookup import Lookup

UNBOUND: Final = -1
"""Owner of a stream that no signalling has explained yet."""

DISPLACED: Final = -2
"""Owner of a stream that was taken for a speaker's until the real one came: its packets are dropped."""

IGNORED: Final = -3
"""Owner of a stream that is not to be recorded: its packets are dropped; silent, it is forgotten."""

SHED: Final = -4
"""Owner of a stream of a call that is not recorded for lack of time: its packets are dropped at once."""

AWAY: Final = -5
"""Owner of a stream that is handed over to another worker; its lane tells to whom."""

EXCLUDED: Final = -6
"""Owner of a stream of a call that the policy excludes: its packets are dropped at once."""

ASIDE: Final = -7
"""Owner of a stream that has nothing but what is recorded from elsewhere: its packets are dropped."""

FIRST_CYCLE: Final = 1 << 16
"""Extended sequence numbers start one cycle up, so that packets from before the first one stay positive."""

ROOM_FOR_LOWS: Final = 16
"""Lows (:mod:`recorderd.media.drift`) kept in columns before the stream's lane is told of them."""

UNKNOWN_CLOCK: Final = 8000
"""RTP clock in Hz where signalling never said (RFC 3551 section 4.1)."""

# What a payload type carries, as far as the hot path must know. Everything else is in the stream's formats.
OTHER, PCMU, PCMA, OPUS, TONE, COMFORT_NOISE, RED = range(7)

KINDS: Final = {
    "pcmu": PCMU,
    "pcma": PCMA,
    "opus": OPUS,
    "telephone-event": TONE,
    "cn": COMFORT_NOISE,
    "red": RED,
}


class StreamTable:
    """Columns of per-stream state, and the look-up from stream keys to rows.

    Rows are reused after :meth:`remove`. All columns grow together; hold no reference to a column across a
    call of
    :meth:`identify`.
    """

    def __init__(self, limit: int = 65_536) -> None:
        """Follow at most ``limit`` streams at once."""
        self.limit = limit
        self.refused = 0
        self.redundant = False
        """Whether any stream may have packets of RFC 2198."""
        self._lookup = Lookup()
        self._free: list[int] = []
        self._left: set[int] = set()
        self._used = 0
        self.owner: NDArray[np.int32] = np.empty(0, np.int32)
        """The session that the stream belongs to, or UNBOUND."""
        self.sealing = False
        """Whether new streams may be SRTP: signalling has keys."""
        self.sealed: NDArray[np.bool_] = np.empty(0, np.bool_)
        """Packets are kept whole: they are SRTP, or may be."""
        self.lane: NDArray[np.int32] = np.empty(0, np.int32)
        """The stream's index within its recording."""
        self.meter: NDArray[np.int32] = np.empty(0, np.int32)
        """Who measures the stream's track."""
        self.key: NDArray[np.uint64] = np.empty(0, np.uint64)
        self.last_seen_ns: NDArray[np.int64] = np.empty(0, np.int64)
        self.highest: NDArray[np.int64] = np.empty(0, np.int64)
        """Highest extended sequence number handed on; 0 before the first."""
        self.lowest: NDArray[np.int64] = np.empty(0, np.int64)
        self.shift: NDArray[np.int64] = np.empty(0, np.int64)
        """Added to the wire's sequence numbers, so that numbering goes on after a sender restarts."""
        self.seconds: NDArray[np.int32] = np.empty(0, np.int32)
        """Windows in which it had packets."""
        self.packets: NDArray[np.int64] = np.empty(0, np.int64)
        self.lost: NDArray[np.int64] = np.empty(0, np.int64)
        self.late: NDArray[np.int64] = np.empty(0, np.int64)
        self.duplicates: NDArray[np.int64] = np.empty(0, np.int64)
        self.unmeasured: NDArray[np.int64] = np.empty(0, np.int64)
        """Packets whose sound nobody measured, for lack of time."""
        self.types: NDArray[np.int32] = np.empty((0, 128), np.int32)
        """Packets by payload type."""
        self.kind: NDArray[np.uint8] = np.empty((0, 128), np.uint8)
        self.clock: NDArray[np.int32] = np.empty((0, 128), np.int32)
        """RTP clock in Hz by payload type."""
        # Where the stream's clock stands (recorderd.media.following).
        self.followed: NDArray[np.int64] = np.empty(0, np.int64)
        """Extended sequence number of the newest packet that the clock knows."""
        self.timestamp: NDArray[np.int64] = np.empty(0, np.int64)
        self.sounds: NDArray[np.int32] = np.empty(0, np.int32)
        self.run_rate: NDArray[np.int32] = np.empty(0, np.int32)
        self.run_start_us: NDArray[np.float64] = np.empty(0, np.float64)
        self.run_lasts_us: NDArray[np.float64] = np.empty(0, np.float64)
        self.least_skew_us: NDArray[np.float64] = np.empty(0, np.float64)
        self.last_skew_us: NDArray[np.float64] = np.empty(0, np.float64)
        self.stretch: NDArray[np.int64] = np.empty(0, np.int64)
        self.low_us: NDArray[np.float64] = np.empty(0, np.float64)
        self.lows: NDArray[np.float64] = np.empty((0, ROOM_FOR_LOWS, 2), np.float64)
        """Of stretches that are over, as pairs of time and skew in microseconds: the first ``lows_kept``."""
        self.lows_kept: NDArray[np.int32] = np.empty(0, np.int32)
        # Interarrival jitter (recorderd.media.jitter): as it stands, and its sum over packets.
        self.jitter_us: NDArray[np.float64] = np.empty(0, np.float64)
        self.jitter_sum_us: NDArray[np.float64] = np.empty(0, np.float64)
        self.jitter_packets: NDArray[np.int64] = np.empty(0, np.int64)
        self._blocks: list[NDArray[Any]] = []
        """All columns of one kind as one array (k, n, ...)."""
        self._grow(256)

    def __len__(self) -> int:
        return len(self._lookup)

    def _grow(self, size: int) -> None:
        alike: defaultdict[Any, list[str]] = defaultdict(list)
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray):
                alike[column.dtype, column.shape[1:]].append(name)
        self._blocks = [np.zeros((len(names), size, *shape), kind) for (kind, shape), names in alike.items()]
        for block, names in zip(self._blocks, alike.values(), strict=True):
            for column, name in zip(block, names, strict=True):
                before = getattr(self, name)
                column[: len(before)] = before
                setattr(self, name, column)

    def _reset(self, row: int | NDArray[np.int32], key: int | NDArray[np.uint64]) -> None:
        for block in self._blocks:
            block[:, row] = 0
        self.owner[row] = UNBOUND
        self.sealed[row] = self.sealing
        self.key[row] = key
        self.clock[row] = UNKNOWN_CLOCK

    def identify(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """Map packet keys to table rows, making rows for new streams.

        Returns the row of each packet (-1 where the table is full) and the positions, in arrival order, of
        the first packet of each new stream.
        """
        rows = self._lookup.find(keys)
        missing = np.flatnonzero(rows < 0)
        if not len(missing):
            return rows, missing
        fresh, first = np.unique(keys[missing], return_index=True)
        arrival = np.argsort(first, kind="stable")
        room = self.limit - len(self)
        self.refused += max(0, len(fresh) - room)
        arrival = arrival[: max(0, room)]
        self._insert(fresh[arrival])
        rows[missing] = self._lookup.find(keys[missing])
        return rows, missing[first[arrival]]

    def known(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The row of each packet, -1 for streams that are not followed."""
        return self._lookup.find(keys)

    def _insert(self, keys: NDArray[np.uint64]) -> None:
        free = [self._free.pop() if self._free else self._next() for _ in range(len(keys))]
        rows = np.array(free, np.int32)
        self._reset(rows, keys)
        self._lookup.add(keys, rows)

    def _next(self) -> int:
        if self._used == len(self.owner):
            self._grow(2 * self._used)
        self._used += 1
        return self._used - 1

    def seen(self, rows: NDArray[np.int32], time_us: NDArray[np.int64]) -> None:
        """Packets of these streams arrived at these times, in microseconds."""
        latest_us = np.zeros(len(self.last_seen_ns), np.int64)
        np.maximum.at(latest_us, rows.astype(np.intp), time_us)
        latest_us *= 1000
        np.maximum(self.last_seen_ns, latest_us, out=self.last_seen_ns)

    def restart(self, row: int) -> None:
        """Give a stream back: it is followed on, but belongs to nobody and nothing is known of it."""
        seen = self.last_seen_ns[row]
        self._reset(row, int(self.key[row]))
        self.last_seen_ns[row] = seen

    def succeed(self, row: int) -> int:
        """A new row for what comes of a stream from now on; the old one is followed no more, and is its
        owner's until it is given back by :meth:`leave`."""
        new = self._free.pop() if self._free else self._next()
        self._reset(new, int(self.key[row]))
        self._lookup.rename(row, new)
        self._left.add(row)
        return new

    def leave(self, row: int) -> bool:
        """Give a row back that another one succeeded; False where it was none such."""
        if row not in self._left:
            return False
        self._left.discard(row)
        self.owner[row] = IGNORED
        self._free.append(row)
        return True

    def remove(self, rows: list[int]) -> None:
        """Forget streams; their rows may be given to others at once."""
        if not rows:
            return
        gone = np.isin(self._lookup.rows, np.array(rows, np.int32))
        self._free.extend(self._lookup.rows[gone].tolist())
        self._lookup.drop(gone)

    def unbound(self) -> NDArray[np.int32]:
        """Rows of the streams that nobody has claimed."""
        rows = self._lookup.rows
        out: NDArray[np.int32] = rows[self.owner[rows] == UNBOUND]
        return out

    def unowned(self) -> NDArray[np.int32]:
        """Rows of the streams that belong to no session."""
        rows = self._lookup.rows
        owner = self.owner[rows]
        out: NDArray[np.int32] = rows[(owner == UNBOUND) | (owner == IGNORED)]
        return out

    def describe(self, row: int, formats: Mapping[int, Format]) -> None:
        """Say what all payload types of a stream are."""
        meaning = _meaning(tuple(formats.items()))
        self.kind[row], self.clock[row] = meaning.kind, meaning.clock
        self.redundant |= meaning.redundant


class _Meaning(NamedTuple):
    """What goes into the columns of a stream, by payload type."""

    kind: NDArray[np.uint8]
    clock: NDArray[np.int32]
    redundant: bool


@lru_cache(maxsize=128)
def _meaning(formats: tuple[tuple[int, Format], ...]) -> _Meaning:
    """The same for most streams."""
    kind, clock = np.full(128, OTHER, np.uint8), np.full(128, UNKNOWN_CLOCK, np.int32)
    for payload_type, known in formats:
        kind[payload_type] = KINDS.get(known.name, OTHER)
        clock[payload_type] = known.clock_rate if known.clock_rate > 0 else UNKNOWN_CLOCK
    return _Meaning(kind, clock, any(known.name == "red" for _, known in formats))
