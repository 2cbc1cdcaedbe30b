"""Reads the copy of a recording back from a remote and says what is wrong with it."""

import hashlib

from recorderd.errors import RemoteError, SpoolCorrupt
from recorderd.spool.layout import MANIFEST_SUFFIX, RECORD_SUFFIX, Spool
from recorderd.spool.manifest import load_manifest, parse_manifest
from recorderd.spool.signing import HostPublic
from recorderd.spool.stores import RemoteOutage, Store, stored_hash


def copy_damage(
    store: Store, spool: Spool, recording: str, sha256: str, public: HostPublic | None
) -> str | None:
    """What is wrong with the copy of a recording of this hash (hex), or None. Raises RemoteOutage."""
    base = f"{spool.folder(recording).name}/{recording}"
    try:
        name = base + RECORD_SUFFIX
        if store.size(name) is None:
            return f"{name}: gone"
        if stored_hash(store, name) != sha256:
            return f"{name}: damaged"
        name = base + MANIFEST_SUFFIX
        if store.size(name) is None:
            return f"{name}: gone"
        if not _is_manifest(_content(store, name), spool, recording, sha256, public):
            return f"{name}: damaged"
    except RemoteOutage:
        raise
    except RemoteError as error:
        return str(error)
    return None


def _content(store: Store, name: str) -> bytes:
    try:
        with store.open(name) as stream:
            return stream.read()
    except OSError as error:
        raise RemoteError(f"{name}: {error.strerror or error} while reading back") from None


def _is_manifest(data: bytes, spool: Spool, recording: str, sha256: str, public: HostPublic | None) -> bool:
    """Whether it is the original's; where the original is damaged itself, whether the host signed it."""
    path = spool.manifest_path(recording)
    try:
        load_manifest(path, public)
        original = hashlib.sha256(path.read_bytes()).digest()
    except (SpoolCorrupt, OSError):
        try:
            manifest = parse_manifest(data, public)
        except SpoolCorrupt:
            return False
        return (manifest.recording, manifest.sha256) == (recording, sha256)
    return hashlib.sha256(data).digest() == original
