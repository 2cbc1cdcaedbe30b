"""Reads the slot file that stands beside a recording, and puts a later generation in its place
(docs/format.md, "The slot file")."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from recorderd.errors import SpoolCorrupt, SpoolError
from recorderd.spool.durable import disk_error, write_file
from recorderd.spool.header import Header
from recorderd.spool.layout import (
    DAMAGED_SUFFIX,
    PART_SUFFIX,
    RECORD_SUFFIX,
    SLOT_SUFFIX,
    is_recording_id,
)
from recorderd.spool.slots import MAX_BYTES, SlotFile, parse_slots


def read_slots(path: Path) -> SlotFile | None:
    """The slot file at ``path``; None where there is none. Raises SpoolCorrupt, and SpoolError where it
    cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpoolError(f"{path}: {error.strerror}") from None
    try:
        return parse_slots(data)
    except SpoolCorrupt as error:
        raise SpoolCorrupt(f"{path}: {error}") from None


def slots_beside(recording: Path, header: Header) -> SlotFile | None:
    """The slot file of the recording at this path: beside it, and named after it, or after its id where the
    recording was renamed.

    None where there is none. Raises SpoolCorrupt where it is damaged or of another recording, and SpoolError.
    """
    path = slot_path_of(recording)
    found = read_slots(path)
    if found is None and is_recording_id(header.core.recording):
        path = recording.with_name(header.core.recording + SLOT_SUFFIX)
        found = read_slots(path)
    if found is not None and not found.belongs_to(header):
        raise SpoolCorrupt(f"{path}: key slots: they are of another recording")
    return found


def slot_path_of(recording: Path) -> Path:
    """Where the slot file of the recording at this path stands."""
    name = recording.name
    for suffix in (PART_SUFFIX, DAMAGED_SUFFIX, RECORD_SUFFIX):
        name = name.removesuffix(suffix)
    return recording.with_name(name + SLOT_SUFFIX)


@contextlib.contextmanager
def changing(folder: Path, *, sending: bool = False) -> Iterator[None]:
    """Hold off others who replace or destroy slot files of this folder; read them inside. ``sending``: with
    others who send them, so that a destruction finds at the remotes what was under way. Raises SpoolError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SpoolError(f"{folder}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if sending else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def put_slots(path: Path, slots: SlotFile) -> None:
    """Put a generation in place, durably: temporary file, fsync, rename. Inside :func:`changing`. Raises
    DiskFull and SpoolError; the generation before stands there then."""
    try:
        write_file(path, slots.raw)
        if os.geteuid() == 0:  # the recorder has to read it, too
            folder = path.parent.stat()
            os.chown(path, folder.st_uid, folder.st_gid)
    except OSError as error:
        raise disk_error(error, path) from None
