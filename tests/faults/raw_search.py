"""Looks through the raw bytes of a disk for what must not be on it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RUN = 32
"""Bytes in a row that are found wherever they stand."""
_WORD = 8
_LEAST_KINDS = 4


def words(data: bytes) -> NDArray[np.uint64]:
    """All that is told apart by eight bytes at any offset: sorted, without what is all but silence."""
    raw = np.frombuffer(data, np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(raw, _WORD)
    ordered = np.sort(windows, axis=1)
    kinds = 1 + np.count_nonzero(np.diff(ordered, axis=1), axis=1)
    return np.unique(np.ascontiguousarray(windows[kinds >= _LEAST_KINDS]).view(np.uint64).ravel())


def runs_in(image: Path, data: bytes) -> int:
    """How many runs of ``RUN`` bytes of ``data`` the image has; each is counted where it is first met.

    Each run of 32 bytes, wherever it stands, has a whole aligned word of the image in it.
    """
    raw = image.read_bytes()
    aligned = np.frombuffer(raw, np.uint64, len(raw) // _WORD)
    met = np.flatnonzero(np.isin(aligned, words(data)))
    return sum(_is_run(raw, int(at) * _WORD, data) for at in met)


def _is_run(raw: bytes, at: int, data: bytes) -> bool:
    word, place = raw[at : at + _WORD], -1
    while (place := data.find(word, place + 1)) >= 0:
        before = after = 0
        while before < RUN and place - before > 0 and raw[at - before - 1] == data[place - before - 1]:
            before += 1
        while after < RUN and raw[at + after : at + after + 1] == data[place + after : place + after + 1]:
            after += 1
        if before + after >= RUN:
            return True
    return False
