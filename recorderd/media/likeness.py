"""Whether one stream passes on another: the very payloads, a moment later.

A relay that does not transcode sends on what it got, with other addresses and often other numbers and SSRC.
What tells is the beginning of the coded frames; silence, which is the same everywhere, tells nothing.
"""

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.media.table import Packets

WIDTH: Final = 32
"""Bytes of a payload that are compared."""

LEAST_BYTES: Final = 16
"""Shorter payloads are comfort noise, keys and what silence suppression leaves."""

APART_US: Final = 1_000_000
"""Equal payloads further apart than this are not the same sound."""

MOST_ALIKE: Final = 1024
"""A payload that so many others are equal to is none of a voice."""

# Odd and of no pattern. NumPy's own random numbers would take longer to load than most calls to compare.
_FACTORS: Final = np.frombuffer(hashlib.shake_128(b"likeness").digest(8 * WIDTH), "<u8") | np.uint64(1)


class Prints(NamedTuple):
    """What tells the packets of some streams: a hash each, ascending, when they arrived, and the stream."""

    hashes: NDArray[np.uint64]
    time_us: NDArray[np.int64]
    stream: NDArray[np.int32]

    def of(self, stream: int) -> "Prints":
        """Those of one stream."""
        mine = self.stream == stream
        return Prints(self.hashes[mine], self.time_us[mine], self.stream[mine])


class Likeness(NamedTuple):
    """So many different payloads were equal, later by ``lag_us`` (the median)."""

    payloads: int
    lag_us: float


def prints(packets: Packets) -> Prints:
    """The prints of packets, without those that say nothing."""
    payload = np.zeros((len(packets), WIDTH), np.uint8)
    width = min(WIDTH, packets.payload.shape[1])
    payload[:, :width] = packets.payload[:, :width]
    beyond = np.arange(WIDTH) >= packets.size[:, None]
    payload[beyond] = 0
    least = np.where(beyond, 255, payload).min(axis=1, initial=255)
    telling = (packets.size >= LEAST_BYTES) & (payload.max(axis=1, initial=0) != least)
    hashes = (payload[telling].astype(np.uint64) * _FACTORS).sum(axis=1, dtype=np.uint64)
    hashes ^= hashes >> np.uint64(29)
    order = np.argsort(hashes, kind="stable")
    return Prints(hashes[order], packets.time_us[telling][order], packets.stream[telling][order])


def telling(found: Prints, party: Mapping[int, int], most: int = 2) -> Prints:
    """The prints that at most so many parties have; a party is who the streams (rows) belong to.

    What is passed on is heard of two. Music on hold, announcements and tones are heard of more: they are
    equal without one being made of the other.
    """
    rows, at = np.unique(found.stream, return_inverse=True)
    whose = np.array([party[row] for row in rows.tolist()], np.int64)[at]
    order = np.lexsort((whose, found.hashes))
    hashes, whose = found.hashes[order], whose[order]
    new = np.concatenate(([True], hashes[1:] != hashes[:-1]))[: len(hashes)]
    another = new | np.concatenate(([True], whose[1:] != whose[:-1]))[: len(hashes)]
    of_hash = np.cumsum(new) - 1
    few = (np.bincount(of_hash, another) <= most)[of_hash]
    kept = order[few]
    return Prints(found.hashes[kept], found.time_us[kept], found.stream[kept])


def likeness(mine: Prints, others: Prints) -> dict[int, Likeness]:
    """How much of one stream's packets other streams have, too; ``lag_us`` is how much later that one is."""
    first = np.searchsorted(others.hashes, mine.hashes, "left")
    count = np.searchsorted(others.hashes, mine.hashes, "right") - first
    count[count > MOST_ALIKE] = 0  # heard everywhere, so it tells nothing
    at = np.repeat(first - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))
    lag = np.repeat(mine.time_us, count) - others.time_us[at]
    near = np.abs(lag) < APART_US
    lag, stream, found = lag[near], others.stream[at][near], np.repeat(mine.hashes, count)[near]
    out = {}
    for row in np.unique(stream).tolist():
        these = stream == row
        out[row] = Likeness(len(np.unique(found[these])), float(np.median(lag[these])))
    return out
