"""A share of what the tracks sound, of which all or only some was heard."""

import numpy as np
from numpy.typing import NDArray

from recorderd.media.columns import counts, grown
from recorderd.quality.coded import FRAME, Loudness
from recorderd.quality.framing import ranges, runs
from recorderd.quality.tallies import CHANGING, FRAME_S, RECENT, Tallies

Places = NDArray[np.int64]


class Share:
    """What is kept of a share, a row a track. What was heard stands for all of it."""

    def __init__(self) -> None:
        self._tallies = Tallies()
        self.samples: Places = np.zeros(0, np.int64)
        """How much there was, heard or not, at 8 kHz."""
        self.peak: NDArray[np.int32] = np.zeros(0, np.int32)
        """The largest sample, in 16-bit units."""
        self._clipped: Places = np.zeros(0, np.int64)
        self._looked_at: Places = np.zeros(0, np.int64)
        self.weight: NDArray[np.float32] = np.zeros(0, np.float32)
        """How many frames one of those that come now stands for."""
        self._waiting: Places = np.zeros(0, np.int64)
        """Samples that the next turn is to stand for."""

    def grow(self, size: int) -> None:
        """Make room for ``size`` tracks."""
        before = len(self.samples)
        self._tallies.grow(size)
        for name in ("samples", "peak", "weight", "_clipped", "_looked_at", "_waiting"):
            setattr(self, name, grown(getattr(self, name), size))
        self.weight[before:] = 1

    def clear(self, track: int) -> None:
        """Begin with nothing."""
        self._tallies.clear(track)
        for column in (self.samples, self.peak, self._clipped, self._looked_at, self._waiting):
            column[track] = 0
        self.weight[track] = 1

    def sounded(self, tracks: Places, samples: Places) -> None:
        """Count what there was and is heard whole."""
        np.add.at(self.samples, tracks, samples)

    def sounded_in_part(self, tracks: Places, samples: Places) -> None:
        """Count what there was and is heard in turns."""
        np.add.at(self.samples, tracks, samples)
        np.add.at(self._waiting, tracks, samples)

    def extremes(self, loudness: Loudness, starts: Places, tracks: Places, samples: Places) -> None:
        """Take in peaks and clipping of m runs: which frames they begin at, of which tracks, how long."""
        np.maximum.at(self.peak, tracks, np.maximum.reduceat(loudness.peak, starts))
        np.add.at(self._looked_at, tracks, samples)
        if loudness.clipped.any():
            np.add.at(self._clipped, tracks, np.add.reduceat(loudness.clipped, starts, dtype=np.int64))

    def levels(self, power: NDArray[np.float32], starts: Places, tracks: Places) -> None:
        """File frames that follow those before."""
        sorted_tracks = np.sort(tracks)
        if (sorted_tracks[1:] == sorted_tracks[:-1]).any():
            # A track with several streams: all that is one track's, one after the other.
            lengths = counts(starts, len(power))
            order = np.argsort(tracks, kind="stable")
            tracks, lengths, starts = tracks[order], lengths[order], starts[order]
            power = power[ranges(starts, starts + lengths)]
            begin = np.cumsum(lengths) - lengths
            distinct, tracks = runs(tracks)
            starts = begin[distinct]
        self._tallies.file(power, starts, tracks, self.weight)

    def turns(self, power: NDArray[np.float32], starts: Places, tracks: Places) -> None:
        """File frames of turns, which stand for all that sounded since the last ones of their track.

        See :meth:`recorderd.quality.tallies.Tallies.file_turns`.
        """
        frames = self._waiting[tracks] / FRAME
        self._waiting[tracks] = 0
        self._tallies.file_turns(power, starts, tracks, frames)

    def counts(self, tracks: Places) -> NDArray[np.float64]:
        """The histograms of n tracks, as they would be if all had been heard: shape (n, 3, BINS)."""
        tallied: NDArray[np.float64] = self._tallies.counts[tracks].astype(np.float64)
        # What was not heard since the last turn, or did not fill a frame, is as the rest.
        counted = tallied[:, RECENT].sum(axis=1)
        share = np.ones(len(tracks))
        np.divide(self.samples[tracks] / FRAME, counted, out=share, where=counted > 0)
        tallied *= share[:, None, None]
        return tallied

    def changing_s(self, tracks: Places) -> NDArray[np.float64]:
        """Seconds of sound that changes, as speech does, of what was heard of some tracks."""
        changing: NDArray[np.float64] = self._tallies.counts[tracks, CHANGING, 1:].sum(axis=1) * FRAME_S
        return changing

    def clipped(self, track: int) -> int:
        """Clipped samples, as there would be if all had been heard."""
        clipped = self._clipped.item(track)
        return round(clipped * self.samples.item(track) / self._looked_at.item(track)) if clipped else 0
