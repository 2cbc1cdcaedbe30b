"""How loud decoded sound is, in frames of 20 ms at any rate."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.quality.coded import Loudness, in_runs

SILENT_SAMPLE: Final = 8
FULL_SAMPLE: Final = 32_124
"""Digital silence is all samples within the one; at the limit is what is beyond the other: as in G.711."""


def loudness(frames: NDArray[np.int16]) -> Loudness:
    """Measure n frames of m samples each: shape (n, m)."""
    wide = frames.astype(np.float32)
    power = np.maximum(np.vecdot(wide, wide) * np.float32(1 / frames.shape[1]), 1)
    peak = np.maximum(
        frames.max(axis=1, initial=0).astype(np.int32), -frames.min(axis=1, initial=0).astype(np.int32)
    )
    power[peak <= SILENT_SAMPLE] = 0
    clipped = np.zeros(len(frames), np.uint8)
    limited = np.flatnonzero(peak >= FULL_SAMPLE)
    if len(limited):
        full = np.abs(frames[limited].astype(np.int32)) >= FULL_SAMPLE
        clipped[limited] = np.minimum(in_runs(full), 255)
    return Loudness(power, peak, clipped)


def together(parts: list[Loudness]) -> Loudness:
    """One after the other; at least one."""
    return Loudness(
        np.concatenate([part.power for part in parts]),
        np.concatenate([part.peak for part in parts]),
        np.concatenate([part.clipped for part in parts]),
    )
