"""How much memory this process has of its own, told apart from what the kernel counts with it.

`RssAnon` is the process's; `RssFile` and `RssShmem` are mapped files and the rings. The page cache of what
was written belongs to the kernel, which takes it back when memory is short, though the figure of a control
group has it in (proc(5), and the kernel's Documentation/admin-guide/cgroup-v2.rst).
"""

import contextlib
import os
from pathlib import Path
from typing import Final

SHORT: Final = 0.5
"""Of what there is so much may be the process's own before no more is begun; the kernel, rings and caches
have the rest."""

_GROUPS: Final = Path("/sys/fs/cgroup")
_LIMITS: Final = ("memory.max", "memory.limit_in_bytes")  # of version 2 and of version 1
_FIELDS = {"VmHWM": "peak_mb", "VmRSS": "resident_mb", "RssAnon": "own_mb"}
_CACHE = {"file", "cache"}  # in memory.stat of version 2 and of version 1


def memory() -> dict[str, float]:
    """Megabytes: ``peak_mb``, ``resident_mb``, ``own_mb``, ``mapped_mb``; ``page_cache_mb`` of the control
    group, where it tells.
    """
    found: dict[str, float] = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in _FIELDS:
            found[_FIELDS[name]] = round(int(value.split()[0]) / 1024, 1)
    found["mapped_mb"] = round(found["resident_mb"] - found["own_mb"], 1)
    cache = _page_cache()
    if cache is not None:
        found["page_cache_mb"] = round(cache / (1 << 20), 1)
    return found


def memory_there() -> int:
    """Bytes that this process may have: of the machine, or the least of its control groups' limits."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for folder in _groups():
        for parent in (folder, *folder.parents):
            for name in _LIMITS:
                with contextlib.suppress(OSError, ValueError):  # the root has none, and "max" is none
                    found.append(int((parent / name).read_text()))
    return min(found)


class MemoryWatch:
    """Whether what there is for this process is nearly used up."""

    def __init__(self, there: int) -> None:
        self._most_pages = SHORT * there / os.sysconf("SC_PAGE_SIZE")
        self._statm = Path("/proc/self/statm").open("rb", buffering=0)  # noqa: SIM115 - for as long as it watches

    def short(self) -> bool:
        """Ask now: what is resident less what is shared with files is this process's own (proc(5))."""
        _, resident, shared, *_ = os.pread(self._statm.fileno(), 128, 0).split()
        return int(resident) - int(shared) > self._most_pages


def _groups() -> list[Path]:
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    return [_GROUPS / kind / path.lstrip("/") for _, kind, path in lines if kind in ("", "memory")]


def _page_cache() -> int | None:
    try:
        for folder in _groups():
            for line in (folder / "memory.stat").read_text().splitlines():
                name, _, value = line.partition(" ")
                if name in _CACHE:
                    return int(value)
    except (OSError, ValueError):
        pass
    return None
