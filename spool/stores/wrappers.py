"""Policy for any store, as wrappers: trying again, and believing nothing that was not read back."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from recorderd.errors import RemoteError
from recorderd.spool.stores.base import (
    Deleted,
    Finding,
    RemoteOutage,
    Sent,
    Store,
    Stored,
    file_hash,
    stored_hash,
)

T = TypeVar("T")


class Passing:
    """A store in front of another one: what it does not change it passes on. Each wrapper is one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def probe(self) -> str | None:
        """As the store says."""
        return self._store.probe()

    def claim(self) -> str:
        """As the store does."""
        return self._store.claim()

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        """As the store does."""
        self._store.put(name, path, sent)

    def open(self, name: str) -> BinaryIO:
        """As the store does."""
        return self._store.open(name)

    def size(self, name: str) -> int | None:
        """As the store says."""
        return self._store.size(name)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """As the store says."""
        return self._store.list(prefix)

    def delete(self, name: str) -> Deleted:
        """As the store does."""
        return self._store.delete(name)

    def versions(self, name: str) -> tuple[str, ...]:
        """As the store says."""
        return self._store.versions(name)

    def examine(self) -> tuple[Finding, ...]:
        """As the store does."""
        return self._store.examine()


class Retrying(Passing):
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
        super().__init__(store)
        self._tries = tries
        self._pause_s = pause_s
        self._sleep = sleep

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        """Store; a put done twice leaves one object."""
        self._again(lambda: self._store.put(name, path, sent))

    def open(self, name: str) -> BinaryIO:
        """Open; what fails while reading is not repeated here."""
        return self._again(lambda: self._store.open(name))

    def size(self, name: str) -> int | None:
        """The size."""
        return self._again(lambda: self._store.size(name))

    def delete(self, name: str) -> Deleted:
        """As the store does."""
        return self._again(lambda: self._store.delete(name))

    def versions(self, name: str) -> tuple[str, ...]:
        """As the store says."""
        return self._again(lambda: self._store.versions(name))

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


class Verifying(Passing):
    """Believes a put only when reading back gives the same bytes."""

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
