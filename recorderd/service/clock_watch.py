"""Tells when the host's clock was set, by the clock that cannot be set."""

from typing import Final

LEAST_NS: Final = 2_000_000_000
"""Less is put right by itself: NTP slews, and a window waits for its grace."""


class ClockWatch:
    """To be asked again and again; what it is told are both clocks, in ns."""

    def __init__(self) -> None:
        self._ahead: int | None = None

    def leap(self, now_ns: int, monotonic_ns: int) -> int:
        """By how much the clock leapt ahead since it was asked last, or back (negative); mostly 0."""
        ahead = now_ns - monotonic_ns
        before, self._ahead = self._ahead, ahead
        return ahead - before if before is not None and abs(ahead - before) >= LEAST_NS else 0
