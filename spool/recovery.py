"""What a crash left behind becomes recordings again; without any key, by the CRCs (docs/format.md, "How it is
written").

Nothing is cut off and nothing appended: the torn tail stays as evidence, and the host signs what was intact.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from recorderd.errors import DiskFull, SpoolCorrupt, SpoolError
from recorderd.spool.durable import TEMPORARY, disk_error, sync_folder, write_new
from recorderd.spool.header import Header, Previous
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.manifest import RECOVERED, Manifest, load_manifest
from recorderd.spool.reader import RecordFile
from recorderd.spool.rebuild import put_manifest
from recorderd.spool.retention import stamped_later
from recorderd.spool.scan import Scanner, scan_file
from recorderd.spool.signing import HostKey
from recorderd.spool.slot_files import slots_beside
from recorderd.spool.slots import SlotFile
from recorderd.spool.times import rfc3339

DAMAGED = "damaged"
STOPPED = "recovered: the recorder stopped before the call did"
UNSTATED = "recovered: its manifest was lost"
_CHUNK = 1 << 20


class Recovered(NamedTuple):
    """What became of one file.

    ``state`` is ``sealed`` (it was whole, only its last rename was missing), ``recovered``, or ``damaged``
    (header or key slots did not survive, as ``lost`` says; the file is kept under another name).
    ``elapsed_s`` is the time of its last intact record.
    """

    recording: str
    state: str
    path: Path
    sha256: str
    bytes: int
    intact_bytes: int
    records: int
    elapsed_s: float
    previous: Previous | None
    """What a recording that goes on with this call gives as its previous segment; None for a damaged one."""
    lost: str = "header"

    def __str__(self) -> str:
        if self.state == DAMAGED:
            return f"{self.path}: damaged; its {self.lost} did not survive"
        torn = self.bytes - self.intact_bytes
        return (
            f"{self.path}: {self.state} to {self.elapsed_s:.1f} s, {self.records} records, {torn} bytes torn"
        )


def recover(
    spool: Spool, index: Index | None, signer: HostKey, *, now_ns: int | None = None
) -> list[Recovered]:
    """Recover everything that no living daemon is writing, and bring the index into line with the files.

    The spool's lock is taken for as long as it runs, unless this ``spool`` object holds it already;
    SpoolError is raised where a daemon lives. Idempotent: a crash during recovery is recovered from too.
    ``now_ns`` is the time of writing. Raises DiskFull and SpoolError.
    """
    if not spool.locked:
        with spool.lock():
            return recover(spool, index, signer, now_ns=now_ns)
    now = time.time_ns() if now_ns is None else now_ns
    for leftover in spool.recordings.glob(f"????-??-??/*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)
    left = [(name, spool.part_path(name)) for name in spool.parts()]
    # A power cut may have kept the rename of the recording and lost that of its manifest.
    left += [(name, spool.record_path(name)) for name in spool.unstated()]
    found = _recover_together(spool, left, index, signer, now) if left else []
    if index is not None:
        _settle(spool, index, signer)
    _drop_orphans(spool, list(spool.slots_alone()), index)
    return found


def recover_part(
    spool: Spool,
    recording_id: str,
    signer: HostKey,
    *,
    index: Index | None = None,
    known: dict[str, Any] | None = None,
    now_ns: int | None = None,
) -> Recovered:
    """Recover one ``.part`` that nobody writes to any more: a daemon's own after a failed disk, or a dead
    one's. ``known`` is what may be said of it, where that is not to be asked from the index.

    Raises DiskFull or SpoolError; the file is as it was then.
    """
    now = time.time_ns() if now_ns is None else now_ns
    path = spool.part_path(recording_id)
    recovered, manifest = _state(spool, recording_id, path, signer, index, now, alone=True, known=known)
    _name(spool, path, recovered, manifest, index)
    try:
        sync_folder(recovered.path.parent)
    except OSError as error:
        raise disk_error(error, recovered.path) from None
    return recovered


def recover_some(
    spool: Spool, recordings: Iterable[str], index: Index, signer: HostKey, *, now_ns: int | None = None
) -> list[Recovered]:
    """Recover the recordings that one dead writer of several was making; the spool is the others' still.

    Those that it had finished come into the index, if it did not get so far. Raises DiskFull and SpoolError.
    """
    now = time.time_ns() if now_ns is None else now_ns
    names = list(recordings)
    left = [(name, spool.part_path(name)) for name in names if spool.part_path(name).exists()]
    found = _recover_together(spool, left, index, signer, now) if left else []
    parts = {name for name, _ in left}
    with index.batch():
        for name in names:
            known = index.has_recording(name) and index.recording(name)["state"] != "recording"
            if name not in parts and not known:
                with contextlib.suppress(SpoolCorrupt):  # begun, and no file was made
                    manifest = load_manifest(spool.manifest_path(name), signer.public)
                    put_manifest(index, manifest, spool.record_path(name))
    _drop_orphans(spool, [name for name in names if spool.has_slots_alone(name)], index)
    return found


def _drop_orphans(spool: Spool, names: Iterable[str], index: Index | None) -> None:
    """Remove the key slots of recordings that never began. Never those of one that is elsewhere, perhaps."""
    for name in names:
        known = index is not None and index.has_recording(name)
        if index is None or not known or index.recording(name)["state"] in ("recording", DAMAGED):
            spool.slot_path(name).unlink(missing_ok=True)


def _recover_together(
    spool: Spool, left: list[tuple[str, Path]], index: Index | None, signer: HostKey, now_ns: int
) -> list[Recovered]:
    """A thousand calls were running, perhaps, and new ones wait for this: two syncs do for all."""
    # The process died, the machine perhaps not: what is signed below has to be on the disk first.
    alone = not _flushed(spool)
    stated = [_state(spool, name, path, signer, index, now_ns, alone=alone) for name, path in left]
    if not alone:
        spool.flush()
    for (_, path), (recovered, manifest) in zip(left, stated, strict=True):
        _name(spool, path, recovered, manifest, index)
    return [recovered for recovered, _ in stated]


def _flushed(spool: Spool) -> bool:
    """Whether everything there is durable. Where that failed, each file is asked for itself: the loss may be
    another's."""
    try:
        spool.flush()
    except (DiskFull, SpoolError):
        return False
    return True


