"""Memory for large arrays that follow one another.

Fresh memory costs a fault a page, in which the kernel fills it with zeros. What nothing points into any more
comes back here instead, and is used for the next array of about that size.
"""

import weakref
from typing import Final

import numpy as np
from numpy.typing import NDArray

WORTH: Final = 1 << 20
"""Bytes below which the allocator does as well."""

SPARE: Final = 4
"""What came back is used for no less than one part in so many of it."""


class Recycled:
    """Memory that is used again: as much as was in use at one time, within bounds."""

    def __init__(self, most: int = 8) -> None:
        """``most`` arrays are kept for later; what a stop held up, and comes back all at once, is not."""
        self._most = most
        self._free: list[memoryview] = []

    def bytes(self, size: int) -> NDArray[np.uint8]:
        """``size`` bytes of any content, nobody else's until no array points into them any more."""
        if size < WORTH:
            return np.empty(size, np.uint8)
        raw = self._raw(size)
        whole = np.frombuffer(raw, np.uint8)
        weakref.finalize(whole, self._free.append, raw).atexit = False
        return whole[:size]

    def _raw(self, size: int) -> memoryview:
        del self._free[: -self._most]
        # The last to come back is the likeliest to be in the processor's caches still.
        for at in range(len(self._free) - 1, -1, -1):
            if size <= len(self._free[at]) <= SPARE * size:
                return self._free.pop(at)
        # What is there is of another size: the load has changed.
        self._free.clear()
        return np.empty(size + size // 8, np.uint8).data
