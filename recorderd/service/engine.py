"""The engine: frames go in, recordings come out. The live tap, a capture file and a test drive this same
code.

Time is the capture clock and nothing else. It is cut into windows of one second; a window closes a grace
later, so that packets which overtook one another can be put in order. Whatever happens, happens at the close
of a window and depends only on what was captured before its end, never on how the packets were batched: a
replay gives what the tap gave.
"""

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorderd.calls.join_settings import JoinSettings
from recorderd.calls.ownership import Blindness
from recorderd.calls.table import Call, CallTable
from recorderd.calls.timers import Limits
from recorderd.media.columns import leading
from recorderd.media.sequence import Order, Sequencer
from recorderd.media.streams import UNBOUND, StreamTable
from recorderd.media.table import Packets, PacketTable
from recorderd.service.admission import Admission
from recorderd.service.archiving import Archive
from recorderd.service.arrivals import Arrivals
from recorderd.service.binder import Binder
from recorderd.service.colleagues import Colleagues
from recorderd.service.copies import Copies
from recorderd.service.dialogs import LINGER_NS, Dialogs
from recorderd.service.engine_settings import EngineSettings
from recorderd.service.handout import Handout
from recorderd.service.handover import UNANNOUNCED, Handed
from recorderd.service.hearing import Hearing
from recorderd.service.intruders import Intruders
from recorderd.service.losses import Lost
from recorderd.service.memory import MemoryWatch
from recorderd.service.newcomers import Newcomers
from recorderd.service.orphans import Orphans
from recorderd.service.pausing import Pausing
from recorderd.service.questions import Questions
from recorderd.service.recordings import Recordings
from recorderd.service.secured import Secured
from recorderd.service.session import LegOver, Session
from recorderd.service.stages import Stages
from recorderd.service.stillness import Stillness
from recorderd.service.window import WINDOW_NS
from recorderd.service.withholding import Withholding
from recorderd.wire.dissect import Dissector
from recorderd.wire.frames import Frames
from recorderd.wire.hep import hep_signalling
from recorderd.wire.signalling import Signalling

