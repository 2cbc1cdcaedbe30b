"""Checks that a recording is what was sealed: without a key by CRCs, structure and the signed manifest, and
with one by authenticating every record.

What is checked without a key finds every changed, missing or added byte of recording and manifest, as long as
the host's public key is the right one.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recorderd.errors import (
    NoSuchRecording,
    RecorderError,
    SpoolCorrupt,
    SpoolError,
    UsageError,
    WrongKey,
)
from recorderd.spool.entered_slots import EnteredSlots
from recorderd.spool.header import Header
from recorderd.spool.keys import KEYS_MISSING, Identity
from recorderd.spool.layout import Spool
from recorderd.spool.manifest import SEALED, Manifest, load_manifest
from recorderd.spool.reader import COMPLETE, CORRUPT, RECOVERED_PREFIX, RecordFile, Recording
from recorderd.spool.scan import scan_file
from recorderd.spool.signing import HostPublic, find_host_public
from recorderd.spool.slot_files import slot_path_of, slots_beside
from recorderd.spool.slots import FIRST, SlotFile

IN_PROGRESS = "in-progress"
EVICTED = "evicted"
_CHUNK = 1 << 20

# Called with the bytes checked so far and all there are.
Progress = Callable[[int, int], None]


@dataclass
class Verdict:
    """The outcome for one recording. ``status`` is a reader's answer, or ``in-progress``; ``problems`` name
    the files."""

    recording: str
    path: Path
    status: str = CORRUPT
    state: str | None = None
    problems: list[str] = field(default_factory=list)
    with_key: bool = False
    bytes: int = 0
    sha256: str | None = None
    slots: str | None = None
    """Where its key slots are: see :func:`slots_state`."""

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """For ``verify --json``."""
        return {
            "id": self.recording,
            "path": str(self.path),
            "ok": self.ok,
            "status": self.status,
            "state": self.state,
            "with_key": self.with_key,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "slots": self.slots,
            "problems": list(self.problems),
        }


def verify(
    spool: Spool,
    recording_id: str,
    public: HostPublic,
    identities: Sequence[Identity] = (),
    *,
    expected_sha256: str | None = None,
    evicted: bool = False,
    entered: EnteredSlots | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Check one recording; everything found is in the verdict.

    ``expected_sha256`` is what the index knows of it, ``entered`` what the ledger knows of its key slots; of
    one that was ``evicted`` there is the manifest alone. Raises NoSuchRecording where neither file nor
    manifest exists, and WrongKey where identities are given and none opens it.
    """
    path = spool.record_path(recording_id)
    manifest_path = spool.manifest_path(recording_id)
    part = spool.part_path(recording_id)
    if not path.exists() and part.exists():
        return Verdict(recording_id, part, IN_PROGRESS, "recording", bytes=part.stat().st_size)
    if not path.exists() and not manifest_path.exists() and expected_sha256 is None:
        raise NoSuchRecording(f"{recording_id}: no such recording in {spool.path}")
    verdict = Verdict(recording_id, path)
    manifest = None
    try:
        manifest = load_manifest(manifest_path, public)
        verdict.state = manifest.state
    except SpoolCorrupt as error:
        verdict.problems.append(str(error))
    if evicted and not path.exists():
        return _of_statement(verdict, manifest, expected_sha256)
    try:
        _check_file(verdict, manifest, expected_sha256, entered, progress)
        if identities:
            _check_with_key(verdict, manifest, identities)
    except WrongKey:
        raise
    except RecorderError as error:
        verdict.problems.append(str(error))
    if verdict.problems:
        verdict.status = CORRUPT
    return verdict


def _of_statement(verdict: Verdict, manifest: Manifest | None, expected: str | None) -> Verdict:
    """Of a recording that is on the remotes alone the statement about it can be checked."""
    verdict.status = EVICTED if manifest is not None else CORRUPT
    if manifest is not None:
        verdict.bytes, verdict.sha256 = manifest.bytes, manifest.sha256
        if manifest.recording != verdict.recording:
            verdict.problems.append(f"{verdict.path}: the manifest is of {manifest.recording}")
        if expected not in (None, manifest.sha256):
            verdict.problems.append(f"{verdict.path}: index and manifest disagree")
    if verdict.problems:
        verdict.status = CORRUPT
    return verdict


