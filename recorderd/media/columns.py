"""What is done to columns and matrices in more than one place."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Column = TypeVar("Column", bound=NDArray[Any])

Which = NDArray[np.bool_] | NDArray[np.integer]


def grown(column: Column, size: int) -> Column:
    """The same column (n, ...) with room for ``size`` rows, the new ones 0."""
    new = np.zeros((size, *column.shape[1:]), column.dtype)
    new[: len(column)] = column
    return new  # type: ignore[return-value]


def as_items(rows: NDArray[np.uint8]) -> NDArray[np.void]:
    """Rows of bytes (n, w), w > 0, as n items of so many bytes: NumPy moves items whole. No copy."""
    items: NDArray[np.void] = rows.view(f"V{rows.shape[1]}")[:, 0]
    return items


def picked(rows: NDArray[np.uint8], which: Which) -> NDArray[np.uint8]:
    """Some rows of bytes (n, w), each moved whole."""
    if not rows.shape[1]:
        return np.empty((np.count_nonzero(which) if which.dtype == np.bool_ else len(which), 0), np.uint8)
    whole: NDArray[np.uint8] = as_items(rows)[which].view(np.uint8)
    return whole.reshape(-1, rows.shape[1])


def leading(mask: NDArray[np.bool_]) -> slice | None:
    """The rows (n) that a mask tells, where they are those from the first to some other; else None."""
    count = int(np.count_nonzero(mask))
    return slice(count) if mask[:count].all() else None


def counts(starts: NDArray[np.intp], total: int) -> NDArray[np.intp]:
    """How many rows each part has, where parts begin at ``starts`` and the last one ends at ``total``."""
    ends = np.empty_like(starts)
    ends[:-1], ends[-1:] = starts[1:], total
    ends -= starts
    return ends
