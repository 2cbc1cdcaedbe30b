"""One recording while it is being made: its streams, its speakers, and what will be said of it in the end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from recorderd.calls.binding import Binding, Standing
from recorderd.calls.call import Call
from recorderd.calls.conversations import Conversation
from recorderd.calls.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    HoldChanged,
    OtherMedia,
    Side,
)
from recorderd.calls.pauses import KeySequence, Pauses
from recorderd.codecs.formats import STATIC, Format
from recorderd.errors import DiskFull, RecorderError
from recorderd.media.lane import Lane, Span
from recorderd.media.reception import Reception
from recorderd.media.tones import ToneFollower
from recorderd.service.hearing import Hearing
from recorderd.service.losses import Lost, uncovered
from recorderd.service.unwritten import Unwritten
from recorderd.spool.container import PACKET_ROW, ROW_BYTES, Even
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sdp_formats import PayloadFormat

MAX_LANES: Final = 255
"""A packet row names its stream in one byte."""

MAX_LESSER_LANES: Final = 64
"""Streams whose source was not announced: a flood of them leaves room for the real ones."""

DESCRIBING: Final = frozenset({"stream", "formats", "displaced", "covered"})
"""Events without which the packets of a recording cannot be told."""

MAX_RECORD_ROWS: Final = 4096
"""Packets in one media record; more, in a flood, go into several."""


class Sink(Protocol):
    """Where a recording is written; see :class:`recorderd.service.segments.SegmentedRecording`."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its files, the present one last."""

    def media(self, base_us: int, rows: memoryview, payload: bytes | memoryview, even: Even | None) -> None:
        """Write packets."""

    def event(self, event: dict[str, Any]) -> None:
        """Write what happened."""

    def unwritten(self) -> Unwritten:
        """The packets that came here and are in no file; to be asked when no more come."""


@dataclass(slots=True, eq=False)
class Stream:
    """A stream of the session, with everything that follows it."""

    row: int
    number: int
    speaker: Side
    source: Endpoint
    destination: Endpoint
    ssrc: int
    lane: Lane
    meter: int
    """Of the speaker's track, in the ear."""
    tones: ToneFollower
    standing: Standing
    label: str
    """The track: whose voice it carries."""
    call: str
    hops: tuple[int, ...]
    since_us: int
    line: int = 0
    """Which of several audio lines at once; all but the first are tracks of their own."""
    displaced: bool = False
    """A stranger's, as the real one showed."""
    retired: bool = False
    """Nothing more of it is recorded; its row is kept for what it counted."""
    reception: Reception | None = None
    """What RTCP says of it; None where nothing does."""


class LegOver(NamedTuple):
    """A call of the recording is over."""

    call: Call
    lost: Lost
    interrupted: str | None


