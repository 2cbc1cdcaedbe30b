"""Kinds of values that several sections have."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

_UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def _absolute(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a path, not {value!r}")
    if not value.strip():
        raise ValueError("must be a path, not empty")
    if "\0" in value:
        raise ValueError("a path cannot hold a NUL byte")
    base = info.context["base"] if info.context else Path()
    return Path(os.path.abspath(base / Path(value).expanduser()))  # noqa: PTH100 - resolve() would follow links


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a value that is given twice."""
    doubles = sorted({str(value) for value in values if values.count(value) > 1})
    if doubles:
        raise ValueError(f"given twice: {', '.join(doubles)}")
    return values


def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse an empty list, and a value that is given twice."""
    # Not Field(min_length=1), which also complains when every element is wrong.
    if not values:
        raise ValueError("must not be empty")
    return unique(values)


def _rate(value: object) -> object:
    found = re.fullmatch(r"([0-9]{1,12})\s?([kMG])", value) if isinstance(value, str) else None
    return int(found[1]) * _UNITS[found[2]] if found else value


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]

Bandwidth = Annotated[int, Field(ge=1_000, le=100_000_000_000), BeforeValidator(_rate)]
"""Bytes a second: a number, or one with ``k``, ``M`` or ``G``."""
