"""The stores that copies of recordings go to; one is opened by its part of the configuration.

Each kind has a module of its own, which is imported when it is used: what it needs may be an extra.
"""

import sys
from typing import Any, Protocol, cast

from recorderd.errors import ConfigError
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


def open_store(remote: RemoteConfig) -> Store:
    """The store of a configured remote; nothing is touched yet. Raises ConfigError where it needs a package
    that is not installed."""
    settings = cast(Any, remote)  # of the type's own model
    try:
        match remote.type:
            case "s3":
                from recorderd.spool.stores.s3 import S3Store

                return S3Store(settings)
            case "sftp":
                from recorderd.spool.stores.sftp import SftpStore

                return SftpStore(settings)
            case "webdav":
                from recorderd.spool.stores.webdav import WebdavStore

                return WebdavStore(settings)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"sync.remotes: {remote.name}: type {remote.type} needs the Python package {error.name}:"
            f" {sys.executable} -m pip install {error.name}"
        ) from None
    return LocalStore(settings.path)
