"""What the simulated speakers say: signals that can be read at any place, so that nothing long need be kept.

A signal gives the same samples for the same place however it is asked. Rates are 8000 and 48000 Hz; a signal
at one rate is not a resampling of the same signal at the other.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Places = NDArray[np.int64]
Pcm = NDArray[np.int16]


class Signal(Protocol):
    """Something to say."""

    def window(self, starts: Places, count: int, rate: int) -> Pcm:
        """Samples ``start .. start+count`` for each start: shape (len(starts), count)."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Speech:
    """Speech-like: voiced syllables of changing pitch and formant, pauses, and a floor of noise unique to the
    seed.

    Two seeds differ in every stretch of a few milliseconds, so a swapped or shifted track cannot pass for the
    other.
    """

    seed: int
    gain: float = 1.0

    def window(self, starts: Places, count: int, rate: int) -> Pcm:
        voice, noise = _voice_pool(rate), _noise_pool(rate)
        mixed = _read(voice, starts + self.seed * 7_919_113, count) * np.float32(self.gain)
        mixed += _read(noise, starts + self.seed * 104_729, count)
        return _pcm(mixed)


@dataclass(frozen=True)
class Tone:
    """A sine of ``frequency`` Hz at ``level_dbov`` (0 dBov is a full-scale square wave)."""

    frequency: float
    level_dbov: float = -20.0

    def window(self, starts: Places, count: int, rate: int) -> Pcm:
        peak = 32768 * 10 ** (self.level_dbov / 20) * np.sqrt(2)
        phase = 2 * np.pi * self.frequency / rate * (starts[:, None] + np.arange(count))
        return _pcm(peak * np.sin(phase))


@dataclass(frozen=True)
class Noise:
    """White noise at ``level_dbov``."""

    seed: int
    level_dbov: float = -30.0

    def window(self, starts: Places, count: int, rate: int) -> Pcm:
        noise = _read(_noise_pool(rate), starts + self.seed * 104_729, count)
        return _pcm(noise * np.float32(32768 * 10 ** (self.level_dbov / 20) / _NOISE_RMS))


@dataclass(frozen=True)
class Silence:
    """Digital silence."""

    def window(self, starts: Places, count: int, rate: int) -> Pcm:
        return np.zeros((len(starts), count), np.int16)


@dataclass(frozen=True, eq=False)
class Samples:
    """Given samples, int16[n], at the codec's rate; silence after their end."""

    samples: Pcm

    def window(self, starts: Places, count: int, rate: int) -> Pcm:
        if int(starts.max(initial=0)) + count <= len(self.samples):
            return sliding_window_view(self.samples, count)[starts]
        at = starts[:, None] + np.arange(count)
        there = at < len(self.samples)
        windows = np.zeros(at.shape, np.int16)
        windows[there] = self.samples[at[there]]
        return windows


_NOISE_RMS = 12.0  # about -69 dBov: below what counts as noise, above what G.711 quantises away
_LONGEST = 5760  # samples of the longest packet (120 ms at 48 kHz), repeated at the end of a pool


def _pcm(wave: NDArray[np.float32] | NDArray[np.float64]) -> Pcm:
    rounded: Pcm = np.clip(np.rint(wave), -32768, 32767).astype(np.int16)
    return rounded


def _read(pool: NDArray[np.float32], starts: Places, count: int) -> NDArray[np.float32]:
    return sliding_window_view(pool, count)[starts % (len(pool) - _LONGEST)]


@lru_cache(maxsize=4)
def _noise_pool(rate: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(20).standard_normal(rate * 7 + 1, dtype=np.float32) * np.float32(_NOISE_RMS)
    return np.concatenate([noise, noise[:_LONGEST]])


@lru_cache(maxsize=4)
def _voice_pool(rate: int) -> NDArray[np.float32]:
    """About a minute of one voice; its length shares no factor with the noise's."""
    rng = np.random.default_rng(10)
    count = rate * 61 + 7
    time = np.arange(count, dtype=np.float32) / rate
    knots = np.arange(0, 63, 0.2)
    pitch = np.interp(time, knots, rng.uniform(95, 190, len(knots)))
    phase = (2 * np.pi * np.cumsum(pitch / rate)).astype(np.float32)
    formant = np.interp(time, knots, rng.uniform(300, 900, len(knots))).astype(np.float32)
    voice = np.zeros(count, np.float32)
    for harmonic in range(1, 14):
        nearness = (harmonic * pitch.astype(np.float32) - formant) / 350
        voice += np.sin(harmonic * phase) * np.exp(-nearness * nearness) / np.float32(harmonic**0.5)
    syllables = (rng.random(63 * 5) < 0.7).astype(np.float32)
    place = time * 5
    envelope = syllables[place.astype(np.int64)] * np.sin(np.pi * (place % 1)) ** 0.5
    voice *= envelope
    voice *= np.float32(32768 * 10 ** (-18 / 20)) / np.float32(np.sqrt(np.mean(voice[envelope > 0] ** 2)))
    return np.concatenate([voice, voice[:_LONGEST]])
