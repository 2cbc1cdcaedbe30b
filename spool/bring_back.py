"""Brings a recording back from a remote: to a host that lost it, or let it go for want of room.

Nothing gets its name before it was checked: the manifest by the host's signature, the recording by the hash
that the manifest states, the key slots by the header that they belong to. The recording is named last, so
that a crash at any moment leaves what looks like one that is still away, and never one without its manifest.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recorderd.errors import RemoteError, SpoolCorrupt
from recorderd.spool.durable import TEMPORARY, disk_error, make_folder, sync_folder, write_all, write_file
from recorderd.spool.layout import DAMAGED_SUFFIX, MANIFEST_SUFFIX, RECORD_SUFFIX, SLOT_SUFFIX, Spool
from recorderd.spool.manifest import Manifest, load_manifest, parse_manifest
from recorderd.spool.reader import RecordFile
from recorderd.spool.scan import read_header
from recorderd.spool.signing import HostPublic
from recorderd.spool.slot_files import changing, read_slots
from recorderd.spool.slots import FIRST, SlotFile, parse_slots
from recorderd.spool.stores import CHUNK, Store, file_hash

MAX_SMALL = 4 * 1024 * 1024
"""Manifests and key slots are smaller; what is larger is neither."""

Told = Callable[[int], None]
IsEntered = Callable[[SlotFile], bool]
"""Whether the ledger says of key slots that they were wrapped anew by somebody who may."""


class Unentered(SpoolCorrupt):
    """Key slots of a later generation that the ledger knows nothing of: anybody can make such a file."""


def bring_back(
    store: Store,
    spool: Spool,
    recording_id: str,
    public: HostPublic,
    told: Told | None = None,
    is_entered: IsEntered | None = None,
) -> dict[str, Any] | None:
    """Put recording, manifest and key slots in place, durably, each checked first; ``told`` gets the bytes so
    far.

    A file of the recording that is there and is not what was sealed is kept as ``.rec.damaged``, unless there
    is one; what tells it apart is returned, None where there was none. Key slots
    that are there stay, unless those of the remote are of a later generation and entered in the ledger.
    Raises RemoteError where the remote does not have it, SpoolCorrupt where what it has is not what was
    sealed, Unentered, DiskFull and SpoolError.
    """
    manifest = bring_statement(store, spool, recording_id, public, is_entered)
    path = spool.record_path(recording_id)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    damage = None
    try:
        try:
            _fetch(store, f"{path.parent.name}/{path.name}", temporary, manifest, told)
            _check_header(temporary, manifest, spool.slot_path(recording_id))
            if path.exists():
                damage = _keep_as_evidence(path, manifest)
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise disk_error(error, path) from None
    return damage


def bring_statement(
    store: Store, spool: Spool, recording_id: str, public: HostPublic, is_entered: IsEntered | None = None
) -> Manifest:
    """Put the manifest and the key slots alone in place: enough to tell what there is, and where.

    The manifest that is there stays if it is the host's. Without ``is_entered`` nobody can tell: key slots
    are taken where there are none here. Raises as :func:`bring_back`.
    """
    path = spool.manifest_path(recording_id)
    name = f"{path.parent.name}/{recording_id}"
    try:
        manifest = load_manifest(path, public)
        data = None
    except SpoolCorrupt:
        data = _small(store, name + MANIFEST_SUFFIX)
        try:
            manifest = parse_manifest(data, public)
        except SpoolCorrupt as error:
            raise SpoolCorrupt(f"{name}{MANIFEST_SUFFIX} of the remote: {error}") from None
    if manifest.recording != recording_id:
        raise SpoolCorrupt(f"{name}{MANIFEST_SUFFIX}: the manifest is of {manifest.recording}")
    try:
        if data is not None:
            make_folder(path.parent)
            write_file(path, data)
        _bring_slots(store, name + SLOT_SUFFIX, spool.slot_path(recording_id), manifest, is_entered)
    except OSError as error:
        raise disk_error(error, path) from None
    return manifest


def _bring_slots(
    store: Store, name: str, path: Path, manifest: Manifest, is_entered: IsEntered | None
) -> None:
    with changing(path.parent):
        try:
            here = read_slots(path)
        except SpoolCorrupt:
            here = None
        if store.size(name) is None:
            return  # destroyed there, perhaps: the recording is what it is without them
        found = parse_slots(_small(store, name))
        if not _of(found, manifest):
            raise SpoolCorrupt(f"{name} of the remote: key slots of another recording")
        if found.generation == FIRST and manifest.slots_sha256 not in (None, found.sha256):
            raise SpoolCorrupt(f"{name} of the remote: not the key slots that the manifest states")
        if here is not None and _of(here, manifest):
            # What a remote has in their place can be wrong in a way that only who has a key would see.
            later = here.generation < found.generation
            if not later or is_entered is None or not is_entered(found):
                return
        elif found.generation != FIRST and is_entered is not None and not is_entered(found):
            raise Unentered(f"{name} of the remote: generation {found.generation} is not in the ledger")
        write_file(path, found.raw)


def _of(slots: SlotFile, manifest: Manifest) -> bool:
    return (slots.recording, slots.header_hash.hex()) == (manifest.recording, manifest.header_sha256)


def _small(store: Store, name: str) -> bytes:
    """All of a small object. Raises RemoteError."""
    try:
        with store.open(name) as stream:
            data = b""
            while len(data) <= MAX_SMALL and (chunk := stream.read(CHUNK)):
                data += chunk
    except OSError as error:
        raise RemoteError(f"{name}: {error.strerror or error} while reading it") from None
    if len(data) > MAX_SMALL:
        raise RemoteError(f"{name}: too large to be what it is named")
    return data


def _fetch(store: Store, name: str, target: Path, manifest: Manifest, told: Told | None) -> None:
    """The recording's bytes into a file, on the disk, if they are those that were sealed. Raises OSError of
    the disk alone."""
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        stream = store.open(name)
        with stream:
            while size <= manifest.bytes:
                try:
                    chunk = stream.read(CHUNK)
                except OSError as error:
                    raise RemoteError(f"{name}: {error.strerror or error} while reading it") from None
                if not chunk:
                    break
                write_all(descriptor, chunk)
                digest.update(chunk)
                size += len(chunk)
                if told is not None:
                    told(size)
        if (size, digest.hexdigest()) != (manifest.bytes, manifest.sha256):
            raise SpoolCorrupt(f"{name} of the remote: not what was sealed")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_header(path: Path, manifest: Manifest, slots_path: Path) -> None:
    """That header, manifest and key slots are of one recording."""
    with RecordFile(path) as file:
        header = read_header(file.read)
    if (header.core.recording, header.hash.hex()) != (manifest.recording, manifest.header_sha256):
        raise SpoolCorrupt(f"{manifest.recording}: the header is not the one stated in the manifest")
    slots = read_slots(slots_path)
    if slots is not None and not slots.belongs_to(header):
        raise SpoolCorrupt(f"{slots_path}: key slots: they are of another recording")


def _keep_as_evidence(path: Path, manifest: Manifest) -> dict[str, Any] | None:
    """Keep what stands there under the recording's name, unless it is what was sealed; what it is."""
    sha256 = file_hash(path)
    if sha256 == manifest.sha256:
        return None
    kept = path.with_name(path.name.removesuffix(RECORD_SUFFIX) + DAMAGED_SUFFIX)
    first = not kept.exists()
    if first:
        kept.hardlink_to(path)
    return {
        "sha256": sha256,
        "bytes": path.stat().st_size,
        "expected_sha256": manifest.sha256,
        "expected_bytes": manifest.bytes,
        # Of a file that went bad twice the first is kept, and of the second these facts.
        "kept": kept.name if first else None,
    }
