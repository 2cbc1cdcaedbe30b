"""A folder that behaves as a bucket with object lock: recordings and manifests are kept until a date, whoever
asks; key slots are not locked. Each object has a version id.
"""

import hashlib
import os
import signal
from pathlib import Path

from recorderd.spool.stores import Deleted, LocalStore
from recorderd.spool.times import rfc3339

LOCKED = (".rec", ".json")


class WormStore(LocalStore):
    """``until_us`` and ``now_us`` are in us since 1970."""

    def __init__(self, root: Path, until_us: int, now_us: int) -> None:
        super().__init__(root)
        self.until_us, self.now_us = until_us, now_us

    def delete(self, name: str) -> Deleted:
        versions = self.versions(name)
        if versions and name.endswith(LOCKED) and self.now_us < self.until_us:
            return Deleted("locked", versions, rfc3339(self.until_us))
        super().delete(name)
        return Deleted("gone", versions)

    def versions(self, name: str) -> tuple[str, ...]:
        path = self.root / name
        return (hashlib.sha256(path.read_bytes()).hexdigest()[:8],) if path.exists() else ()


class DeadlyStore:
    """A store that kills its process at the n-th deletion, before it or after."""

    def __init__(self, store: LocalStore, at: int, *, after: bool) -> None:
        self._store, self._left, self._after = store, at, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def delete(self, name: str) -> Deleted:
        self._left -= 1
        if self._left == 0 and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = self._store.delete(name)
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
