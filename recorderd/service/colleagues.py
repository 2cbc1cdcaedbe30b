"""What an engine does because it is one of several: it leaves calls to their owners, hands on the media of
theirs that its own ring gets, and takes in that of its own calls from the others.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.calls.events import SIDES, Side
from recorderd.calls.ownership import Blindness, Ownership
from recorderd.media.streams import AWAY, IGNORED, StreamTable
from recorderd.media.table import Packets, PacketTable
from recorderd.service.binder import Origin
from recorderd.service.handover import (
    MOST,
    SALT,
    UNANNOUNCED,
    WHOLE,
    Handed,
    Introduced,
    Lost,
    Word,
    joined,
)
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.flow_hash import share_of

MAX_WAITING_BYTES: Final = 32 << 20
"""What waits for a colleague who takes nothing; what is more is lost."""


MAX_WORDS: Final = 10_000
"""What is to be told of calls to a colleague who takes nothing; older words are given up."""


class _Outgoing:
    """What waits to be sent to one colleague."""

    def __init__(self) -> None:
        self.packets: list[Packets] = []
        self.keys: list[NDArray[np.uint64]] = []
        self.introduced: list[Introduced] = []
        self.lost: list[Lost] = []
        self.words: list[Word] = []
        self.bytes = 0


class Colleagues:
    """The others, as one engine sees them."""

    def __init__(self, number: int, count: int) -> None:
        """The engine is worker ``number`` (from 0) of ``count``."""
        self.ownership = Ownership(number, count)
        self.number, self.count = number, count
        self.counters: Counter[str] = Counter()
        self._outgoing = {other: _Outgoing() for other in range(count) if other != number}
        self._away: dict[str, list[int]] = {}
        self._streams_away = 0
        self._new_away = False
        self._said: set[tuple[str, str]] = set()  # by this worker or by another: call, and what of it

    # -- what is known of one another's calls

    def heard(self, call: str, speaker: Side) -> bool:
        """Whether another worker has media of that side of a call."""
        return (call, speaker) in self._said

    def unannounced(self, call: str) -> bool:
        """Whether another worker met media that may be of this call, or of others."""
        return (call, UNANNOUNCED) in self._said

    def say(self, call: str, about: str) -> None:
        """Tell the others something of a call, once; see :class:`Word`."""
        name = self.ownership.name(call)
        if name is None or (call, about) in self._said:
            return
        self._said.add((call, about))
        for outgoing in self._outgoing.values():
            outgoing.words = [*outgoing.words[-MAX_WORDS:], Word(*name, about)]

    def _listen(self, words: Sequence[Word]) -> None:
        for word in words:
            call = self.ownership.named(word.call_id, word.first_seen)
            if call is not None:
                self._said.add((call, word.about))

    # -- what is not this worker's

    def elsewhere(self, source: Endpoint, destination: Endpoint) -> bool:
        """Whether a stream is another ring's, and shows here only because fragments come to all workers."""
        return share_of(source, destination, self.count) != self.number

    def leaves(self, streams: StreamTable, row: int, origin: Origin, call: str) -> bool:
        """Whether a stream that belongs to ``call`` is not to be bound here, or not yet.

        One of another worker's call is handed on from now on.
        """
        owner = self.ownership.owner(call)
        if owner == self.number:
            return False
        if owner is not None and self.ownership.orphaned(call):
            streams.owner[row] = IGNORED
            self._away.setdefault(call, []).append(row)
            self._streams_away += 1
        elif owner is not None and not origin.handed:
            self._hand_over(row, origin, call, owner, streams)
        return True

    def _hand_over(self, row: int, origin: Origin, call: str, owner: int, streams: StreamTable) -> None:
        streams.owner[row], streams.lane[row] = AWAY, owner
        stream = Introduced(
            int(streams.key[row]),
            origin.ssrc,
            origin.source,
            origin.destination,
            origin.since_ns,
            origin.explained,
        )
        self._outgoing[owner].introduced.append(stream)
        self._away.setdefault(call, []).append(row)
        self._streams_away += 1
        self._new_away = True
        origin.explained = True
        self.counters["streams_handed_over"] += 1

    def over(self, call: str) -> list[int]:
        """A call is done with; the rows of the streams that were handed over for it, free again."""
        self.ownership.over(call)
        self._said -= {(call, about) for about in (*SIDES, UNANNOUNCED)}
        rows = self._away.pop(call, [])
        self._streams_away -= len(rows)
        return rows

    def blind(self, periods: tuple[Blindness, ...], streams: StreamTable) -> None:
        """Workers have died, or are there again. What goes to calls that died with one goes nowhere now."""
        self.ownership.blind(periods)
        for period in periods:
            if period.until_ns is None:
                self._outgoing[period.worker] = _Outgoing()
        for call, rows in self._away.items():
            if self.ownership.orphaned(call):
                streams.owner[rows] = IGNORED

    # -- packets

    def hand_on(self, packets: Packets, streams: StreamTable, *, whole: bool = False) -> Packets:
        """Take out of a batch what goes to the others; ``whole`` packets have all that UDP carried."""
        if not self._streams_away:
            return packets
        away = streams.owner[packets.stream] == AWAY
        if not away.any():
            return packets
        gone = packets.select(away)
        # A stream that goes on is not forgotten.
        streams.seen(gone.stream, gone.time_us)
        self._send(gone, streams, whole=whole)
        return packets.select(~away)

    def hand_on_waiting(self, table: PacketTable, sealed: PacketTable, streams: StreamTable) -> None:
        """What was kept of streams that now turned out to be the others' goes, too; ``sealed`` are whole."""
        if not self._new_away:
            return
        self._new_away = False

        def choose(packets: Packets) -> tuple[list[NDArray[np.intp]], NDArray[np.bool_]]:
            away = streams.owner[packets.stream] == AWAY
            return [np.flatnonzero(away)], ~away

        for kept in (table, sealed):
            for gone in kept.take(choose):
                self._send(gone, streams, whole=kept is sealed)

    def _send(self, packets: Packets, streams: StreamTable, *, whole: bool) -> None:
        owner = streams.lane[packets.stream]
        self.counters["packets_handed_over"] += len(packets)
        for worker in np.unique(owner).tolist():
            part = packets.select(owner == worker)
            outgoing = self._outgoing[worker]
            outgoing.packets.append(part)
            outgoing.keys.append(streams.key[part.stream] ^ SALT ^ (WHOLE if whole else np.uint64(0)))
            outgoing.bytes += part.nbytes
            if outgoing.bytes > MAX_WAITING_BYTES:
                self._give_up_waiting(outgoing)

    def _give_up_waiting(self, outgoing: _Outgoing) -> None:
        times = np.concatenate([part.time_us for part in outgoing.packets])
        lost = Lost(len(times), int(times.min()) * 1000, int(times.max()) * 1000 + 1)
        outgoing.lost = [*outgoing.lost[-99:], lost]
        outgoing.packets, outgoing.keys, outgoing.bytes = [], [], 0
        self.counters["handover_lost"] += len(times)

    def tell_lost(self, count: int, since_ns: int, until_ns: int) -> None:
        """Packets were lost here that may have been of anybody's calls."""
        if self._streams_away:
            for outgoing in self._outgoing.values():
                outgoing.lost = [*outgoing.lost[-99:], Lost(count, since_ns, until_ns)]

    def flush(self, put: Callable[[int, bytes], bool]) -> None:
        """Send what waits: ``put(worker, message)`` is False where there is no room."""
        for worker, outgoing in self._outgoing.items():
            while outgoing.packets or outgoing.introduced or outgoing.lost or outgoing.words:
                packets = joined(outgoing.packets)
                keys = np.concatenate([*outgoing.keys, np.empty(0, np.uint64)])
                now = Handed(
                    keys[:MOST],
                    packets.select(np.arange(len(packets)) < MOST),
                    outgoing.introduced,
                    outgoing.lost,
                    outgoing.words,
                )
                if not put(worker, now.encode()):
                    break
                rest = packets.select(np.arange(len(packets)) >= MOST)
                outgoing.packets = [rest] if len(rest) else []
                outgoing.keys = [keys[MOST:]] if len(rest) else []
                outgoing.bytes = rest.nbytes
                outgoing.introduced, outgoing.lost, outgoing.words = [], [], []

    def take_in(
        self, handed: Handed, streams: StreamTable, note: Callable[[int, Origin], None]
    ) -> tuple[Packets, Packets]:
        """The packets of a message as this engine's own, and those that are whole; ``note(row, origin)`` is
        told of new streams.
        """
        self._listen(handed.words)
        for stream in handed.introduced:
            rows, new = streams.identify(np.array([stream.key], np.uint64) ^ SALT)
            if not len(new):
                continue
            origin = Origin(stream.source, stream.destination, stream.ssrc, stream.since_ns)
            origin.handed, origin.explained = True, stream.explained
            note(int(rows[0]), origin)
        rows, whole = streams.known(handed.keys), np.zeros(len(handed.keys), np.bool_)
        if (rows < 0).any():
            sealed = streams.known(handed.keys ^ WHOLE)
            whole = (rows < 0) & (sealed >= 0)
            rows = np.where(whole, sealed, rows)
        packets = replace(handed.packets, stream=rows)
        self.counters["packets_taken_over"] += len(packets)
        if len(rows) and (rows < 0).any():
            self.counters["packets_unintroduced"] += int(np.count_nonzero(rows < 0))
            packets, whole = packets.select(rows >= 0), whole[rows >= 0]
        if not whole.any():
            return packets, packets.select(whole)
        return packets.select(~whole), packets.select(whole)
