"""The files of the ledger's entries, as bytes: bundles of 256 (C2SP tlog-tiles, "Log entries"). Pure.

An entry in a bundle stands behind its length, 2 bytes, big-endian.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from recorderd.errors import LedgerCorrupt, SpoolCorrupt
from recorderd.spool.ledger_entries import MAX_ENTRY, Entry

WIDTH: Final = 256
"""Entries of a full bundle, hashes of a full tile."""

MAX_BUNDLE: Final = WIDTH * (2 + MAX_ENTRY)
_LENGTH: Final = struct.Struct(">H")


def number_path(number: int) -> str:
    """``1234067`` as ``x001/x234/067``: no folder has more than 1,000 names of a level."""
    parts = [f"{number % 1000:03d}"]
    while number := number // 1000:
        parts.append(f"x{number % 1000:03d}")
    return "/".join(reversed(parts))


def tile_name(level: int, number: int) -> str:
    """Where the hashes of a level stand in the ledger's folder."""
    return f"tile/{level}/{number_path(number)}"


def bundle_name(number: int, width: int = WIDTH) -> str:
    """Where a bundle stands, below the ledger's folder; one of less than 256 entries where copies of it do,
    which are made before it is full."""
    return f"tile/entries/{number_path(number)}" + ("" if width == WIDTH else f".p/{width}")


def pack(entries: Iterable[bytes]) -> bytes:
    """The bytes of entries in a bundle."""
    return b"".join(_LENGTH.pack(len(entry)) + entry for entry in entries)


def unpack(data: bytes) -> Iterator[bytes]:
    """The entries in a bundle's bytes. Raises SpoolCorrupt where they do not end with the last one, or are
    too many."""
    at = count = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        at += 2 + size
        count += 1
        if not size or size > MAX_ENTRY or at > len(data) or count > WIDTH:
            raise LedgerCorrupt(f"entry {count - 1} of the bundle is damaged or cut")
        yield data[at - size : at]


def whole(data: bytes) -> tuple[int, int]:
    """How many entries a bundle begins with that are whole and readable, and how many bytes they have: what
    is behind is torn."""
    count = end = 0
    try:
        for entry in unpack(data):
            Entry.from_bytes(entry)
            count += 1
            end += 2 + len(entry)
    except SpoolCorrupt:
        pass
    return count, end
