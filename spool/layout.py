"""Where things stand in a spool folder::

    recordings/2026-11-21/20261121T200501Z-0123456789.rec    sealed or recovered
                          20261121T200501Z-0123456789.json   its signed manifest
                          20261121T200501Z-0123456789.key    its key slots, where they are detached
                          20261121T200501Z-0123456789.rec.part    a call in progress
    index.db      the index and the outbox
    destruction/  what was proposed, approved and destroyed, and the certificates
    host.key      the host's signing key (0600); host.pub is its public half
    lock          held by the capturing daemon; outbox.lock by the outbox
    evicting      what is about to be evicted

A remote has the same folders of days, and ``host.pub`` beside them. File names are our own identifiers,
never a peer's.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from recorderd.errors import NoSuchRecording, SpoolError
from recorderd.spool.durable import FileSystem, disk_error, make_folder

RECORD_SUFFIX = ".rec"
PART_SUFFIX = ".rec.part"
DAMAGED_SUFFIX = ".rec.damaged"
MANIFEST_SUFFIX = ".json"
SLOT_SUFFIX = ".key"
_BESIDE_SLOTS = (RECORD_SUFFIX, PART_SUFFIX, DAMAGED_SUFFIX, MANIFEST_SUFFIX)
_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{10}")
_NS = 1_000_000_000


def new_recording_id(started_ns: int, random: bytes | None = None) -> str:
    """``20261121T200501Z-0123456789``: the start (ns since 1970, UTC) and 5 random bytes."""
    return f"{_second(started_ns // _NS)}-{(os.urandom(5) if random is None else random).hex()}"


@lru_cache(maxsize=64)
def _second(since_1970: int) -> str:
    """A second as it stands in ids: many recordings begin in the same one."""
    return f"{datetime.fromtimestamp(since_1970, UTC):%Y%m%dT%H%M%SZ}"


def is_recording_id(text: str) -> bool:
    """Whether a text has the form of a recording id (and so is safe as a file name)."""
    return _ID.fullmatch(text) is not None


def _day(recording_id: str) -> str:
    """The name of the folder of a recording's day. Raises NoSuchRecording."""
    if not is_recording_id(recording_id):
        raise NoSuchRecording(f"{recording_id[:80]!r} is not a recording id")
    return f"{recording_id[:4]}-{recording_id[4:6]}-{recording_id[6:8]}"