def host_public(spool: Spool, path: Path | None = None) -> HostPublic:
    """The key that the manifests are signed with: that at ``path``, or the one found with the recordings.

    Raises UsageError for a ``path`` that is no such key, and SpoolError where none is found.
    """
    if path is not None:
        try:
            return HostPublic.load(path)
        except SpoolError as error:
            raise UsageError(f"{error}; --host-key takes the host.pub of the recorder's spool") from None
    public = find_host_public(spool)
    if public is None:
        raise SpoolError(
            f"{spool.host_public_path}: the host's public key is missing; without it nothing can be verified"
            " (--host-key FILE names a copy of it)"
        )
    return public


def _check_file(
    verdict: Verdict,
    manifest: Manifest | None,
    expected: str | None,
    entered: EnteredSlots | None,
    progress: Progress | None,
) -> None:
    with RecordFile(verdict.path) as file:
        verdict.bytes = file.size
        verdict.sha256 = _hash(file, progress)
        if expected is not None and expected != verdict.sha256:
            verdict.problems.append(f"{verdict.path}: SHA-256 is not the one in the index")
        problems = [] if manifest is None else _against_manifest(verdict, manifest)
        try:
            header, scanner = scan_file(file.read, file.size)
        except SpoolCorrupt as error:
            problems.append(str(error))
        else:
            if header.core.recording != verdict.recording:
                problems.append(f"the header names {header.core.recording}")
            sealed = manifest is None or manifest.state == SEALED
            if sealed and (damage := scanner.damage()) is not None:
                problems.append(damage)
            elif sealed and not scanner.ended:
                problems.append(f"damaged or cut at byte {scanner.intact_bytes}: no end record")
            elif manifest is not None and scanner.intact_bytes != manifest.intact_bytes:
                problems.append(f"intact to byte {scanner.intact_bytes}, stated {manifest.intact_bytes}")
            if manifest is not None and header.hash.hex() != manifest.header_sha256:
                problems.append("the header is not the one stated in the manifest")
            _check_slots(verdict, header, manifest, entered)
            verdict.status = COMPLETE if scanner.ended else RECOVERED_PREFIX
        verdict.problems += [f"{verdict.path}: {problem}" for problem in problems]


def slots_state(header: Header, slots: SlotFile | None) -> str:
    """``header`` where the key slots are in the recording itself, ``detached`` where they are beside it, and
    ``missing``; with their generation where they were wrapped anew."""
    if slots is None:
        return "missing" if header.detached else "header"
    place = "detached" if header.detached else "header and detached"
    return place if slots.generation == FIRST else f"{place}, generation {slots.generation}"


def _check_slots(
    verdict: Verdict, header: Header, manifest: Manifest | None, entered: EnteredSlots | None
) -> None:
    """The slot file is that of this recording, whole, and the one stated: in the manifest where it is the
    first one, else in the ledger."""
    path = slot_path_of(verdict.path)
    try:
        slots = slots_beside(verdict.path, header)
    except SpoolCorrupt as error:
        verdict.slots = "damaged"
        verdict.problems.append(str(error))
        return
    verdict.slots = slots_state(header, slots)
    if slots is None and header.detached:
        verdict.problems.append(f"{path}: {KEYS_MISSING}")
        return
    if entered and (problem := entered.problem(verdict.recording, path, slots)):
        verdict.problems.append(problem)
    if slots is None:
        return
    stated = None if manifest is None else manifest.slots_sha256
    if slots.generation == FIRST and stated not in (None, slots.sha256):
        verdict.problems.append(f"{path}: SHA-256 is not the one in the manifest")


def _against_manifest(verdict: Verdict, manifest: Manifest) -> list[str]:
    problems = []
    if manifest.recording != verdict.recording:
        problems.append(f"the manifest is of {manifest.recording}")
    if manifest.bytes != verdict.bytes:
        problems.append(f"{verdict.bytes} bytes, the manifest states {manifest.bytes}")
    if manifest.sha256 != verdict.sha256:
        problems.append("SHA-256 is not the one in the manifest")
    return problems


def _check_with_key(verdict: Verdict, manifest: Manifest | None, identities: Sequence[Identity]) -> None:
    with Recording.open(verdict.path, identities, manifest) as recording:
        verdict.with_key = True
        if recording.status == CORRUPT:
            problems = [f"{verdict.path}: {problem}" for problem in recording.problems]
            verdict.problems += [problem for problem in problems if problem not in verdict.problems]


def _hash(file: RecordFile, progress: Progress | None) -> str:
    digest = hashlib.sha256()
    for at in range(0, file.size, _CHUNK):
        digest.update(file.read(at, _CHUNK))
        if progress is not None:
            progress(min(at + _CHUNK, file.size), file.size)
    return digest.hexdigest()
