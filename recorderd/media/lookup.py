"""From stream keys to rows of the stream table: a hash table in columns, asked for a whole batch at once.

The keys are hashes already, so their upper bits are the place to look; what stands there is compared, and
only the few packets whose stream stands further on are looked up again. Built anew when streams come or go:
sorted keys are in the order of their places, which makes that a handful of steps for all of them.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

SPARSE: Final = 8
"""Places a key: at an eighth full nearly all keys stand where they belong."""

LEAST_BITS: Final = 8

Keys = NDArray[np.uint64]
Rows = NDArray[np.int32]


class Lookup:
    """Which row each key has."""

    def __init__(self) -> None:
        self.keys: Keys = np.empty(0, np.uint64)
        """All keys, ascending."""
        self.rows: Rows = np.empty(0, np.int32)
        """The row of each."""
        self._build()

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, keys: Keys, rows: Rows) -> None:
        """Put in keys that are not there yet."""
        every = np.concatenate([self.keys, keys])
        order = np.argsort(every, kind="stable")
        self.keys, self.rows = every[order], np.concatenate([self.rows, rows])[order]
        self._build()

    def drop(self, gone: NDArray[np.bool_]) -> None:
        """Take out the keys (in the order of :attr:`keys`) for which the mask is true."""
        self.keys, self.rows = self.keys[~gone], self.rows[~gone]
        self._build()

    def rename(self, row: int, new: int) -> None:
        """The key of a row has another row from now on."""
        self.rows = np.where(self.rows == row, np.int32(new), self.rows)
        self._build()

    def _build(self) -> None:
        bits = max(LEAST_BITS, (SPARSE * len(self.keys)).bit_length())
        self._shift = np.uint64(64 - bits)
        home = (self.keys >> self._shift).astype(np.int64)
        index = np.arange(len(home))
        # Each stands at its place or, where that is taken, right behind the one before it.
        place = np.maximum.accumulate(home - index) + index
        room = max(1 << bits, int(place[-1]) + 1 if len(place) else 0) + 1
        self._key = np.zeros(room, np.uint64)
        self._row = np.full(room, -1, np.int32)
        self._key[place], self._row[place] = self.keys, self.rows

    def find(self, keys: Keys) -> Rows:
        """The row of each key, -1 where there is none."""
        at = (keys >> self._shift).view(np.int64)
        rows: Rows = self._row.take(at)
        astray = np.flatnonzero(self._key.take(at) != keys)
        while len(astray):
            # An empty place (its row is -1) ends the search; the last one always is.
            astray = astray[rows[astray] >= 0]
            at[astray] += 1
            rows[astray] = self._row[at[astray]]
            astray = astray[self._key[at[astray]] != keys[astray]]
        # A key of 0 is equal to what stands in an empty place, whose row says that it is none.
        return rows