def _settle(spool: Spool, index: Index, signer: HostKey) -> None:
    """Bring the index into line: recordings that it has as running though nobody runs them (finished before
    it heard of it, or gone), and finished ones that it never heard of.
    """
    with index.batch():
        for row in index.recordings(state="recording"):
            name = row["id"]
            try:
                manifest = load_manifest(spool.manifest_path(name), signer.public)
            except SpoolCorrupt:
                # Not even a part is left: the power failed before the file's name was on the disk.
                index.recording_finished(name, DAMAGED, row, "", None, None)
            else:
                put_manifest(index, manifest, spool.record_path(name))
        known = {row["id"] for row in index.query("SELECT id FROM recordings")}
        for name in spool.records():
            if name not in known:
                with contextlib.suppress(SpoolCorrupt):  # what `verify` tells
                    put_manifest(
                        index,
                        load_manifest(spool.manifest_path(name), signer.public),
                        spool.record_path(name),
                    )


def _state(
    spool: Spool,
    name: str,
    path: Path,
    signer: HostKey,
    index: Index | None,
    now_ns: int,
    *,
    alone: bool,
    known: dict[str, Any] | None = None,
) -> tuple[Recovered, Manifest | None]:
    """Sign what there is; None of a file that is no recording. ``alone``: durably, by itself."""
    manifest_path = spool.manifest_path(name)
    with RecordFile(path) as file:
        if alone:
            file.sync()
        sha256, size = _hash(file), file.size
        try:
            header, scanner = scan_file(file.read, size)
            if header.core.recording != name:
                raise SpoolCorrupt("the header names another recording")
        except SpoolCorrupt:
            return _damaged(spool, name, sha256, size, "header"), None
    slots = _slots(path, header)
    if slots is None and header.detached and path != spool.record_path(name):
        # The power failed before the first commit: nobody can ever open it.
        return _damaged(spool, name, sha256, size, "key slots"), None
    manifest = whole = _whole(manifest_path, signer, sha256, size)
    if manifest is None:
        summary = _known(index, name, header.core.started_us, scanner, known)
        manifest = _statement(header, slots, scanner, size, sha256, now_ns, summary)
    try:
        if alone:
            manifest.write(manifest_path, signer)
        elif whole is None:
            write_new(manifest_path, manifest.signed(signer))
    except OSError as error:
        raise disk_error(error, manifest_path) from None
    return Recovered(
        recording=name,
        state=manifest.state,
        path=spool.record_path(name),
        sha256=sha256,
        bytes=size,
        intact_bytes=scanner.intact_bytes,
        records=scanner.records,
        elapsed_s=scanner.elapsed_ms / 1000,
        previous=Previous(name, header.core.segment, sha256),
    ), manifest


