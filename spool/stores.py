"""Where copies of recordings go: one narrow protocol, the stores, and wrappers that add policy to any of
them.

Every failure is a RemoteError; RemoteOutage says that the store as a whole cannot be reached, so that
nobody tries the next thousand recordings on it.
"""

import errno
import hashlib
import io
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from recorderd.errors import RemoteError
from recorderd.spool.durable import make_folder, sync_folder, write_file

CHUNK = 1 << 20
MARKER = ".recorderd-store"
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*(/[0-9A-Za-z][0-9A-Za-z._-]*){0,3}")
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

T = TypeVar("T")

# Told how many bytes have been sent so far.
Sent = Callable[[int], None]


class RemoteOutage(RemoteError):
    """The remote as a whole cannot be used now."""


class Store(Protocol):
    """A place for immutable objects with names like ``2026-11-21/<id>.rec``."""

    def probe(self) -> str | None:
        """Whether it can be used: its identity, None when it has none yet. Raises RemoteOutage."""

    def claim(self) -> str:
        """Give it an identity, and return it. Raises RemoteOutage."""

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        """Store a file's bytes under a name, whole or not at all; what had the name is replaced. Raises
        RemoteError."""

    def open(self, name: str) -> BinaryIO:
        """The stored bytes, from where they are stored. Raises RemoteError."""

    def size(self, name: str) -> int | None:
        """How many bytes are stored under a name; None for nothing. Raises RemoteError."""


def stored_hash(store: Store, name: str) -> str:
    """SHA-256 (hex) of what a store gives back. Raises RemoteError."""
    digest = hashlib.sha256()
    try:
        with store.open(name) as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise RemoteError(f"{name}: {error.strerror or error} while reading back") from None
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class MemoryStore:
    """Keeps objects in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._identity: str | None = None

    def probe(self) -> str | None:
        """Always there."""
        return self._identity

    def claim(self) -> str:
        """Give it an identity."""
        self._identity = self._identity or secrets.token_hex(16)
        return self._identity

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        """Keep the file's bytes."""
        data = _read(path)
        self.objects[_checked(name)] = data
        if sent is not None:
            sent(len(data))

    def open(self, name: str) -> BinaryIO:
        """What is kept."""
        if name not in self.objects:
            raise RemoteError(f"{name}: not in the store")
        return io.BytesIO(self.objects[name])

    def size(self, name: str) -> int | None:
        """How much is kept."""
        return len(self.objects[name]) if name in self.objects else None


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
        target = self.root / _checked(name)
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
            file = (self.root / _checked(name)).open("rb")
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except FileNotFoundError:
            raise RemoteError(f"{self.root / name}: not there") from None
        except OSError as error:
            raise self._fault(error, name) from None
        return file

    def size(self, name: str) -> int | None:
        """The file's size."""
        try:
            return (self.root / _checked(name)).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._fault(error, name) from None

    def _fault(self, error: OSError, name: str) -> RemoteError:
        gone = error.errno in _OUTAGES or not self.root.is_dir()
        kind = RemoteOutage if gone else RemoteError
        return kind(f"{self.root / name}: {error.strerror or error}")


class Retrying:
    """Tries again what failed for one object; an outage is told at once, waiting for its end is the
    engine's."""

    def __init__(
        self,
        store: Store,
        *,
        tries: int = 3,
        pause_s: float = 0.2,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._tries = tries
        self._pause_s = pause_s
        self._sleep = sleep

    def probe(self) -> str | None:
        """As the store says."""
        return self._store.probe()

    def claim(self) -> str:
        """As the store does."""
        return self._store.claim()

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        """Store; a put done twice leaves one object."""
        self._again(lambda: self._store.put(name, path, sent))

    def open(self, name: str) -> BinaryIO:
        """Open; what fails while reading is not repeated here."""
        return self._again(lambda: self._store.open(name))

    def size(self, name: str) -> int | None:
        """The size."""
        return self._again(lambda: self._store.size(name))

    def _again(self, action: Callable[[], T]) -> T:
        for left in reversed(range(self._tries)):
            try:
                return action()
            except RemoteOutage:
                raise
            except RemoteError:
                if not left:
                    raise
                self._sleep(self._pause_s * 2 ** (self._tries - 1 - left))
        raise AssertionError("not reached")


class Verifying:
    """Believes a put only when reading back gives the same bytes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def probe(self) -> str | None:
        """As the store says."""
        return self._store.probe()

    def claim(self) -> str:
        """Claims, and looks whether the claim is there."""
        identity = self._store.claim()
        if self._store.probe() != identity:
            raise RemoteOutage("the store does not keep its identity")
        return identity

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        """Store and read back. Raises RemoteError when what comes back is not the file."""
        try:
            sha256 = file_hash(path)
        except OSError as error:
            raise RemoteError(f"{path}: {error.strerror}") from None
        self.deliver(name, path, sha256, sent)

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """Whether the bytes under this name, read back now, are those. The size alone can only deny it."""
        return self._store.size(name) == size and stored_hash(self._store, name) == sha256

    def deliver(self, name: str, path: Path, sha256: str, sent: Sent | None = None) -> None:
        """Have the file's bytes, of this hash, under a name, and see them there; sent only where they are
        not.

        Raises RemoteError when what comes back is anything else.
        """
        try:
            size = path.stat().st_size
        except OSError as error:
            raise RemoteError(f"{path}: {error.strerror}") from None
        if self.holds(name, size, sha256):
            return
        self._store.put(name, path, sent)
        if not self.holds(name, size, sha256):
            raise RemoteError(f"{name}: what the remote gives back is not what was sent")

    def open(self, name: str) -> BinaryIO:
        """As the store does."""
        return self._store.open(name)

    def size(self, name: str) -> int | None:
        """As the store says."""
        return self._store.size(name)


def _private(path: Path) -> int:
    """A new file of the mode that the spool's have."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None or ".." in name:
        raise RemoteError(f"{name[:80]!r} is not a name for a stored object")
    return name


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RemoteError(f"{path}: {error.strerror}") from None
