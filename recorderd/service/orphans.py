"""Media whose signalling was never seen, recorded by its addresses where the policy asks for that.

A stream that nobody explained for as long as packets wait, and that goes like media, becomes a call without
signalling: who sends is the caller, and what comes back from there the callee. It ends when nothing is heard
of it any more, or when signalling comes that explains it after all: from there on that call has its media,
and the two recordings are linked.
"""

from collections import Counter
from typing import Final, NamedTuple

import numpy as np

from recorderd.calls.events import CallEvent, MediaExpected
from recorderd.calls.outcomes import STILL
from recorderd.calls.table import CallTable
from recorderd.media.streams import StreamTable
from recorderd.media.table import Packets, PacketTable
from recorderd.service.binder import Binder, Origin
from recorderd.service.recordings import Recordings
from recorderd.wire.endpoint import Endpoint

LEAST_US: Final = 2_000_000
"""It must have gone on for so long,"""
LEAST_PACKETS: Final = 20
"""with so many packets,"""
STEADY: Final = 0.8
"""of which so many follow one another, in one format."""
MAX_LOOKS: Final = 50
"""Streams looked at in a window."""
RTCP: Final = frozenset(range(72, 77))
"""Payload types that RTCP would seem to have (RFC 5761 section 4)."""


class OrphanSettings(NamedTuple):
    """Whether such media is recorded, when it ends, and how many such recordings there may be."""

    record: bool = False
    end_s: float = 30.0
    most: int = 100


class Orphans:
    """The calls without signalling."""

    def __init__(
        self,
        settings: OrphanSettings,
        pending_s: float,
        streams: StreamTable,
        table: PacketTable,
        calls: CallTable,
        binder: Binder,
        recordings: Recordings,
        counters: Counter[str],
    ) -> None:
        self._settings, self._streams, self._table = settings, streams, table
        self._calls, self._binder, self._recordings = calls, binder, recordings
        self._counters = counters
        # Others have two seconds to claim a stream, and its first packets must still be there.
        self._wait_ns = round(max(3.0, pending_s - 1.0) * 1e9)
        self._looked: dict[int, int] = {}
        """Rows that were looked at, and since when those streams wait."""
        self._ends: dict[str, tuple[Endpoint, Endpoint]] = {}
        self._at: dict[Endpoint, str] = {}

    def found(self, end_ns: int) -> list[CallEvent]:
        """Look at what waits, and at what is recorded, at the close of a window; what follows from it."""
        if not self._settings.record:
            return []
        events = self._over(end_ns)
        due = self._due(end_ns)
        if not due:
            return events
        packets = self._table.of(np.array(sorted(due), np.int32))
        for row, origin in due.items():
            if len(self._ends) >= self._settings.most:
                self._counters["orphans_over_limit"] += 1
            elif packets is not None and like_media(packets, row):
                if origin.source in self._at and origin.destination in self._at:
                    continue  # the other direction of one that was just found
                events += self._begin(origin)
        return events

    def _due(self, end_ns: int) -> dict[int, Origin]:
        """The streams that have waited long enough and were not looked at."""
        unbound = self._streams.unbound().tolist()
        known = set(unbound)
        self._looked = {row: since for row, since in self._looked.items() if row in known}
        due: dict[int, Origin] = {}
        for row in unbound:
            origin = self._binder.origin(row)
            waited = end_ns - origin.since_ns >= self._wait_ns and not origin.explained
            if not waited or self._looked.get(row) == origin.since_ns or len(due) >= MAX_LOOKS:
                continue
            self._looked[row] = origin.since_ns
            ends = origin.source, origin.destination
            if self._binder.expectations.speaker(*ends, origin.since_ns) is None:
                due[row] = origin
        return due

    def _begin(self, origin: Origin) -> list[CallEvent]:
        self._counters["orphans"] += 1
        name = f"rtp-{origin.ssrc:08x}-{origin.source}-{origin.destination}"
        call, events = self._calls.unsignalled(name, origin.source, origin.destination, origin.since_ns)
        self._ends[call.key] = origin.source, origin.destination
        for end in self._ends[call.key]:
            self._at[end] = call.key
        return events

    def _over(self, now_ns: int) -> list[CallEvent]:
        events: list[CallEvent] = []
        for key in list(self._ends):
            session, call = self._recordings.of(key), self._calls.in_progress(key)
            if call is None:  # something else ended it
                self._forget(key)
                continue
            rows = [s.row for s in session.streams if not s.retired] if session is not None else []
            heard = int(self._streams.last_seen_ns[rows].max()) if rows else call.first_seen + self._wait_ns
            if now_ns - heard >= self._settings.end_s * 1e9:
                events += self._end(key, now_ns, heard, f"{STILL} {self._settings.end_s:g} s")
        return events

    def explained(self, event: MediaExpected) -> list[CallEvent]:
        """Signalling announces an address: it may be one of media that is recorded without any."""
        key = self._at.get(event.endpoint)
        if key is None or key == event.call:
            return []
        self._counters["orphans_explained"] += 1
        self._calls.conversations.relate(event.call, key, "its signalling came later")
        return self._end(key, event.now, event.now, "its signalling came")

    def _end(self, key: str, now_ns: int, since_ns: int, cause: str) -> list[CallEvent]:
        self._forget(key)
        return self._calls.end(key, now_ns, since_ns, cause)

    def _forget(self, key: str) -> None:
        for end in self._ends.pop(key):
            if self._at.get(end) == key:
                del self._at[end]


def like_media(packets: Packets, row: int) -> bool:
    """Whether the packets of a stream that wait go on as those of a telephone do."""
    mine = np.flatnonzero(packets.stream == row)
    if len(mine) < LEAST_PACKETS:
        return False
    mine = mine[np.argsort(packets.time_us[mine], kind="stable")]
    times = packets.time_us[mine]
    types, counts = np.unique(packets.payload_type[mine], return_counts=True)
    follow = np.diff(packets.seq[mine]) == 1  # of 16 bits: it wraps as they do
    return bool(
        times[-1] - times[0] >= LEAST_US
        and counts.max() >= STEADY * len(mine)
        and int(types[counts.argmax()]) not in RTCP
        and np.count_nonzero(follow) >= STEADY * len(follow)
    )
