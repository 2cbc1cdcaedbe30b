"""How much slower or faster than the host's a sender's clock runs.

The arrival of a packet minus its timestamp's time is its *skew*; network delay only ever adds to it. Of each
stretch of eight seconds the least skew is kept, a *low*: the lows of a sender whose clock runs as the host's
lie level, and those of a slow one rise, by so many microseconds a second as it is slow in ppm. The slope is
the median of those between all lows that lie well apart (Theil and Sen), which a few minutes of bad network
do not move. What is too little to be heard, or could be the network's doing, is no drift: such a track's
samples stay as they were sent.
"""

from typing import Final, NamedTuple

import numpy as np

LOW_US: Final = 8_000_000
"""The stretch of which one low is kept, cut by the host's clock: the windows' edges are edges of these."""

MAX_LOWS: Final = 64
"""Lows kept of a run; of more, every two neighbours become one."""

FEWEST_LOWS: Final = 8
"""About a minute; 100 ppm are 6 ms until then."""

LEAST_PPM: Final = 5.0
LEAST_US: Final = 2_000.0
"""What drifts by less than either is left as it is."""

MOST_PPM: Final = 1_000.0
"""RTP clocks are crystals; what strays farther was not sent by its timestamps."""

CLEARLY: Final = 3.0
"""So many times the lows' deviation from the line (median) a drift must be."""


class Low(NamedTuple):
    """The least skew of a stretch of time."""

    time_us: float
    """The middle of the stretch."""
    skew_us: float


def low_of(stretch: int, skew_us: float) -> Low:
    """The low of stretch number ``stretch`` (time // LOW_US)."""
    return Low((stretch + 0.5) * LOW_US, skew_us)


def thinned(lows: list[Low]) -> list[Low]:
    """The lower of every two neighbours."""
    return [min(lows[at : at + 2], key=lambda low: low.skew_us) for at in range(0, len(lows), 2)]


def drift_of(lows: list[Low]) -> float:
    """By which part of it the sender's second is longer than the host's: +1e-4 for a clock 100 ppm slow.

    ``lows`` are in order of time; 0.0 where they do not tell.
    """
    if len(lows) < FEWEST_LOWS:
        return 0.0
    level = [low.skew_us for low in lows]
    if max(level) - min(level) < LEAST_US:
        return 0.0  # as nearly always
    while len(lows) > 2 * MAX_LOWS:
        lows = thinned(lows)
    time, skew = np.array(lows).T
    time = time - time[0]
    span = float(time[-1])
    apart = time[None, :] - time[:, None]
    pairs = np.nonzero(apart > span / 4)
    if not len(pairs[0]):
        return 0.0
    slope = float(np.median((skew[pairs[1]] - skew[pairs[0]]) / apart[pairs]))
    off = skew - slope * time
    deviation = float(np.median(np.abs(off - np.median(off))))
    change = abs(slope) * span
    if not LEAST_PPM <= abs(slope) * 1e6 <= MOST_PPM or change < max(LEAST_US, CLEARLY * deviation):
        return 0.0
    return slope / (1 - slope)
