"""Levels in dBov: 0 is the power of a full-scale square wave, RMS 32768 in 16-bit samples (ITU-T G.100.1)."""

from math import log10
from typing import Final

FULL_SCALE: Final = 32768.0

_FULL_POWER: Final = FULL_SCALE**2

LOWEST: Final = -100.0
"""Where levels begin, in dBov: below the last of 16 bits (-90)."""


def dbov(mean_square: float) -> float:
    """Level in dBov of a mean square in 16-bit units (not in full scales); ``LOWEST`` for anything less."""
    return max(LOWEST, 10 * log10(mean_square / _FULL_POWER)) if mean_square > 1e-9 else LOWEST
