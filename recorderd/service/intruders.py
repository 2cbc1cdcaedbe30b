"""Streams that are kept out of a call: somebody sends to an announced address while the one whose place that
is is heard. They are never recorded; the call is exact; whoever watches over the calls is told.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from recorderd.calls.binding import HOLDS_NS, Binding, Held
from recorderd.calls.table import Call, CallTable
from recorderd.media.streams import StreamTable
from recorderd.media.table import PacketTable
from recorderd.service.binder import Binder, Origin
from recorderd.service.recordings import Recordings

MAX_WATCHED: Final = 4096
"""Streams whose packets are counted; of further ones only the number is known."""

MAX_JUDGED: Final = 256
"""Streams of a window that are looked at closely; in a flood the others stay out."""

MAX_SOURCES: Final = 8
"""Sources that an alert names."""

OVERLAP_NS: Final = 300_000_000
"""How long a sender that begins anew may be heard with its old SSRC: what was on its way."""

TELL_NS: Final = 30_000_000_000
"""An alert is raised this long after the first packet that was kept out, or when the call is over."""


@dataclass(slots=True, eq=False)
class Intrusion:
    """What was kept out of one call."""

    since_ns: int
    sources: list[str] = field(default_factory=list)
    streams: int = 0
    packets: int = 0
    told: bool = False

    def facts(self) -> dict[str, Any]:
        """What an alert says."""
        return {"sources": ", ".join(self.sources), "streams": self.streams, "packets": self.packets}


class Intruders:
    """What was kept out of the calls in progress, each call told once."""

    def __init__(
        self,
        streams: StreamTable,
        table: PacketTable,
        calls: CallTable,
        binder: Binder,
        recordings: Recordings,
        alert: Callable[..., None],
    ) -> None:
        """``alert(kind, call, **facts)`` raises one."""
        self._streams, self._table, self._calls = streams, table, calls
        self._binder, self._recordings, self._alert = binder, recordings, alert
        self._calls_of: dict[str, Intrusion] = {}
        self._watched: dict[int, tuple[Origin, str]] = {}
        """By row of the stream table: the stream, and its call."""
        self._new: set[int] = set()
        """Those of which nothing was counted so far."""
        self._counted_us = 0
        """Until when packets were counted."""
        self._heard_us: dict[int, int] = {}
        """When streams were last heard, as far as asked for in this window."""
        self._judged = 0
        binder.kept_out = self.kept_out
        binder.let_in = self.let_in
        binder.rival = self.rival

    def kept_out(self, row: int, origin: Origin, call: str) -> None:
        """A stream does not get the place that it wants."""
        since_ns = max(origin.since_ns, self._calls.get(call).first_seen)
        found = self._calls_of.setdefault(call, Intrusion(since_ns))
        found.streams += 1
        found.packets += int(self._streams.packets[row])  # of one that was taken for the speaker at first
        source = f"{origin.source} to {origin.destination}"
        if source not in found.sources and len(found.sources) < MAX_SOURCES:
            found.sources.append(source)
        watched = self._watched.get(row)
        if watched is not None and watched[0] is origin:
            self._watched[row] = (origin, call)  # it was another call's intruder before
        elif len(self._watched) < MAX_WATCHED:
            self._watched[row] = (origin, call)
            self._new.add(row)

    def let_in(self, row: int) -> None:
        """It was somebody who may have the place after all: who was there has fallen silent."""
        watched = self._watched.pop(row, None)
        self._new.discard(row)
        found = self._calls_of.get(watched[1]) if watched is not None else None
        if watched is None or found is None:
            return
        found.streams -= 1
        if not found.streams and not found.told:
            del self._calls_of[watched[1]]

    def rival(self, row: int, origin: Origin, binding: Binding, end_ns: int) -> Held | None:
        """Two SSRCs at once between the same addresses: who was there first keeps the place while it is
        heard. One that follows the other is the same sender, who began anew; one that sends nothing but keys
        pressed stands beside it.
        """
        session = self._recordings.of(binding.call)
        if session is None or self._calls.get(binding.call).answered_at is None:
            return None  # several callees may be heard through one relay before one of them answers
        if origin.kept_out and self._judged >= MAX_JUDGED:
            return Held.TAKEN
        self._judged += 1
        heard_ns = 0
        for stream in session.streams:
            if (stream.source, stream.destination) != (origin.source, origin.destination):
                continue
            if stream.row == row or stream.retired or stream.displaced:
                continue
            heard_us = self._heard_us.get(stream.row)
            if heard_us is None:
                heard_us = self._heard_us[stream.row] = self._table.last_us(stream.row, end_ns // 1000)
            heard_ns = max(heard_ns, int(self._streams.last_seen_ns[stream.row]), heard_us * 1000)
        if heard_ns < origin.since_ns - OVERLAP_NS or end_ns - heard_ns >= HOLDS_NS:
            return None
        if heard_ns <= origin.since_ns + OVERLAP_NS:
            return Held.WAITING if end_ns < origin.since_ns + 2 * OVERLAP_NS else None
        if origin.kept_out or self._judged > MAX_JUDGED:
            return Held.TAKEN
        known = [binding.formats.get(number) for number in self._table.payload_types(row)]
        keys = all(each is not None and each.encoding == "telephone-event" for each in known)
        return None if keys else Held.TAKEN

    def count(self, end_ns: int) -> None:
        """Count what came before ``end_ns``, while it still waits, and tell what has gone on for long."""
        self._heard_us.clear()
        self._judged = 0
        end_us, since_us = end_ns // 1000, self._counted_us
        self._counted_us = end_us
        if not self._calls_of:
            return
        lately = self._table.counts(since_us, end_us)
        ever = self._table.counts(0, end_us) if self._new else lately
        for row, (origin, call) in list(self._watched.items()):
            found, counts = self._calls_of.get(call), ever if row in self._new else lately
            if found is None or not self._binder.knows(row, origin):
                del self._watched[row]
            elif row < len(counts):
                found.packets += int(counts[row])
        self._new.clear()
        for call, found in self._calls_of.items():
            if end_ns - found.since_ns >= TELL_NS:
                self._tell(self._calls.get(call), found)

    def over(self, call: Call) -> None:
        """A call was accounted for."""
        found = self._calls_of.pop(call.key, None)
        if found is not None:
            self._tell(call, found)

    def _tell(self, call: Call, found: Intrusion) -> None:
        if not found.told:
            found.told = True
            self._alert("intruder", call, **found.facts())
