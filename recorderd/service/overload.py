"""What to do without when the recorder cannot keep up, in a declared order (docs/operations.md, "Overload").

Packets that the kernel finds no room for are lost to all calls alike, and that is the worst that can happen.
So long before, as the ring fills, the recorder leaves out what can be spared: first the quality figures, then
new calls, then the newest ones in progress. Every step is told: in `doctor`, in the log, and in the account
of each call that it costs something.
"""

import math
from enum import IntEnum
from typing import Final


class Level(IntEnum):
    """How much is left out."""

    NONE = 0
    NO_QUALITY = 1
    """The sound is not measured."""
    NO_NEW_CALLS = 2
    """Calls that begin are not recorded either."""
    FEWER_CALLS = 3
    """The newest calls in progress are given up, until those that are left can be carried."""

    @property
    def told(self) -> str:
        """In words."""
        return TOLD[self]


TOLD: Final = {
    Level.NONE: "over, everything is recorded and measured again",
    Level.NO_QUALITY: "the sound of the calls is not measured",
    Level.NO_NEW_CALLS: "calls that begin are not recorded, and none is measured",
    Level.FEWER_CALLS: "the newest calls are given up, none that begins is recorded, and none is measured",
}


FILL: Final = {Level.NO_QUALITY: 0.25, Level.NO_NEW_CALLS: 0.45, Level.FEWER_CALLS: 0.6}
"""How full the ring is when a level begins."""

CALM: Final = 0.15
"""Below this nothing is short."""

HOLD_S: Final = 10.0
"""So long it must be calm before a level is left for the one before."""

GIVE_UP_S: Final = 0.2
"""Between two rounds of giving up calls: what the last one saved must show first."""

GIVE_UP_SHARE: Final = 0.1
"""Given up at once where the recorder keeps pace; more where it does not."""

MOST_GIVEN_UP: Final = 0.5
"""At once."""

CATCHES_UP: Final = 1.05
"""A pace above this works off what waits; a ring that overflows all the time goes at a pace of 1."""

FULL: Final = 0.95
"""From here on packets are being lost, or soon will be."""

LAG_FULL_S: Final = 3.0
"""Packets that wait for so long are as bad as a full ring, wherever they wait."""


def shortage(fill: float, lag_s: float) -> float:
    """How short of time the recorder is, as the fill of a ring: the most that a ring was ``fill`` full, and
    what the engine gets now was captured ``lag_s`` ago.
    """
    return max(fill, min(lag_s / LAG_FULL_S, FULL - 0.01))


GROWTH: Final = 1.1
"""After calls were given up, each time it was calm for HOLD_S so many more are tried."""


class Overload:
    """Decides from how full the ring was, each time it was emptied. Time is an argument."""

    def __init__(self) -> None:
        self.level = Level.NONE
        self.budget: int | None = None
        """Calls that can be carried, once that was found out the hard way."""
        self._calm_since: float | None = None
        self._gave_up = -math.inf
        self._pace = math.inf

    def look(self, fill: float, calls: int, now: float, pace: float | None) -> int:
        """Take note that the ring was ``fill`` (0 to 1) full while ``calls`` were recorded; sets the level.

        ``pace`` is how many seconds of their packets were recorded in each second lately; None where that
        cannot be told.
        Returns how many calls to give up now.
        """
        if fill > CALM:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        before = self.level
        wanted = max((level for level, least in FILL.items() if fill >= least), default=Level.NONE)
        if wanted > self.level:
            self.level = wanted
        elif self._calm_since is not None and now - self._calm_since >= HOLD_S:
            self._calm_since = now
            self._recover(calls)
        if fill < FILL[Level.FEWER_CALLS] or now - self._gave_up < GIVE_UP_S or not calls:
            return 0
        if pace is None:
            return 0
        # One bad second may be the host's, if nothing was short before and the ring had room for it.
        lately = pace if fill >= FULL or before >= Level.NO_NEW_CALLS else max(pace, self._pace)
        self._pace = pace
        if lately > CATCHES_UP:
            return 0
        self._gave_up, self._pace = now, math.inf
        share = min(1 - (1 - GIVE_UP_SHARE) * min(pace, 1.0), MOST_GIVEN_UP)
        count = max(1, int(calls * share))
        self.budget = calls - count
        return count

    def _recover(self, calls: int) -> None:
        if self.budget is not None and calls >= self.budget:
            self.budget = max(int(self.budget * GROWTH), self.budget + 1)
        if self.level > Level.NONE:
            self.level = Level(self.level - 1)
