"""One status of many: what the workers say of themselves, put together for the control socket."""

from collections.abc import Sequence
from typing import Any, Final

from recorderd.service.overload import Level

Status = dict[str, Any]

ALIKE: Final = frozenset(
    {
        "time",
        "longest_s",
        "ring_fullest",
        "sip_messages",
        "sip_malformed",
        "clock_set_back",
        "frames_signalling",
        "frames_keepalive",
        "frames_fragments",
        "frames_reassembled",
    }
)
"""What every worker sees, or where the worst counts: the highest stands for all. Everything else adds up."""
SIGNALLING: Final = ("frames_tcp", "frames_sip_", "frames_ws_", "frames_hep", "hep_")
"""What the counters of signalling that every worker sees begin with."""

OF_EACH: Final = (
    "state",
    "time",
    "recording",
    "streams",
    "level",
    "ring_fullest",
    "room",
    "memory",
    "counters",
    "stages",
)
"""What is told of each worker, too."""


def merged(statuses: Sequence[Status], restarts: int) -> Status:
    """The status of all workers, with those of each under ``workers``. Empty while none has one."""
    living = [status for status in statuses if status["state"] == "running"]
    if not living:
        return {"state": "starting", "workers": list(statuses)}
    whole: Status = _together([{k: v for k, v in status.items() if k != "worker"} for status in living])
    whole["calls"] = max(status["calls"] for status in living)
    whole["level"] = max(Level[status["level"].upper()] for status in living).name.lower()
    whole["rings"] = [
        {**ring, "worker": number + 1}
        for number, status in enumerate(statuses)
        for ring in status.get("rings", ())
    ]
    rooms = [status["room"] for status in living if "room" in status]
    if rooms:
        # It is one disk; whoever looked at it last knows best, and the fullest is the last.
        whole["room"] = max(rooms, key=lambda room: float(room["fill"]))
    whole["restarts"] = restarts
    whole["workers"] = [_one(number, status) for number, status in enumerate(statuses)]
    return whole


def _one(number: int, status: Status) -> Status:
    return {"number": number + 1, **{key: status[key] for key in OF_EACH if key in status}}


def _together(statuses: Sequence[Status]) -> Status:
    out: Status = {}
    for key in dict.fromkeys(key for status in statuses for key in status):
        out[key] = _value(key, [status[key] for status in statuses if key in status])
    return out


def _value(key: str, values: list[Any]) -> Any:
    # What one worker cannot tell yet the others may.
    values = [value for value in values if value is not None] or [None]
    first = values[0]
    if isinstance(first, dict):
        return _together(values)
    if isinstance(first, bool) or not isinstance(first, int | float):
        return first
    alike = (
        key in ALIKE
        or key.startswith(SIGNALLING)
        or (key.startswith("calls_") and key not in ("calls_given_up", "calls_refused"))
    )
    return max(values) if alike else round(sum(values), 6)