def _damaged(spool: Spool, name: str, sha256: str, size: int, lost: str) -> Recovered:
    return Recovered(name, DAMAGED, spool.damaged_path(name), sha256, size, 0, 0, 0.0, None, lost)


def _slots(path: Path, header: Header) -> SlotFile | None:
    """The key slots beside a recording, where they are intact."""
    try:
        return slots_beside(path, header)
    except SpoolCorrupt:
        return None


def _name(
    spool: Spool, path: Path, recovered: Recovered, manifest: Manifest | None, index: Index | None
) -> None:
    """Give a file its final name, and tell the index. Without a header or key slots nobody can open the
    records: the file is kept then, but is no recording.
    """
    try:
        if path != recovered.path:
            path.rename(recovered.path)
    except OSError as error:
        raise disk_error(error, path) from None
    name = recovered.recording
    if index is None:
        return
    if manifest is not None:
        put_manifest(index, manifest, recovered.path)
    elif index.has_recording(name):
        row = index.recording(name)
        index.recording_finished(name, DAMAGED, row, recovered.path, recovered.sha256, recovered.bytes)


def _whole(path: Path, signer: HostKey, sha256: str, size: int) -> Manifest | None:
    """The manifest that is there already, when it is ours and of exactly this file."""
    if not path.exists():
        return None
    try:
        manifest = load_manifest(path, signer.public)
    except SpoolCorrupt:
        return None
    return manifest if manifest.sha256 == sha256 and manifest.bytes == size else None


def _statement(
    header: Header,
    slots: SlotFile | None,
    scanner: Scanner,
    size: int,
    sha256: str,
    now_ns: int,
    summary: dict[str, Any],
) -> Manifest:
    return Manifest.of_file(
        header,
        state=RECOVERED,
        size=size,
        sha256=sha256,
        records=scanner.records,
        intact_bytes=scanner.intact_bytes,
        elapsed_ms=scanner.elapsed_ms,
        written_us=now_ns // 1000,
        summary=summary,
        slots=slots,
    )


def _known(
    index: Index | None, name: str, started_us: int, scanner: Scanner, known: dict[str, Any] | None
) -> dict[str, Any]:
    """What may be said of the recording without its key: what the index had, as long as the intact prefix
    is, and that somebody should listen to it."""
    asked = known is None and index is not None and index.has_recording(name)
    summary = index.recording(name) if index is not None and asked else dict(known or {})
    causes = [UNSTATED if scanner.ended else STOPPED] if known is None else known["review"]["causes"]
    for key in ("id", "state", "sync", "sha256", "bytes"):
        summary.pop(key, None)
    summary["started_at"] = summary.get("started_at") or rfc3339(started_us)
    summary["duration_s"] = scanner.elapsed_ms / 1000
    summary["review"] = {"needed": True, "causes": causes}
    ended_us = started_us + scanner.elapsed_ms * 1000
    if (kept := stamped_later(summary.pop("retention", None), ended_us)) is not None:
        summary["retention"] = kept
    summary.setdefault("capture_drops", None)
    summary["outcome"] = summary.get("outcome") or (None if scanner.ended else "partial")
    return summary


def _hash(file: RecordFile) -> str:
    digest = hashlib.sha256()
    for at in range(0, file.size, _CHUNK):
        digest.update(file.read(at, _CHUNK))
    return digest.hexdigest()
