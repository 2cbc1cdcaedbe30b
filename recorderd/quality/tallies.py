"""What is kept of every track: how many of its frames were how loud. A column a fact, a row a track.

A frame is 20 ms; two are filed together. Three histograms tell, once the noise is known, what is speech, and
no verdict need be given while the call is running:

- of the pairs that lie in a stretch of *steady* sound (200 ms within a few dB), as noise is between words;
- of the other pairs;
- of the loudest within the last 200 ms, for each pair: those beyond a threshold are what ITU-T P.56 calls
  active at this threshold, its hangover included.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.media.columns import counts, grown

FRAME_S: Final = 0.02

PAIR: Final = 2
"""Frames that are filed together: their power is told better, and each step costs half."""

HANGOVER: Final = 6
"""Pairs: one, and the 0.2 s after it in which a speaker is still active (P.56). So long a sound is steady."""

MORE: Final = HANGOVER - 1
"""Pairs before one that must be known to tell whether it is steady."""

WARM_UP: Final = 3
"""Pairs until a decoder that began in the middle of a stream is right."""

STEADY_DB: Final = 6.0
"""A stretch is steady if its loudest and its quietest frame differ by no more than this."""

BINS: Final = 256
BIN_DB: Final = 0.375
LOWEST_DB: Final = -95.25
"""Level of bin 1 in dBov; bin 0 is digital silence, bin 255 is 0."""

CHANGING, STEADY, RECENT = range(3)
"""The histograms: of frames that are part of no steady stretch, of those that are, of recent loudness."""

Powers = NDArray[np.float32]
Places = NDArray[np.int64]
Bins = NDArray[np.uint8]

_CELLS: Final[Places] = np.arange(3) * BINS
"""Where each histogram of a track begins."""
_PER_DOUBLING: Final = np.float32(10 * np.log10(2) / BIN_DB)
_OFFSET: Final = np.float32(1.5 - (20 * np.log10(32768) + LOWEST_DB) / BIN_DB)
"""Makes bins of the logarithm (to the base 2) of a mean square in 16-bit units, rounded."""


class _Lines(NamedTuple):
    """The pairs of m runs, each run behind the MORE that came before it."""

    bins: Bins
    """Of all that (n)."""
    before: Places
    """Where what came before each run is: shape (m, MORE)."""
    pairs: Places
    """How many they are (m)."""


class Tallies:
    """The histograms of all tracks."""

    def __init__(self) -> None:
        self.counts: NDArray[np.float32] = np.zeros((0, 3, BINS), np.float32)
        """Frames by track, histogram and bin. Where some stand for others, they count for more than one."""
        self._held: Powers = np.zeros(0, np.float32)
        self._recent: NDArray[np.uint8] = np.zeros((0, MORE), np.uint8)

    def grow(self, size: int) -> None:
        """Make room for ``size`` tracks."""
        before = len(self._held)
        for name in ("counts", "_held", "_recent"):
            setattr(self, name, grown(getattr(self, name), size))
        self._held[before:] = -1

    def clear(self, track: int) -> None:
        """Begin with nothing."""
        self.counts[track] = self._recent[track] = 0
        self._held[track] = -1

    def file(self, power: Powers, starts: Places, tracks: Places, weight: NDArray[np.float32]) -> None:
        """File n frames, a run of them for each of ``tracks`` (m), all different, from where it was left.

        A frame counts for ``weight`` (by track).

        ``power`` (n) is the mean square of each frame in 16-bit units, 0 for digital silence; a run begins at
        each of ``starts`` (m), which are in order, the first of them 0.
        """
        held = self._held[tracks]
        lines = _lines(power, starts, held, self._recent[tracks])
        lengths = counts(starts, len(power))
        left = (lengths + (held >= 0)) & 1
        self._held[tracks] = np.where(left, power[starts + lengths - 1], -1)
        self._recent[tracks] = lines.bins[lines.before + lines.pairs[:, None]]
        each = np.repeat(PAIR * weight[tracks], lines.pairs + MORE)
        each[lines.before] = 0  # counted already
        row = np.repeat(tracks * (3 * BINS), lines.pairs + MORE)[MORE:]
        recent, steady = _around(lines.bins)
        of = np.where(steady, row + _CELLS[STEADY], row + _CELLS[CHANGING])
        self._add(of + lines.bins[MORE:], each[MORE:])
        self._add(row + _CELLS[RECENT] + recent, each[MORE:])

    def file_turns(self, power: Powers, starts: Places, tracks: Places, frames: NDArray[np.float64]) -> None:
        """File n frames in runs that follow nothing: what came before each is not known.

        The runs of a track together stand for ``frames`` (m) of them. The first WARM_UP pairs of each run are
        not counted, and only those that have MORE before them tell what was recent; every run is
        longer.
        """
        count = len(starts)
        lines = _lines(power, starts, np.full(count, -1, np.float32), np.zeros((count, MORE), np.uint8))
        begin = np.repeat(lines.before[:, 0], lines.pairs + MORE)[MORE:]
        place = np.arange(len(begin)) - begin
        recent, steady = _around(lines.bins)
        # Those of the first 0.2 s are as steady as they are together.
        steady = steady[begin + np.maximum(place, MORE)]
        cells = np.where(steady, _CELLS[STEADY], _CELLS[CHANGING]) + lines.bins[MORE:]
        for cell, skipped in ((cells, WARM_UP), (_CELLS[RECENT] + recent, MORE)):
            left, told = lines.pairs - skipped, place >= skipped
            each = (frames / _together(tracks, left)).astype(np.float32)
            self._add(np.repeat(tracks * (3 * BINS), left) + cell[told], np.repeat(each, left))

    def _add(self, cells: Places, frames: NDArray[np.float32]) -> None:
        np.add.at(self.counts.reshape(-1), cells, frames)


def _together(tracks: Places, lengths: Places) -> Places:
    """For each run, how long all those of its track are."""
    _, which = np.unique(tracks, return_inverse=True)
    return np.bincount(which, lengths)[which]


def _lines(power: Powers, starts: Places, held: Powers, before: Bins) -> _Lines:
    """The bins of each two frames of a run.

    ``held`` (m) is the frame that is left over from before each run, or -1; ``before`` (m, MORE) are the bins
    before it. A frame that is left over at a run's end is of no pair; a run of it alone is of none.
    """
    waited = held >= 0
    count = (counts(starts, len(power)) + waited) // PAIR
    whole = count + MORE
    begin = np.cumsum(whole) - count
    total = int(whole.sum())
    second = np.repeat(starts + 1 - waited - PAIR * begin, whole)
    second += np.arange(0, PAIR * total, PAIR)
    # Where something came before there are no pairs: what is found is overwritten.
    pairs = power.take(second - 1, mode="clip")
    pairs[begin[waited]] = held[waited]
    pairs += power.take(second, mode="clip")
    pairs *= np.float32(1 / PAIR)
    places = begin[:, None] + np.arange(-MORE, 0)
    bins = _bins(pairs)
    bins[places] = before
    return _Lines(bins, places, count)


def _bins(power: Powers) -> Bins:
    """The bins of mean squares, which are changed: 0, or from 0.5 to 2**30, which is bin 255."""
    silent = power == 0
    power[silent] = 1
    levels = np.log2(power, out=power)
    levels *= _PER_DOUBLING
    levels += _OFFSET
    bins = levels.astype(np.uint8)
    bins[silent] = 0
    return bins


def _around(line: Bins) -> tuple[Bins, NDArray[np.bool_]]:
    """The loudest of the last HANGOVER, and whether they are steady, for each but the first MORE."""
    recent, least = _sliding(np.maximum, line), _sliding(np.minimum, line)
    return recent, (recent - least <= int(STEADY_DB / BIN_DB)) & (least > 0)


def _sliding(best: np.ufunc, line: Bins) -> Bins:
    """The best of each HANGOVER (6) in a row: shape (n - 5)."""
    two = best(line[1:], line[:-1])
    four = best(two[2:], two[:-2])
    out: Bins = best(four[:-2], four[2:])
    return out
