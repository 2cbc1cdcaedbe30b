"""How times, lengths and states are shown to people, and the filters that several commands share."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from recorderd.errors import UsageError
from recorderd.tools.command import Session

T = TypeVar("T")
TERMINAL_ROWS: Final = 500
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?)?", re.ASCII)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """The filters by time, number and count."""
    parser.add_argument(
        "--since", metavar="TIME", help="from this time on (UTC, like 2026-11-21 or 2026-11-21T20:05)"
    )
    parser.add_argument("--until", metavar="TIME", help="before this time (UTC)")
    parser.add_argument("--number", metavar="TEXT", help="only where the caller or the callee contains this")
    parser.add_argument("--limit", type=_count, metavar="N", help="only the newest N (on a terminal 500)")


@dataclass(frozen=True, slots=True)
class Page:
    """How much is shown: all, or where somebody looks on the newest only."""

    session: Session
    limit: int | None
    shown: int | None

    def of(self, rows: Sequence[T]) -> Sequence[T]:
        """Those of ``rows`` that are shown; a hint tells of the others."""
        if self.shown is None or len(rows) <= self.shown:
            return rows
        self.session.warn([f"the newest {self.shown} are shown; --limit N shows more"])
        return rows[-self.shown :]


def page_for(session: Session, arguments: argparse.Namespace) -> Page:
    """What ``--limit`` says. Without it all, but on a terminal, where nobody reads a hundred thousand lines,
    :data:`TERMINAL_ROWS`."""
    if arguments.limit is not None or session.json or not session.stdout.isatty():
        return Page(session, arguments.limit, None)
    return Page(session, TERMINAL_ROWS + 1, TERMINAL_ROWS)


def since_until(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    """The two times as the index compares them. Raises UsageError."""
    return _time(arguments.since), _time(arguments.until)


def clock(time: str | None) -> str | None:
    """An RFC 3339 time in UTC, to the second."""
    return None if time is None else time[:19].replace("T", " ")


def duration(seconds: float | None) -> str | None:
    """``0:01:05``."""
    if seconds is None:
        return None
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def about(seconds: float) -> str:
    """``26.5 hours``, ``40 minutes``."""
    minutes = round(seconds / 60)
    if minutes >= 90:
        return f"{seconds / 3600:.1f} hours"
    return f"{minutes} minutes" if minutes > 1 else "about a minute"


def size(count: int | None) -> str | None:
    """``1.2 MB``."""
    if count is None:
        return None
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def sync_word(states: Sequence[dict[str, Any]]) -> str | None:
    """``verified`` when every remote has it, otherwise what is missing where."""
    if not states:
        return None
    missing = [f"{state['remote']}: {state['state']}" for state in states if state["state"] != "verified"]
    return "; ".join(missing) if missing else "verified"


def _time(text: str | None) -> str | None:
    if text is None:
        return None
    if _ISO.fullmatch(text) is None:
        raise UsageError(f"{text!r} is not a time like 2026-11-21 or 2026-11-21T20:05:00")
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        # Times in the index are in whole milliseconds.
        moment += timedelta(microseconds=-moment.microsecond % 1000)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not a time") from None
    # Without the Z, so that it sorts before every fraction of its second, and before itself with the Z.
    text = moment.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return text.removesuffix(".000")


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count")
    return count
