"""What the kernel says of a process and its children: CPU time and memory (proc(5))."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Used:
    """CPU seconds, in the program and in the kernel for it."""

    user_s: float
    system_s: float

    @property
    def total_s(self) -> float:
        return self.user_s + self.system_s

    def __sub__(self, other: "Used") -> "Used":
        return Used(self.user_s - other.user_s, self.system_s - other.system_s)


def used(pid: int) -> Used:
    """Up to now, by a process and its descendants, those that ended and were waited for included."""
    user = system = 0
    for member in _family(pid):
        # The name in parentheses may hold anything; utime is the 12th field behind it.
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return Used(user / _TICKS, system / _TICKS)


def peak_rss_mb(pid: int) -> float:
    """The most memory that a process and its descendants ever held, each at its own time."""
    total = 0
    for member in _family(pid):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1])
    return total / 1024


def _family(pid: int) -> list[int]:
    """A process and all its living descendants."""
    found = [pid]
    for member in found:
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
                found += map(int, children.read_text().split())
    return found
