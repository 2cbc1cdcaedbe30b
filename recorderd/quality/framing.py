"""Cuts coded sound that did not come in packets of 20 ms into frames that are."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.quality.coded import FRAME

Places = NDArray[np.int64]


def ranges(starts: Places, ends: Places) -> Places:
    """The places from each start to its end, one range after the other."""
    lengths = ends - starts
    before = starts - (np.cumsum(lengths) - lengths)
    places: Places = np.arange(int(lengths.sum())) + np.repeat(before, lengths)
    return places


def runs(values: Places) -> tuple[Places, Places]:
    """Where each run of equal values (none negative) begins, and which value it is of."""
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    return starts, values[starts]


class Frames(NamedTuple):
    """The frames of m runs of packets."""

    codes: NDArray[np.uint8]
    """Shape (n, FRAME). The last of a run is filled up with silence."""
    starts: Places
    """Where each run begins (m)."""
    whole: NDArray[np.bool_]
    """Which frames (n) are sound from end to end."""
    samples: Places
    """How long each run is (m)."""


def recut(payload: NDArray[np.uint8], size: NDArray[np.int32], starts: Places, silence: int) -> Frames:
    """Put the packets of each run one after the other and cut them anew.

    ``payload`` (n, w) holds a packet a row, ``size`` (n) its bytes; a run begins at each of ``starts`` (m),
    which are in order, the first of them 0, and none is without sound. ``silence`` is a code that is.
    """
    coded = payload[np.arange(payload.shape[1]) < size[:, None]]
    samples = np.add.reduceat(size, starts, dtype=np.int64)
    frames = -(-samples // FRAME)
    begin = np.cumsum(frames) - frames
    codes = np.full(int(frames.sum()) * FRAME, silence, np.uint8)
    codes[np.arange(len(coded)) + np.repeat(begin * FRAME - (np.cumsum(samples) - samples), samples)] = coded
    whole = np.ones(int(frames.sum()), np.bool_)
    whole[(begin + frames - 1)[samples % FRAME > 0]] = False
    return Frames(codes.reshape(-1, FRAME), begin, whole, samples)
