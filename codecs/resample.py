"""Another sample rate for a stretch of sound.

A windowed-sinc interpolation with a phase table, block by block: for tracks whose codec changes in mid-call.
(Whole files are resampled by FFmpeg, see :mod:`recorderd.codecs.files`.)
"""

from functools import lru_cache
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray

_ZEROS: Final = 12
"""Zero crossings of the sinc on each side: 24 taps a sample going up."""


@lru_cache(maxsize=16)
def _phases(up: int, down: int) -> NDArray[np.float32]:
    """Filter taps for each of ``up`` places between two samples: float32 of shape (up, taps)."""
    stretch = max(1.0, down / up)
    half = int(np.ceil(_ZEROS * stretch))
    # 0.92 of the lower Nyquist frequency leaves the window room to fall off before images begin.
    cutoff = 0.92 / stretch
    at = np.arange(up)[:, None] / up - np.arange(1 - half, half + 1)[None, :]
    taps = np.sinc(at * cutoff) * np.i0(9.0 * np.sqrt(np.clip(1 - (at / half) ** 2, 0, 1)))
    taps /= taps.sum(axis=1, keepdims=True)
    return taps.astype(np.float32)


def resample(samples: NDArray[np.int16], source: int, target: int) -> NDArray[np.int16]:
    """Bring samples from ``source`` Hz to ``target`` Hz.

    Shape (n, channels) in, (n * target // source, channels) out; the same array where the rates are equal.
    A block is taken on its own: beyond its ends the sound is assumed to go on as its mirror image through
    the end point, so that blocks join without a click, though the last half millisecond is not what a
    filter over the whole would give.
    """
    if source == target:
        return samples
    count = len(samples) * target // source
    if not count:
        return np.zeros((0, samples.shape[1]), np.int16)
    common = gcd(source, target)
    up, down = target // common, source // common
    taps = _phases(up, down)
    half = taps.shape[1] // 2
    # "reflect" needs a second sample to mirror.
    known = samples if len(samples) > 1 else np.repeat(samples, 2, axis=0)
    wide = np.pad(known.astype(np.float32), ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
    index = np.arange(count) * down
    # Tap k of a row is for the sample 1 - half + k places from the one at or before the output's place.
    rows = np.lib.stride_tricks.sliding_window_view(wide, taps.shape[1], axis=0)[index // up + 1]
    out = np.einsum("ncl,nl->nc", rows, taps[index % up])
    whole: NDArray[np.int16] = np.clip(np.rint(out), -32768, 32767).astype(np.int16)
    return whole
