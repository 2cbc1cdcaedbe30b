"""The ledger: everything that happened to recordings and calls, in the order in which it became known, append
only, under a Merkle tree whose root the host signs (docs/ledger.md).

Any process of the spool's user appends, under a lock; only who can read the host's key signs. An entry is
acknowledged when it is durable: what a crash tears off behind it is put aside.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from recorderd.errors import LedgerCorrupt, SpoolCorrupt
from recorderd.spool.durable import disk_error, make_folder, sync_folder, write_all, write_file
from recorderd.spool.ledger_bundles import MAX_BUNDLE, WIDTH, bundle_name, pack, unpack, whole
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_history import History
from recorderd.spool.ledger_tiles import HashTiles
from recorderd.spool.merkle import leaf_hash
from recorderd.spool.note import Checkpoint, Key, open_checkpoint, sign_checkpoint, unsigned
from recorderd.spool.signing import HostKey, HostPublic

ORIGIN: Final = "recorderd.ledger/"
FOLDER: Final = "ledger"
CHECKPOINT: Final = "checkpoint"


def ledger_key(public: HostPublic) -> Key:
    """The host's key as checkpoints are signed with it: its name has the whole key id, so whoever has
    ``host.pub`` knows which ledger it must be."""
    return Key(ORIGIN + public.id.hex(), public.key.public_bytes_raw(), public.verifies)


class _Tail(NamedTuple):
    """Where the next entry goes: the last bundle, the entries in it, and their bytes."""

    bundle: int = 0
    entries: int = 0
    bytes: int = 0

    @property
    def size(self) -> int:
        return self.bundle * WIDTH + self.entries


class Ledger:
    """The ledger in a folder, which is made with the first entry. One thread's own; several objects, in any
    processes, may be of one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint_path = path / CHECKPOINT
        self.history = History(path / "history")
        self.tiles = HashTiles(path)
        self.repairs: list[str] = []
        """What :meth:`append` found torn and put aside; for the caller to tell, and to clear."""
        self._seen = _Tail()
        self._signed: Checkpoint | None = None

    # -- entries

    def append(self, entries: Sequence[Entry]) -> range:
        """Append entries, durably: one fdatasync(2) for all of a bundle; returns their numbers.

        All of them or none. Raises DiskFull and SpoolError where the disk does not take them, SpoolCorrupt
        where the ledger has less than was signed, and ValueError for an unknown kind.
        """
        data = [entry.to_bytes() for entry in entries]
        try:
            with self._locked("lock"):
                tail = self._repaired()
                self._seen = self._write(tail, data) if data else tail
        except OSError as error:
            raise disk_error(error, self.path) from None
        return range(tail.size, self._seen.size)

    @property
    def size(self) -> int:
        """How many whole entries there are. Raises SpoolCorrupt."""
        try:
            return self._tail()[0].size
        except OSError as error:
            raise disk_error(error, self.path) from None

    def entries(self, first: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of entries from number ``first`` up to, not including, ``end``; without ``end`` all whole
        ones. Raises SpoolCorrupt where one is missing or damaged."""
        end = self.size if end is None else end
        for number in range(first // WIDTH, -(-end // WIDTH)):
            count = min(WIDTH, end - number * WIDTH)
            for at, entry in enumerate(self._bundle(number, count)):
                if number * WIDTH + at >= first:
                    yield entry

    def _bundle(self, number: int, count: int) -> list[bytes]:
        """The first ``count`` entries of a bundle."""
        path = self.path / bundle_name(number)
        found: list[bytes] = []
        try:
            for entry in unpack(_read(path, MAX_BUNDLE)):
                found.append(entry)
                if len(found) == count < WIDTH:
                    break
        except OSError as error:
            raise LedgerCorrupt(f"{path}: {error.strerror}") from None
        except SpoolCorrupt as error:
            raise LedgerCorrupt(f"{path}: {error}") from None
        if len(found) != count:
            raise LedgerCorrupt(f"{path}: {len(found)} entries, not {count}")
        return found

    # -- appending

    def _make(self) -> None:
        for folder in (self.path, self.path / "tile", self.path / "tile/entries"):
            make_folder(folder)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path / name, flags, 0o640)
        except FileNotFoundError:
            self._make()
            descriptor = os.open(self.path / name, flags, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _tail(self) -> tuple[_Tail, int]:
        """The end of the whole entries, and how many bytes of a torn one are behind it. Raises OSError."""
        # What was seen under the lock is no less than what was signed before.
        stated = None if self._seen.entries else self.stated()
        bundle = max(self._seen.bundle, (stated.size - 1) // WIDTH if stated and stated.size else 0)
        while (self.path / bundle_name(bundle + 1)).exists():
            bundle += 1
        known = self._seen if bundle == self._seen.bundle else _Tail(bundle)
        path = self.path / bundle_name(bundle)
        size = path.stat().st_size if path.exists() else 0
        if size <= known.bytes:
            tail = known
        else:
            entries, end = whole(_read(path, MAX_BUNDLE, known.bytes))
            tail = _Tail(bundle, known.entries + entries, known.bytes + end)
        if size < known.bytes or (stated and tail.size < stated.size):
            raise LedgerCorrupt(f"{self.path}: entries that were there are missing; see `ledger verify`")
        return tail, size - tail.bytes

    def _repaired(self) -> _Tail:
        """The end of the entries, with what is torn behind it put aside. Under the lock."""
        tail, torn = self._tail()
        if torn:
            path = self.path / bundle_name(tail.bundle)
            data = _read(path, MAX_BUNDLE + torn, tail.bytes)
            aside = self.path / f"torn-{tail.size}-{hashlib.sha256(data).hexdigest()[:8]}"
            write_file(aside, data)
            _cut(path, tail.bytes)
            self.repairs.append(f"{path}: {torn} torn bytes put aside as {aside.name}")
        self._seen = tail
        return tail

    def _write(self, tail: _Tail, data: list[bytes]) -> _Tail:
        touched: list[tuple[Path, int]] = []
        try:
            while data:
                if tail.entries == WIDTH:
                    tail = _Tail(tail.bundle + 1)
                chunk, data = data[: WIDTH - tail.entries], data[WIDTH - tail.entries :]
                path = self.path / bundle_name(tail.bundle)
                packed = pack(chunk)
                touched.append((path, tail.bytes))
                _append(path, packed, new=not tail.bytes)
                tail = _Tail(tail.bundle, tail.entries + len(chunk), tail.bytes + len(packed))
        except OSError:
            # What could not be made durable is taken back, or a later entry would stand behind nothing.
            for path, size in reversed(touched):
                with contextlib.suppress(OSError):
                    _cut(path, size)
            raise
        return tail

    # -- checkpoints

    def checkpoint(self, key: HostKey) -> Checkpoint:
        """Sign the root of all entries, and keep it; the last one, where there are no new entries.

        Nothing is signed that contradicts what was signed before: raises SpoolCorrupt then, and SpoolError or
        DiskFull where the disk does not serve. Only what is durable is signed.
        """
        signer = ledger_key(key.public)
        try:
            with self._locked("checkpoint.lock"):
                with self._locked("lock"):
                    size = self._repaired().size
                last = self._last(signer)
                if last is not None and last.size == size:
                    self._settle(last, key)
                    return last
                self._hash(last, size)
                new = Checkpoint(signer.name, size, self.tiles.root(size))
                self._settle(new, key)
                self._signed = new
                return new
        except OSError as error:
            raise disk_error(error, self.path) from None

    def note(self) -> bytes | None:
        """The newest checkpoint as it stands in its file; None where there is none. Raises SpoolCorrupt."""
        try:
            return _read(self.checkpoint_path, 1 << 16)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LedgerCorrupt(f"{self.checkpoint_path}: {error.strerror}") from None

    def stated(self) -> Checkpoint | None:
        """What the newest checkpoint says, whoever signed it. Raises SpoolCorrupt."""
        note = self.note()
        return None if note is None else unsigned(note)

    def _last(self, signer: Key) -> Checkpoint | None:
        """The last thing that was signed: in the file, in the history, or by this object."""
        notes = [note for note in (self.note(), self.history.repair()) if note is not None]
        found = [open_checkpoint(note, signer) for note in notes]
        last = max(found, key=lambda each: each.size, default=None)
        if self._signed is not None and (last is None or last.size < self._signed.size):
            raise LedgerCorrupt(f"{self.path}: the ledger was set back while it was in use")
        return last

    def _hash(self, last: Checkpoint | None, size: int) -> None:
        """Bring the tiles to ``size``, from the last checkpoint on where they agree with it."""
        done = 0 if last is None else last.size
        if last is not None and not self._agree(last):
            # The tiles may have been lost; the entries were not, or this is another ledger.
            self._add(0, done)
            if not self._agree(last):
                raise LedgerCorrupt(f"{self.path}: the entries are not those that were signed (size {done})")
        if size < done:
            raise LedgerCorrupt(f"{self.path}: {size} entries, {done} were signed")
        for number in range(done // WIDTH, -(-size // WIDTH)):
            _sync(self.path / bundle_name(number))
        self._add(done, size)

    def _agree(self, checkpoint: Checkpoint) -> bool:
        try:
            return self.tiles.root(checkpoint.size) == checkpoint.root
        except SpoolCorrupt:
            return False

    def _add(self, first: int, end: int) -> None:
        while first < end:
            stop = min(first - first % WIDTH + WIDTH, end)  # one bundle, one tile
            first = self.tiles.add(first, [leaf_hash(entry) for entry in self.entries(first, stop)])

    def _settle(self, checkpoint: Checkpoint, key: HostKey) -> None:
        """Into the history first: what anybody may have seen is never missing there."""
        note = sign_checkpoint(checkpoint, key.public.key.public_bytes_raw(), key.sign)
        if self.history.repair() != note:
            self.history.append(note)
        if self.note() != note:
            write_file(self.checkpoint_path, note)


def _read(path: Path, most: int, start: int = 0) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(most)


def _append(path: Path, data: bytes, *, new: bool) -> None:
    if new:
        # Levels of folders are made as the ledger grows, and a crash may have come behind the first of them.
        for folder in [*reversed(path.parents)][-4:]:
            make_folder(folder)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        write_all(descriptor, data)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_folder(path.parent)


def _cut(path: Path, size: int) -> None:
    if not path.exists():
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    if not size:
        path.unlink()
        sync_folder(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
