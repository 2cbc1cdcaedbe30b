"""Finds the key slots that were wrapped anew, so that the remotes get them.

A new generation is renamed into place, which changes its folder. Folders that changed are looked through, and
of their slot files those that changed; every file is compared once after a start, some in each pass.
"""

import hashlib
import os
import time
from collections import OrderedDict
from pathlib import Path

from recorderd.spool.index import Index
from recorderd.spool.layout import SLOT_SUFFIX, Spool, is_recording_id

EVERY_S = 30.0
_TICK_NS = 2_000_000_000
MOST_FILES = 5_000
"""Slot files that are read in one look."""
_MOST_FOLDERS = 4
"""Folders whose files are remembered one by one: today's changes all the time."""

_Seen = dict[str, tuple[int, int]]


class SlotWatch:
    """Watches for one remote."""

    def __init__(self, spool: Spool, remote: str) -> None:
        self._spool, self._remote = spool, remote
        self._folders: dict[str, int] = {}
        """When a folder was changed last when all of it was compared, ns since 1970."""
        self._looked_s: float | None = None
        self._files: OrderedDict[str, _Seen] = OrderedDict()

    def look(self, index: Index, *, everything: bool = False) -> int:
        """Have what changed carried again; returns how many recordings. Not more often than it is worth."""
        now = time.monotonic()
        if not everything and self._looked_s is not None and now - self._looked_s < EVERY_S:
            return 0
        self._looked_s = now
        left, found = (1 << 62) if everything else MOST_FILES, 0
        try:
            days = sorted((each for each in os.scandir(self._spool.recordings) if each.is_dir()), key=_name)
        except OSError:
            return 0
        for day in reversed(days):
            if left <= 0:
                break
            changed = day.stat().st_mtime_ns
            if self._folders.get(day.name) == changed:
                continue
            again, read, whole = self._folder(index, Path(day.path), left)
            left -= read
            if again:
                index.sync_again(self._remote, again)
                found += len(again)
            # What changes within one tick of the file system's clock would look the same.
            if whole and abs(time.time_ns() - changed) > _TICK_NS:
                self._folders[day.name] = changed
        for gone in self._folders.keys() - {day.name for day in days}:
            del self._folders[gone]
        return found

    def _folder(self, index: Index, folder: Path, most: int) -> tuple[list[str], int, bool]:
        """Recordings of a folder whose slots the remote has not got, how many files were read, and whether
        all were."""
        seen = self._files.pop(folder.name, {})
        self._files[folder.name] = seen
        while len(self._files) > _MOST_FOLDERS:
            self._files.popitem(last=False)
        first, last = folder.name.replace("-", ""), folder.name.replace("-", "") + "~"
        there = index.sync_slots(self._remote, first, last)
        again: list[str] = []
        read = 0
        for entry in os.scandir(folder):
            recording = entry.name.removesuffix(SLOT_SUFFIX)
            if not entry.name.endswith(SLOT_SUFFIX) or recording not in there:
                continue
            if not is_recording_id(recording):
                continue
            try:
                status = entry.stat()
                mark = status.st_mtime_ns, status.st_ino
                if seen.get(recording) == mark:
                    continue
                if read >= most:
                    return again, read, False
                read += 1
                if hashlib.sha256(Path(entry.path).read_bytes()).hexdigest() != there[recording]:
                    again.append(recording)
                seen[recording] = mark
            except OSError:
                continue  # It was destroyed just now.
        return again, read, True


def _name(entry: "os.DirEntry[str]") -> str:
    return entry.name
