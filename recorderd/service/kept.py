"""What of a recording no commit has made durable yet, in memory: where the disk loses it, it is written once
more.

A record waits here for each second of each call, and nearly all are dropped unread: they are plain tuples, in
lists, which take a tenth of the memory of queues and are as fast while they are short.
"""

from typing import Any, Final, Protocol

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

MAX_UNTRACED: Final = MAX_KEPT - MAX_TRACED
"""The same of records of which only their place is known, until a commit has them."""

LASTING: Final = DESCRIBING | {"call", "answered", "hold", "besides", "paused", "resumed"}
"""Events that hold for what comes after them: each segment begins with them."""

NOWHERE: Final = -1
"""In place of a size: the record is in no file."""

EARLIER: Final = -2
"""In place of a size: the record is in a file that was left, intact."""

NOT_YET: Final = 1 << 62
"""In place of a round: the writer still has the record, and no sync makes it durable."""

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
        self._held: list[_Held] = []
        self._windows = 0  # media records among them
        self._slipped: list[_Slipped] = []
        # Those before them: round, size, and how many packets.
        self._untraced: list[tuple[int, int, int]] = []
        self._lasting: dict[Any, dict[str, Any]] = {}
        self._unwritten = Unwritten()
        self.packets_lost = 0
        """Packets that are in no file."""
        self.proved = False
        """A commit has succeeded with something of the file that is written now."""
        self._remember(began)

    def media(self, size: int, base_us: int, rows: _Bytes, payload: _Bytes) -> None:
        """Keep packets that a file got, or should have got, behind so many bytes, or that are NOWHERE.

        To be called after the write: only a round that begins from now on makes them durable.
        """
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

    def refused(self) -> None:
        """The newest is in no file, and no writer holds it back."""
        began, size, base_us, rows, payload, event, _ = self._held.pop()
        self._held.append((began, size, base_us, bytes(rows), bytes(payload), event, True))

    def waits(self) -> None:
        """The newest is in no file yet: its writer holds it back, which may take long."""
        _, size, base_us, rows, payload, event, refused = self._held.pop()
        self._held.append((NOT_YET, size, base_us, bytes(rows), bytes(payload), event, refused))

    def written(self) -> None:
        """What its writer held back is in the file now."""
        begun = self._rounds.begun
        self._held = [(min(each[0], begun), *each[1:]) for each in self._held]
        self._slipped = [(min(each[0], begun), *each[1:]) for each in self._slipped]
        self._untraced = [(min(each[0], begun), *each[1:]) for each in self._untraced]

    @property
    def durable(self) -> bool:
        """Whether there may be something to :meth:`forget`; any thread may ask."""
        return self._done != self._rounds.done

    def forget(self) -> None:
        """Drop what is durable."""
        held, slipped, untraced = self._held, self._slipped, self._untraced
        self._done = done = self._rounds.done
        while untraced and untraced[0][0] < done:
            untraced.pop(0)
        while slipped and slipped[0][0] < done:
            slipped.pop(0)
        while held and held[0][0] < done:
            _, _, base_us, rows, _, event, refused = held.pop(0)
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
            began, size, base_us, rows, _, event, refused = held.pop(0)
            if event is None:
                self._windows -= 1
            else:
                self._remember(event)
            if size == EARLIER:
                continue
            if refused or size == NOWHERE:
                self._unwritten.add(base_us, rows)
                self.packets_lost += len(rows) // ROW_BYTES if size == NOWHERE else 0
                continue
            # The rows stay a view of their window: the next commit lets go of that for all calls.
            slipped.append((began, size, base_us, rows))
            if len(slipped) > MAX_TRACED:
                began, size, _, rows = slipped.pop(0)
                self._untraced.append((began, size, len(rows) // ROW_BYTES))
                del self._untraced[:-MAX_UNTRACED]

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
        self._slipped = [(began, size, base_us, bytes(rows)) for began, size, base_us, rows in self._slipped]
        self._held = [
            (began, size, base_us, bytes(rows), bytes(payload), event, refused)
            for began, size, base_us, rows, payload, event, refused in self._held
        ]

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
        self._held = [
            (began, _place(at, intact_bytes, refused=refused), base_us, rows, payload, event, refused)
            for began, at, base_us, rows, payload, event, refused in self._held
        ]
        return intact_bytes < min(unsure, default=size)

    def write_to(self, writer: Writer) -> None:
        """Write what lasts and all that is held once more. Raises DiskFull, SpoolError; nothing has changed
        then, since that file is not used.
        """
        again: list[_Held] = []
        for lasting in self._lasting.values():
            writer.event(lasting)
        for _, _, base_us, rows, payload, event, _ in self._held:
            again.append((self._rounds.begun, writer.size, base_us, rows, payload, event, False))
            if event is None:
                writer.media(base_us, rows, payload)
            else:
                writer.event(event)
        self._held = again

    def unwritten(self) -> Unwritten:
        """The packets that are in no file, where it is known which they are; asked when no more come."""
        left: list[_Held] = []
        for each in self._held:
            _, _, base_us, rows, _, event, refused = each
            if not refused or event is not None:
                left.append(each)
                continue
            # What is told to be missing is not to be in a later file.
            self._unwritten.add(base_us, rows)
            self._windows -= 1
        self._held = left
        return self._unwritten


def _place(at: int, intact_bytes: int, *, refused: bool) -> int:
    """In place of a size, where a record is whose file was left with so many bytes."""
    if at < 0:
        return at
    return NOWHERE if refused or at >= intact_bytes else EARLIER
