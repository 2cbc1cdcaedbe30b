"""The engine: frames go in, recordings come out. The live tap, a capture file and a test drive this same
code.

Time is the capture clock and nothing else. It is cut into windows of one second; a window closes a grace
later, so that packets which overtook one another can be put in order. Whatever happens, happens at the close
of a window and depends only on what was captured before its end, never on how the packets were batched: a
replay gives what the tap gave.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from recorderd.calls.ownership import Blindness
from recorderd.calls.table import Call, CallTable
from recorderd.media.gathering import gathered
from recorderd.media.lane import Span
from recorderd.media.sequence import Order, Sequencer
from recorderd.media.streams import IGNORED, SHED, UNBOUND, StreamTable
from recorderd.media.table import Packets, PacketTable
from recorderd.service.binder import Binder, Origin
from recorderd.service.colleagues import Colleagues
from recorderd.service.dialogs import LINGER_NS, Dialogs
from recorderd.service.handout import Handout
from recorderd.service.handover import UNANNOUNCED, Handed
from recorderd.service.hearing import Hearing
from recorderd.service.losses import Losses, Lost
from recorderd.service.newcomers import Newcomers
from recorderd.service.recordings import Recordings
from recorderd.service.session import Session, Sink
from recorderd.service.stages import Stages
from recorderd.wire.dissect import Dissector
from recorderd.wire.frames import Frames
from recorderd.wire.hep import hep_signalling
from recorderd.wire.media_packets import MediaPackets
from recorderd.wire.tunnel_settings import TunnelSettings

WINDOW_NS: Final = 1_000_000_000
IDLE_NS: Final = 10 * WINDOW_NS
"""Nothing waits and time leapt by more than this: the empty windows between are skipped."""


class Archive(Protocol):
    """Where the engine puts what it made; :class:`recorderd.service.archive.SpoolArchive` writes it to the
    spool.
    """

    def begin(self, call: Call, started_ns: int) -> tuple[str, Sink]:
        """Start a recording; returns its id and where to write it. Raises DiskFull, SpoolError."""

    def call_seen(self, call: Call) -> None:
        """Account for a call that began, or was answered."""

    def call_left(self, call: Call) -> None:
        """Another worker accounts for the call from now on."""

    def call_over(
        self, call: Call, session: Session | None, engine: "Engine", interrupted: str | None
    ) -> None:
        """Seal the call's recording, if there is one, and account for its outcome."""

    def window_closed(self, end_ns: int) -> None:
        """All of a window is handed over; make it visible."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the engine needs of the configuration."""

    sip_ports: frozenset[int] = frozenset({5060})
    grace_ms: int = 400
    pending_s: float = 5.0
    pending_bytes: int = 256 << 20
    seed: int = 0
    ws_ports: frozenset[int] = frozenset()
    hep_ports: frozenset[int] = frozenset()
    hep_password: str | None = None
    tunnels: TunnelSettings | None = None
    """None: all."""