class Session:
    """A recording in progress."""

    def __init__(
        self, number: int, call: str, recording: str, sink: Sink | None, failure: str | None, hearing: Hearing
    ) -> None:
        """Record ``call`` as ``recording``; without a sink (and with the failure that prevented one) only
        count.
        """
        self._hearing = hearing
        self.number, self.call, self.recording = number, call, recording
        self.sink, self.failure = sink, failure
        self.streams: list[Stream] = []
        self.meters: dict[str, int] = {}
        self.conversation: Conversation | None = None
        """The calls that are recorded here, where the table of calls knows more than one."""
        self.begun_for: Call | None = None
        self.started_ns = 0
        self.over: list[LegOver] = []
        """Those that are over."""
        self.returns = 0
        """How often a copy was taken back."""
        self.given_up_us: int | None = None
        """Since when it is not recorded for lack of time; None where it is."""
        self.losses = Lost()
        """What the recorder lost in its time; told at its end."""
        self.pauses = Pauses()
        """When it was not to be recorded for a while."""
        self.withheld: dict[int, int] = {}
        """Packets of its streams, by row, that came and were not to be kept."""
        self.keys: dict[str, KeySequence] = {}
        """Keys pressed lately, by track, where they may mean something to the recorder."""
        self._unsaid: list[dict[str, Any]] = []
        self._unwritten = Unwritten()
        """What came while there was no sink."""

    def add_stream(
        self,
        row: int,
        ssrc: int,
        source: Endpoint,
        destination: Endpoint,
        binding: Binding,
        time_us: int,
        label: str | None = None,
    ) -> Stream | None:
        """Take a stream in, on the track ``label`` (by default its side's); None where the recording has all
        the streams it can name.
        """
        label = label or binding.speaker
        if len(self.streams) >= MAX_LANES or (binding.standing < Standing.SIGNALLED and self._has_lesser()):
            return None
        formats, described = _meaning(tuple(binding.formats.items()))
        if label not in self.meters:
            self.meters[label] = self._hearing.open()
        stream = Stream(
            row,
            len(self.streams),
            binding.speaker,
            source,
            destination,
            ssrc,
            Lane(formats),
            self.meters[label],
            ToneFollower(),
            binding.standing,
            label,
            binding.call,
            binding.hops,
            time_us,
            binding.line,
        )
        self.streams.append(stream)
        self.event(
            "stream",
            time_us,
            stream=stream.number,
            track=label,
            ssrc=ssrc,
            source=str(source),
            destination=str(destination),
            formats=described,
        )
        return stream

    def _has_lesser(self) -> bool:
        """Whether there are as many streams as there may be whose source was not announced."""
        lesser = sum(stream.standing < Standing.SIGNALLED for stream in self.streams)
        return lesser >= MAX_LESSER_LANES

    def displace(self, better: Stream, time_us: int) -> list[int]:
        """A source of higher standing has come: put aside what was taken for the speaker; the rows."""
        gone = [
            stream
            for stream in self.streams
            if (stream.call, stream.speaker) == (better.call, better.speaker)
            and stream.standing < better.standing
            and not stream.displaced
            and (stream.destination == better.destination or stream.standing is Standing.STRANGER)
        ]
        for stream in gone:
            stream.displaced = True
            self.event("displaced", time_us, stream=stream.number)
        return [stream.row for stream in gone]

    def add_formats(
        self, call: str, speaker: Side, formats: Mapping[int, Format], time_us: int
    ) -> list[Stream]:
        """A new offer or answer told more payload types; returns the streams that it is about."""
        changed = []
        for stream in self.streams:
            new = {pt: known for pt, known in formats.items() if stream.lane.formats.get(pt) != known}
            mine = stream.call == call and stream.speaker == speaker and not stream.line
            if mine and not stream.retired and new:
                stream.lane.learn(new)
                self.event("formats", time_us, stream=stream.number, formats=_described(new))
                changed.append(stream)
        return changed

    def signalled(self, event: CallEvent, call_id: str) -> None:
        """Write what signalling said of a call into the recording."""
        time_us = event.now // 1000
        # Of the only call of a recording it need not be said which it is.
        which = {"call_id": call_id} if event.call != self.call else {}
        if isinstance(event, CallAnswered):
            self.event("answered", time_us, **which)
        elif isinstance(event, HoldChanged):
            self.event("hold", time_us, side=event.side, held=event.held, **which)
        elif isinstance(event, OtherMedia):
            self.event("besides", time_us, kind=event.kind, state=event.state, **which)
        elif isinstance(event, CallEnded):
            self.event("ended", time_us, cause=event.cause, **which)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all its files, the present one last."""
        return (self.recording,) if self.sink is None else self.sink.ids

    def first_call(self) -> Call:
        """The call that the recording is listed under: the caller's own."""
        if self.conversation is not None:
            return self.conversation.outermost().call
        assert self.begun_for is not None
        return self.begun_for

    def all_over(self, ending: frozenset[str] = frozenset()) -> bool:
        """Whether every call of the recording has ended and had its last packets, or is ``ending``."""
        legs = self.conversation.legs if self.conversation is not None else ()
        return ending.union(leg.call.key for leg in self.over).issuperset(legs)

    def event(self, name: str, time_us: int, **facts: Any) -> None:
        """Write an event into the recording."""
        event = {"event": name, "time_us": time_us, **facts}
        if not self._write(event) and name in DESCRIBING:
            self._unsaid.append(event)

    def _say_again(self) -> None:
        """Without what describes the streams their packets mean nothing: it comes before the next of them."""
        while self._unsaid and self._write(self._unsaid[0]):
            del self._unsaid[0]

    def resume(self, recording: str, sink: Sink) -> None:
        """The recording could be begun after all: from here on it is written."""
        self.recording, self.sink = recording, sink

    def media(self, base_us: int, rows: memoryview, payload: bytes | memoryview, even: Even | None) -> None:
        """Write the session's packets of a window: the bytes of PACKET_ROW records, their times relative to
        ``base_us``, and those of their payloads; ``even`` is what is known of the rows."""
        if self._unsaid:
            self._say_again()
        if len(rows) > MAX_RECORD_ROWS * ROW_BYTES:
            self._write_parts(base_us, rows, payload)
            return
        sink = self.sink
        if sink is None:
            self._unwritten.add(base_us, rows)
            return
        try:
            sink.media(base_us, rows, payload, even)
        except (RecorderError, ValueError) as error:
            self._failed(error)
            if self.sink is None:
                self._unwritten.add(base_us, rows)

    def _write_parts(self, base: int, rows: memoryview, payload: bytes | memoryview) -> None:
        step, at = MAX_RECORD_ROWS * ROW_BYTES, 0
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            end = at + int(np.frombuffer(part, PACKET_ROW)["size"].sum(dtype=np.int64))
            self.media(base, part, payload[at:end], None)
            at = end

    def tones(self, number: int, packets: Iterable[tuple[int, int, bytes]]) -> None:
        """Take in packets of keys pressed on a stream: timestamp, arrival in microseconds and payload."""
        stream = self.streams[number]
        for timestamp, time_us, payload in packets:
            self._tone(stream, timestamp, time_us, payload)

    def _tone(self, stream: Stream, timestamp: int, time_us: int, payload: bytes) -> None:
        for tone in stream.tones.packet(timestamp, payload):
            self.event(
                "tone",
                time_us,
                stream=stream.number,
                digit=tone.digit or str(tone.code),
                duration=tone.duration,
                volume=tone.volume,
            )

    def give_up(self, reason: str, time_us: int) -> None:
        """Record no more of this call."""
        self.event("given up", time_us, reason=reason)
        self.given_up_us, self.failure = time_us, reason

    @property
    def shed(self) -> bool:
        """Whether it was given up for lack of time, or never begun."""
        return self.given_up_us is not None

    def _write(self, event: dict[str, Any]) -> bool:
        """Write an event; False where it did not come to the disk."""
        if self.sink is None:
            return False
        try:
            self.sink.event(event)
            return True
        except (RecorderError, ValueError) as error:
            self._failed(error)
        return False

    def _failed(self, error: RecorderError | ValueError) -> None:
        if isinstance(error, DiskFull):
            # The sink goes on by itself once there is room; the account says that something is missing.
            self.failure = "disk full"
        elif isinstance(error, RecorderError):
            self._give_away(f"spool: {error}")
        else:
            # What one call's peers send must not stop the others' recordings.
            self._give_away(f"cannot be written: {error}")

    def _give_away(self, failure: str) -> None:
        if self.sink is not None:
            self._unwritten.take(self.sink.unwritten())
        self.failure, self.sink = failure, None

    def unwritten(self) -> Unwritten:
        """Its packets that came and are in no file; to be asked once, when it is over."""
        if self.sink is not None:
            self._unwritten.take(self.sink.unwritten())
        return self._unwritten

    def span(self) -> Span | None:
        """From the first sample's time to the end of the last; None where nothing sounded."""
        spans = self._spans()
        if not spans:
            return None
        return Span(min([span.start_us for span in spans]), max([span.end_us for span in spans]))

    def may_lack(self, label: str, start_us: float, end_us: float) -> bool:
        """Whether packets of a track may have been lost where no stream's numbers tell of it: before its
        first packet or behind its last, between ``start_us`` and ``end_us``.
        """
        return any(map(self.losses.overlap, uncovered(self._spans(label), start_us, end_us)))

    def _spans(self, label: str | None = None) -> list[Span]:
        mine = [s for s in self.streams if not s.displaced and (label is None or s.label == label)]
        return [span for stream in mine if (span := stream.lane.span())]


def as_formats(formats: Mapping[int, PayloadFormat]) -> dict[int, Format]:
    """The payload types of an SDP as codec formats."""
    return {
        pt: Format(known.encoding, known.clock_rate, known.channels, known.fmtp)
        for pt, known in formats.items()
    }


@lru_cache(maxsize=128)
def _meaning(
    announced: tuple[tuple[int, PayloadFormat], ...],
) -> tuple[Mapping[int, Format], dict[str, dict[str, Any]]]:
    """What a stream's payload types are, and how that is written down: the same for most calls."""
    formats = as_formats(dict(announced))
    return {**STATIC, **formats}, _described(formats)


def _described(formats: Mapping[int, Format]) -> dict[str, dict[str, Any]]:
    return {
        str(pt): {"name": f.name, "clock_rate": f.clock_rate, "channels": f.channels, "fmtp": f.fmtp}
        for pt, f in formats.items()
    }
