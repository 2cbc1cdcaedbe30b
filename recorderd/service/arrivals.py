"""Packets on their way to the table: streams named, what is another worker's or nobody's left out, and what
is lost booked.

``end_ns`` is the end of the window in progress.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from recorderd.media.gathering import gathered
from recorderd.media.lane import Span
from recorderd.media.streams import EXCLUDED, IGNORED, SHED, StreamTable
from recorderd.media.table import Packets, PacketTable
from recorderd.service.admission import Admission
from recorderd.service.binder import Binder, Origin
from recorderd.service.colleagues import Colleagues
from recorderd.service.handover import Handed
from recorderd.service.losses import Losses
from recorderd.service.recordings import Recordings
from recorderd.service.secured import Secured
from recorderd.service.window import WINDOW_NS
from recorderd.wire.media_packets import MediaPackets


class Arrivals:
    """Where media comes in, from the wire and from other workers."""

    def __init__(
        self,
        streams: StreamTable,
        table: PacketTable,
        binder: Binder,
        recordings: Recordings,
        admission: Admission,
        secured: Secured,
        counters: Counter[str],
        colleagues: Colleagues | None,
    ) -> None:
        self._streams, self._table, self._binder, self._recordings = streams, table, binder, recordings
        self._admission, self._secured = admission, secured
        self._counters, self._colleagues = counters, colleagues
        self.losses = Losses()

    def media(self, media: MediaPackets, end_ns: int) -> None:
        """Take in RTP packets."""
        if int(media.payload_len.min()) < 0:
            media = self._secured.without_invalid(media)
            if not len(media):
                return
        rows, new = self._streams.identify(media.key)
        for index in new.tolist():
            source, destination = media.endpoints(index)
            origin = Origin(source, destination, int(media.ssrc[index]), int(media.time_ns[index]))
            self._binder.note(int(rows[index]), origin)
            if self._colleagues is not None and self._colleagues.elsewhere(source, destination):
                self._streams.owner[rows[index]] = IGNORED
                origin.explained = True
        packets = gathered(media, rows)
        if (rows < 0).any():
            # More streams than there is room for, in a flood of strangers: some may be of calls that begin.
            refused = media.time_ns[rows < 0]
            self._lost("packets_refused", len(refused), int(refused.min()), int(refused.max()) + 1000)
            media, rows, packets = media.where(rows >= 0), rows[rows >= 0], packets.select(rows >= 0)
        if self._streams.sealing:
            packets, whole = self._secured.split(media, rows, packets)
            if self._colleagues is not None:
                whole = self._colleagues.hand_on(whole, self._streams, whole=True)
            self._secure(whole)
        if self._colleagues is not None:
            packets = self._colleagues.hand_on(packets, self._streams)
        self.keep(packets, end_ns)

    def keep(self, packets: Packets, end_ns: int) -> None:
        """Put packets into the table, but those of calls that are not recorded."""
        if self._recordings.shed_streams or self._admission.streams_left_out:
            packets = self._without_dropped(packets, end_ns)
        self._table.add(packets)
        if self._table.overfull:
            self._make_room()

    def _without_dropped(self, packets: Packets, end_ns: int) -> Packets:
        """What belongs to calls that were given up, or are excluded, goes no further."""
        owner = self._streams.owner[packets.stream]
        shed = owner == SHED
        # In a capture file the same stream may be another call's by and by.
        excluded = (owner == EXCLUDED) & (packets.time_us * 1000 < end_ns + WINDOW_NS)
        gone = shed | excluded
        if not gone.any():
            return packets
        self._streams.seen(packets.stream[gone], packets.time_us[gone])
        self._counters["packets_shed"] += int(np.count_nonzero(shed))
        self._counters["packets_excluded"] += int(np.count_nonzero(excluded))
        return packets.select(~gone)

    def _secure(self, packets: Packets) -> None:
        """Keep what may be SRTP, whole."""
        lost = self._secured.keep(packets)
        if lost is not None:
            self.dropped(len(lost), int(lost.min()) * 1000, int(lost.max()) * 1000 + 1)

    def take_over(self, handed: Handed, end_ns: int) -> None:
        """Take in what another worker got of this one's calls, or lost of them."""
        assert self._colleagues is not None
        for lost in handed.lost:
            self._lost("dropped_by_others", lost.packets, lost.since_ns, lost.until_ns)
        packets, whole = self._colleagues.take_in(handed, self._streams, self._binder.note)
        self._secure(whole)
        self.keep(packets, end_ns)

    def drop(self, row: int, since_us: int, end_ns: int) -> None:
        """What waits of a stream from a moment on is of no use."""
        lost: list[int] = []

        def choose(packets: Packets) -> tuple[list[NDArray[np.intp]], NDArray[np.bool_]]:
            gone = (packets.stream == row) & (packets.time_us >= since_us)
            lost.append(int(np.count_nonzero(gone)))
            return [], ~gone

        self._table.take(choose)
        if any(lost):
            self._lost("srtp_packets_unkept", lost[0], since_us * 1000, end_ns + WINDOW_NS)

    def _make_room(self) -> None:
        """Too much waits: what nobody announced goes first. What is lost of calls is the recorder's fault."""
        lost = self._table.make_room(self._streams.owner >= 0)
        if lost is not None:
            self.dropped(len(lost), int(lost.min()) * 1000, int(lost.max()) * 1000 + 1)

    def dropped(self, count: int, since_ns: int, until_ns: int) -> None:
        """Say that packets were dropped here, some time between two moments."""
        if self._colleagues is not None:
            self._colleagues.tell_lost(count, since_ns, until_ns)
        self._lost("kernel_drops", count, since_ns, until_ns)

    def _lost(self, counter: str, count: int, since_ns: int, until_ns: int) -> None:
        """Book packets that may have been of calls of this engine."""
        self._counters[counter] += count
        self.losses.add(count, Span(since_ns / 1000, until_ns / 1000))
