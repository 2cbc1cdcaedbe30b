"""The engine: frames go in, recordings come out. The live tap, a capture file and a test drive this same
code.

Time is the capture clock and nothing else. It is cut into windows of one second; a window closes a grace
later, so that packets which overtook one another can be put in order. Whatever happens, happens at the close
of a window and depends only on what was captured before its end, never on how the packets were batched: a
replay gives what the tap gave.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from recorderd.calls.events import (
    SIDES,
    CallAnswered,
    CallEnded,
    CallEvent,
    CallStarted,
    MediaExpected,
    MediaWithdrawn,
    Side,
)
from recorderd.calls.ownership import Blindness
from recorderd.calls.table import Call, CallTable
from recorderd.media.gathering import gathered
from recorderd.media.lane import Span
from recorderd.media.sequence import Order, Sequencer
from recorderd.media.streams import DISPLACED, IGNORED, SHED, UNBOUND, StreamTable
from recorderd.media.table import Packets, PacketTable
from recorderd.service.binder import Binder, Leaves, Origin
from recorderd.service.colleagues import Colleagues
from recorderd.service.handout import Handout
from recorderd.service.handover import UNANNOUNCED, Handed
from recorderd.service.hearing import Hearing
from recorderd.service.losses import Losses, Lost
from recorderd.service.recordings import Recordings
from recorderd.service.session import Session, Sink, as_formats
from recorderd.service.stages import Stages
from recorderd.wire.dissect import Dissector, Signalling
from recorderd.wire.frames import Frames
from recorderd.wire.media_packets import MediaPackets
from recorderd.wire.sip import SipError, parse_sip

WINDOW_NS: Final = 1_000_000_000
LINGER_NS: Final = 1_000_000_000
"""How long after its end a call's last packets are still taken."""

