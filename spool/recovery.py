"""What a crash left behind becomes recordings again; without any key, by the CRCs (docs/format.md, "How it is
written").

Nothing is cut off and nothing appended: the torn tail stays as evidence, and the host signs what was intact.
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorderd.errors import SpoolCorrupt
from recorderd.spool.durable import TEMPORARY, disk_error, sync_folder
from recorderd.spool.header import Header, Previous
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.manifest import RECOVERED, Manifest, load_manifest
from recorderd.spool.reader import RecordFile
from recorderd.spool.rebuild import put_manifest
from recorderd.spool.scan import Scanner, scan_file
from recorderd.spool.signing import HostKey
from recorderd.spool.times import rfc3339

DAMAGED = "damaged"
STOPPED = "recovered: the recorder stopped before the call did"
UNSTATED = "recovered: its manifest was lost"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of one file.

    ``state`` is ``sealed`` (it was whole, only its last rename was missing), ``recovered``, or ``damaged``
    (the header did not survive; the file is kept under another name). ``elapsed_s`` is the time of its last
    intact record.
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

    def __str__(self) -> str:
        if self.state == DAMAGED:
            return f"{self.path}: damaged; its header did not survive"
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
    found = [recover_part(spool, name, signer, index=index, now_ns=now) for name in list(spool.parts())]
    # A power cut may have kept the rename of the recording and lost that of its manifest.
    for name in list(spool.unstated()):
        found.append(_state(spool, name, spool.record_path(name), signer, index, now))
    if index is not None:
        _settle(spool, index, signer)
    return found


def recover_part(
    spool: Spool, recording_id: str, signer: HostKey, *, index: Index | None = None, now_ns: int | None = None
) -> Recovered:
    """Recover one ``.part`` that nobody writes to any more: a daemon's own after a failed disk, or a dead
    one's.

    Raises DiskFull or SpoolError; the file is as it was then.
    """
    now = time.time_ns() if now_ns is None else now_ns
    return _state(spool, recording_id, spool.part_path(recording_id), signer, index, now)


def _settle(spool: Spool, index: Index, signer: HostKey) -> None:
    """Recordings that the index has as running, though nobody runs them: finished before the index heard of
    it, or gone."""
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


def _state(
    spool: Spool, name: str, path: Path, signer: HostKey, index: Index | None, now_ns: int
) -> Recovered:
    """Sign what there is, then give the file its final name."""
    final = spool.record_path(name)
    manifest_path = spool.manifest_path(name)
    with RecordFile(path) as file:
        # The process died, the machine perhaps not: what is signed below has to be on the disk first.
        file.sync()
        sha256 = _hash(file)
        try:
            header, scanner = scan_file(file.read, file.size)
            if header.core.recording != name:
                raise SpoolCorrupt("the header names another recording")
        except SpoolCorrupt:
            return _set_aside(spool, name, path, file.size, sha256, index)
        size = file.size
    manifest = _whole(manifest_path, signer, sha256, size)
    if manifest is None:
        summary = _known(index, name, header.core.started_us, scanner)
        manifest = _statement(header, scanner, size, sha256, now_ns, summary)
        try:
            manifest.write(manifest_path, signer)
        except OSError as error:
            raise disk_error(error, manifest_path) from None
    _rename(path, final)
    if index is not None:
        put_manifest(index, manifest, final)
    return Recovered(
        recording=name,
        state=manifest.state,
        path=final,
        sha256=sha256,
        bytes=size,
        intact_bytes=scanner.intact_bytes,
        records=scanner.records,
        elapsed_s=scanner.elapsed_ms / 1000,
        previous=Previous(name, header.core.segment, sha256),
    )


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
    header: Header, scanner: Scanner, size: int, sha256: str, now_ns: int, summary: dict[str, Any]
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
    )


def _known(index: Index | None, name: str, started_us: int, scanner: Scanner) -> dict[str, Any]:
    """What may be said of the recording without its key: what the index had, as long as the intact prefix
    is, and that somebody should listen to it."""
    summary = index.recording(name) if index is not None and index.has_recording(name) else {}
    for key in ("id", "state", "sync", "sha256", "bytes"):
        summary.pop(key, None)
    summary["started_at"] = summary.get("started_at") or rfc3339(started_us)
    summary["duration_s"] = scanner.elapsed_ms / 1000
    summary["review"] = {"needed": True, "causes": [UNSTATED if scanner.ended else STOPPED]}
    summary.setdefault("capture_drops", None)
    summary["outcome"] = summary.get("outcome") or (None if scanner.ended else "partial")
    return summary


def _set_aside(spool: Spool, name: str, path: Path, size: int, sha256: str, index: Index | None) -> Recovered:
    """Without a header nobody can open the records; the file is kept, but is no recording."""
    aside = spool.damaged_path(name)
    _rename(path, aside)
    if index is not None and index.has_recording(name):
        index.recording_finished(name, DAMAGED, index.recording(name), aside, sha256, size)
    return Recovered(name, DAMAGED, aside, sha256, size, 0, 0, 0.0, None)


def _rename(path: Path, final: Path) -> None:
    try:
        if path != final:
            path.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise disk_error(error, path) from None


def _hash(file: RecordFile) -> str:
    digest = hashlib.sha256()
    for at in range(0, file.size, _CHUNK):
        digest.update(file.read(at, _CHUNK))
    return digest.hexdigest()
