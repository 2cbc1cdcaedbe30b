"""The hashes of the ledger's tree on the disk, in tiles of 256 (C2SP tlog-tiles, "Merkle Tree"): with them a
root or a proof takes a few reads, however many entries there are.

They can be made from the entries at any time, and what they say is believed only as far as it agrees with a
signed root.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from recorderd.errors import LedgerCorrupt
from recorderd.spool.durable import write_all
from recorderd.spool.ledger_bundles import WIDTH, tile_name
from recorderd.spool.merkle import EMPTY, HASH_BYTES, node_hash, root, split

_SHIFT = WIDTH.bit_length() - 1


class HashTiles:
    """The tiles below a ledger's folder; one process at a time adds to them.

    A last tile of less than 256 hashes stands under the name that it has when it is full.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, size: int, leaves: Iterable[bytes]) -> int:
        """Append leaf hashes to the first ``size``, in the place of any that follow them; returns how many
        there are then. Raises OSError."""
        pending = list(leaves)
        total = size + len(pending)
        level = 0
        while pending:
            complete = []
            while pending:
                number, there = divmod(size, WIDTH)
                taken, pending = pending[: WIDTH - there], pending[WIDTH - there :]
                self._append(self._path(level, number), there, b"".join(taken))
                size += len(taken)
                if size % WIDTH == 0:
                    complete.append(root(self._tile(level, number)))
            level, size, pending = level + 1, size // WIDTH - len(complete), complete
        return total

    def root(self, size: int) -> bytes:
        """The root of the first ``size`` leaves. Raises SpoolCorrupt where the tiles have not so many."""
        return self(0, size) if size else EMPTY

    def __call__(self, first: int, end: int) -> bytes:
        """The hash of a range of leaves as proofs have them; a :data:`~recorderd.spool.merkle.RangeHash`.

        Raises SpoolCorrupt.
        """
        count = end - first
        if count & (count - 1) == 0 and first % count == 0:
            bits = count.bit_length() - 1
            level = bits // _SHIFT
            at, width = first >> level * _SHIFT, 1 << bits % _SHIFT
            hashes = self._tile(level, at // WIDTH)[at % WIDTH : at % WIDTH + width]
            if len(hashes) == width:
                return root(hashes)
            raise LedgerCorrupt(f"{self._path(level, at // WIDTH)}: hashes are missing")
        middle = first + split(count)
        return node_hash(self(first, middle), self(middle, end))

    def _path(self, level: int, number: int) -> Path:
        return self._folder / tile_name(level, number)

    def _tile(self, level: int, number: int) -> list[bytes]:
        path = self._path(level, number)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise LedgerCorrupt(f"{path}: {error.strerror}") from None
        return [data[at : at + HASH_BYTES] for at in range(0, len(data) - HASH_BYTES + 1, HASH_BYTES)]

    @staticmethod
    def _append(path: Path, there: int, data: bytes) -> None:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.ftruncate(descriptor, there * HASH_BYTES)
            os.lseek(descriptor, 0, os.SEEK_END)
            write_all(descriptor, data)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