RELIEF: Final = 64
"""Messages of the signalling taken in between two calls for relief."""

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
        self.dissector = Dissector(settings.sip_ports, settings.seed)
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
        self._signals: list[Signalling] = []
        self._ending: dict[str, int] = {}
        self._end_ns: int | None = None

    # -- what comes in

    def feed(self, frames: Frames) -> None:
        """Take in captured frames."""
        if not len(frames):
            return
        self._begin_clock(int(frames.time_ns.min()))
        with self.stages["dissect"]:
            dissected = self.dissector.feed(frames)
        self._signals.extend(dissected.signalling)
        if len(dissected.media):
            with self.stages["streams"]:
                self._media(dissected.media)

    @property
    def closed_ns(self) -> int | None:
        """The end of the last window that was closed; None before anything came."""
        return None if self._end_ns is None else self._end_ns - WINDOW_NS

    def workers_blind(self, periods: tuple[Blindness, ...]) -> None:
        """Other workers have died, or are there again: calls that they never saw may be this one's."""
        assert self.colleagues is not None
        before = {call.key for call in self.calls.active() if self._ours(call.key)}
        self.colleagues.blind(periods, self.streams)
        for call in self.calls.active():
            if self._ours(call.key) and call.key not in before:
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
        needed += [self.calls.get(key).first_seen for key in self._ending]
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
        signals = (signal.time_ns for signal in self._signals)
        return min(now_ns, self.table.earliest_us() * 1000, *signals)

    def finish(self, interrupted: str) -> None:
        """Nothing more will come: close what is open. Calls still running end as ``interrupted``."""
        if self._end_ns is None:
            return
        self._flush()
        recorded = [session.call for session in self.recordings]
        others = (call.key for call in self.calls.active() if self.recordings.of(call.key) is None)
        for key in [*recorded, *others]:
            self._over(key, None if key in self._ending else interrupted)
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
            for call in [call for call, due in self._ending.items() if due <= end_ns - WINDOW_NS]:
                self.handout.relief()
                self._over(call, None)
        with self.stages["signalling"]:
            self._signalling(end_ns)
            self._bind(end_ns)
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

    def _signalling(self, end_ns: int) -> None:
        due = [signal for signal in self._signals if signal.time_ns < end_ns]
        if due:
            self._signals = [signal for signal in self._signals if signal.time_ns >= end_ns]
        for number, signal in enumerate(sorted(due, key=lambda s: s.time_ns)):
            if number % RELIEF == RELIEF - 1:
                self.handout.relief()
            try:
                message = parse_sip(signal.payload)
            except SipError:
                self.counters["sip_malformed"] += 1
                continue
            self.counters["sip_messages"] += 1
            self._events(self.calls.message(message, signal.source, signal.destination, signal.time_ns))
        self._events(self.calls.tick(end_ns))
        if self.colleagues is not None:
            self.colleagues.ownership.tick(end_ns)

    def _ours(self, call: str) -> bool:
        """Whether this engine accounts for a call."""
        return self.colleagues is None or self.colleagues.ownership.mine(call)

    def _settle(self, event: MediaExpected) -> None:
        """An address may tell whose the call is."""
        assert self.colleagues is not None
        call, before = self.calls.get(event.call), self._ours(event.call)
        self.colleagues.ownership.expected(event, call.expectations)
        if self._ours(event.call) != before:
            (self.archive.call_left if before else self.archive.call_seen)(call)

    def _events(self, events: list[CallEvent]) -> None:
        for event in events:
            if isinstance(event, CallStarted):
                call = self.calls.get(event.call)
                if self.colleagues is not None:
                    self.colleagues.ownership.began(call.key, call.call_id, call.first_seen)
                if self._ours(event.call):
                    self.counters["calls"] += 1
                    self.archive.call_seen(call)
            elif isinstance(event, MediaExpected):
                self.binder.expectations.expect(event)
                if self.colleagues is not None:
                    self._settle(event)
                session = self.recordings.of(event.call)
                if session is not None:
                    self._learn(session, event)
            elif isinstance(event, CallAnswered):
                # Again, so that a crash leaves the time of the answer known.
                if self._ours(event.call):
                    self.archive.call_seen(self.calls.get(event.call))
            elif isinstance(event, MediaWithdrawn):
                self.binder.expectations.withdraw(event)
            elif isinstance(event, CallEnded):
                self._ending[event.call] = event.now + LINGER_NS
            session = self.recordings.of(event.call)
            if session is not None:
                session.signalled(event)

    def _learn(self, session: Session, event: MediaExpected) -> None:
        """An offer or an answer may name payload types of either side."""
        for speaker in SIDES:
            formats = as_formats(self.binder.expectations.formats(event.call, speaker))
            for stream in session.add_formats(speaker, formats, event.now // 1000):
                self._describe(stream.row, session)

    def _bind(self, end_ns: int) -> None:
        self._who_is_heard()
        for row, origin, binding in self.binder.bind(end_ns, self._heard_from, self._leaves()):
            if binding.encrypted:
                # Never written as if it were sound; the outcome says what it was.
                self.counters["streams_encrypted"] += 1
                self.streams.owner[row] = IGNORED
                continue
            session = self.recordings.of(binding.call)
            if session is None:
                self.handout.relief()
                session = self.recordings.new(self.calls.get(binding.call), origin.since_ns)
            since_us = origin.since_ns // 1000
            stream = session.add_stream(
                row, origin.ssrc, origin.source, origin.destination, binding, since_us
            )
            if stream is None:
                self.counters["streams_over_limit"] += 1
                self.streams.owner[row] = IGNORED
                continue
            if session.shed:
                self.recordings.shed(row)
                continue
            if self.colleagues is not None:
                self.colleagues.say(binding.call, binding.speaker)
            self.streams.owner[row] = session.number
            self.streams.lane[row] = stream.number
            self.streams.meter[row] = stream.meter
            self._describe(row, session)
            for gone in session.displace(stream, since_us):
                self.counters["streams_displaced"] += 1
                self.streams.owner[gone] = DISPLACED

    def _who_is_heard(self) -> None:
        """Tell who holds a place against the newcomers, where there are any."""
        if not len(self.streams.unbound()):
            return
        heard = self.streams.last_seen_ns
        for session in self.recordings:
            for stream in session.streams:
                self.binder.expectations.heard(
                    session.call, stream.speaker, stream.source, stream.destination, int(heard[stream.row])
                )

    def _leaves(self) -> Leaves | None:
        if self.colleagues is None:
            return None
        return partial(self.colleagues.leaves, self.streams)

    def _heard_from(self, call: str, speaker: Side) -> bool:
        session = self.recordings.of(call)
        if session is None:
            return self.colleagues is not None and self.colleagues.heard(call, speaker)
        return any(stream.speaker == speaker for stream in session.streams)

    def unannounced(self, call: Call) -> bool:
        """Whether media was met that may be of a call, and could not be told from that of others."""
        elsewhere = self.colleagues is not None and self.colleagues.unannounced(call.key)
        return elsewhere or self.binder.unannounced(call)

    def _describe(self, row: int, session: Session) -> None:
        formats = session.streams[int(self.streams.lane[row])].lane.formats
        self.streams.describe(row, {pt: (known.name, known.clock_rate) for pt, known in formats.items()})

    def _resume(self, session: Session) -> None:
        self.recordings.resume(session, self.calls.get(session.call), int(self._end_ns or 0) - WINDOW_NS)

    def _over(self, key: str, interrupted: str | None) -> None:
        call, now_ns = self.calls.get(key), int(self._end_ns or 0)
        session = self.recordings.end(key)
        if session is not None:
            session.losses = self.lost_during(call)
        if session is not None or self._ours(key):
            self.archive.call_over(call, session, self, interrupted)
        if self.colleagues is not None:
            for row in self.colleagues.over(key):
                self.binder.give_back(row, now_ns)
        self._ending.pop(key, None)
        self.binder.expectations.release(key)
        self.calls.forget(key)
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