class SpoolLock:
    """Held while a daemon writes to the spool; the kernel gives it back when the process dies."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise SpoolError(f"{path.parent}: in use by another recorderd") from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def fileno(self) -> int:
        """The descriptor: a child that inherits it holds the lock, too, for as long as it lives."""
        return self._descriptor

    @property
    def held(self) -> bool:
        """Whether it was not given back yet."""
        return self._descriptor >= 0

    def release(self) -> None:
        """Let another daemon have the spool."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "SpoolLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Spool:
    """A spool folder; a value that knows the names. Nothing is touched before a method is called.

    ``recordings`` is the folder of the days where it is another one than usual.
    """

    def __init__(self, path: Path | str, recordings: Path | None = None) -> None:
        self.path = Path(path)
        self.recordings = self.path / "recordings" if recordings is None else recordings
        self.index_path = self.path / "index.db"
        self.host_key_path = self.path / "host.key"
        self.host_public_path = self.path / "host.pub"
        self.lock_path = self.path / "lock"
        self._file_system = FileSystem(self.path)
        self._lock: SpoolLock | None = None

    def __repr__(self) -> str:
        return f"Spool({str(self.path)!r})"

    def prepare(self) -> "Spool":
        """Make the folders that are missing. Raises SpoolError or DiskFull."""
        try:
            self.path.mkdir(mode=0o750, parents=True, exist_ok=True)
            make_folder(self.recordings)
        except OSError as error:
            raise disk_error(error, self.path) from None
        return self

    @classmethod
    def to_read(cls, path: Path | str) -> "Spool":
        """A spool, or a copy of a remote. Raises SpoolError where there is neither."""
        spool = cls(path)
        if not spool.recordings.is_dir():
            copy = cls(path, recordings=Path(path))
            if copy.recordings.is_dir() and copy._days():
                return copy
        return spool.check()

    @property
    def is_remote_copy(self) -> bool:
        """Whether it has the form of a remote: recordings can be read there, and that is all."""
        return self.recordings == self.path

    def check(self) -> "Spool":
        """Raises SpoolError where there is no spool that can be read."""
        if not self.recordings.is_dir():
            raise SpoolError(
                f"{self.path}: no spool here (it has no folder named recordings, and none of a day)"
            )
        return self

    def lock(self) -> SpoolLock:
        """Take the spool for this process. Raises SpoolError when another one has it."""
        try:
            self._lock = SpoolLock(self.lock_path)
        except OSError as error:
            raise disk_error(error, self.lock_path) from None
        return self._lock

    @property
    def locked(self) -> bool:
        """Whether the lock was taken through this object and not given back."""
        return self._lock is not None and self._lock.held

    def new_id(self, started_ns: int) -> str:
        """A fresh recording id; see :func:`new_recording_id`."""
        return new_recording_id(started_ns)

    def folder(self, recording_id: str) -> Path:
        """The folder of a recording's day. Raises NoSuchRecording for a text that is no recording id."""
        return self.recordings / _day(recording_id)

    def stem(self, recording_id: str) -> str:
        """What the paths of all files of a recording begin with: plain text, as every call needs it. Raises
        NoSuchRecording as :meth:`folder` does.
        """
        return f"{self.recordings}/{_day(recording_id)}/{recording_id}"

    def part_path(self, recording_id: str) -> Path:
        """The file of a call in progress."""
        return self.folder(recording_id) / (recording_id + PART_SUFFIX)

    def record_path(self, recording_id: str) -> Path:
        """The file of a sealed or recovered recording."""
        return self.folder(recording_id) / (recording_id + RECORD_SUFFIX)

    def manifest_path(self, recording_id: str) -> Path:
        """The signed manifest of a sealed or recovered recording."""
        return self.folder(recording_id) / (recording_id + MANIFEST_SUFFIX)

    def slot_path(self, recording_id: str) -> Path:
        """The detached key slots of a recording; there are none where they are in its header."""
        return self.folder(recording_id) / (recording_id + SLOT_SUFFIX)

    def damaged_path(self, recording_id: str) -> Path:
        """What is left of a file whose header did not survive."""
        return self.folder(recording_id) / (recording_id + DAMAGED_SUFFIX)

    def locate(self, recording_id: str) -> Path:
        """The recording's file, finished or in progress. Raises NoSuchRecording."""
        for path in (self.record_path(recording_id), self.part_path(recording_id)):
            if path.exists():
                return path
        raise NoSuchRecording(f"{recording_id}: no such recording in {self.path}")

    def parts(self) -> Iterator[str]:
        """Ids of the files in progress, in order of time."""
        return self._ids(PART_SUFFIX)

    def records(self) -> Iterator[str]:
        """Ids of the sealed and recovered files, in order of time."""
        return self._ids(RECORD_SUFFIX)

    def manifests(self) -> Iterator[str]:
        """Ids that have a manifest, in order of time."""
        return self._ids(MANIFEST_SUFFIX)

    def slots(self) -> Iterator[str]:
        """Ids that have a file of key slots, in order of time."""
        return self._ids(SLOT_SUFFIX)

    def slots_alone(self) -> Iterator[str]:
        """Ids of which there is a file of key slots and nothing else."""
        for name in self.slots():
            if self.has_slots_alone(name):
                yield name

    def has_slots_alone(self, recording_id: str) -> bool:
        """Whether neither a recording, whole or damaged, nor a manifest is there; perhaps key slots."""
        stem = self.stem(recording_id)
        return not any(os.path.exists(stem + suffix) for suffix in _BESIDE_SLOTS)  # noqa: PTH110 - many

    def unstated(self) -> Iterator[str]:
        """Ids of the sealed and recovered files that have no manifest."""
        for day in self._days():
            names = set(os.listdir(day))
            for name in self._named(day, RECORD_SUFFIX, names):
                if name + MANIFEST_SUFFIX not in names:
                    yield name

    def _ids(self, suffix: str) -> Iterator[str]:
        for day in self._days():
            yield from self._named(day, suffix, set(os.listdir(day)))

    def _days(self) -> list[Path]:
        return sorted(day for day in self.recordings.glob("????-??-??") if day.is_dir())

    def _named(self, day: Path, suffix: str, names: set[str]) -> Iterator[str]:
        """Ids of those files of a day's folder that end in ``suffix`` and belong there."""
        for file_name in sorted(names):
            name = file_name[: -len(suffix)]
            if file_name.endswith(suffix) and is_recording_id(name) and self.folder(name) == day:
                yield name

    def flush(self) -> None:
        """Make everything written so far durable, for all recordings in progress at once (group commit).

        Raises SpoolError or DiskFull; what was written since the last success must then be taken as lost.
        """
        try:
            self._file_system.sync()
        except OSError as error:
            raise disk_error(error, self.path) from None
