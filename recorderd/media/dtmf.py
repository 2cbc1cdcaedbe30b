"""Keys that are heard: the tones of push-button telephones (ITU-T Q.23) found in G.711.

Each key is two sines, one of each group. Their power is worked out for blocks of 10 ms of all streams at
once, by one product of matrices (what Goertzel's filters do one by one), and put together to frames of 20 ms,
one every 10 ms. A frame has a key if nearly all its power is in one sine of each group, both loud enough and
not too different (Q.24). Two such frames of the same key in a row are a tone: one of 40 ms has that wherever
it begins, and speech hardly ever.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

RATE: Final = 8000
BLOCK: Final = 80
"""Samples of a block."""

LOW: Final = (697.0, 770.0, 852.0, 941.0)
HIGH: Final = (1209.0, 1336.0, 1477.0, 1633.0)
"""ITU-T Q.23: the frequencies of the two groups, in Hz."""

LEAST_POWER: Final = 2 * 40.0**2
"""Of a tone in a frame, mean square in 16-bit units: two sines of -41 dBm0 each."""

IN_TONES: Final = 0.55
"""The share of a frame's power that is in the two sines: of a sender who is 1.5 % off (Q.24), too."""

IN_TONES_BLOCK: Final = 0.8
"""The same for a block alone, where a window ends."""

ABOVE_OTHERS: Final = 4.0
"""By how much a sine has more power than any other of its group."""

TWIST: Final = 16.0
"""By how much one of the sines may have more power than the other: 12 dB."""

Samples = NDArray[np.int16]
Flags = NDArray[np.bool_]

_FREQUENCIES: Final = np.array(LOW + HIGH)
_ANGLES: Final = 2 * np.pi * np.outer(np.arange(BLOCK), _FREQUENCIES) / RATE
_WAVES: Final = np.concatenate([np.cos(_ANGLES), -np.sin(_ANGLES)], axis=1).astype(np.float32)
_NEXT: Final = np.exp(-2j * np.pi * _FREQUENCIES * BLOCK / RATE).astype(np.complex64)
"""What a block's phase is to that of the one before."""


class Found(NamedTuple):
    """What was found in some blocks: which of them are to be silent, and which streams end in a tone."""

    blocks: Flags
    ends: Flags


def find_tones(blocks: Samples, first: NDArray[np.intp], goes_on: Flags) -> Found:
    """Find tones in blocks of shape (n, BLOCK), those of one stream after the other.

    ``first`` (streams) is the first block of each stream, ``goes_on`` (streams) tells those of which the
    blocks before ended in a tone. A block on either side of a tone is silent, too: it may have begun there.
    """
    count = len(blocks)
    wave = blocks.astype(np.float32)
    power = np.einsum("ij,ij->i", wave, wave)
    turned = wave @ _WAVES
    sines = turned[:, :8] + 1j * turned[:, 8:]
    last = np.append(first[1:], count) - 1
    ends = np.zeros(count, np.bool_)
    ends[last] = True
    alone = _keys(sines, power, BLOCK, IN_TONES_BLOCK)
    # A frame is a block and the next one of its stream; the last block of a stream begins none.
    pairs = np.full(count, -1, np.int8)
    if count > 1:
        both = sines[:-1] + sines[1:] * _NEXT
        pairs[:-1] = _keys(both, power[:-1] + power[1:], 2 * BLOCK, IN_TONES)
    pairs[ends] = -1
    heard = pairs >= 0
    again = np.zeros(count, np.bool_)
    again[:-1] = heard[:-1] & (pairs[:-1] == pairs[1:])
    sure = again.copy()
    sure[1:] |= again[:-1]
    # At the edges of a window the other half of what is seen may be on the other side.
    before_last = last[last > first] - 1
    sure[before_last] |= heard[before_last]
    began = first[goes_on]
    sure[began] |= heard[began]
    tone = sure.copy()
    tone[1:] |= sure[:-1]
    tone[last] |= alone[last] >= 0
    silent = tone.copy()
    inner = ~ends[:-1]
    silent[:-1] |= tone[1:] & inner
    silent[1:] |= tone[:-1] & inner
    silent[began] = True
    return Found(silent, tone[last])


def _keys(
    sines: NDArray[np.complex64], power: NDArray[np.float32], samples: int, least_share: float
) -> NDArray[np.int8]:
    """The key of each stretch of so many samples, 0 to 15; -1 where there is none."""
    strength = (sines.real**2 + sines.imag**2) * np.float32(2 / samples)
    low, high = strength[:, :4], strength[:, 4:]
    at_low, at_high = low.argmax(axis=1), high.argmax(axis=1)
    row = np.arange(len(strength))
    best_low, best_high = low[row, at_low], high[row, at_high]
    both = best_low + best_high
    good = (both >= least_share * power) & (both >= LEAST_POWER / 2 * samples)
    good &= (best_low <= TWIST * best_high) & (best_high <= TWIST * best_low)
    good &= (ABOVE_OTHERS + 1) * best_low >= ABOVE_OTHERS * low.sum(axis=1)
    good &= (ABOVE_OTHERS + 1) * best_high >= ABOVE_OTHERS * high.sum(axis=1)
    return np.where(good, 4 * at_low + at_high, -1).astype(np.int8)
