"""How loud G.711 is, worked out on the coded bytes: nothing is decoded.

Both laws are small floating-point numbers: sign, three bits of exponent (the segment), four of mantissa
(ITU-T G.711 tables 1a and 2a). Shifted to where a 32-bit float has its own, they are one, so that arithmetic
on whole blocks takes the place of a table:

- the seven bits of magnitude, all ones for the loudest, are ``(code ^ mask) & 0x7F``;
- ``2**(segment + 7) * (1 + (2 * position + 1) / 32)`` is the magnitude in 16-bit units, plus 132 in mu-law;
  in A-law the first segment is a straight line, ``16 * position + 8``, which is the smaller of the
  expression and twice the expression less 256.

One sample in four is enough for the power of a frame. Which one of each four follows a pattern, so that no
tone meets the same phase each time. Peaks are of every sample.

A block is turned on its side first: eight bytes of every frame, then the next eight of every frame, and so
on. Sums and maxima along a frame are then steps from row to row, which cost a quarter.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.g711 import PCMA, PCMU
from recorderd.media.columns import picked

FRAME: Final = 160
"""Bytes of a frame: 20 ms, and nearly always a packet."""

PATTERN: Final = "32120203130130012210"
"""Which one of each four samples, the same for two fours in a row. Found by trying: the power of any tone
between 100 and 3500 Hz in steps of 25 Hz is right within 27 % (1.4 dB) at its most awkward phase, that of
the tones of telephone networks within 13 %.
"""

BLOCK: Final = 1544
"""Frames worked on at once: what is made of them stays in the cache."""

STRIP: Final = 386
"""Frames turned on their side at once, a quarter of a block: each of their bytes is fetched once."""

FULL: Final = 127
"""The largest magnitude of either law, 32124 or 32256: a sample at the limit."""

FULL_RUN: Final = 3
"""So many samples in a row at the limit are clipped; fewer are a loud moment."""

Codes = NDArray[np.uint8]
Powers = NDArray[np.float32]
Words = NDArray[np.uint64]
Places = NDArray[np.int64]

MU_LAW, A_LAW = range(2)

SILENCE: Final[Codes] = np.array([0xFF, 0x55], np.uint8)
"""By law, a code that is silence; and what turns codes to magnitudes, once the sign is off."""

QUIET: Final[Codes] = np.array([1, 0], np.uint8)
"""By law, the largest magnitude that is digital silence: samples within 8, as A-law has no smaller value."""

SIZES: Final[NDArray[np.int32]] = np.concatenate(
    [
        np.abs(codec.table.astype(np.int32))[np.arange(128) ^ code & 0x7F]
        for codec, code in zip((PCMU, PCMA), SILENCE.tolist(), strict=True)
    ]
)
"""The sample's size in 16-bit units by law, and by magnitude: 2 * 128 of them."""

_WORDS: Final = FRAME // 8
_MASKS: Final[Words] = SILENCE * np.uint64(0x0101_0101_0101_0101)
_MAGNITUDE: Final = np.uint64(0x7F7F_7F7F_7F7F_7F7F)
_TO_TOP: Final[Words] = np.repeat([[24 - 8 * int(digit)] for digit in PATTERN], BLOCK, 1).astype(np.uint64)
"""Brings the chosen samples of a word to the top of its halves, said for each word of a block: shape (_WORDS,
BLOCK). To say it once for each row would take NumPy twice as long."""
_TO_FLOAT: Final = np.uint64(5)
"""From the top of half a word to a float's exponent and mantissa."""
_FIELDS: Final = np.uint64((0x7F << 19) * 0x1_0000_0001)
_HALF_STEP: Final = np.uint64(((127 + 7 << 23) + (1 << 18)) * 0x1_0000_0001)
"""Makes floats of the fields: the exponent of the smallest segment, and the half step in the mantissa."""


class Loudness(NamedTuple):
    """What was measured of n frames."""

    power: Powers
    """Mean square in 16-bit units: 0 for digital silence, at least 1 for everything else."""
    peak: NDArray[np.int32]
    """The largest sample in 16-bit units, without its sign."""
    clipped: NDArray[np.uint8]
    """How many samples are clipped."""

    def only(self, which: NDArray[np.bool_]) -> "Loudness":
        """Some of the frames."""
        return Loudness(self.power[which], self.peak[which], self.clipped[which])


