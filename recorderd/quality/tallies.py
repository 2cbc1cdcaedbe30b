"""What is kept of every track: how many of its frames were how loud. A column a fact, a row a track.

A frame is 20 ms; two are filed together. Three histograms tell, once the noise is known, what is speech, and
no verdict need be given while the call is running:

- of the pairs that lie in a stretch of *steady* sound (200 ms within a few dB), as noise is between words;
- of the other pairs;
- of the loudest within the last 200 ms, for each pair: those beyond a threshold are what ITU-T P.56 calls
  active at this threshold, its hangover included.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.media.columns import grown

FRAME_S: Final = 0.02

PAIR: Final = 2
"""Frames that are filed together: their power is told better, and each step costs half."""

HANGOVER: Final = 6
"""Pairs: one, and the 0.2 s after it in which a speaker is still active (P.56). So long a sound is steady."""

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

_RECENT_CELLS: Final = np.int64(RECENT * BINS)
_PER_DOUBLING: Final = np.float32(10 * np.log10(2) / BIN_DB)
_OFFSET: Final = np.float32(1.5 - (20 * np.log10(32768) + LOWEST_DB) / BIN_DB)
"""Makes bins of the logarithm (to the base 2) of a mean square in 16-bit units, rounded."""


class Tallies:
    """The histograms of all tracks."""

    def __init__(self) -> None:
        self.counts: NDArray[np.float32] = np.zeros((0, 3, BINS), np.float32)
        """Frames by track, histogram and bin. Where some stand for others, they count for more than one."""
        self._held: Powers = np.zeros(0, np.float32)
        self._recent: NDArray[np.uint8] = np.zeros((0, HANGOVER - 1), np.uint8)

    def grow(self, size: int) -> None:
        """Make room for ``size`` tracks."""
        for name in ("counts", "_held", "_recent"):
            setattr(self, name, grown(getattr(self, name), size))

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
        pairs, begin = _pairs(power, starts, held)
        lengths = np.diff(starts, append=len(power)) + (held >= 0)
        self._held[tracks] = np.where(lengths & 1, power[np.append(starts[1:], len(power)) - 1], -1)
        bins = _bins(pairs)
        recent, least, self._recent[tracks] = _around(bins, begin, self._recent[tracks])
        count = np.diff(begin, append=len(bins))
        each = np.repeat(PAIR * weight[tracks], count)
        row = np.repeat(tracks * (3 * BINS), count)
        self._add(row, _histogram(recent, least) + bins, each)
        self._add(row, _RECENT_CELLS + recent, each)

    def file_turns(self, power: Powers, starts: Places, tracks: Places, frames: NDArray[np.float64]) -> None:
        """File n frames in runs that follow nothing: what came before each is not known.

        The runs of a track together stand for ``frames`` (m) of them. The first WARM_UP pairs of each run are
        not counted, and only those that have HANGOVER - 1 before them tell what was recent; every run is
        longer.
        """
        pairs, begin = _pairs(power, starts, np.full(len(starts), -1, np.float32))
        lengths = np.diff(begin, append=len(pairs))
        bins = _bins(pairs)
        recent, least, _ = _around(bins, begin, np.zeros((len(starts), HANGOVER - 1), np.uint8))
        place = np.arange(len(bins)) - np.repeat(begin, lengths)
        # Those of the first 0.2 s are as steady as they are together.
        steady = np.repeat(begin, lengths) + np.maximum(place, HANGOVER - 1)
        cells = _histogram(recent[steady], least[steady]) + bins
        for cell, skipped in ((cells, WARM_UP), (_RECENT_CELLS + recent, HANGOVER - 1)):
            left, told = lengths - skipped, place >= skipped
            each = (frames / _together(tracks, left)).astype(np.float32)
            self._add(np.repeat(tracks * (3 * BINS), left), cell[told], np.repeat(each, left))

    def _add(self, rows: Places, cells: Places, frames: NDArray[np.float32]) -> None:
        np.add.at(self.counts.reshape(-1), rows + cells, frames)


def _histogram(recent: Bins, least: Bins) -> Places:
    """Where the histogram that each frame belongs to begins."""
    steady = (recent - least <= int(STEADY_DB / BIN_DB)) & (least > 0)
    return np.where(steady, np.int64(STEADY * BINS), np.int64(CHANGING * BINS))


def _together(tracks: Places, lengths: Places) -> Places:
    """For each run, how long all those of its track are."""
    _, which = np.unique(tracks, return_inverse=True)
    return np.bincount(which, lengths)[which]


def _pairs(power: Powers, starts: Places, held: Powers) -> tuple[Powers, Places]:
    """The mean of each two frames of a run, and where each run of pairs begins.

    ``held`` (m) is the frame that is left over from before each run, or -1. One that is left over at a run's
    end is of no pair; a run of it alone is of none.
    """
    waited = held >= 0
    count = (np.diff(starts, append=len(power)) + waited) // PAIR
    begin = np.cumsum(count) - count
    second = np.repeat(starts + 1 - waited - PAIR * begin, count) + PAIR * np.arange(int(count.sum()))
    pairs = power[second - 1]
    pairs[begin[waited]] = held[waited]
    pairs += power[second]
    pairs *= np.float32(1 / PAIR)
    return pairs, begin


def _bins(power: Powers) -> Bins:
    silent = power == 0
    levels = np.log2(np.maximum(power, np.float32(0.5)))
    levels *= _PER_DOUBLING
    levels += _OFFSET
    np.clip(levels, 1, BINS - 1, out=levels)
    bins = levels.astype(np.uint8)
    bins[silent] = 0
    return bins


def _around(bins: Bins, starts: Places, before: Bins) -> tuple[Bins, Bins, Bins]:
    """The loudest and the quietest of the last HANGOVER frames, for each frame; and what comes before the
    next of each run, as ``before`` (m, HANGOVER - 1) came before this.
    """
    lengths = np.diff(starts, append=len(bins))
    # Every run with what came before it, one after the other.
    more = HANGOVER - 1
    begin = starts + more * np.arange(1, len(starts) + 1)
    where = np.arange(len(bins)) + np.repeat(begin - starts, lengths)
    history = begin[:, None] + np.arange(-more, 0)
    line = np.empty(len(bins) + more * len(starts), np.uint8)
    line[where] = bins
    line[history] = before
    where -= more
    recent, least = _sliding(np.maximum, line)[where], _sliding(np.minimum, line)[where]
    return recent, least, line[history + lengths[:, None]]


def _sliding(best: np.ufunc, line: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The best of each HANGOVER (6) in a row: shape (n - 5)."""
    two = best(line[1:], line[:-1])
    four = best(two[2:], two[:-2])
    out: NDArray[np.uint8] = best(four[:-2], four[2:])
    return out
