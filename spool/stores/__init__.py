"""The stores that copies of recordings go to; one is opened by its part of the configuration.

Each kind has a module of its own, which is imported when it is used: what it needs may be an extra.
"""

from pathlib import Path
from typing import Protocol

from recorderd.spool.stores.base import (
    CHUNK,
    MARKER,
    Deleted,
    Finding,
    RemoteOutage,
    Sent,
    Store,
    Stored,
    file_hash,
    stored_hash,
)
from recorderd.spool.stores.local import LocalStore
from recorderd.spool.stores.memory import MemoryStore
from recorderd.spool.stores.wrappers import Retrying, Verifying

__all__ = [
    "CHUNK",
    "MARKER",
    "Deleted",
    "Finding",
    "LocalStore",
    "MemoryStore",
    "RemoteConfig",
    "RemoteOutage",
    "Retrying",
    "Sent",
    "Store",
    "Stored",
    "Verifying",
    "file_hash",
    "open_store",
    "stored_hash",
]


class RemoteConfig(Protocol):
    """A remote of the configuration; each type has keys of its own beside these."""

    @property
    def name(self) -> str:
        """Unique."""

    @property
    def type(self) -> str:
        """Which store it is."""

    @property
    def path(self) -> Path:
        """The folder of a ``file`` remote."""


def open_store(remote: RemoteConfig) -> Store:
    """The store of a configured remote; nothing is touched yet."""
    return LocalStore(remote.path)
