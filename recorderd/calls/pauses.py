"""When a recording is paused, and the keys that ask for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

MAX_PAUSES: Final = 500
"""Pauses of one call; what is asked for beyond makes the last one longer, so that nothing is heard that was
not to be.
"""

KEYS_APART_US: Final = 4_000_000
"""Keys of one sequence follow one another within this."""


@dataclass(slots=True)
class Pause:
    """One pause, in microseconds since the epoch; ``until_us`` is None while it lasts.

    ``by`` says who asked, ``reason`` why, as far as was said; an ``endless`` one ends with the call.
    """

    since_us: int
    by: str
    reason: str = ""
    endless: bool = False
    until_us: int | None = None

    def ends_us(self, at_most_us: int) -> int:
        """When it ended, or ``at_most_us`` while it lasts."""
        return at_most_us if self.until_us is None else min(self.until_us, at_most_us)


class Pauses:
    """All pauses of one recording, in order."""

    __slots__ = ("all",)

    def __init__(self) -> None:
        self.all: list[Pause] = []

    @property
    def current(self) -> Pause | None:
        """The one that lasts."""
        return self.all[-1] if self.all and self.all[-1].until_us is None else None

    def begin(self, now_us: int, by: str, reason: str = "", *, endless: bool = False) -> Pause | None:
        """Pause; None where that is so already (it may become endless)."""
        if (lasting := self.current) is not None:
            lasting.endless |= endless
            return None
        if len(self.all) >= MAX_PAUSES:
            self.all[-1].until_us = None
            self.all[-1].endless = True
            return None
        # Never back into one that is over: what was asked for later begins later.
        since_us = max(now_us, self.all[-1].until_us or now_us) if self.all else now_us
        self.all.append(Pause(since_us, by, reason, endless))
        return self.all[-1]

    def end(self, now_us: int) -> Pause | None:
        """Go on; the pause that ended, None where there was none or it has no end."""
        lasting = self.current
        if lasting is None or lasting.endless:
            return None
        lasting.until_us = max(now_us, lasting.since_us)
        return lasting

    def overdue_us(self, most_us: int, now_us: int) -> int | None:
        """When the lasting pause should have ended, where that was before ``now_us``."""
        lasting = self.current
        if lasting is None or lasting.endless or lasting.since_us + most_us > now_us:
            return None
        return lasting.since_us + most_us

    def spans(self, start_us: float, end_us: float) -> Iterator[tuple[float, float, Pause]]:
        """The parts of pauses between two moments."""
        for pause in self.all:
            since = max(pause.since_us, start_us)
            until = end_us if pause.until_us is None else min(pause.until_us, end_us)
            if since < until:
                yield since, until, pause

    def total_s(self, start_us: float, end_us: float) -> float:
        """How long it was paused between two moments."""
        return sum(until - since for since, until, _ in self.spans(start_us, end_us)) / 1e6


class Key(NamedTuple):
    """A key pressed: which, when its end was known, and of which stream (None: told by signalling)."""

    digit: str
    time_us: int
    stream: int | None
    duration: int = 0
    volume: int = 0


class KeySequence:
    """Looks for sequences among the keys that one side presses; the others are let out as soon as they cannot
    be part of one.
    """

    def __init__(self, wanted: Sequence[str]) -> None:
        """``wanted`` are the sequences, none of them empty."""
        self._wanted = tuple(wanted)
        self._held: list[Key] = []

    def press(self, key: Key) -> tuple[str | None, list[Key]]:
        """Take in a key: the sequence that it completes, if any, and the keys that are of none."""
        out: list[Key] = []
        if self._held and key.time_us - self._held[-1].time_us > KEYS_APART_US:
            out = self.rest()
        self._held.append(key)
        while self._held:
            digits = "".join(each.digit for each in self._held)
            if digits in self._wanted:
                self._held.clear()
                return digits, out
            if any(sequence.startswith(digits) for sequence in self._wanted):
                break
            out.append(self._held.pop(0))
        return None, out

    def rest(self) -> list[Key]:
        """What is still held: no more comes, or too late."""
        held, self._held = self._held, []
        return held
