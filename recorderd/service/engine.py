"""The engine: frames go in, recordings come out. The live tap, a capture file and a test drive this same
code.

Time is the capture clock and nothing else. It is cut into windows of one second; a window closes a grace
later, so that packets which overtook one another can be put in order. Whatever happens, happens at the close
of a window and depends only on what was captured before its end, never on how the packets were batched: a
replay gives what the tap gave.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
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
from recorderd.calls.table import Call, CallTable
from recorderd.errors import DiskFull, SpoolError
from recorderd.media.lane import Span
from recorderd.media.sequence import Order, Sequencer
from recorderd.media.streams import DISPLACED, IGNORED, StreamTable
from recorderd.media.table import Packets, PacketTable
from recorderd.service.binder import Binder, Origin
from recorderd.service.session import Session, Sink, as_formats
from recorderd.service.window import WindowRows, steady, stretches
from recorderd.spool.container import PACKET_ROW
from recorderd.wire.dissect import Dissector, Signalling
from recorderd.wire.frames import Frames
from recorderd.wire.media_packets import MediaPackets
from recorderd.wire.sip import SipError, parse_sip

WINDOW_NS: Final = 1_000_000_000
LINGER_NS: Final = 1_000_000_000
"""How long after its end a call's last packets are still taken."""

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

    def __init__(self, archive: Archive, settings: EngineSettings) -> None:
        self.archive, self.settings = archive, settings
        self.counters: Counter[str] = Counter()
        self.dissector = Dissector(settings.sip_ports, settings.seed)
        self.calls = CallTable()
        self.streams = StreamTable()
        self.binder = Binder(self.streams, self.calls, int(settings.pending_s * 1e9), self.counters)
        self.sequencer = Sequencer(self.streams)
        self.table = PacketTable(settings.pending_bytes)
        self.sessions: dict[str, Session] = {}
        self._numbers: dict[int, Session] = {}
        self._next_number = 0
        self._signals: list[Signalling] = []
        self._ending: dict[str, int] = {}
        self._end_ns: int | None = None

    # -- what comes in

    def feed(self, frames: Frames) -> None:
        """Take in captured frames."""
        if not len(frames):
            return
        if self._end_ns is None:
            self._end_ns = (int(frames.time_ns.min()) // WINDOW_NS + 1) * WINDOW_NS
        dissected = self.dissector.feed(frames)
        self._signals.extend(dissected.signalling)
        media = dissected.media
        if not len(media):
            return
        rows, new = self.streams.identify(media.key)
        for index in new.tolist():
            source, destination = media.endpoints(index)
            origin = Origin(source, destination, int(media.ssrc[index]), int(media.time_ns[index]))
            self.binder.note(int(rows[index]), origin)
        packets = _gather(media, rows)
        if len(new) or (rows < 0).any():
            packets = packets.select(rows >= 0)
        self.table.add(packets)

    def dropped(self, count: int, since_ns: int, until_ns: int) -> None:
        """Say that the kernel dropped packets, some time between two moments."""
        self.counters["kernel_drops"] += count
        for session in self.sessions.values():
            session.lost_by_capture(count, Span(since_ns / 1000, until_ns / 1000))

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
        for call in [*self.sessions, *(c.key for c in self.calls.active() if c.key not in self.sessions)]:
            self._over(call, None if call in self._ending else interrupted)
        self.archive.window_closed(self._end_ns)

    def _flush(self) -> None:
        """Close windows until nothing waits any more."""
        assert self._end_ns is not None
        for _ in range(int(self.settings.pending_s) + 2):
            self._close(self._end_ns)
            self._end_ns += WINDOW_NS

    # -- the close of a window

    def _close(self, end_ns: int) -> None:
        self._signalling(end_ns)
        self._bind(end_ns)
        expired_us = (end_ns - int(self.settings.pending_s * 1e9)) // 1000
        grace_us = self.settings.grace_ms * 1000
        order: Order | None = None
        waiting: dict[int, int] = {}

        def choose(packets: Packets) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
            nonlocal order
            order, stay = self.sequencer.order(packets, end_ns // 1000, end_ns // 1000 + grace_us, expired_us)
            # When a stream was heard is told by its packets before the window's end, never by how they came.
            heard = packets.time_us < end_ns // 1000
            np.maximum.at(self.streams.last_seen_ns, packets.stream[heard], packets.time_us[heard] * 1000)
            left = packets.stream[stay]
            if len(left):
                rows, first = np.unique(left, return_index=True)
                waiting.update(
                    zip(rows.tolist(), (packets.time_us[stay][first] * 1000).tolist(), strict=True)
                )
            return order.position, stay

        taken = self.table.take(choose)
        if order is not None and taken is not None and len(taken):
            self._hand_out(order, taken)
        for call in [call for call, due in self._ending.items() if due <= end_ns]:
            self._over(call, None)
        self.binder.expire(expired_us * 1000, waiting)
        self.archive.window_closed(end_ns)

    def _signalling(self, end_ns: int) -> None:
        due = [signal for signal in self._signals if signal.time_ns < end_ns]
        if due:
            self._signals = [signal for signal in self._signals if signal.time_ns >= end_ns]
        for signal in sorted(due, key=lambda s: s.time_ns):
            try:
                message = parse_sip(signal.payload)
            except SipError:
                self.counters["sip_malformed"] += 1
                continue
            self.counters["sip_messages"] += 1
            self._events(self.calls.message(message, signal.source, signal.destination, signal.time_ns))
        self._events(self.calls.tick(end_ns))

    def _events(self, events: list[CallEvent]) -> None:
        for event in events:
            if isinstance(event, CallStarted):
                self.counters["calls"] += 1
                self.archive.call_seen(self.calls.get(event.call))
            elif isinstance(event, MediaExpected):
                self.binder.expectations.expect(event)
                session = self.sessions.get(event.call)
                if session is not None:
                    self._learn(session, event)
            elif isinstance(event, CallAnswered):
                # Again, so that a crash leaves the time of the answer known.
                self.archive.call_seen(self.calls.get(event.call))
            elif isinstance(event, MediaWithdrawn):
                self.binder.expectations.withdraw(event)
            elif isinstance(event, CallEnded):
                self._ending[event.call] = event.now + LINGER_NS
            session = self.sessions.get(event.call)
            if session is not None:
                session.signalled(event)

    def _learn(self, session: Session, event: MediaExpected) -> None:
        """An offer or an answer may name payload types of either side."""
        for speaker in SIDES:
            formats = as_formats(self.binder.expectations.formats(event.call, speaker))
            for stream in session.add_formats(speaker, formats, event.now // 1000):
                self._describe(stream.row, session)

    def _bind(self, end_ns: int) -> None:
        for row, origin, binding in self.binder.bind(end_ns, self._heard_from):
            if binding.encrypted:
                # Never written as if it were sound; the outcome says what it was.
                self.counters["streams_encrypted"] += 1
                self.streams.owner[row] = IGNORED
                continue
            session = self.sessions.get(binding.call) or self._begin(binding.call, origin.since_ns)
            since_us = origin.since_ns // 1000
            stream = session.add_stream(
                row, origin.ssrc, origin.source, origin.destination, binding, since_us
            )
            if stream is None:
                self.counters["streams_over_limit"] += 1
                self.streams.owner[row] = IGNORED
                continue
            self.streams.owner[row] = session.number
            self.streams.lane[row] = stream.number
            self._describe(row, session)
            for gone in session.displace(stream, since_us):
                self.counters["streams_displaced"] += 1
                self.streams.owner[gone] = DISPLACED

    def _heard_from(self, call: str, speaker: Side) -> bool:
        session = self.sessions.get(call)
        return session is not None and any(stream.speaker == speaker for stream in session.streams)

    def _describe(self, row: int, session: Session) -> None:
        formats = session.streams[int(self.streams.lane[row])].lane.formats
        self.streams.describe(row, {pt: (known.name, known.clock_rate) for pt, known in formats.items()})

    def _begin(self, call: str, started_ns: int) -> Session:
        recording, sink, failure = "", None, None
        try:
            recording, sink = self.archive.begin(self.calls.get(call), started_ns)
        except DiskFull:
            failure = "disk full"
        except SpoolError as error:
            failure = f"spool: {error}"
        session = Session(self._next_number, call, recording, sink, failure)
        answered_at = self.calls.get(call).answered_at
        if answered_at is not None:
            session.event("answered", answered_at // 1000)
        self._next_number = (self._next_number + 1) % (1 << 22)
        self.sessions[call] = self._numbers[session.number] = session
        return session

    def _hand_out(self, order: Order, packets: Packets) -> None:
        stream = order.stream
        owner = self.streams.owner[stream]
        rows = np.empty(len(packets), PACKET_ROW)
        rows["seq"] = order.seq
        rows["timestamp"] = packets.timestamp
        rows["size"] = packets.size
        rows["stream"] = self.streams.lane[stream]
        rows["payload_type"] = packets.payload_type | packets.marker.astype(np.uint8) << 7
        kind = self.streams.kind[stream, packets.payload_type]
        window = WindowRows(order.seq, packets, rows, kind)
        parts = stretches(order, packets, self.streams.lane[stream], kind)
        owners = owner[order.starts].tolist()
        lanes = [
            self._numbers[number].streams[part.lane].lane for number, part in zip(owners, parts, strict=True)
        ]
        clocks = steady(window, parts, lanes, self.streams.clock[stream, packets.payload_type])
        together = zip(owners, parts, clocks, strict=True)
        for number, mine in groupby(together, key=itemgetter(0)):
            self._resume(self._numbers[number])
            self._numbers[number].window(window, [(part, clock) for _, part, clock in mine])
        heard = (np.maximum.reduceat(packets.time_us, order.starts) * 1000).tolist()
        for number, part, now in zip(owners, parts, heard, strict=True):
            session = self._numbers[number]
            speaking = session.streams[part.lane]
            self.binder.expectations.heard(
                session.call, speaking.speaker, speaking.source, speaking.destination, now
            )

    def _resume(self, session: Session) -> None:
        """Try again what a full disk prevented."""
        if session.recording or session.sink is not None:
            return
        try:
            recording, sink = self.archive.begin(
                self.calls.get(session.call), int(self._end_ns or 0) - WINDOW_NS
            )
        except (DiskFull, SpoolError):
            return
        session.resume(recording, sink)

    def _over(self, key: str, interrupted: str | None) -> None:
        call = self.calls.get(key)
        session = self.sessions.pop(key, None)
        if session is not None:
            del self._numbers[session.number]
        self.archive.call_over(call, session, self, interrupted)
        self._ending.pop(key, None)
        self.binder.expectations.release(key)
        self.calls.forget(key)
        for stream in session.streams if session else ():
            self.sequencer.forget(stream.row)
            self.binder.give_back(stream.row, int(self._end_ns or 0))

    def status(self) -> dict[str, Any]:
        """What the engine is doing, for the control socket."""
        return {
            "calls": len(self.calls),
            "recording": len(self.sessions),
            "streams": len(self.streams),
            "waiting_packets": len(self.table),
            "counters": {
                **self.counters,
                **{f"frames_{name}": count for name, count in self.dissector.counters.items()},
                **{f"calls_{name}": count for name, count in self.calls.counters.items()},
                "streams_refused": self.streams.refused,
                "packets_overflowed": self.table.overflow,
                "packets_stray": self.sequencer.strays,
            },
        }


def _gather(media: MediaPackets, stream: NDArray[np.int32]) -> Packets:
    """Copy the payloads out of the frames, so that the frames can go."""
    width = int(media.payload_len.max())
    first = int(media.payload_at[0])
    whole = len(media) == len(media.data)
    if (media.payload_at == first).all() and first + width <= media.data.shape[1]:
        part = media.data[:, first : first + width]
        payload = part.copy() if whole else part[media.row]
    else:
        payload = np.zeros((len(media), width), np.uint8)
        for at in np.unique(media.payload_at).tolist():
            which = np.flatnonzero(media.payload_at == at)
            part = media.data[:, at : at + width]
            payload[which, : part.shape[1]] = part[media.row[which]]
    return Packets(
        media.time_ns // 1000,
        stream,
        media.seq,
        media.timestamp,
        media.payload_type,
        media.marker,
        media.payload_len,
        payload,
    )