class CodedFrames:
    """Measures frames, block by block, in memory that it keeps."""

    def __init__(self) -> None:
        self._codes = np.empty(_WORDS * BLOCK, np.uint64)
        self._line = np.empty(_WORDS * BLOCK, np.uint64)

    def measure(self, frames: Codes, law: Codes, rows: Places | None = None) -> Loudness:
        """Measure ``frames`` of shape (n, FRAME), rows of contiguous bytes, coded in ``law`` (n) each; or
        of more frames those that ``rows`` (n) tells.
        """
        count = len(law)
        power, peak = np.empty(count, np.float32), np.empty(count, np.uint8)
        for first in range(0, count, BLOCK):
            part = slice(first, first + BLOCK)
            some = frames[part] if rows is None else picked(frames, rows[part])
            self._measure(some, law[part], power[part], peak[part])
        clipped = np.zeros(count, np.uint8)
        limited = np.flatnonzero(peak == FULL)
        if len(limited):
            loud = frames[limited if rows is None else rows[limited]]
            clipped[limited] = in_runs((loud ^ SILENCE[law[limited], None]) & 0x7F == FULL)
        return Loudness(power, SIZES.take(law << 7 | peak), clipped)

    def _measure(self, frames: Codes, law: Codes, power: Powers, peak: Codes) -> None:
        codes, upright = self._codes[: _WORDS * len(frames)].reshape(_WORDS, -1), frames.view(np.uint64)
        for first in range(0, len(frames), STRIP):
            part = slice(first, first + STRIP)
            np.copyto(codes[:, part], upright[part].T)
        alike = law.min() == law.max()
        mask, quiet = (_MASKS[law[0]], QUIET[law[0]]) if alike else (_MASKS[law], QUIET[law])
        np.bitwise_xor(codes, mask, out=codes)
        np.bitwise_and(codes, _MAGNITUDE, out=codes)
        _largest(codes, peak)
        self._powers(codes, law, power)
        np.maximum(power, 1, out=power)
        power[peak <= quiet] = 0

    def _powers(self, codes: Words, law: Codes, power: Powers) -> None:
        """The power of each frame; uses up the codes."""
        np.left_shift(codes, _TO_TOP[:, : codes.shape[1]], out=codes)
        np.right_shift(codes, _TO_FLOAT, out=codes)
        np.bitwise_and(codes, _FIELDS, out=codes)
        np.add(codes, _HALF_STEP, out=codes)
        size = codes.view(np.float32)
        if not law.any():
            np.subtract(size, np.float32(132), out=size)
        else:
            line = self._line[: codes.size].reshape(codes.shape).view(np.float32)
            # One number for all takes NumPy half as long as one a frame.
            its = law[0] if law.all() else np.repeat(law, 2)
            offset = np.where(its == A_LAW, np.float32(0), np.float32(132))
            np.subtract(size, offset, out=line)
            np.add(size, line, out=size)
            np.subtract(size, np.where(offset, np.float32(132), np.float32(256)), out=size)
            np.minimum(size, line, out=size)
        np.multiply(size, size, out=size)
        halves = np.add.reduce(size, axis=0)
        np.add(halves[::2], halves[1::2], out=power)
        np.multiply(power, np.float32(4 / FRAME), out=power)


def _largest(codes: Words, out: Codes) -> None:
    """The largest byte of each column."""
    eight = np.maximum.reduce(codes.view(np.uint8), axis=0)
    four = np.maximum(eight[:-4], eight[4:])
    two = np.maximum(four[:-2], four[2:])
    np.maximum(two[:-1:8], two[1::8], out=out)


def in_runs(full: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the samples at the limit that are not alone there: for frames (n, FRAME), shape (n)."""
    both = full[:, :-2] & full[:, 1:-1] & full[:, 2:]
    out = np.zeros_like(full)
    for at in range(FULL_RUN):
        out[:, at : at + both.shape[1]] |= both
    count: NDArray[np.int64] = np.count_nonzero(out, axis=1)
    return count
