"""Reading the same header out of many frames at once.

A header of ``length`` bytes that starts at a place of its own in each frame becomes a small contiguous
matrix, and its fields become columns of that matrix. When all headers start at the same place, as they do on
a quiet trunk, this is one strided copy; otherwise one gather. Neither costs Python by the packet, however
many shapes a batch holds.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray


def blocks(
    data: NDArray[np.uint8], row: NDArray[np.intp], at: NDArray[np.int32], length: int
) -> NDArray[np.uint8]:
    """The ``length`` bytes at ``at`` of each row: uint8 (len(row), length), contiguous.

    The caller has checked that each block lies within its row (``at + length <= width``).
    """
    if len(row) == 0:
        return np.empty((0, length), np.uint8)
    first = int(at[0])
    if not (at == first).all():
        windows: NDArray[np.uint8] = sliding_window_view(data, length, axis=1)[row, at]
        return windows
    part = data[:, first : first + length]
    return together(part) if is_every_row(row, len(data)) else part[row]


def together(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of rows (n, w), w > 0, without gaps between them: NumPy copies items whole, bytes one by one."""
    items = rows.view(f"V{rows.shape[1]}")
    return items.copy(order="C").view(np.uint8)


def is_every_row(row: NDArray[np.intp], rows: int) -> bool:
    """Whether ``row``, ascending and without repetition, names all of ``rows`` rows."""
    return len(row) == rows


def column(block: NDArray[np.uint8], at: int, dtype: DTypeLike) -> NDArray[Any]:
    """The field of type ``dtype`` at byte ``at`` of each block, in native byte order and aligned."""
    kind = np.dtype(dtype)
    field: NDArray[Any] = block[:, at : at + kind.itemsize].view(kind)[:, 0]
    return field.astype(kind.newbyteorder("="))


def bounded_slices(lengths: NDArray[np.int32] | NDArray[np.int64], limit: int) -> Iterator[slice]:
    """Cut rows of these lengths into runs, each no more than ``limit`` bytes as a matrix as wide as its
    longest row.

    A single row may be over the limit. Without this one jumbo frame would widen thousands of short ones.
    """
    pending = [slice(0, len(lengths))] if len(lengths) else []
    while pending:
        part = pending.pop()
        rows = part.stop - part.start
        if rows == 1 or rows * int(lengths[part].max()) <= limit:
            yield part
        else:
            middle = part.start + rows // 2
            pending += [slice(middle, part.stop), slice(part.start, middle)]
