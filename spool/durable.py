"""Files that are there after a power cut, or not there at all; and what an OSError of the disk means.

A failed fsync is never repeated on the same descriptor: the kernel may have dropped the dirty pages and
would report success the second time. Whoever sees :class:`~recorderd.errors.SpoolError` from here has to
write anew.
"""

import ctypes
import errno
import os
from pathlib import Path

from recorderd.errors import DiskFull, RecorderError, SpoolError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
TEMPORARY = ".tmp"


def disk_error(error: OSError, path: Path | str) -> RecorderError:
    """The error to tell the user for a failed operation on the spool's disk."""
    kind = DiskFull if error.errno in FULL else SpoolError
    return kind(f"{path}: {error.strerror or error}")


def sync_folder(path: Path) -> None:
    """Make renames and new names in a folder durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file that was written and closed durable, or hear that the kernel lost it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget_cached(path: Path) -> None:
    """Have a file read from the disk again, not from what the kernel remembers of it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = 0o750) -> None:
    """Make a folder below an existing one, durably; nothing where it is there. Raises OSError."""
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        return
    sync_folder(path.parent)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write everything. Raises OSError."""
    written = os.write(descriptor, data)
    while written < len(data):  # the kernel took a part
        written += os.write(descriptor, memoryview(data)[written:])


def write_new(path: Path | str, data: bytes, *, mode: int = 0o640) -> None:
    """Write a whole file that nobody believes before the next flush. Raises OSError; there is none then."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, data)
    except OSError:
        os.unlink(path)  # noqa: PTH108 - the names of what is written for each call are plain text
        raise
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes, *, mode: int = 0o640, sync_name: bool = True) -> None:
    """Put a whole file in place at once: temporary file, fsync, rename, and fsync of the folder unless told
    not to.

    Raises OSError; the file that stood there before stands there then.
    """
    # Two processes may put the same file in place at once.
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if sync_name:
        sync_folder(path.parent)


class FileSystem:
    """Writes a whole file system out: syncfs(2), one call for hundreds of open recordings.

    It takes a twentieth of the time of an fdatasync each. The descriptor is kept, because the kernel tells a
    write error to every descriptor that was open when it happened, and to later ones only if nobody was told
    before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def sync(self) -> None:
        """Raises OSError; what was written since the last success must then be taken as lost."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        if _LIBC.syncfs(self._descriptor) != 0:
            number = ctypes.get_errno()
            os.close(self._descriptor)
            self._descriptor = -1
            raise OSError(number, os.strerror(number), str(self._path))


_LIBC = ctypes.CDLL(None, use_errno=True)
