"""Speech that we did not make (espeak-ng), and its level by a method that is not ours (ITU-T P.56)."""

import subprocess
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

ENGLISH = (
    "Good morning, this is the help desk, how may I help you today? I would like to ask about my invoice "
    "from the third of November. One moment please, I will look it up for you. Thank you, that is very kind."
)

Wave = NDArray[np.float64]


@cache
def speech(rate: int = 8000, voice: str = "en", text: str = ENGLISH) -> Wave:
    """A spoken text: float64 of shape (n), in 16-bit units. Its pauses are digital silence."""
    spoken = subprocess.run(
        ["espeak-ng", "-v", voice, "--stdout", text], capture_output=True, check=True
    ).stdout
    raw = subprocess.run(
        [
            "sox",
            "-D",
            "-t",
            "wav",
            "-",
            "-t",
            "raw",
            "-e",
            "signed",
            "-b",
            "16",
            "-c",
            "1",
            "-r",
            str(rate),
            "-",
        ],
        input=spoken,
        capture_output=True,
        check=True,
    ).stdout
    return np.frombuffer(raw, "<i2").astype(np.float64)


def active_level(wave: Wave, rate: int) -> float:
    """Active speech level in dBov by P.56 method B: envelope, thresholds, hangover, margin."""
    samples = np.abs(wave) / 32768
    keep = np.exp(-1 / (rate * 0.03))
    envelope = np.empty(len(samples))
    first = second = 0.0
    for place, sample in enumerate(samples.tolist()):
        first = keep * first + (1 - keep) * sample
        second = keep * second + (1 - keep) * first
        envelope[place] = second
    energy, places = float((samples**2).sum()), np.arange(len(samples))
    levels: list[tuple[float, float]] = []
    for octave in range(15, -1, -1):
        last = np.maximum.accumulate(np.where(envelope >= 2.0**-octave, places, -(10**9)))
        active = int(np.count_nonzero(places - last <= round(0.2 * rate)))
        if not active:
            break
        levels.append((10 * np.log10(energy / active), 20 * np.log10(2.0**-octave)))
    for (level, threshold), (higher, above) in pairwise(levels):
        wide, narrow = level - threshold, higher - above
        if wide >= 15.9 >= narrow:
            return float(level + (higher - level) * (wide - 15.9) / (wide - narrow))
    raise ValueError("no active level")


@cache
def _own_level(rate: int, voice: str, text: str) -> float:
    return active_level(speech(rate, voice, text), rate)


def speech_at(level_dbov: float, rate: int = 8000, voice: str = "en", text: str = ENGLISH) -> Wave:
    """The text spoken at an active speech level of ``level_dbov`` by P.56."""
    return speech(rate, voice, text) * 10 ** ((level_dbov - _own_level(rate, voice, text)) / 20)


def white(level_dbov: float, count: int, seed: int = 1) -> Wave:
    """White noise of a level."""
    return np.random.default_rng(seed).normal(0, 32768 * 10 ** (level_dbov / 20), count)


def pcm(wave: Wave) -> NDArray[np.int16]:
    """A wave as 16-bit samples."""
    return np.clip(np.rint(wave), -32768, 32767).astype(np.int16)
