"""The first bytes of a recording: its key slots, and its header (docs/format.md, "How it is written")."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recorderd.spool.durable import disk_error, write_all
from recorderd.spool.header import DATA_KEY_BYTES, Core, Header, Keys, new_header
from recorderd.spool.keys import Recipient
from recorderd.spool.layout import PART_SUFFIX, SLOT_SUFFIX, Spool
from recorderd.spool.slots import SlotFile, new_detached


class Begun(NamedTuple):
    """A file with its header, open to be appended to. ``stem`` is what its path and those of the files beside
    it begin with; ``slots`` is None where they are in the header."""

    stem: str
    descriptor: int
    header: Header
    slots: SlotFile | None
    keys: Keys


def begin(spool: Spool, core: Core, recipients: Sequence[Recipient], *, detached: bool) -> Begun:
    """Create ``<id>.rec.part`` with its header under a fresh key, and where the key slots are to be
    ``detached``, ``<id>.key`` with them before it.

    Raises DiskFull or SpoolError; no file is left behind then.
    """
    data_key, salt = os.urandom(DATA_KEY_BYTES), os.urandom(32)
    wraps = [recipient.wrap for recipient in recipients]
    slots: SlotFile | None = None
    if detached:
        header, slots, keys = new_detached(core, data_key, salt, wraps)
    else:
        header, keys = new_header(core, data_key, salt, wraps)
    stem = spool.stem(core.recording)
    try:
        if slots is not None:
            os.close(_create(stem + SLOT_SUFFIX, slots.raw))
        try:
            descriptor = _create(stem + PART_SUFFIX, header.raw)
        except OSError:
            if slots is not None:
                os.unlink(stem + SLOT_SUFFIX)  # noqa: PTH108 - plain text, for each call
            raise
    except OSError as error:
        raise disk_error(error, stem + PART_SUFFIX) from None
    return Begun(stem, descriptor, header, slots, keys)


def _create(path: str, data: bytes) -> int:
    """A new file, its folder made where it is missing, that begins with ``data``; its descriptor.

    Raises OSError; there is none then, or what stood there before.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o640)
    except FileNotFoundError:  # the first of its day
        Path(path).parent.mkdir(mode=0o750, exist_ok=True)
        descriptor = os.open(path, flags, 0o640)
    try:
        write_all(descriptor, data)
    except OSError:
        os.close(descriptor)
        os.unlink(path)  # noqa: PTH108 - as above
        raise
    return descriptor
