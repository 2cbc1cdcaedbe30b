"""Hours, days and time zones as people write them."""

import re
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

from recorderd.calls.policy import DAYS, Hours

_HOURS = r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])"


def hours_text(value: str) -> str:
    """Raises ValueError for what is no stretch of the day."""
    found = re.fullmatch(_HOURS, value)
    if found is None or (found[3] == "24" and found[4] != "00"):
        raise ValueError(f"must be hours such as 08:00-18:30, is {value!r}")
    return value


def day_text(value: str) -> str:
    """Raises ValueError for what is no day, and no days."""
    first, _, last = value.partition("-")
    if first not in DAYS or (last and last not in DAYS) or value.endswith("-"):
        raise ValueError(f"must be a day such as mon or days such as mon-fri, is {value!r}")
    return value


def zone_text(value: str) -> str:
    """Raises ValueError for the name of no time zone."""
    try:
        _ = zone_of(value)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{value!r} is no time zone that this host knows, such as Europe/London") from None
    return value


def zone_of(name: str) -> tzinfo:
    """The time zone of this name."""
    return UTC if name == "UTC" else ZoneInfo(name)


def as_hours(text: str) -> Hours:
    """``22:00-06:00`` as what it means."""
    found = re.fullmatch(_HOURS, text)
    assert found is not None
    first, last = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    return Hours(first, last)


def as_days(text: str) -> list[int]:
    """``mon-fri`` as the numbers of its days, Monday being 0."""
    first, _, last = text.partition("-")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return [day % 7 for day in range(begin, end + 1 + 7 * (end < begin))]
