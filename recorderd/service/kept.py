"""What of a recording no commit has made durable yet, in memory: where the disk loses it, it is written once
more.

A record waits here for each second of each call, and nearly all are dropped unread: they are plain tuples.
"""

from collections import deque
from typing import Any, Final, Protocol

from recorderd.errors import DiskFull, SpoolError
from recorderd.service.commit import Rounds
from recorderd.service.session import DESCRIBING
from recorderd.service.unwritten import Unwritten
from recorderd.spool.container import ROW_BYTES

MAX_WINDOWS: Final = 4
"""Media records in memory until a commit, or the next segment, has them; of more the oldest are given up."""

MAX_KEPT: Final = 500
"""The same of records of all kinds."""

MAX_TRACED: Final = 20
"""Records that had to make room, and of which it is known which packets they had, until a commit has them."""

LASTING: Final = DESCRIBING | {"call", "answered", "hold", "besides", "paused", "resumed"}
"""Events that hold for what comes after them: each segment begins with them."""

NOWHERE: Final = -1
"""In place of a size: the record was written to no file."""

_Bytes = bytes | memoryview

_Held = tuple[int, int, int, _Bytes, _Bytes, dict[str, Any] | None, bool]
"""A record, until a commit that began after it was written has succeeded: the round then, the size of the
file before it, base time in microseconds, rows and payload, or the event, and whether it is in no file and no
writer holds it back."""

_Slipped = tuple[int, int, int, _Bytes]
"""A record that no commit made durable, and that had to make room: round, size, base time and rows."""


class Writer(Protocol):
    """Takes records; see :class:`recorderd.spool.writer.RecordingWriter`."""

    size: int

    def media(self, base_time_us: int, rows: _Bytes, payload: _Bytes) -> None:
        """Write packets. Raises DiskFull, SpoolError."""

    def event(self, event: dict[str, Any]) -> None:
        """Write what happened. Raises DiskFull, SpoolError."""


