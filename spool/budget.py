"""How much room there is for recordings, and what may go when there is little: decisions alone, no disk
(docs/operations.md, "When the disk fills up").

What the spool may use is what it uses already and what is free beside it, less a reserve, and no more than
the configuration says. So on a disk of its own the marks are about the disk, and on a disk shared with others
the others count as what cannot be had.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

GB: Final = 1_000_000_000
DAY_S: Final = 86_400

MARKS: Final = (0.80, 0.90, 0.95)
CALM: Final = 0.02
"""A mark is left when the spool is filled so much less: a fill that goes up and down is told once."""

EVICT_ABOVE: Final = 0.75
EVICT_TO: Final = 0.70
"""Room is made before the first mark is reached: an alert means that this was not enough."""

RESERVE_SHARE: Final = 0.02
RESERVE_MOST: Final = GB
"""The reserve by default: this share of the file system, but no more than that."""

AGAIN: Final = 0.25
"""New calls are recorded again once so much of the reserve, and the reserve itself, is free."""


class Limits(NamedTuple):
    """What the spool may use. Bytes; None where the configuration says nothing."""

    most_bytes: int | None = None
    most_share: float | None = None
    reserve_bytes: int | None = None
    marks: tuple[float, ...] = MARKS
    keep_days: float | None = None
    recheck_days: float = 30.0

    def reserve(self, total: int) -> int:
        """What is kept for the calls in progress on a file system of ``total`` bytes."""
        if self.reserve_bytes is not None:
            return min(self.reserve_bytes, total)
        return min(int(total * RESERVE_SHARE), RESERVE_MOST)


class Room(NamedTuple):
    """Bytes of a file system and of the spool's recordings on it, at one moment."""

    total: int
    free: int
    used: int
    limits: Limits = Limits()

    @property
    def reserve(self) -> int:
        """What is kept for the calls in progress."""
        return self.limits.reserve(self.total)

    @property
    def most(self) -> int:
        """What the recordings may take."""
        limits = [self.used + self.free - self.reserve]
        if self.limits.most_bytes is not None:
            limits.append(self.limits.most_bytes)
        if self.limits.most_share is not None:
            limits.append(int(self.total * self.limits.most_share))
        return max(0, min(limits))

    @property
    def left(self) -> int:
        """What recordings may still take before the reserve is begun; negative where it is."""
        return min(self.most - self.used, self.free - self.reserve)

    @property
    def fill(self) -> float:
        """0 to 1, and more where the reserve is being used."""
        if self.left <= 0:
            return 1.0 - self.left / max(1, self.total)
        return self.used / self.most

    def over(self, share: float) -> int:
        """How many bytes have to go for the fill to be ``share``, at most."""
        # What goes becomes free: what the spool may take stays as it is.
        return max(0, math.ceil(self.used - share * self.most))


class Marks:
    """The marks that were passed. Each is told once, and again only after the fill was clearly below it."""

    def __init__(self, marks: Sequence[float]) -> None:
        self.marks = marks
        self.passed: float | None = None

    def look(self, fill: float) -> float | None:
        """Take note of the fill; the highest mark that it has newly passed, or None."""
        if self.passed is not None and fill < self.passed - CALM:
            self.passed = max((mark for mark in self.marks if mark <= fill), default=None)
        highest = max((mark for mark in self.marks if mark <= fill), default=None)
        if highest is None or (self.passed is not None and highest <= self.passed):
            return None
        self.passed = highest
        return highest


class Admittance:
    """Whether calls that begin are recorded: no more of them once the reserve is all that is left."""

    def __init__(self) -> None:
        self.full = False

    def look(self, left: int, reserve: int) -> bool:
        """Take note of what is left beside the reserve (bytes); returns :attr:`full`."""
        # With no reserve at all the disk itself tells when it is full.
        self.full = left <= int(reserve * AGAIN) if self.full else left <= 0
        return self.full


class Local(NamedTuple):
    """A recording that is here and verified on every remote. ``age_days`` is since its start, ``here_days``
    since it came here, where that is later."""

    id: str
    bytes: int
    age_days: float
    here_days: float = math.inf


def to_go(candidates: Iterable[Local], room: Room, *, relieving: bool) -> Iterator[Local]:
    """Those of ``candidates``, which are given oldest first, whose local files are to go, oldest first.

    What is older than the local window goes at once. The rest goes only ``relieving``, until the fill is back
    at EVICT_TO.
    """
    wanted = room.over(EVICT_TO) if relieving else 0
    keep_days = room.limits.keep_days
    for each in candidates:
        if wanted <= 0:
            if keep_days is None or each.age_days <= keep_days:
                return
            if each.here_days <= keep_days:
                continue
        wanted -= each.bytes
        yield each


class Trend:
    """How fast the room goes, from what was left at several moments of the last hour."""

    SPAN_S: Final = 3600.0
    EVERY_S: Final = 15.0
    LEAST_S: Final = 300.0
    """A shorter time says little: somebody may have copied a file there."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def look(self, now: float, left: int) -> float | None:
        """Take note of what is left at ``now`` (s); seconds until nothing is, None where it does not get
        less."""
        if not self._seen or now - self._seen[-1][0] >= self.EVERY_S:
            self._seen.append((now, left))
        while now - self._seen[0][0] > self.SPAN_S:
            self._seen.popleft()
        if left <= 0:
            return 0.0
        then, before = self._seen[0]
        if now - then < self.LEAST_S or before <= left:
            return None
        return left * (now - then) / (before - left)
