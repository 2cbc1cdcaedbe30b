"""Hands a window's packets to the recordings: written, followed on their clocks, counted and measured."""

from collections.abc import Callable
from typing import Final

import numpy as np

from recorderd.media.beginning import begin_clocks
from recorderd.media.following import follow_steady, give_back, hand_lows, take_over
from recorderd.media.lane import Lane
from recorderd.media.redundancy import opened
from recorderd.media.sequence import Order
from recorderd.media.streams import TONE, StreamTable
from recorderd.media.table import Packets
from recorderd.service.hearing import Hearing
from recorderd.service.overload import Level
from recorderd.service.recordings import Recordings
from recorderd.service.session import Session, Stream
from recorderd.service.stages import Stages
from recorderd.service.window import Window, make_window
from recorderd.service.withholding import Withholding

RELIEF: Final = 64
"""Recordings written between two calls for relief."""


class Handout:
    """The way of sorted packets from the table to where they belong."""

    def __init__(
        self,
        streams: StreamTable,
        recordings: Recordings,
        hearing: Hearing,
        stages: Stages,
        resume: Callable[[Session], None],
    ) -> None:
        """``resume`` is called for a session that is not written, before its packets are."""
        self._streams, self._recordings, self._hearing = streams, recordings, hearing
        self._stages, self._resume = stages, resume
        self.withholding: Withholding | None = None
        """Takes out what is not to be written."""
        self.recovered: Callable[[int, int], bool] = lambda row, seq: False
        """Called with the row and number of a packet whose content came by another (RFC 2198): whether it is
        missing.
        """
        self.relief: Callable[[], None] = lambda: None
        """Called now and then while much is done at once."""
        # What is to be told of a call that ends may be windows behind.
        hearing.relief = lambda: self.relief()

    def window(self, order: Order, packets: Packets) -> None:
        """Hand out at least one packet, sorted as ``order`` says."""
        if self._streams.redundant:
            order, packets = opened(order, packets, self._streams, self.recovered)
        if self.withholding is not None and self.withholding.active:
            order, packets = self.withholding.window(order, packets)
            if not len(packets):
                return
        with self._stages["follow"]:
            window = make_window(order, packets, self._streams)
        with self._stages["record"]:
            self._record(window)
        with self._stages["follow"]:
            for begun in begin_clocks(self._streams, order, packets, window.one_type):
                self._lane(window, begun.at).begin(*begun[1:])
            steady, missing, full = follow_steady(self._streams, order, packets, window.one_type)
            for at, *of in missing:
                self._lane(window, at).missing(*of)
            for at in full:
                hand_lows(self._streams, order.rows.item(at), self._lane(window, at))
            for at in np.flatnonzero(~steady).tolist():
                self._follow(window, at)
            for at in window.with_tones().tolist():
                self._tones(window, at)
            self._count(window)
        with self._stages["quality"]:
            self._hear(window)
        self.relief()

    def _record(self, window: Window) -> None:
        numbered = self._recordings.numbered
        for number, (owner, base_us, rows, payload, even) in enumerate(window.parts()):
            if number % RELIEF == RELIEF - 1:
                self.relief()
            session = numbered(owner)
            if session.sink is None:
                self._resume(session)
            session.media(base_us, rows, payload, even)

    def _lane(self, window: Window, at: int) -> Lane:
        """That of one of the window's streams."""
        session = self._recordings.numbered(window.owner.item(at))
        return session.streams[window.lane.item(at)].lane

    def _stream(self, window: Window, at: int) -> tuple[Session, Stream, slice]:
        """One of the window's streams: whose, which, and where its packets are."""
        session = self._recordings.numbered(window.owner.item(at))
        start = window.order.starts.item(at)
        span = slice(start, start + window.count.item(at))
        return session, session.streams[window.lane.item(at)], span

    def _follow(self, window: Window, at: int) -> None:
        """Follow a stream's clock packet by packet."""
        _, stream, span = self._stream(window, at)
        packets = window.packets
        size, payload = packets.size[span], packets.payload[span]
        take_over(self._streams, stream.row, stream.lane)
        stream.lane.follow(
            window.order.seq[span],
            packets.timestamp[span],
            packets.time_us[span],
            packets.payload_type[span],
            lambda index: payload[index, : size[index]].tobytes(),
            one_type=bool(window.one_type[at]),
        )
        give_back(self._streams, stream.row, stream.lane)

    def _tones(self, window: Window, at: int) -> None:
        session, stream, span = self._stream(window, at)
        packets = window.packets
        which = np.flatnonzero(window.kind[span] == TONE) + span.start
        coded = [packets.payload[n, : packets.size[n]].tobytes() for n in which.tolist()]
        times = packets.timestamp[which].tolist(), packets.time_us[which].tolist()
        session.tones(stream.number, zip(*times, coded, strict=True))

    def _count(self, window: Window) -> None:
        """Count the packets by payload type."""
        order, packets, streams = window.order, window.packets, self._streams
        alike = window.one_type
        streams.types[order.rows[alike], packets.payload_type[order.starts[alike]]] += window.count[alike]
        if not alike.all():
            mixed = np.repeat(~alike, window.count)
            np.add.at(streams.types, (order.stream[mixed], packets.payload_type[mixed]), 1)

    def _hear(self, window: Window) -> None:
        """Measure what the window sounds like."""
        streams, rows = self._streams, window.order.rows
        heard = self._recordings.level < Level.NO_QUALITY and self._hearing.window(
            window, streams.meter[rows], streams.seconds[rows]
        )
        if not heard:
            streams.unmeasured[rows] += window.count
        streams.seconds[rows] += 1
