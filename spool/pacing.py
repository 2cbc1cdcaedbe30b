"""When a remote is used, and how fast: its hours, its bandwidth, and its pauses after an outage.

Pure: the time is an argument. Wall-clock times are ns since 1970, those of a rate are seconds of a clock that
only goes forward.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import NamedTuple

S_NS = 1_000_000_000
FIRST_PAUSE_S = 2
LONGEST_PAUSE_S = 600


class Timetable(NamedTuple):
    """The hours in which a remote is used, as the clocks of ``zone`` show them (None: of this host).

    ``hours`` are pairs of minutes from midnight; where the second is not after the first they go on into the
    next day, and belong to the day on which they began. Empty ``hours`` are all, and so are empty ``days``
    (Monday is 0). An hour that the end of summer time repeats counts both times, one that its beginning skips
    does not come.
    """

    hours: tuple[tuple[int, int], ...] = ()
    days: frozenset[int] = frozenset()
    zone: tzinfo | None = None

    def is_open(self, now_ns: int) -> bool:
        """Whether the remote is used at this time."""
        if not self.hours and not self.days:
            return True
        try:
            moment = datetime.fromtimestamp(now_ns // S_NS, self.zone)
        except (OverflowError, ValueError, OSError):
            return True  # A clock beyond all calendars is no reason to keep recordings back.
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        return any(
            first <= at < last + 1440 * (last <= first) and (not self.days or on in self.days)
            for first, last in self.hours or ((0, 1440),)
            for at, on in ((minute, day), (minute + 1440, (day - 1) % 7))
        )

    def opens_ns(self, now_ns: int) -> int | None:
        """When it is open next, to the minute: now, if it is. None where that is not within eight days."""
        if self.is_open(now_ns):
            return now_ns
        minute = 60 * S_NS
        at = now_ns // minute * minute
        return next((at + n * minute for n in range(1, 8 * 1440) if self.is_open(at + n * minute)), None)


class TokenBucket:
    """A rate in bytes a second, with at most ``burst`` saved up. None: no bound.

    What is taken may be more than there is; the waiting then comes after it, so that a chunk larger than the
    burst passes, too.
    """

    def __init__(self, rate: float | None, burst: float = 0.0) -> None:
        self.rate, self.burst = rate, burst
        self._level = 0.0
        self._at_s: float | None = None

    def take(self, count: int, now_s: float) -> float:
        """Take so many bytes; returns how long to wait before the next are taken, in seconds."""
        if self.rate is None:
            return 0.0
        if self._at_s is None:
            self._level = self.burst
        else:
            self._level = min(self.burst, self._level + max(0.0, now_s - self._at_s) * self.rate)
        self._at_s = now_s
        self._level -= count
        return max(0.0, -self._level / self.rate)


class Terms(NamedTuple):
    """How a remote is used.

    ``bandwidth`` in bytes a second, both ways together; ``sample`` is the share of the recordings that are
    read back, 0 to 1; ``key_slots`` whether it gets them.
    """

    key_slots: bool = True
    parallel: int = 1
    bandwidth: int | None = None
    timetable: Timetable = Timetable()
    newest_first: bool = False
    sample: float = 1.0


def longest_pause_s(failures: int) -> float:
    """The longest that may be waited after so many failures in a row, in seconds."""
    return float(min(FIRST_PAUSE_S * 2 ** min(max(failures, 1) - 1, 20), LONGEST_PAUSE_S))


def pause_ns(failures: int, random: Callable[[], float]) -> int:
    """How long to wait after so many failures in a row: anything up to the longest ("full jitter"), so that
    many recorders do not come back to a remote all at once. ``random`` gives 0 to below 1."""
    return 1 + int(longest_pause_s(failures) * random() * S_NS)


def is_waiting(until_ns: int, now_ns: int) -> bool:
    """Whether a pause lasts. One that would last longer than any pause is that of a clock that was wrong."""
    return 0 < until_ns - now_ns <= LONGEST_PAUSE_S * S_NS


def is_sampled(recording: str, share: float, key: bytes) -> bool:
    """Whether a recording is among those that are read back; without the key nobody can tell."""
    if share >= 1.0:
        return True
    drawn = hashlib.blake2b(recording.encode(), key=key, digest_size=8, person=b"recorderd sample").digest()
    return int.from_bytes(drawn, "big") < share * 2**64


class Meter:
    """What was carried in the last minutes, in slots of some seconds: bytes and recordings a second."""

    def __init__(self, span_s: int = 300, slot_s: int = 10) -> None:
        self.span_s, self.slot_s = span_s, slot_s
        self._slots: dict[int, list[int]] = {}
        self._since_s: float | None = None

    def add(self, recordings: int, size: int, now_s: float) -> None:
        """So much arrived."""
        if self._since_s is None:
            self._since_s = now_s - self.slot_s
        slot = self._slots.setdefault(int(now_s // self.slot_s), [0, 0])
        slot[0] += recordings
        slot[1] += size
        oldest = int((now_s - self.span_s) // self.slot_s)
        for number in [number for number in self._slots if number < oldest]:
            del self._slots[number]

    def rates(self, now_s: float) -> tuple[float, float]:
        """Recordings and bytes a second, over the span or what there is of it."""
        if self._since_s is None:
            return 0.0, 0.0
        oldest = int((now_s - self.span_s) // self.slot_s)
        kept = [slot for number, slot in self._slots.items() if number >= oldest]
        span = max(1.0, min(float(self.span_s), now_s - self._since_s))
        return sum(slot[0] for slot in kept) / span, sum(slot[1] for slot in kept) / span
