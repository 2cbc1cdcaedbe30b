"""From a histogram of frame levels to the level of the speech and of the noise beneath it.

A VAD alone does not tell them apart well enough to measure: it holds on after the last word, wakes up late
for the first one, takes the first moments of any noise and all of a loud one for speech. Together with how
loud the frames were it does:

- Noise is the mean power of the background. Where there is too little of it (nobody paused, or the VAD never
  let go) it is that of the quietest tenth of all frames, if those are equally quiet, as noise is. Dips in
  speech are not: then the noise is unknown.
- Speech is what the VAD calls speech, stands out from the noise and is within 25 dB of the resulting level.
- The level is the power of those frames over the time that the speaker was active, short dips after words
  included, as ITU-T P.56 has it with its hangover of 0.2 s. How well the two agree: docs/quality.md.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.quality.frame_log import BACKGROUND, HANGOVER, SPEECH, LevelHistogram
from recorderd.quality.levels import BIN_LEVELS, LOWEST, dbov

SPEECH_RANGE_DB: Final = 25.0
"""A frame further than this under the active level is no speech, whatever the VAD said."""

ABOVE_NOISE_DB: Final = 3.0
"""Nor is one that stands out less than this from the noise."""

LEAST_SNR_DB: Final = 4.0
"""Speech this close to the noise cannot be told from it: as loud as the noise, it measures 3 dB above."""

LEAST_SPEECH: Final = 5
"""Frames of speech without which there is none: clicks and the VAD's first moments are shorter."""

LEAST_BACKGROUND: Final = 10
LEAST_BACKGROUND_SHARE: Final = 0.03
"""Background frames needed, as a number and as a share of all, to tell the noise by them."""

NOISE_RANGE_DB: Final = 10.0
"""A background frame further than this above the middle one is a word or an event that the VAD overheard."""

FLOOR: Final = (0.02, 0.1)
STEADY_DB: Final = 3.0
"""The quietest tenth is noise if from its second part in a hundred on it lies within these dB."""

MOST_HANGOVER: Final = 0.5
"""Hangover in proportion to speech, at most: a VAD that flutters makes many stretches."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What a histogram tells."""

    speech_level_dbov: float | None
    noise_dbov: float | None
    speech_frames: int


def judge(histogram: LevelHistogram) -> Activity:
    """Work out the figures; None where there is nothing to tell them by."""
    counts, power = histogram.counts, histogram.power
    everything = int(counts.sum())
    noise = _noise(counts, power) if everything else None
    level, frames = _speech(histogram, LOWEST if noise is None else noise)
    if level is None or (noise is not None and level - noise < LEAST_SNR_DB):
        # Nothing stands out: what the VAD took for speech is noise too, if it is enough to tell.
        if everything and 2 * counts[BACKGROUND].sum() < everything:
            noise = dbov(power.sum() / everything)
        return Activity(None, _rounded(noise), 0)
    return Activity(_rounded(level), _rounded(noise), frames)


def _rounded(level: float | None) -> float | None:
    # More would say nothing, and would depend on the order of additions.
    return None if level is None else round(level, 2)


def _noise(counts: NDArray[np.int64], power: NDArray[np.float64]) -> float | None:
    everything, background = int(counts.sum()), int(counts[BACKGROUND].sum())
    if background >= max(LEAST_BACKGROUND, LEAST_BACKGROUND_SHARE * everything):
        middle = int(np.searchsorted(np.cumsum(counts[BACKGROUND]), background / 2))
        end = int(np.searchsorted(BIN_LEVELS, BIN_LEVELS[middle] + NOISE_RANGE_DB))
        return dbov(power[BACKGROUND, :end].sum() / counts[BACKGROUND, :end].sum())
    upto = np.cumsum(counts.sum(axis=0))
    first, last = (int(np.searchsorted(upto, share * everything)) for share in FLOOR)
    if BIN_LEVELS[last] - BIN_LEVELS[first] > STEADY_DB:
        return None
    return dbov(power[:, : last + 1].sum() / upto[last])


def _speech(histogram: LevelHistogram, noise: float) -> tuple[float | None, int]:
    counts, power = histogram.counts[SPEECH], histogram.power[SPEECH]
    first = int(np.searchsorted(BIN_LEVELS, noise + ABOVE_NOISE_DB))
    while True:
        frames = int(counts[first:].sum())
        if frames < LEAST_SPEECH:
            return None, 0
        # Leaving quiet frames out raises the level, and with it the limit, until no frame is in between.
        limit = dbov(power[first:].sum() / frames) - SPEECH_RANGE_DB
        narrower = int(np.searchsorted(BIN_LEVELS, limit))
        if narrower <= first:
            break
        first = narrower
    dips = int(counts[:first].sum()) + histogram.pauses
    active = frames + min(dips, HANGOVER * histogram.stretches, int(MOST_HANGOVER * frames))
    return dbov(power[first:].sum() / active), frames
