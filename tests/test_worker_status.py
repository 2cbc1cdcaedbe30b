"""What several workers say of themselves, put together."""

from itertools import permutations
from typing import Any

import pytest

from recorderd.service.worker_status import merged

UNKNOWN = {"level": "unknown", "fill": 0.0, "left_bytes": None, "free_bytes": None, "full_in_s": None}
NEVER_FULL = {"level": "none", "fill": 0.2, "left_bytes": 9_000, "free_bytes": 9_500, "full_in_s": None}
FULL_SOON = {"level": "none", "fill": 0.3, "left_bytes": 8_000, "free_bytes": 8_500, "full_in_s": 60}


def of(room: dict[str, Any]) -> dict[str, Any]:
    return {"state": "running", "calls": 1, "level": "none", "recording": 2, "room": room}


@pytest.mark.parametrize("rooms", list(permutations([UNKNOWN, NEVER_FULL, FULL_SOON])))
def test_what_one_worker_cannot_tell_another_does(rooms: tuple[dict[str, Any], ...]) -> None:
    whole = merged([of(room) for room in rooms], 0)
    assert (whole["room"], whole["recording"], whole["calls"]) == (FULL_SOON, 6, 1)


def test_what_nobody_can_tell_is_not_told() -> None:
    assert merged([of(UNKNOWN), of(UNKNOWN)], 0)["room"] == UNKNOWN