IDLE_NS: Final = 10 * WINDOW_NS
"""Nothing waits and time leapt by more than this: the empty windows between are skipped."""


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
        # Alone: what is heard of a call may be another worker's, and all must come to the same.
        joining = settings.joining if colleagues is None else JoinSettings(frozenset())
        self.calls = CallTable(
            Limits(calls=settings.bounds.calls, ended_calls=settings.bounds.calls), joining
        )
        self.streams = StreamTable(settings.bounds.streams)
        self.binder = Binder(self.streams, self.calls, int(settings.pending_s * 1e9), self.counters)
        if colleagues is not None:
            self.binder.doubtful = lambda call: colleagues.say(call, UNANNOUNCED)
        self.sequencer = Sequencer(self.streams)
        self.stages = Stages()
        self.recordings = Recordings(
            archive, self.streams, self.hearing, self.counters, self.calls.conversations
        )
        if settings.memory:
            self.recordings.short = MemoryWatch(settings.memory).short
        self.handout = Handout(self.streams, self.recordings, self.hearing, self.stages, self._resume)
        self.handout.recovered = self.sequencer.recovered
        self.table = PacketTable(settings.bounds.pending_bytes)
        self.admission = Admission(settings.admission, self.streams)
        self.pausing = Pausing(settings.privacy, self.recordings, self.calls, archive, self.counters)
        self.handout.withholding = Withholding(self.streams, self.recordings, self.pausing)
        common = self.counters, colleagues, self.admission, self.pausing
        expectations = self.binder.expectations
        self.secured = Secured(self.streams, expectations, self.counters, settings.bounds.pending_bytes // 4)
        self.arrivals = Arrivals(
            self.streams,
            self.table,
            self.binder,
            self.recordings,
            self.admission,
            self.secured,
            self.counters,
            colleagues,
        )
        self.copies = Copies(self.streams, self.table, self.calls, self.binder, self.counters)
        self.questions = Questions(self.calls.joining, self.streams, self.table, self.binder, self.recordings)
        self.newcomers = Newcomers(
            self.streams,
            self.calls,
            self.binder,
            self.recordings,
            self.copies,
            self.questions,
            self.hearing,
            *common,
            self.secured,
        )
        self.binder.kinds = self.table.payload_types
        self.intruders = Intruders(
            self.streams, self.table, self.calls, self.binder, self.recordings, archive.alert
        )
        stillness = Stillness(self.calls, self.recordings, self.streams, settings.media_timeout_s)
        orphans = Orphans(
            settings.orphans,
            settings.pending_s,
            self.streams,
            self.table,
            self.calls,
            self.binder,
            self.recordings,
            self.counters,
        )
        self.dialogs = Dialogs(
            archive, self.calls, self.binder, self.recordings, self.newcomers, *common, stillness, orphans
        )
        self.calls.joining.begun = lambda call: self.recordings.of(call) is not None
        self._end_ns: int | None = None

    # -- what comes in

    def feed(self, frames: Frames) -> None:
        """Take in captured frames."""
        if not len(frames):
            return
        self._begin_clock(int(frames.time_ns.min()))
        with self.stages["dissect"]:
            dissected = self.dissector.feed(frames)
        self._hear(*dissected.signalling)
        self.newcomers.reports.add(dissected.control)
        if len(dissected.media):
            with self.stages["streams"]:
                self.arrivals.media(dissected.media, int(self._end_ns or 0))

    def hear_hep(self, packets: Iterable[tuple[int, bytes]]) -> None:
        """Take in HEP packets that were sent to the recorder itself, with when they arrived."""
        for arrived_ns, packet in packets:
            signal = hep_signalling(packet, arrived_ns, self.counters, self.settings.hep_password)
            if signal is not None:
                self._begin_clock(signal.time_ns)
                self._hear(signal)

    def _hear(self, *signals: Signalling) -> None:
        self.secured.listen(signals)
        self.dialogs.add(*signals)

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
        if handed.introduced:
            self._begin_clock(min(stream.since_ns for stream in handed.introduced))
        with self.stages["streams"]:
            self.arrivals.take_over(handed, int(self._end_ns or 0))

    def dropped(self, count: int, since_ns: int, until_ns: int) -> None:
        """Say that packets were dropped here, some time between two moments."""
        self.arrivals.dropped(count, since_ns, until_ns)

    def _expired_us(self, end_ns: int) -> int:
        """What nobody has explained at the close of a window, and is older, is dropped."""
        return (end_ns - int(self.settings.pending_s * 1e9)) // 1000

    def _open(self, end_ns: int, waiting: dict[int, int]) -> bool:
        """Open SRTP; whether streams showed whose they are. ``waiting`` gets what of nobody's still waits."""
        if not self.secured.active:
            return False
        with self.stages["open"]:
            found = self.secured.settle(end_ns, self.settings.grace_ms * 1000, self._expired_us(end_ns))
            for packets in found.packets:
                self.arrivals.keep(packets, end_ns)
        waiting.update(found.waiting)
        for row, since_us in found.too_late.items():
            self.arrivals.drop(row, since_us, end_ns)
        return found.newly

    def lost_during(self, *calls: Call) -> Lost:
        """What the recorder lost while a call (or any of several) lasted, of its packets or of others."""
        end_ns = max(call.ended_at or int(self._end_ns or 0) for call in calls) + LINGER_NS
        return self.arrivals.losses.during(min(call.first_seen for call in calls) / 1000, end_ns / 1000)

    def _forget_losses(self, end_ns: int) -> None:
        if not self.arrivals.losses:
            return
        needed = [call.first_seen for call in self.calls.active()]
        needed += [self.calls.get(key).first_seen for key in self.dialogs.ending]
        needed += [leg.call.first_seen for session in self.recordings for leg in session.over]
        self.arrivals.losses.forget(min([end_ns - WINDOW_NS, *needed]) / 1000)

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

    def clock_leapt(self, by_ns: int) -> None:
        """Say that the clock was set ahead, before anything captured since: calls go on as if it were not."""
        self.counters["clock_set_ahead"] += 1
        self.calls.leapt(by_ns)
        self.dialogs.stillness.leapt(by_ns)

    def _next_ns(self, now_ns: int) -> int:
        """The time of the first thing that waits, or now."""
        waiting_us = min(self.table.earliest_us(), self.secured.table.earliest_us())
        return min(now_ns, waiting_us * 1000, self.dialogs.earliest_ns(now_ns))

    def finish(self, interrupted: str) -> None:
        """Nothing more will come: close what is open. Calls still running end as ``interrupted``."""
        if self._end_ns is None:
            return
        self.dialogs.add(*self.dissector.finish())
        self._flush()
        for key in [*self.dialogs.ending, *(call.key for call in self.calls.active())]:
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
            over = [call for call, due in self.dialogs.ending.items() if due <= end_ns - WINDOW_NS]
            self.recordings.judge(over)
            for call in over:
                self.handout.relief()
                self._over(call, None)
        waiting: dict[int, int] = {}
        with self.stages["signalling"]:
            self.dialogs.take(end_ns, self.handout.relief)
            self.dialogs.successions.settle(self.streams, self.table)
            self.questions.settle(end_ns, self.dialogs.joined)
            self.newcomers.bind(end_ns, self.handout.relief, partial(self._open, end_ns, waiting))
            self.intruders.count(end_ns)
            if self.colleagues is not None:
                self.colleagues.hand_on_waiting(self.table, self.secured.table, self.streams)
        expired_us, grace_us = self._expired_us(end_ns), self.settings.grace_ms * 1000
        orders: list[Order] = []

        def choose(packets: Packets) -> tuple[list[NDArray[np.intp]], NDArray[np.bool_]]:
            order, stay = self.sequencer.order(packets, end_ns // 1000, end_ns // 1000 + grace_us, expired_us)
            # When a stream was heard is told by its packets before the window's end, never by how they came.
            early = packets.time_us < end_ns // 1000
            heard = leading(early) or early
            self.streams.seen(packets.stream[heard], packets.time_us[heard])
            left = np.flatnonzero(stay) if len(self.streams.unbound()) else stay[:0]
            left = left[self.streams.owner[packets.stream[left]] == UNBOUND]
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
            self.newcomers.reports.take(end_ns)
            self.binder.expire(expired_us * 1000, waiting)
        self._forget_losses(end_ns)
        with self.stages["index"]:
            self.archive.window_closed(end_ns)

    def unannounced(self, call: Call) -> bool:
        """Whether media was met that may be of a call, and could not be told from that of others."""
        elsewhere = self.colleagues is not None and self.colleagues.unannounced(call.key)
        return elsewhere or self.binder.unannounced(call)

    def _resume(self, session: Session) -> None:
        self.recordings.resume(session, session.first_call(), int(self._end_ns or 0) - WINDOW_NS)

    def _over(self, key: str, interrupted: str | None) -> None:
        call, now_ns = self.calls.get(key), int(self._end_ns or 0)
        self.intruders.over(call)
        call.unopened = self.secured.refusal(key)
        session = self.recordings.of(key)
        if session is not None:
            session.over.append(LegOver(call, self.lost_during(call), interrupted))
            if not session.all_over():
                self.copies.leg_over(session, key, now_ns)
                session = None
            else:
                session.losses = self.lost_during(*(leg.call for leg in session.over))
                self.pausing.ending(session)
                self.secured.tell(session, now_ns // 1000)
                self.recordings.end(session)
                self.archive.recording_over(session, self)
        elif self.dialogs.ours(key):
            self.archive.call_over(call, self, interrupted)
        if self.colleagues is not None:
            for row in self.colleagues.over(key):
                self.binder.give_back(row, now_ns)
        for row in self.admission.over(key):
            self.sequencer.forget(row)
            self.binder.give_back(row, now_ns)
        self.secured.over(key)
        self.dialogs.over(key)
        if session is not None:
            self.recordings.forget(session)
            self.newcomers.reports.forget(session.streams)
            for stream in session.streams:
                self.sequencer.forget(stream.row)
            self.copies.over(session, now_ns)

    def give_up(self, count: int) -> int:
        """For lack of time record no more of the ``count`` newest calls; returns how many there were."""
        # What arrived before the end of the last window is written, and nothing of what came later.
        return self.recordings.give_up(count, self.closed_ns or 0)

    def status(self) -> dict[str, Any]:
        """What the engine is doing, for the control socket."""
        return {
            "calls": len(self.calls),
            **self.recordings.status(),
            "paused": self.pausing.paused,
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
