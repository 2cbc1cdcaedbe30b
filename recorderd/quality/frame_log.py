"""Files the frames of a track by loudness and by what they are to the VAD: a histogram that never grows.

A VAD wakes up late for the first word and its verdict at the edges of speech is a toss-up, so a frame
counts as background only if none of its neighbours is speech. That needs the next frames: the last few wait
for them.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.quality.levels import BINS, bins

SPEECH, EDGE, BACKGROUND = range(3)
"""Classes of a frame: speech to the VAD; next to such a frame; silence around."""

AFTER: Final = 2
"""A frame is an edge if one of so many frames before or after it is speech."""

HANGOVER: Final = 7
"""Frames after speech that still belong to it: 0.2 s (ITU-T P.56)."""

BATCH: Final = 128
"""Frames that are gathered and then filed together: each step costs nearly the same for one as for many."""

Flags = NDArray[np.bool_]
Powers = NDArray[np.float32]


class LevelHistogram:
    """How many frames were how loud, by class."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros((3, BINS), np.int64)
        """Frames by class and bin of :data:`recorderd.quality.levels.BIN_LEVELS`."""
        self.power: NDArray[np.float64] = np.zeros((3, BINS), np.float64)
        """Sum of their mean squares in 16-bit units."""
        self.stretches = 0
        """How many times speech began."""
        self.pauses = 0
        """Frames of digital silence within the hangover of speech (to other dips the VAD itself holds on)."""

    def copy(self) -> "LevelHistogram":
        """Give one that goes its own way."""
        other = LevelHistogram()
        other.counts, other.power = self.counts.copy(), self.power.copy()
        other.stretches, other.pauses = self.stretches, self.pauses
        return other

    def file(self, speech: Flags, power: Powers, audible: Flags) -> None:
        """File the audible ones of n frames.

        ``power`` and ``audible`` have shape (n), ``speech`` (HANGOVER + n + AFTER): it begins earlier, ends
        later.
        """
        count = len(power)
        at = np.arange(HANGOVER, HANGOVER + count)
        so_far: NDArray[np.int64] = np.concatenate(([0], np.cumsum(speech, dtype=np.int64)))
        near = so_far[at + 1 + AFTER] > so_far[at - AFTER]
        recent = so_far[at] > so_far[at - HANGOVER]
        now = speech[HANGOVER : HANGOVER + count]
        self.stretches += int(np.count_nonzero(now & ~speech[HANGOVER - 1 : HANGOVER - 1 + count]))
        self.pauses += int(np.count_nonzero(recent & ~audible))
        kind = np.where(now, SPEECH, np.where(near, EDGE, BACKGROUND))
        cells = (kind * BINS + bins(power))[audible]
        self.counts += np.bincount(cells, minlength=3 * BINS).reshape(3, BINS)
        self.power += np.bincount(cells, power[audible], minlength=3 * BINS).reshape(3, BINS)


class FrameLog:
    """The frames of one track, in order."""

    def __init__(self) -> None:
        self._histogram = LevelHistogram()
        self._before: Flags = np.zeros(HANGOVER, np.bool_)
        self._speech: list[Flags] = []
        self._power: list[Powers] = []
        self._audible: list[Flags] = []
        self._waiting = 0

    def note(self, speech: Flags, power: Powers, audible: Flags) -> None:
        """Take in the next n frames: speech to the VAD, mean square in 16-bit units, not digital silence."""
        self._speech.append(speech)
        self._power.append(power)
        self._audible.append(audible)
        self._waiting += len(speech)
        if self._waiting >= BATCH:
            self._settle()

    def histogram(self) -> LevelHistogram:
        """Give the histogram of all frames so far, as if the track ended here."""
        out = self._histogram.copy()
        if self._waiting:
            speech = np.concatenate((self._before, *self._speech, np.zeros(AFTER, np.bool_)))
            out.file(speech, np.concatenate(self._power), np.concatenate(self._audible))
        return out

    def _settle(self) -> None:
        speech = np.concatenate((self._before, *self._speech))
        power, audible = np.concatenate(self._power), np.concatenate(self._audible)
        done = self._waiting - AFTER
        self._histogram.file(speech, power[:done], audible[:done])
        self._before = speech[done : done + HANGOVER]
        self._speech, self._power, self._audible = (
            [speech[done + HANGOVER :]],
            [power[done:]],
            [audible[done:]],
        )
        self._waiting = AFTER
