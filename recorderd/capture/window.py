"""A sliding window over a capture file, so that a file of any size is read in bounded memory."""

import gzip
import zlib
from io import BufferedIOBase

import numpy as np
from numpy.typing import NDArray

from recorderd.wire.recycled import Recycled

CHUNK = 3 << 20
"""Bytes read at a time: some 13,000 G.711 packets. Of fewer, what it takes to begin a batch is felt."""
SLACK = (1 << 18) + 64
"""Bytes past the chunk that may be addressed though not filled: rows are gathered as wide as the widest."""
PAGE = 4096
"""What is read begins at a page of memory, as it does in the file: the kernel copies pages a fifth faster."""


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
        self._failure = ""
        self._memory = Recycled(32)  # a second of some thousand calls
        self._allocate(0, CHUNK)
        self._before = -self.at  # the byte in the file that is the first of the memory

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
            Damage: the file cannot be read on here, or is packed and the packing is damaged.
        """
        kept, position = self.data[self.at : self.end], self.position
        self._allocate(len(kept), max(at_least, CHUNK))
        self._before = position - self.at
        before = self.end
        self.data[self.at : before] = kept
        room = self.raw[: len(self.raw) - SLACK]
        while self.end < len(room) and not self._failure:
            count = self._read(room[self.end :])
            if count == 0:
                break
            self.end += count
        if self.end == before and self._failure:
            raise Damage(self._failure, self.position_of(self.end))
        return self.end > before

    def need(self, count: int, what: str) -> bytes:
        """The next ``count`` bytes, not consumed.

        Raises:
            Damage: the file ends before.
        """
        while self.end - self.at < count:
            if not self.more(count):
                raise Damage(f"the file ends within {what}", self.position)
        return self.data[self.at : self.at + count].tobytes()

    def _allocate(self, kept: int, more: int) -> None:
        """Memory for what is kept and, from a page on, for so much more, in whole pages.

        The bytes, and the same as an array: the one is faster for one number, the other for many.
        """
        data = self._memory.bytes(_pages(kept) + PAGE + _pages(more) + SLACK)
        page = -data.ctypes.data % PAGE + _pages(kept)
        self.data: NDArray[np.uint8] = data[: page + _pages(more) + SLACK]
        self.raw = self.data.data
        self.at, self.end = page - kept, page

    def _read(self, room: memoryview) -> int:
        """Read into memory; what is wrong with the file is told only after what could be read was used."""
        try:
            # Not readinto(): that goes on until the room is full, and what it had read by an error is lost.
            return self._stream.readinto1(room)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self._failure = f"the gzip packing is damaged ({error})"
        except OSError as error:
            self._failure = f"it cannot be read on ({error.strerror or error})"
        return 0


def _pages(size: int) -> int:
    """So many bytes in whole pages."""
    return -(-size // PAGE) * PAGE
