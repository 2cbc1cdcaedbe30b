"""What is done to columns and matrices in more than one place."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Column = TypeVar("Column", bound=NDArray[Any])


def grown(column: Column, size: int) -> Column:
    """The same column (n, ...) with room for ``size`` rows, the new ones 0."""
    new = np.zeros((size, *column.shape[1:]), column.dtype)
    new[: len(column)] = column
    return new  # type: ignore[return-value]


def as_items(rows: NDArray[np.uint8]) -> NDArray[np.void]:
    """Rows of bytes (n, w), w > 0, as n items of so many bytes: NumPy moves items whole. No copy."""
    items: NDArray[np.void] = rows.view(f"V{rows.shape[1]}")[:, 0]
    return items
