"""How much memory this process has of its own, told apart from what the kernel counts with it.

`RssAnon` is the process's; `RssFile` and `RssShmem` are mapped files and the rings. The page cache of what
was written belongs to the kernel, which takes it back when memory is short, though the figure of a control
group has it in (proc(5), and the kernel's Documentation/admin-guide/cgroup-v2.rst).
"""

from pathlib import Path

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


def _page_cache() -> int | None:
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        for _, controllers, path in groups:
            if controllers not in ("", "memory"):
                continue
            folder = Path("/sys/fs/cgroup", controllers, path.lstrip("/"))
            for line in (folder / "memory.stat").read_text().splitlines():
                name, _, value = line.partition(" ")
                if name in _CACHE:
                    return int(value)
    except (OSError, ValueError):
        pass
    return None
