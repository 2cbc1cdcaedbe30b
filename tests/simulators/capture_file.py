"""Writes classic capture files: our own writer, so that the reader under test is not measured with itself.

Format: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/ (little-endian; magic a1b2c3d4 for
microseconds, a1b23c4d for nanoseconds).
"""

import struct
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

RECORD_HEADER = 16


class CaptureWriter:
    """Writes batches of frames, in the order given, to one capture file."""

    def __init__(self, path: Path, linktype: int, *, nanoseconds: bool = True, snaplen: int = 65535) -> None:
        self._nanoseconds = nanoseconds
        self._snaplen = snaplen
        self._file = path.open("wb")
        magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
        self._file.write(struct.pack("<IHHiIII", magic, 2, 4, 0, 0, snaplen, linktype))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def place(self, lengths: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """A zeroed buffer for frames of these lengths, and where in it each frame starts."""
        ends = np.cumsum(np.minimum(lengths, self._snaplen) + RECORD_HEADER)
        starts = np.concatenate([[0], ends[:-1]]) + RECORD_HEADER if len(ends) else ends
        return np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8), starts

    def clip(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """How much of each frame is captured."""
        return np.minimum(lengths, self._snaplen)

    def write(
        self,
        buffer: NDArray[np.uint8],
        starts: NDArray[np.int64],
        times_ns: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Fill in the record headers of a buffer from :meth:`place` and write it out."""
        header = np.empty((len(times_ns), 4), "<u4")
        seconds, rest = np.divmod(times_ns, 1_000_000_000)
        header[:, 0] = seconds
        header[:, 1] = rest if self._nanoseconds else rest // 1000
        header[:, 2] = self.clip(lengths)
        header[:, 3] = lengths
        at = (starts - RECORD_HEADER)[:, None] + np.arange(RECORD_HEADER)
        buffer[at] = header.view(np.uint8).reshape(len(header), RECORD_HEADER)
        self._file.write(buffer.data)
