"""Finds sent audio in recorded audio, to the sample."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_PROBE = 160


def place_of(said: NDArray[np.int16], heard: NDArray[np.int16], *, near: int, within: int) -> int | None:
    """The offset in ``heard`` at which ``said`` stands, every sample of it; None where it does not.

    Mono, the same rate. Only offsets from ``near - within`` to ``near + within`` are looked at, the nearest
    first; a negative offset means that the beginning of ``said`` is missing, and is not found.
    """
    lowest, highest = max(near - within, 0), min(near + within, len(heard) - len(said))
    if highest < lowest:
        return None
    probe = said[:_PROBE]
    begins = sliding_window_view(heard[lowest : highest + len(probe)], len(probe))
    found: list[int] = (lowest + np.flatnonzero((begins == probe).all(axis=1))).tolist()
    for offset in sorted(found, key=lambda offset: abs(offset - near)):
        if np.array_equal(heard[offset : offset + len(said)], said):
            return offset
    return None


def first_difference(said: NDArray[np.int16], heard: NDArray[np.int16]) -> str:
    """Where two sounds part, for the message of a failed test."""
    shared = min(len(said), len(heard))
    differs = np.flatnonzero(said[:shared] != heard[:shared])
    if not len(differs):
        return (
            f"the same for {shared} samples, then {len(said) - shared} said and {len(heard) - shared} heard"
        )
    at = int(differs[0])
    return f"{len(differs)} of {shared} samples differ, the first at {at}: {said[at]} said, {heard[at]} heard"
