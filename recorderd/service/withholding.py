"""Takes out of a window what is not to be written: the media of paused recordings, and keys.

What is withheld was received: it is no loss, and the numbers that are missing from the recording are not held
against anybody.
"""

import numpy as np
from numpy.typing import NDArray

from recorderd.calls.pauses import Key
from recorderd.media.sequence import Order
from recorderd.media.streams import OTHER, TONE, StreamTable
from recorderd.media.table import Packets
from recorderd.service.pausing import Pausing
from recorderd.service.recordings import Recordings
from recorderd.service.silencing import Silencing

EVENT_BYTES = 4
"""RFC 4733 section 2.3: an event's payload."""
DYNAMIC = 96
"""RFC 3551 section 6: payload types from here on mean what signalling says."""


class Withholding:
    """Stands between the sorted packets of a window and all that is done with them."""

    def __init__(self, streams: StreamTable, recordings: Recordings, pausing: Pausing) -> None:
        self._streams, self._recordings, self._pausing = streams, recordings, pausing
        settings = pausing.settings
        self._keys = settings.dtmf != "keep" or bool(settings.sequences)
        self._silencing = Silencing(streams, recordings) if settings.dtmf_tones == "silence" else None

    @property
    def active(self) -> bool:
        """Whether anything may have to be taken out."""
        return self._keys or self._silencing is not None or bool(self._pausing.touched)

    def window(self, order: Order, packets: Packets) -> tuple[Order, Packets]:
        """What is left of a window; the keys among what is taken out are heeded first."""
        order, packets = self._kept(order, packets)
        if self._silencing is not None and len(packets):
            packets = self._silencing.window(order, packets)
        return order, packets

    def _kept(self, order: Order, packets: Packets) -> tuple[Order, Packets]:
        keep = np.ones(len(packets), np.bool_)
        if self._keys:
            self._take_keys(order, packets, keep)
        plain = order.plain.copy()
        edges = np.append(order.starts, len(packets))
        owner = self._streams.owner[order.rows]
        for number, session in self._pausing.touched.items():
            first, last = np.searchsorted(owner, (number, number + 1)).tolist()
            if first == last:
                continue
            # The clocks of its streams have not heard what was withheld.
            plain[first:last] = False
            part = slice(int(edges[first]), int(edges[last]))
            times = packets.time_us[part]
            for since, until, _ in session.pauses.spans(int(times.min()), int(times.max()) + 1):
                keep[part] &= (times < since) | (times >= until)
        if keep.all():
            return order._replace(plain=plain), packets
        return self._left(order._replace(plain=plain), packets, keep)

    def _left(self, order: Order, packets: Packets, keep: NDArray[np.bool_]) -> tuple[Order, Packets]:
        count = np.diff(order.starts, append=len(packets))
        left = np.add.reduceat(keep, order.starts, dtype=np.intp)
        held = np.flatnonzero(left < count)
        self._streams.packets[order.rows[held]] -= count[held] - left[held]
        for at in held.tolist():
            row = order.rows.item(at)
            session = self._recordings.numbered(self._streams.owner.item(row))
            session.withheld[row] = session.withheld.get(row, 0) + int(count[at] - left[at])
        some = left > 0
        starts = np.cumsum(left[some]) - left[some]
        plain = order.plain & (left == count)
        rows = order.rows[some]
        return (
            Order(order.position[keep], order.seq[keep], starts, rows, plain[some]),
            packets.select(keep),
        )

    def _take_keys(self, order: Order, packets: Packets, keep: NDArray[np.bool_]) -> None:
        stream, payload_type = order.stream, packets.payload_type
        kind = self._streams.kind[stream, payload_type]
        like = (kind == OTHER) & (packets.size == EVENT_BYTES) & (payload_type >= DYNAMIC)
        found = np.flatnonzero((kind == TONE) | like)
        if not len(found):
            return
        # In order of time: who paused first, did.
        for at in found[np.argsort(packets.time_us[found], kind="stable")].tolist():
            row = int(stream[at])
            session = self._recordings.numbered(int(self._streams.owner[row]))
            of = session.streams[int(self._streams.lane[row])]
            if like[at] and of.lane.format(int(payload_type[at])) is not None:
                continue  # signalling says that it is something else
            keep[at] = False
            payload = packets.payload[at, : packets.size[at]].tobytes()
            time_us = int(packets.time_us[at])
            for tone in of.tones.packet(int(packets.timestamp[at]), payload):
                digit = tone.digit or str(tone.code)
                key = Key(digit, time_us, of.number, tone.duration, tone.volume)
                self._pausing.pressed(session, of.label, key)
