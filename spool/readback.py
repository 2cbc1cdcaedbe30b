"""Reads the copy of a recording back from a remote and says what is wrong with it."""

import hashlib
from pathlib import Path
from typing import Any

from recorderd.errors import RemoteError, SpoolCorrupt, SpoolError
from recorderd.spool.evidence import Damage
from recorderd.spool.layout import MANIFEST_SUFFIX, RECORD_SUFFIX, SLOT_SUFFIX, Spool
from recorderd.spool.manifest import load_manifest, parse_manifest
from recorderd.spool.signing import HostPublic
from recorderd.spool.slot_files import read_slots
from recorderd.spool.slots import parse_slots
from recorderd.spool.stores import CHUNK, RemoteOutage, Store, stored_hash

_SHOWN = 32
_MOST_SMALL = 4 * 1024 * 1024


def copy_damage(
    store: Store,
    spool: Spool,
    recording: str,
    sha256: str,
    public: HostPublic | None,
    slots_sha256: str | None = None,
) -> Damage | None:
    """What is wrong with the copy of a recording of this hash (hex), or None. ``slots_sha256`` is of the key
    slots that the remote was given, None where it has none to have.

    Raises RemoteOutage, and RemoteError where it cannot be read.
    """
    base = f"{spool.folder(recording).name}/{recording}"
    name = base + RECORD_SUFFIX
    if store.size(name) is None:
        return Damage(name, "gone", {})
    found = stored_hash(store, name)
    if found != sha256:
        return Damage(name, "damaged", facts_of(store, name, spool.record_path(recording), sha256, found))
    name = base + MANIFEST_SUFFIX
    if store.size(name) is None:
        return Damage(name, "gone", {})
    data = small_object(store, name)
    if not _is_manifest(data, spool, recording, sha256, public):
        return Damage(name, "damaged", _facts(store, name, data))
    name = base + SLOT_SUFFIX
    if slots_sha256 is None:
        return None
    if store.size(name) is None:
        return Damage(name, "gone", {})
    data = small_object(store, name)
    # Those that were wrapped anew here may be there before it is noted.
    if hashlib.sha256(data).hexdigest() != slots_sha256 and data != _local_slots(spool, recording):
        return Damage(name, "damaged", {**_facts(store, name, data), "expected_sha256": slots_sha256})
    return None


def _local_slots(spool: Spool, recording: str) -> bytes | None:
    try:
        slots = read_slots(spool.slot_path(recording))
    except (SpoolCorrupt, SpoolError):
        return None
    return None if slots is None else slots.raw


def facts_of(store: Store, name: str, path: Path, expected: str, found: str) -> dict[str, Any]:
    """What tells an object apart from the file that it should be: for evidence. Read once more for it; what
    cannot be found out is left out. Raises RemoteOutage."""
    facts: dict[str, Any] = {"expected_sha256": expected, "sha256": found}
    try:
        facts["versions"] = list(store.versions(name))
        facts |= _difference(store, name, path)
    except RemoteOutage:
        raise
    except (RemoteError, OSError) as error:
        facts["unread"] = str(error)
    return facts


def _difference(store: Store, name: str, path: Path) -> dict[str, Any]:
    """Where the bytes begin to differ, some bytes from there on (hex), and how many each has."""
    digest, at = hashlib.sha256(), 0
    facts: dict[str, Any] = {}
    with store.open(name) as stream, path.open("rb") as file:
        while True:
            there = stream.read(CHUNK)
            here = file.read(len(there) or CHUNK)
            digest.update(there)
            if "differs_at" not in facts and there != here:
                pairs = zip(there, here, strict=False)
                first = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(there), len(here)))
                facts["differs_at"] = at + first
                if not name.endswith(MANIFEST_SUFFIX):  # which has numbers, and evidence outlives it
                    facts["there"] = there[first : first + _SHOWN].hex()
                    facts["here"] = here[first : first + _SHOWN].hex()
            at += len(there)
            if not there:
                break
        facts |= {"bytes": at, "expected_bytes": path.stat().st_size, "sha256_again": digest.hexdigest()}
    return facts


def _facts(store: Store, name: str, data: bytes) -> dict[str, Any]:
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "versions": list(store.versions(name)),
    }


def small_object(store: Store, name: str) -> bytes:
    """All of a manifest, or of key slots. Raises RemoteError."""
    try:
        with store.open(name) as stream:
            data = b""
            while len(data) <= _MOST_SMALL and (chunk := stream.read(CHUNK)):
                data += chunk
    except OSError as error:
        raise RemoteError(f"{name}: {error.strerror or error} while reading back") from None
    return data


def later_generation(store: Store, name: str, generation: int) -> bool:
    """Whether a remote's key slots are of a later generation than this. Raises RemoteError."""
    try:
        return parse_slots(small_object(store, name)).generation > generation
    except SpoolCorrupt:
        return False


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
