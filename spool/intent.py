"""Which recordings are about to be evicted: written down before the first of them goes.

The file has its size from the beginning and is written over in place, since it is needed most where the disk
has no room for another. What is torn by a crash is told by its hash, and nothing had gone then.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from recorderd.errors import SpoolCorrupt
from recorderd.spool.durable import disk_error, sync_folder, write_all
from recorderd.spool.layout import is_recording_id

EVICTING: Final = "evicting"
"""The file's name in the spool."""

SIZE: Final = 16_384
MOST: Final = 400
"""Recordings that an intent has room for."""


class Intent:
    """The file; made with all its bytes when it is first used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make it where it is missing, so that there is room for it. Raises DiskFull and SpoolError."""
        if not self.path.exists() or self.path.stat().st_size != SIZE:
            self.write([])

    def write(self, recordings: Sequence[str]) -> None:
        """Have these written down, on the disk. Raises DiskFull and SpoolError."""
        told = json.dumps(list(recordings)).encode("ascii")
        data = hashlib.sha256(told).hexdigest().encode("ascii") + b"\n" + told + b"\n"
        if len(data) > SIZE:
            raise ValueError("too many recordings for one intent")
        try:
            fresh = not self.path.exists()
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                write_all(descriptor, data.ljust(SIZE))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if fresh:
                sync_folder(self.path.parent)
        except OSError as error:
            raise disk_error(error, self.path) from None

    def read(self) -> list[str]:
        """What was written down last; nothing where that was torn. Raises SpoolError."""
        try:
            digest, told, _ = self.path.read_bytes().split(b"\n", 2)
        except FileNotFoundError:
            return []
        except ValueError:
            return []
        except OSError as error:
            raise disk_error(error, self.path) from None
        if hashlib.sha256(told).hexdigest().encode("ascii") != digest:
            return []
        names = json.loads(told)
        if not isinstance(names, list) or not all(isinstance(n, str) and is_recording_id(n) for n in names):
            raise SpoolCorrupt(f"{self.path}: names what are no recordings")
        return names
