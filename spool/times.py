"""Times as they are shown: RFC 3339 in UTC."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1)  # of UTC, as all is here


def rfc3339(microseconds: int) -> str:
    """``2026-11-21T20:05:01.250Z`` for microseconds since 1970; always of one length, so that texts
    compare as times.

    Times that no calendar holds (a broken clock) are shown as the first or the last one that it does.
    """
    seconds, rest = divmod(microseconds, 1_000_000)
    try:
        return f"{_second(seconds)}.{rest // 1000:03d}Z"
    except OverflowError:
        moment = datetime.min if microseconds < 0 else datetime.max
        return moment.isoformat(timespec="milliseconds") + "Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """A time without its fraction: many of what is told fall into one second. Raises OverflowError."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def microseconds(text: str) -> int:
    """Microseconds since 1970 of what :func:`rfc3339` wrote."""
    moment = datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH) // timedelta(microseconds=1)
