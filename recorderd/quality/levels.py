"""Levels in dBov: 0 is the power of a full-scale square wave, RMS 32768 in 16-bit samples (ITU-T G.100.1)."""

from math import log10
from typing import Final

import numpy as np
from numpy.typing import NDArray

FULL_SCALE: Final = 32768.0

LOWEST: Final = -100.0
"""Where levels begin, in dBov: below the last of 16 bits (-90)."""

BINS: Final = 200
BIN_DB: Final = 0.5

BIN_LEVELS: Final[NDArray[np.float64]] = np.arange(BINS, dtype=np.float64) * BIN_DB + LOWEST
"""Lower edge of each histogram bin in dBov; the last goes up to 0."""

_BIN_POWERS: Final = (10 ** (BIN_LEVELS / 10) * FULL_SCALE**2).astype(np.float32)


def dbov(mean_square: float) -> float:
    """Level in dBov of a mean square in 16-bit units (not in full scales); ``LOWEST`` for anything less."""
    return max(LOWEST, 10 * log10(max(mean_square, 1e-9) / FULL_SCALE**2))


def bins(mean_square: NDArray[np.float32]) -> NDArray[np.intp]:
    """Histogram bin of each mean square (n) in 16-bit units: indices from 0 to BINS - 1."""
    return np.maximum(np.searchsorted(_BIN_POWERS, mean_square, side="right") - 1, 0)
