"""All checkpoints that were ever signed, one behind the other in one file: what was rolled back, or signed
twice with different contents, contradicts one of them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from recorderd.errors import LedgerCorrupt
from recorderd.spool.durable import sync_folder, write_all

_END: Final = b"\n\n"
_LAST: Final = 4096
"""The last note stands within so many bytes from the end."""


def split_notes(data: bytes) -> Iterator[bytes]:
    """The notes in the bytes of a history; what is torn at its end as well. Each ends with its one signature
    line, behind the one empty line it has."""
    while data:
        text, blank, rest = data.partition(_END)
        line, newline, after = rest.partition(b"\n")
        yield text + blank + line + newline
        data = after


class History:
    """The file of the checkpoints. Methods raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def notes(self) -> Iterator[bytes]:
        """All of them, in the order of signing; whether they are whole is for the caller to find out."""
        with contextlib.suppress(FileNotFoundError):
            yield from split_notes(self.path.read_bytes())

    def repair(self) -> bytes | None:
        """The last note, None where there is none; what a crash has torn behind it is cut off."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            size = os.fstat(descriptor).st_size
            start = max(0, size - _LAST)
            data = os.pread(descriptor, _LAST, start)
            whole, last = _whole(data)
            if whole != len(data):
                os.ftruncate(descriptor, start + whole)
                os.fdatasync(descriptor)
            if last is None and start:
                raise LedgerCorrupt(f"{self.path}: the last checkpoint is not readable")
            return last
        finally:
            os.close(descriptor)

    def append(self, note: bytes) -> None:
        """Add a note, durably."""
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            before = os.fstat(descriptor).st_size
            try:
                write_all(descriptor, note)
                os.fdatasync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        if new:
            sync_folder(self.path.parent)


def _whole(data: bytes) -> tuple[int, bytes | None]:
    """How many bytes end with a whole note, and that one. The first may be cut, as only an end is read."""
    end, last = 0, None
    for note in split_notes(data):
        if _END not in note or not note.endswith(b"\n") or note.endswith(_END):
            break
        end += len(note)
        last = note
    return end, last
