"""How much room there is on the spool's file system: one statvfs(2), and the sum that the index keeps."""

import os
from pathlib import Path
from typing import Final

from recorderd.spool.budget import Limits, Room
from recorderd.spool.durable import disk_error

NODES: Final = 64
"""With fewer free inodes there is no room, however many bytes there are: a recording takes three."""


def measure(path: Path, used: int, limits: Limits) -> Room:
    """The room now; ``used`` is what the recordings take, in bytes. Raises SpoolError."""
    try:
        found = os.statvfs(path)
    except OSError as error:
        raise disk_error(error, path) from None
    free = found.f_bavail * found.f_frsize
    if found.f_files and found.f_favail < NODES:
        free = 0
    # What is kept for root is nobody's here: total is what this user could have.
    kept = (found.f_bfree - found.f_bavail) * found.f_frsize
    return Room(found.f_blocks * found.f_frsize - kept, free, used, limits)


def bytes_of(path: Path) -> int:
    """The size of a file; 0 where it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
