"""A store in memory."""

import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from recorderd.errors import RemoteError
from recorderd.spool.stores.base import Deleted, Finding, Sent, Stored, checked_name, read_source


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
        data = read_source(path)
        self.objects[checked_name(name)] = data
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

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """What is kept."""
        for name in sorted(self.objects):
            if name.startswith(prefix):
                yield Stored(name, len(self.objects[name]))

    def delete(self, name: str) -> Deleted:
        """Forget it."""
        self.objects.pop(checked_name(name), None)
        return Deleted("gone")

    def versions(self, name: str) -> tuple[str, ...]:
        """It keeps none."""
        return ()

    def examine(self) -> tuple[Finding, ...]:
        """Nothing to find out."""
        return ()
