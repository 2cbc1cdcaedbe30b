"""Addresses that a call takes over from one that has just ended.

What still comes for a second after a call's end is taken for its last packets. Where another call announces
one of its addresses before that, the same sender may go on with the same SSRC on the same ports: what it sent
from then on is the new call's, and is taken out of the hands of the old one.
"""

from collections.abc import Collection

from recorderd.calls.events import MediaExpected
from recorderd.media.streams import StreamTable
from recorderd.media.table import PacketTable
from recorderd.service.binder import Binder, Origin
from recorderd.service.recordings import Recordings


class Successions:
    """The streams of ended calls whose addresses have a new call."""

    def __init__(self, binder: Binder, recordings: Recordings) -> None:
        self._binder, self._recordings = binder, recordings
        self._since: dict[int, int] = {}
        """When the address of a stream (its row) became a new call's, in ns."""

    def announced(self, event: MediaExpected, ended: Collection[str]) -> None:
        """A call announced an address; ``ended`` are those that are over and not yet accounted for."""
        if not ended:
            return
        for call in self._binder.expectations.announcers(event.endpoint):
            session = self._recordings.of(call) if call != event.call and call in ended else None
            if session is None or session is self._recordings.of(event.call):
                continue
            for stream in session.streams:
                if event.endpoint in (stream.source, stream.destination) and not stream.retired:
                    self._since.setdefault(stream.row, event.now)

    def settle(self, streams: StreamTable, table: PacketTable) -> None:
        """What waits of such streams, and what comes of them, is to be bound anew."""
        for row, since_ns in list(self._since.items()):
            if streams.owner[row] < 0:
                del self._since[row]  # its call was accounted for meanwhile
                continue
            first_us = table.first_us(row, since_ns // 1000)
            if first_us is None:
                continue
            del self._since[row]
            old, new = self._binder.origin(row), streams.succeed(row)
            table.succeed(row, since_ns // 1000, new)
            self._binder.note(new, Origin(old.source, old.destination, old.ssrc, first_us * 1000))
