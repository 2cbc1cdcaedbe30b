"""Everything that a bench writes is on a tmpfs, so that no disk is measured, and is removed again."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SPARE = 1_000_000_000  # of the memory, for the programs


@contextlib.contextmanager
def folder_for(needed: int) -> Iterator[Path]:
    """A folder with room for so many bytes. Leaves with the reason where there is none."""
    tmpfs = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
    room = min(shutil.disk_usage(tmpfs).free, _available() - _SPARE)
    if needed > room:
        sys.exit(f"{tmpfs}: {needed / 1e9:.1f} GB are needed, there is room for {max(room, 0) / 1e9:.1f} GB")
    with tempfile.TemporaryDirectory(prefix="recorderd-bench-", dir=tmpfs) as folder:
        yield Path(folder)


def _available() -> int:
    with open("/proc/meminfo") as lines:
        (available,) = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(available) * 1024