class Kept:
    """The records of one recording that may have to be written again. Used by one thread at a time."""

    __slots__ = (
        "_done",
        "_held",
        "_lasting",
        "_rounds",
        "_slipped",
        "_untraced",
        "_unwritten",
        "_windows",
        "packets_lost",
        "proved",
    )

    def __init__(self, rounds: Rounds, began: dict[str, Any]) -> None:
        """``began`` is the event that was written first."""
        self._rounds = rounds
        self._done = rounds.done  # what this round made durable is forgotten
        self._held: deque[_Held] = deque()
        self._windows = 0  # media records among them
        self._slipped: deque[_Slipped] = deque()
        # Those before them: round, size, and how many packets.
        self._untraced: deque[tuple[int, int, int]] = deque(maxlen=MAX_KEPT - MAX_TRACED)
        self._lasting: dict[Any, dict[str, Any]] = {}
        self._unwritten = Unwritten()
        self.packets_lost = 0
        """Packets that are in no file."""
        self.proved = False
        """A commit has succeeded with something of the file that is written now."""
        self._remember(began)

    def media(self, size: int, base_us: int, rows: _Bytes, payload: _Bytes) -> None:
        """Keep packets that are about to be written to a file of so many bytes, or are NOWHERE."""
        rounds = self._rounds
        if self._done != rounds.done and size >= 0:
            self.forget()
        self._held.append((rounds.begun, size, base_us, rows, payload, None, False))
        self._windows += 1
        if self._windows > MAX_WINDOWS or len(self._held) > MAX_KEPT:
            self._give_up()

    def event(self, size: int, event: dict[str, Any]) -> None:
        """Keep an event; see :meth:`media`."""
        rounds = self._rounds
        if self._done != rounds.done and size >= 0:
            self.forget()
        self._held.append((rounds.begun, size, event["time_us"], b"", b"", event, False))
        if len(self._held) > MAX_KEPT:
            self._give_up()

    def written(self) -> None:
        """The newest is written: only a round that begins from now on makes it durable."""
        held, begun = self._held, self._rounds.begun
        if held[-1][0] != begun:
            held.append((begun, *held.pop()[1:]))

    def take_back(self) -> None:
        """The newest is none that any file could have."""
        self._windows -= self._held.pop()[5] is None

    def refused(self) -> None:
        """The newest is in no file, and no writer holds it back."""
        self._held.append((*self._held.pop()[:6], True))

    @property
    def durable(self) -> bool:
        """Whether there may be something to :meth:`forget`; any thread may ask."""
        return self._done != self._rounds.done

    def forget(self) -> None:
        """Drop what is durable."""
        held, slipped, untraced = self._held, self._slipped, self._untraced
        self._done = done = self._rounds.done
        while untraced and untraced[0][0] < done:
            untraced.popleft()
        while slipped and slipped[0][0] < done:
            slipped.popleft()
        while held and held[0][0] < done:
            _, _, base_us, rows, _, event, refused = held.popleft()
            if event is None:
                self._windows -= 1
            else:
                self._remember(event)
            if refused:
                self._unwritten.add(base_us, rows)
            self.proved = True

    def _give_up(self) -> None:
        """Make room for the newest."""
        held, slipped = self._held, self._slipped
        while self._windows > MAX_WINDOWS or len(held) > MAX_KEPT:
            began, size, base_us, rows, _, event, refused = held.popleft()
            if event is None:
                self._windows -= 1
            else:
                self._remember(event)
            if refused or size < 0:
                self._unwritten.add(base_us, rows)
                self.packets_lost += len(rows) // ROW_BYTES if size < 0 else 0
                continue
            # The rows stay a view of their window: the next commit lets go of that for all calls.
            slipped.append((began, size, base_us, rows))
            if len(slipped) > MAX_TRACED:
                began, size, _, rows = slipped.popleft()
                self._untraced.append((began, size, len(rows) // ROW_BYTES))

    def _remember(self, event: dict[str, Any]) -> None:
        """Of events that hold until the next of their kind only the last is needed."""
        name = event["event"]
        if name not in LASTING:
            return
        kind, get = "paused" if name == "resumed" else name, event.get
        key = (kind, get("stream"), get("side"), get("kind"), get("call_id"), *get("formats", ()))
        self._lasting.pop(key, None)
        self._lasting[key] = event

    def begins_us(self) -> int | None:
        """When the oldest packets came; any thread may ask."""
        return next((base_us for _, _, base_us, _, _, event, _ in list(self._held) if event is None), None)

    def own(self) -> None:
        """Hold bytes where there are views: a view holds a window of all calls, and this may take long."""
        self._slipped = deque(
            (began, size, base_us, bytes(rows)) for began, size, base_us, rows in self._slipped
        )
        self._held = deque(
            (began, size, base_us, bytes(rows), bytes(payload), event, refused)
            for began, size, base_us, rows, payload, event, refused in self._held
        )

    def recovered(self, intact_bytes: int, size: int) -> bool:
        """Of the file of ``size`` bytes so many are left: beyond, what had to make room is lost. Returns
        whether something is missing that a commit had made durable.
        """
        unsure = [at for _, at, _ in self._untraced]
        unsure += [at for _, at, *_ in self._slipped]
        unsure += [at for _, at, *_ in self._held if at >= 0]
        self.packets_lost += sum(packets for _, at, packets in self._untraced if at >= intact_bytes)
        for _, at, base_us, rows in self._slipped:
            if at >= intact_bytes:
                self.packets_lost += len(rows) // ROW_BYTES
                self._unwritten.add(base_us, rows)
        self._untraced.clear()
        self._slipped.clear()
        return intact_bytes < min(unsure, default=size)

    def write_to(self, writer: Writer) -> None:
        """Write what lasts and all that is held once more. Raises DiskFull, SpoolError; it is in no file
        then.
        """
        again: deque[_Held] = deque()
        try:
            for lasting in self._lasting.values():
                writer.event(lasting)
            for _, _, base_us, rows, payload, event, _ in self._held:
                again.append((self._rounds.begun, writer.size, base_us, rows, payload, event, False))
                if event is None:
                    writer.media(base_us, rows, payload)
                else:
                    writer.event(event)
        except (DiskFull, SpoolError):
            self._held = deque((each[0], NOWHERE, *each[2:]) for each in self._held)
            raise
        self._held = again

    def unwritten(self) -> Unwritten:
        """The packets that are in no file, where it is known which they are; asked when no more come."""
        for _, _, base_us, rows, _, _, refused in self._held:
            if refused:
                self._unwritten.add(base_us, rows)
        self._held = deque((*each[:6], False) for each in self._held)
        return self._unwritten
