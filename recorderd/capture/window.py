"""A sliding window over a capture file, so that a file of any size is read in bounded memory."""

import gzip
import zlib
from io import BufferedIOBase

import numpy as np
from numpy.typing import NDArray

from recorderd.wire.recycled import Recycled

CHUNK = 1 << 21
"""Bytes read at a time: some 9,000 G.711 packets."""
SLACK = (1 << 18) + 64
"""Bytes past the chunk that may be addressed though not filled: rows are gathered as wide as the widest."""


class Damage(Exception):
    """The file does not go on as its format says; ``at`` is the byte in the file, unpacked if need be."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.at = at


class Window:
    """``data[at:end]`` was read and not yet consumed; ``data[at]`` is byte ``position`` of the file.

    What was read into ``data`` stays: :meth:`more` reads into other memory, and into this only when no array
    points here any more.
    """

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._before = 0
        self._failure = ""
        self._memory = Recycled(32)  # a second of some thousand calls
        self._allocate(CHUNK)
        self.at = self.end = 0

    @property
    def position(self) -> int:
        """The byte in the file that ``data[at]`` is."""
        return self._before + self.at

    def position_of(self, place: int) -> int:
        """The byte in the file that ``data[place]`` is."""
        return self._before + place

    def more(self, at_least: int = 0) -> bool:
        """Drop what was consumed and read on; false at the end of the file.

        ``at_least`` makes room for a record of that many bytes.

        Raises:
            Damage: the file is packed and the packing is damaged here.
        """
        kept = self.data[self.at : self.end]
        self._allocate(max(at_least, CHUNK))
        self.data[: len(kept)] = kept
        self._before += self.at
        self.at, self.end = 0, len(kept)
        room = self.raw[: len(self.raw) - SLACK]
        while self.end < len(room) and not self._failure:
            count = self._read(room[self.end :])
            if count == 0:
                break
            self.end += count
        if self.end == len(kept) and self._failure:
            raise Damage(self._failure, self.position_of(self.end))
        return self.end > len(kept)

    def need(self, count: int, what: str) -> bytes:
        """The next ``count`` bytes, not consumed.

        Raises:
            Damage: the file ends before.
        """
        while self.end - self.at < count:
            if not self.more(count):
                raise Damage(f"the file ends within {what}", self.position)
        return self.data[self.at : self.at + count].tobytes()

    def _allocate(self, size: int) -> None:
        """The bytes, and the same as an array: the one is faster for one number, the other for many."""
        self.data: NDArray[np.uint8] = self._memory.bytes(size + SLACK)
        self.raw = self.data.data

    def _read(self, room: memoryview) -> int:
        """Read into memory; what a packed file hides is told only after what could be unpacked was used."""
        try:
            # Not readinto(): that goes on until the room is full, and what it had read by an error is lost.
            return self._stream.readinto1(room)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self._failure = f"the gzip packing is damaged ({error})"
            return 0