class Engine:
    """Turns captured frames into recordings."""

    def __init__(
        self,
        archive: Archive,
        settings: EngineSettings,
        hearing: Hearing | None = None,
        colleagues: Colleagues | None = None,
    ) -> None:
        """``hearing`` measures how the tracks sound; by default in the course of the calls to this engine.

        ``colleagues`` are the engines of other workers, where this one is not alone.
        """
        self.colleagues = colleagues
        self.archive, self.settings = archive, settings
        self.hearing = Hearing() if hearing is None else hearing
        self.counters: Counter[str] = Counter()
        self.dissector = Dissector(
            settings.sip_ports,
            settings.seed,
            settings.tunnels,
            ws_ports=settings.ws_ports,
            hep_ports=settings.hep_ports,
            hep_password=settings.hep_password,
        )
        self.calls = CallTable()
        self.streams = StreamTable()
        self.binder = Binder(self.streams, self.calls, int(settings.pending_s * 1e9), self.counters)
        if colleagues is not None:
            self.binder.doubtful = lambda call: colleagues.say(call, UNANNOUNCED)
        self.sequencer = Sequencer(self.streams)
        self.stages = Stages()
        self.recordings = Recordings(archive, self.streams, self.hearing, self.counters)
        self.handout = Handout(self.streams, self.recordings, self.hearing, self.stages, self._resume)
        self.table = PacketTable(settings.pending_bytes)
        self.losses = Losses()
        self.newcomers = Newcomers(
            self.streams, self.calls, self.binder, self.recordings, self.hearing, self.counters, colleagues
        )
        self.dialogs = Dialogs(
            archive, self.calls, self.binder, self.recordings, self.newcomers, self.counters, colleagues
        )
        self._end_ns: int | None = None

    # -- what comes in

    def feed(self, frames: Frames) -> None:
        """Take in captured frames."""
        if not len(frames):
            return
        self._begin_clock(int(frames.time_ns.min()))
        with self.stages["dissect"]:
            dissected = self.dissector.feed(frames)
        self.dialogs.add(*dissected.signalling)
        if len(dissected.media):
            with self.stages["streams"]:
                self._media(dissected.media)

    def hear_hep(self, packets: Iterable[tuple[int, bytes]]) -> None:
        """Take in HEP packets that were sent to the recorder itself, with when they arrived."""
        for arrived_ns, packet in packets:
            signal = hep_signalling(packet, arrived_ns, self.counters, self.settings.hep_password)
            if signal is not None:
                self._begin_clock(signal.time_ns)
                self.dialogs.add(signal)

    @property
    def closed_ns(self) -> int | None:
        """The end of the last window that was closed; None before anything came."""
        return None if self._end_ns is None else self._end_ns - WINDOW_NS

    def workers_blind(self, periods: tuple[Blindness, ...]) -> None:
        """Other workers have died, or are there again: calls that they never saw may be this one's."""
        assert self.colleagues is not None
        before = {call.key for call in self.calls.active() if self.dialogs.ours(call.key)}
        self.colleagues.blind(periods, self.streams)
        for call in self.calls.active():
            if self.dialogs.ours(call.key) and call.key not in before:
                self.archive.call_seen(call)

    def _begin_clock(self, time_ns: int) -> None:
        if self._end_ns is None:
            self._end_ns = (time_ns // WINDOW_NS + 1) * WINDOW_NS

    def take_over(self, handed: Handed) -> None:
        """Take in what another worker got of this one's calls, or lost of them."""
        assert self.colleagues is not None
        for lost in handed.lost:
            self._lost("dropped_by_others", lost.count, lost.since_ns, lost.until_ns)
        if handed.introduced:
            self._begin_clock(min(stream.since_ns for stream in handed.introduced))
        with self.stages["streams"]:
            self._keep(self.colleagues.take_in(handed, self.streams, self.binder.note))

    def _media(self, media: MediaPackets) -> None:
        rows, new = self.streams.identify(media.key)
        for index in new.tolist():
            source, destination = media.endpoints(index)
            origin = Origin(source, destination, int(media.ssrc[index]), int(media.time_ns[index]))
            self.binder.note(int(rows[index]), origin)
            if self.colleagues is not None and self.colleagues.elsewhere(source, destination):
                self.streams.owner[rows[index]] = IGNORED
                origin.explained = True
        packets = gathered(media, rows)
        if (rows < 0).any():
            # More streams than there is room for, in a flood of strangers: some may be of calls that begin.
            refused = media.time_ns[rows < 0]
            self._lost("packets_refused", len(refused), int(refused.min()), int(refused.max()) + 1000)
            packets = packets.select(rows >= 0)
        if self.colleagues is not None:
            packets = self.colleagues.hand_on(packets, self.streams)
        self._keep(packets)

    def _keep(self, packets: Packets) -> None:
        if self.recordings.shed_streams:
            packets = self._without_shed(packets)
        self.table.add(packets)
        if self.table.overfull:
            self._make_room()

    def _without_shed(self, packets: Packets) -> Packets:
        """What belongs to calls that were given up goes no further."""
        gone = self.streams.owner[packets.stream] == SHED
        if not gone.any():
            return packets
        self.streams.seen(packets.stream[gone], packets.time_us[gone])
        self.counters["packets_shed"] += int(np.count_nonzero(gone))
        return packets.select(~gone)

    def _make_room(self) -> None:
        """Too much waits: what nobody announced goes first. What is lost of calls is the recorder's fault."""
        lost = self.table.make_room(self.streams.owner >= 0)
        if lost is not None:
            self.dropped(len(lost), int(lost.min()) * 1000, int(lost.max()) * 1000 + 1)

    def dropped(self, count: int, since_ns: int, until_ns: int) -> None:
        """Say that packets were dropped here, some time between two moments."""
        if self.colleagues is not None:
            self.colleagues.tell_lost(count, since_ns, until_ns)
        self._lost("kernel_drops", count, since_ns, until_ns)

    def _lost(self, counter: str, count: int, since_ns: int, until_ns: int) -> None:
        """Book packets that may have been of calls of this engine."""
        self.counters[counter] += count
        self.losses.add(count, Span(since_ns / 1000, until_ns / 1000))

    def lost_during(self, call: Call) -> Lost:
        """What the recorder lost while a call lasted, of its packets or of others."""
        end_ns = (call.ended_at or int(self._end_ns or 0)) + LINGER_NS
        return self.losses.during(call.first_seen / 1000, end_ns / 1000)

    def _forget_losses(self, end_ns: int) -> None:
        if not self.losses:
            return
        needed = [call.first_seen for call in self.calls.active()]
        needed += [self.calls.get(key).first_seen for key in self.dialogs.ending]
        self.losses.forget(min([end_ns - WINDOW_NS, *needed]) / 1000)

    def advance(self, now_ns: int) -> None:
        """Close every window that is over by ``now_ns``, nanoseconds of the capture clock."""
        if self._end_ns is None:
            return
        grace = self.settings.grace_ms * 1_000_000
        while self._end_ns + grace <= now_ns:
            self._close(self._end_ns)
            self._end_ns += WINDOW_NS
            if now_ns - self._end_ns > IDLE_NS and self._next_ns(now_ns) - self._end_ns > IDLE_NS:
                self._end_ns = self._next_ns(now_ns) // WINDOW_NS * WINDOW_NS
        if now_ns < self._end_ns - WINDOW_NS - IDLE_NS:
            # The clock was set back: waiting for it to catch up would stop recording.
            self.counters["clock_set_back"] += 1
            self._flush()
            self._end_ns = (now_ns // WINDOW_NS + 1) * WINDOW_NS

    def _next_ns(self, now_ns: int) -> int:
        """The time of the first thing that waits, or now."""
        return min(now_ns, self.table.earliest_us() * 1000, self.dialogs.earliest_ns(now_ns))

    def finish(self, interrupted: str) -> None:
        """Nothing more will come: close what is open. Calls still running end as ``interrupted``."""
        if self._end_ns is None:
            return
        self.dialogs.add(*self.dissector.finish())
        self._flush()
        recorded = [session.call for session in self.recordings]
        others = (call.key for call in self.calls.active() if self.recordings.of(call.key) is None)
        for key in [*recorded, *others]:
            self._over(key, None if key in self.dialogs.ending else interrupted)
        self.archive.window_closed(self._end_ns)

    def _flush(self) -> None:
        """Close windows until nothing waits any more."""
        assert self._end_ns is not None
        for _ in range(int(self.settings.pending_s) + 2):
            self._close(self._end_ns)
            self._end_ns += WINDOW_NS

    # -- the close of a window

    def _close(self, end_ns: int) -> None:
        # Not at the close of their last window: by now that has been measured, and nobody waits for it.
        with self.stages["seal"]:
            for call in [call for call, due in self.dialogs.ending.items() if due <= end_ns - WINDOW_NS]:
                self.handout.relief()
                self._over(call, None)
        with self.stages["signalling"]:
            self.dialogs.take(end_ns, self.handout.relief)
            self.newcomers.bind(end_ns, self.handout.relief)
            if self.colleagues is not None:
                self.colleagues.hand_on_waiting(self.table, self.streams)
        expired_us = (end_ns - int(self.settings.pending_s * 1e9)) // 1000
        grace_us = self.settings.grace_ms * 1000
        orders: list[Order] = []
        waiting: dict[int, int] = {}

        def choose(packets: Packets) -> tuple[list[NDArray[np.intp]], NDArray[np.bool_]]:
            order, stay = self.sequencer.order(packets, end_ns // 1000, end_ns // 1000 + grace_us, expired_us)
            # When a stream was heard is told by its packets before the window's end, never by how they came.
            heard = packets.time_us < end_ns // 1000
            self.streams.seen(packets.stream[heard], packets.time_us[heard])
            left = np.flatnonzero(stay & (self.streams.owner[packets.stream] == UNBOUND))
            if len(left):
                rows, first = np.unique(packets.stream[left], return_index=True)
                times = packets.time_us[left[first]] * 1000
                waiting.update(zip(rows.tolist(), times.tolist(), strict=True))
            orders.extend(order.by_width(packets.size))
            return [part.position for part in orders], stay

        with self.stages["order"]:
            groups = self.table.take(choose)
        for order, taken in zip(orders, groups, strict=True):
            if len(taken):
                self.handout.window(order, taken)
        with self.stages["streams"]:
            self.binder.expire(expired_us * 1000, waiting)
        self._forget_losses(end_ns)
        with self.stages["index"]:
            self.archive.window_closed(end_ns)

    def unannounced(self, call: Call) -> bool:
        """Whether media was met that may be of a call, and could not be told from that of others."""
        elsewhere = self.colleagues is not None and self.colleagues.unannounced(call.key)
        return elsewhere or self.binder.unannounced(call)

    def _resume(self, session: Session) -> None:
        self.recordings.resume(session, self.calls.get(session.call), int(self._end_ns or 0) - WINDOW_NS)

    def _over(self, key: str, interrupted: str | None) -> None:
        call, now_ns = self.calls.get(key), int(self._end_ns or 0)
        session = self.recordings.end(key)
        if session is not None:
            session.losses = self.lost_during(call)
        if session is not None or self.dialogs.ours(key):
            self.archive.call_over(call, session, self, interrupted)
        if self.colleagues is not None:
            for row in self.colleagues.over(key):
                self.binder.give_back(row, now_ns)
        self.dialogs.over(key)
        if session is not None:
            self.recordings.forget(session)
            for stream in session.streams:
                self.sequencer.forget(stream.row)
                self.binder.give_back(stream.row, now_ns)

    def give_up(self, count: int) -> int:
        """For lack of time record no more of the ``count`` newest calls; returns how many there were."""
        # What arrived before the end of the last window is written, and nothing of what came later.
        return self.recordings.give_up(count, self.closed_ns or 0)

    def status(self) -> dict[str, Any]:
        """What the engine is doing, for the control socket."""
        return {
            "calls": len(self.calls),
            **self.recordings.status(),
            "streams": len(self.streams),
            "waiting_packets": len(self.table),
            "stages": self.stages.seconds(),
            "counters": {
                **self.counters,
                **{f"frames_{name}": count for name, count in self.dissector.counters.items()},
                **{f"calls_{name}": count for name, count in self.calls.counters.items()},
                "streams_refused": self.streams.refused,
                "packets_overflowed": self.table.overflow,
                "packets_stray": self.sequencer.strays,
            },
        }
