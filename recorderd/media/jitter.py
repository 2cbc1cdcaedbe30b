"""Interarrival jitter of all streams of a window at once (RFC 3550 sections 6.4.1 and A.8).

From each packet to the next the jitter goes a sixteenth of the way to how much later or earlier than due
that one came. Over a window that is a sum of these times falling powers of 15/16, and so is the sum of the
jitter at each packet. Packets are taken by number, the RFC takes them as they came: where none overtakes
another it is the same.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.media.clock import LEAP_US
from recorderd.media.streams import StreamTable

KEEPS: Final = 15 / 16

_PERIOD: Final = 4096
_GROWTH: Final = KEEPS ** -np.arange(_PERIOD, dtype=np.float64)
"""Falling powers from the end of a stream are rising ones from anywhere before it: the same for all streams
between two multiples of the period."""


def note_jitter(
    table: StreamTable,
    rows: NDArray[np.intp],
    starts: NDArray[np.intp],
    count: NDArray[np.intp],
    skew: NDArray[np.float64],
    goes_on: NDArray[np.bool_],
) -> None:
    """Take in the skews (n) of a window's packets, one stream after the other.

    ``starts``, ``count`` and ``rows`` are of the streams; ``goes_on`` says whose clock stands in the table at
    the packet before. What leaps by more than LEAP_US is no jitter.
    """
    late = np.empty(len(skew))
    np.subtract(skew[1:], skew[:-1], out=late[1:])
    late[starts] = np.where(goes_on, skew[starts] - table.last_skew_us[rows], 0.0)
    np.abs(late, out=late)
    if late.max() > LEAP_US:
        late[late > LEAP_US] = 0.0
    weighed = _weighed(late, starts, count)
    before = table.jitter_us[rows]
    left = KEEPS**count
    table.jitter_us[rows] = left * before + weighed / 16
    table.jitter_sum_us[rows] += before * (15 * (1 - left)) + np.add.reduceat(late, starts) - KEEPS * weighed
    table.jitter_packets[rows] += count


def _weighed(
    late: NDArray[np.float64], starts: NDArray[np.intp], count: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The sum of each stream's values, each times KEEPS to the power of how many come after it."""
    whole = len(late) // _PERIOD * _PERIOD
    grown = np.empty(len(late))
    np.multiply(late[:whole].reshape(-1, _PERIOD), _GROWTH, out=grown[:whole].reshape(-1, _PERIOD))
    np.multiply(late[whole:], _GROWTH[: len(late) - whole], out=grown[whole:])
    periods = np.arange(0, len(late), _PERIOD)
    within = starts[np.searchsorted(starts, periods, side="right") - 1] != periods
    cuts = np.sort(np.concatenate([starts, periods[within]]), kind="stable")
    stream = np.searchsorted(starts, cuts, side="right") - 1
    behind = (starts + count - 1)[stream] - cuts // _PERIOD * _PERIOD
    parts = np.add.reduceat(grown, cuts) * KEEPS**behind
    return np.bincount(stream, parts, minlength=len(starts)).astype(np.float64)
