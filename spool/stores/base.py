"""Where copies of recordings go: one narrow protocol, and what its answers are made of.

Every failure is a RemoteError; RemoteOutage says that the store as a whole cannot be reached, so that
nobody tries the next thousand recordings on it.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from recorderd.errors import RemoteError

CHUNK = 1 << 20
MARKER = ".recorderd-store"
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*(/[0-9A-Za-z][0-9A-Za-z._-]*){0,7}")

# Told how many bytes have been sent so far.
Sent = Callable[[int], None]


class RemoteOutage(RemoteError):
    """The remote as a whole cannot be used now."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that a store lists: its size in bytes, and when it was stored (us since 1970), where that is
    told."""

    name: str
    size: int
    modified_us: int | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of a deletion.

    ``gone``: no version is left that can be read. ``locked``: the store keeps it, until ``until`` (RFC 3339)
    where it tells. ``refused``: these credentials may not delete. ``versions`` are the ids of the versions
    that were removed, or are kept; empty where the store has no versions.
    """

    outcome: Literal["gone", "locked", "refused"]
    versions: tuple[str, ...] = ()
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a store was seen to do when it was tried. ``ok`` is None where that could not be found out."""

    what: str
    ok: bool | None
    detail: str


class Store(Protocol):
    """A place for immutable objects with names like ``2026-11-21/<id>.rec``. Any number of threads may use
    one at once."""

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

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """What is stored under names that begin so, in order of name. Raises RemoteError."""

    def delete(self, name: str) -> Deleted:
        """Remove what is stored under a name, with all its versions; what is not there is gone. Raises
        RemoteError."""

    def versions(self, name: str) -> tuple[str, ...]:
        """The ids of the versions under a name, newest first; empty where the store has none. Raises
        RemoteError."""

    def examine(self) -> tuple[Finding, ...]:
        """Try what the store really enforces (checksums, locks, conditions), on objects of its own. Raises
        RemoteOutage."""


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


def checked_name(name: str) -> str:
    """A name that may be used. Raises RemoteError for another."""
    if _NAME.fullmatch(name) is None or ".." in name:
        raise RemoteError(f"{name[:80]!r} is not a name for a stored object")
    return name


def read_source(path: Path) -> bytes:
    """The bytes of a file to be stored. Raises RemoteError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RemoteError(f"{path}: {error.strerror}") from None
