"""How long recordings are kept: classes, and when a recording of a class may be destroyed.

Pure; times are microseconds since 1970. A period of years or months ends on the same day of the calendar,
or, where that month is too short, on the first of the next: never early.
"""

import re
from calendar import monthrange
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from recorderd.spool.times import rfc3339

FOREVER: Final = "forever"
_PERIOD = r"([1-9][0-9]{0,4})([dwmy])"
_EPOCH = datetime(1970, 1, 1)  # of UTC
_MICROSECOND = timedelta(microseconds=1)


def check_period(keep: str) -> str:
    """A period that can be used: ``90d``, ``6w``, ``18m``, ``5y`` or ``forever``. Raises ValueError."""
    if keep != FOREVER and re.fullmatch(_PERIOD, keep) is None:
        raise ValueError(f"must be a period such as 90d, 6w, 18m or 5y, or forever; is {keep[:40]!r}")
    return keep


def end_of(since_us: int, keep: str) -> int | None:
    """When a period is over; None for one that never is."""
    found = re.fullmatch(_PERIOD, check_period(keep))
    if found is None:
        return None
    count, unit = int(found[1]), found[2]
    try:
        since = _EPOCH + timedelta(microseconds=since_us)
        end = since + timedelta(days=count * (7 if unit == "w" else 1)) if unit in "dw" else None
        if end is None:
            end = _months_later(since, count * (12 if unit == "y" else 1))
    except (OverflowError, ValueError):
        return None  # beyond what a calendar has
    return (end - _EPOCH) // _MICROSECOND


def _months_later(since: datetime, months: int) -> datetime:
    years, month = divmod(since.month - 1 + months, 12)
    year, month = since.year + years, month + 1
    if since.day > monthrange(year, month)[1]:
        years, month = divmod(month, 12)
        return since.replace(year=year + years, month=month + 1, day=1)
    return since.replace(year=year, month=month)


def time_text(moment_us: int) -> str:
    """A time as texts have it, rounded up to their milliseconds: what expires then does not expire early."""
    return rfc3339(moment_us + -moment_us % 1000)


class RetentionClass(NamedTuple):
    """A kind of recording. ``review``: somebody has to look at those that are over before they may go."""

    name: str
    keep: str
    review: bool = False


class Schedule(NamedTuple):
    """All classes; ``default`` is the name of that of a recording which no rule gives another."""

    classes: tuple[RetentionClass, ...] = ()
    default: str | None = None

    def named(self, name: str | None) -> RetentionClass | None:
        """The class of this name, where there is one."""
        return next((each for each in self.classes if each.name == name), None)

    def longest(self, names: Iterable[str], since_us: int = 0) -> RetentionClass | None:
        """The class that keeps a recording longest, of those that its calls have; an empty name is the
        default's. None, which is for ever, where one of them has none."""
        found = []
        for name in names:
            each = self.named(name or self.default)
            if each is None:
                return None
            found.append(each)
        return max(found, key=lambda each: _length(each, since_us), default=None)

    def stamp(self, names: Iterable[str], since_us: int) -> dict[str, Any] | None:
        """What the manifest says of how long a recording is kept; None where nothing is said of it."""
        found = self.longest(names, since_us)
        return None if found is None else stamp(found.name, found.keep, since_us)


def _length(retention: RetentionClass, since_us: int) -> float:
    end = end_of(since_us, retention.keep)
    return float("inf") if end is None else end


def stamp(name: str, keep: str, since_us: int) -> dict[str, Any]:
    """The class of a recording that ended at ``since_us``, and when it expires."""
    end = end_of(since_us, keep)
    return {
        "class": name,
        "keep": keep,
        "since": time_text(since_us),
        "expires_at": None if end is None else time_text(end),
    }


def stamped_later(known: object, since_us: int) -> dict[str, Any] | None:
    """The stamp of a recording whose end turned out to be another: what a crash left behind."""
    if not isinstance(known, Mapping):
        return None
    try:
        return stamp(known["class"], known["keep"], since_us)
    except (KeyError, TypeError, ValueError):
        return None
