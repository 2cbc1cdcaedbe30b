"""From a track's histograms to the level of its speech and of the noise beneath it.

Neither needs somebody who says, frame by frame, what is speech:

- Noise is steady: over 0.2 s its level changes by a few dB, that of speech by many. So the noise is the mean
  power of the steady frames around their middle, provided that hardly anything is quieter; where something
  is, they are vowels, and the noise is looked for beneath them. With too few steady frames (nobody paused) it
  is unknown.
- Speech stands out from the noise by more than the noise itself varies, and lies within 15.9 dB of the
  level, as in ITU-T P.56 method B. The level is the power of these frames over the time that they and the
  0.2 s after each of them take, without the power of the noise. How well the two agree: docs/quality.md.
"""

from bisect import bisect_left
from math import ceil
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.quality.levels import FULL_SCALE, dbov
from recorderd.quality.tallies import BIN_DB, BINS, CHANGING, LOWEST_DB, RECENT, STEADY

MARGIN_DB: Final = 15.9
"""P.56: a frame further than this under the active level is not counted as active."""

SPEECH_RANGE_DB: Final = 25.0
"""A frame further than this under the active level is no speech: soft sounds are, though not active."""

ABOVE_NOISE_DB: Final = 3.0
"""Nor is one that stands out less than this from the noise."""

ABOVE_SPREAD_DB: Final = 1.5
"""Active is what is further than this above all but the loudest moments of the noise. Each such moment would
count as 0.2 s of speech.
"""

SPREAD_SHARE: Final = 0.98
"""How much of the noise is not its loudest moments."""

LEAST_SNR_DB: Final = 4.0
"""Speech this close to the noise cannot be told from it."""

NOISE_ALONE_SHARE: Final = 0.3
"""Then it is all noise if so much of it is steady, and all speech if not."""

LEAST_SPEECH: Final = 8
"""Frames of speech, 0.16 s, without which there is none: clicks are shorter."""

LEAST_STEADY: Final = 15
LEAST_STEADY_SHARE: Final = 0.03
"""Steady frames needed, as a number and as a share of all, to tell the noise by them."""

BENEATH_DB: Final = 6.0
BENEATH_SHARE: Final = 0.1
"""Steady frames are no noise if more than this share of all frames is further than this beneath them."""

NOISE_RANGE_DB: Final = 10.0
"""A steady frame further than this above the middle one is a vowel or an event."""

Counts = NDArray[np.float64]

_BENEATH: Final = int(BENEATH_DB / BIN_DB)
_NOISE_RANGE: Final = int(NOISE_RANGE_DB / BIN_DB)

_POWERS: Final[NDArray[np.float64]] = FULL_SCALE**2 * 10 ** (
    (LOWEST_DB + np.arange(-1, BINS - 1) * BIN_DB) / 10
)
_POWERS[0] = 0
"""Mean square in 16-bit units by bin."""


class Activity(NamedTuple):
    """What the histograms tell."""

    speech_level_dbov: float | None
    noise_dbov: float | None
    speech_frames: float


class _Noise(NamedTuple):
    level: float
    spread: float
    """How far its loudest moments are above the middle, in dB."""


class _Sums(NamedTuple):
    """Of a track's frames, how many are in the bins before each, the last number being that of all; and the
    same of their power."""

    every: memoryview
    steady: memoryview
    recent: memoryview
    every_power: memoryview
    steady_power: memoryview


def judge(counts: Counts) -> list[Activity]:
    """Work out the figures of n tracks from their histograms, shape (n, 3, BINS); None where nothing tells.

    Where only some of the sound was heard, counts are estimates.
    """
    sums = np.zeros((len(counts), len(_Sums._fields), BINS + 1))
    every, steady, recent, *_ = each = np.moveaxis(sums[:, :, 1:], 1, 0)
    steady[:], recent[:] = counts[:, STEADY], counts[:, RECENT]
    np.add(steady, counts[:, CHANGING], out=every)
    every[:, 0] = steady[:, 0]  # the others are digital silence
    np.multiply(each[:2], _POWERS, out=each[3:])
    # A sum for each bin, of all tracks at once, costs less than those that one track is asked for.
    np.cumsum(sums, axis=2, out=sums)
    # Python reads their memory several times faster than NumPy's numbers.
    return [_judged(_Sums(*[row.data for row in track])) for track in sums]


def _judged(sums: _Sums) -> Activity:
    every, steady = sums.every, sums.steady
    noise = _noise(sums)
    level = _level(sums, noise)
    if noise and (level is None or level - noise.level < LEAST_SNR_DB):
        if steady[BINS] >= NOISE_ALONE_SHARE * every[BINS]:
            return Activity(None, round(noise.level, 2), 0.0)
        # So little of it is steady that it is no noise: somebody who never pauses.
        noise = None
        level = _level(sums, noise)
    if level is None:
        return Activity(None, None, 0.0)
    least = level - SPEECH_RANGE_DB
    if noise:
        least = max(least, noise.level + ABOVE_NOISE_DB)
    soft, active = _bin_above(least), _bin_above(max(least, level - MARGIN_DB))
    # What is steady and not active is the noise of another time.
    frames = every[BINS] - every[soft] - (steady[active] - steady[soft])
    return Activity(round(level, 2), round(noise.level, 2) if noise else None, frames)


def _bin_above(level: float) -> int:
    """The first bin that is not below a level in dBov."""
    return min(max(ceil((level - LOWEST_DB) / BIN_DB) + 1, 1), BINS)


def _noise(sums: _Sums) -> _Noise | None:
    every, steady, upper = sums.every, sums.steady, BINS
    total = every[BINS]
    while upper:
        among = steady[upper]
        if among < max(LEAST_STEADY, LEAST_STEADY_SHARE * total):
            break
        middle = bisect_left(steady, among / 2, 1, upper + 1) - 1
        beneath = max(0, middle - _BENEATH)
        if every[beneath] <= BENEATH_SHARE * total:
            end = min(upper, middle + _NOISE_RANGE)
            counted = steady[end]
            loudest = bisect_left(steady, SPREAD_SHARE * counted, 1, end + 1) - 1
            return _Noise(dbov(sums.steady_power[end] / counted), (loudest - middle) * BIN_DB)
        upper = beneath
    return None


def _level(sums: _Sums, noise: _Noise | None) -> float | None:
    every, recent, powers = sums.every, sums.recent, sums.every_power
    first, under = 1, 0.0
    if noise:
        first = _bin_above(noise.level + max(ABOVE_NOISE_DB, noise.spread + ABOVE_SPREAD_DB))
        under = FULL_SCALE**2 * 10 ** (noise.level / 10)
    while every[BINS] - every[first] >= LEAST_SPEECH:
        among = recent[BINS] - recent[first]
        if among <= 0:
            return None
        power = (powers[BINS] - powers[first]) / among
        # Leaving quiet frames out raises the level, and with it the limit, until no frame is in between.
        higher = _bin_above(dbov(power) - MARGIN_DB)
        if higher <= first:
            return dbov(power - under)
        first = higher
    return None
