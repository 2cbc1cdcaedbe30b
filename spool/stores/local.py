"""A folder as a store: another disk, or a mounted share."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from recorderd.errors import RemoteError
from recorderd.spool.durable import make_folder, sync_folder, write_file
from recorderd.spool.stores.base import (
    CHUNK,
    MARKER,
    Deleted,
    Finding,
    RemoteOutage,
    Sent,
    Stored,
    checked_name,
)

_OUTAGES = frozenset(
    {
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.ESTALE,
        errno.ENODEV,
        errno.ENOTCONN,
        errno.EACCES,
    }
)


class LocalStore:
    """A folder: another disk, or a mounted share. A folder that does not exist is an outage and is never
    made here, or a recording would end up on the disk under the mount point of one that is not mounted.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @classmethod
    def create(cls, root: Path) -> "LocalStore":
        """Make the folder (for the one who sets the remote up) and give it its identity. Raises
        RemoteOutage."""
        try:
            Path(root).mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise RemoteOutage(f"{root}: {error.strerror}") from None
        store = cls(root)
        if store.probe() is None:
            store.claim()
        return store

    def probe(self) -> str | None:
        """The identity in the folder's marker file."""
        if not self.root.is_dir():
            raise RemoteOutage(f"{self.root}: no such folder; is the disk mounted?")
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise RemoteOutage(f"{self.root}: not writable")
        try:
            return (self.root / MARKER).read_text(encoding="ascii").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RemoteOutage(f"{self.root / MARKER}: {error}") from None

    def claim(self) -> str:
        """Write the marker file."""
        identity = secrets.token_hex(16)
        try:
            write_file(self.root / MARKER, identity.encode() + b"\n")
        except OSError as error:
            raise self._fault(error, MARKER) from None
        return identity

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        """Temporary file, fsync, rename, fsync of the folder."""
        target = self.root / checked_name(name)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            folder = self.root
            for part in target.relative_to(self.root).parent.parts:
                folder /= part
                make_folder(folder)
            temporary.unlink(missing_ok=True)
            with path.open("rb") as source, open(_private(temporary), "wb") as copy:
                done = 0
                while chunk := source.read(CHUNK):
                    copy.write(chunk)
                    done += len(chunk)
                    if sent is not None:
                        sent(done)
                copy.flush()
                os.fsync(copy.fileno())
            temporary.rename(target)
            sync_folder(target.parent)
        except OSError as error:
            raise self._fault(error, name) from None

    def open(self, name: str) -> BinaryIO:
        """The file, read from the disk rather than from what the kernel still has of it in memory."""
        try:
            file = (self.root / checked_name(name)).open("rb")
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except FileNotFoundError:
            raise RemoteError(f"{self.root / name}: not there") from None
        except OSError as error:
            raise self._fault(error, name) from None
        return file

    def size(self, name: str) -> int | None:
        """The file's size."""
        try:
            found = (self.root / checked_name(name)).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._fault(error, name) from None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """The files; what is half written has names of its own and is not among them."""
        try:
            for path in sorted(self.root.rglob("*")):
                name = path.relative_to(self.root).as_posix()
                if name.startswith(prefix) and not path.name.startswith(".") and path.is_file():
                    found = path.stat()
                    yield Stored(name, found.st_size, found.st_mtime_ns // 1000)
        except OSError as error:
            raise self._fault(error, prefix) from None

    def delete(self, name: str) -> Deleted:
        """Remove the file, durably, and what a crash left half written of it."""
        path = self.root / checked_name(name)
        try:
            path.with_name(f".{path.name}.tmp").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_folder(path.parent)
        except PermissionError:
            return Deleted("refused")
        except OSError as error:
            raise self._fault(error, name) from None
        return Deleted("gone")

    def versions(self, name: str) -> tuple[str, ...]:
        """A folder keeps none."""
        return ()

    def examine(self) -> tuple[Finding, ...]:
        """That it can be written to is the probe's."""
        self.probe()
        return ()

    def _fault(self, error: OSError, name: str) -> RemoteError:
        gone = error.errno in _OUTAGES or not self.root.is_dir()
        kind = RemoteOutage if gone else RemoteError
        return kind(f"{self.root / name}: {error.strerror or error}")


def _private(path: Path) -> int:
    """A new file of the mode that the spool's have."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
