"""Whether the system clock can be believed: it is held against what was written down before, and against how
long this machine has run since, by a clock that nobody can set.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from recorderd.errors import NotAllowed
from recorderd.spool.times import microseconds, rfc3339

TOLERANCE_US: Final = 300_000_000
"""What a clock may be set by without anybody asking: NTP does so."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Clock:
    """The time (us since 1970), for how long the machine has run (us; sleep included), and which start of
    which machine that was."""

    wall_us: Callable[[], int]
    boot_us: Callable[[], int]
    boot_id: str

    @classmethod
    def of_system(cls) -> "Clock":
        """This machine's."""
        try:
            boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            boot_id = ""
        return cls(
            lambda: time.time_ns() // 1000,
            lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000,
            boot_id,
        )

    def noted(self) -> dict[str, Any]:
        """What a proposal says of the moment it was made."""
        return {"at": rfc3339(self.wall_us()), "boot_id": self.boot_id, "boot_us": self.boot_us()}


def check_clock(clock: Clock, noted: Mapping[str, Any], last_entry_us: int | None) -> None:
    """Raises NotAllowed where the clock is ahead of, or behind, all that there is to hold it against:
    ``noted``, which :meth:`Clock.noted` gave earlier, and the time of the ledger's newest entry.
    """
    now, ran = clock.wall_us(), clock.boot_us()
    then = microseconds(noted["at"])
    if noted["boot_id"] == clock.boot_id and clock.boot_id:
        off = (now - then) - (ran - noted["boot_us"])
        if abs(off) > TOLERANCE_US:
            _refuse(
                f"since the proposal was made ({noted['at']}) the clock went {_text(abs(off))}"
                f" {'further' if off > 0 else 'less'} than this machine ran"
            )
    elif now < then - TOLERANCE_US:
        _refuse(f"the clock says {rfc3339(now)}, but the proposal was made at {noted['at']}")
    if last_entry_us is None:
        return
    last = rfc3339(last_entry_us)
    if now < last_entry_us - TOLERANCE_US:
        _refuse(f"the clock says {rfc3339(now)}, but the newest entry of the ledger is of {last}")
    if now > last_entry_us + ran + TOLERANCE_US:
        _refuse(
            f"the clock says {rfc3339(now)}, the newest entry of the ledger is of {last}, and this machine"
            f" has run for {_text(ran)} only (if the clock is right: recorderd notes its start in the ledger)"
        )


def _refuse(why: str) -> None:
    raise NotAllowed(f"nothing is destroyed by a clock that cannot be believed: {why}")


def _text(span_us: int) -> str:
    return str(timedelta(seconds=span_us // 1_000_000))
