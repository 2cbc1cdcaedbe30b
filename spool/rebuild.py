"""The index from the files: what the manifests tell of every sealed and recovered recording.

An index that is there is opened without the cryptography that manifests take: it is imported where used.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recorderd.errors import SpoolCorrupt
from recorderd.spool.database import NoIndex
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.times import rfc3339

if TYPE_CHECKING:
    from recorderd.spool.manifest import Manifest
    from recorderd.spool.signing import HostPublic

_BATCH = 500


def put_manifest(index: Index, manifest: "Manifest", path: Path) -> None:
    """Enter a recording as its manifest has it."""
    summary = dict(manifest.summary)
    summary["started_at"] = summary.get("started_at") or rfc3339(manifest.started_us)
    if summary.get("duration_s") is None:
        summary["duration_s"] = (manifest.ended_us - manifest.started_us) / 1e6
    index.recording_finished(
        manifest.recording, manifest.state, summary, path, manifest.sha256, manifest.bytes
    )


def rebuild(spool: Spool, index: Index, public: "HostPublic | None" = None) -> tuple[int, list[str]]:
    """Enter every recording that the index does not know; returns how many, and what was wrong with the
    others.

    Manifests are checked against ``public`` where it is given. What the index knows already stays as it is.
    A manifest without its recording is of one that is not here any more. Calls are in the ledger, if anywhere
    (:mod:`recorderd.spool.reindex`); what the remotes have is verified anew.
    """
    from recorderd.spool.manifest import load_manifest

    entered = 0
    problems: list[str] = []
    names = list(spool.manifests())
    for start in range(0, len(names), _BATCH):
        with index.batch():
            for name in names[start : start + _BATCH]:
                if index.has_recording(name):
                    continue
                here = spool.record_path(name).exists()
                if not here and spool.part_path(name).exists():
                    continue  # its manifest came first, and recovery is to end it
                try:
                    manifest = load_manifest(spool.manifest_path(name), public)
                except SpoolCorrupt as error:
                    problems.append(str(error))
                    continue
                put_manifest(index, manifest, spool.record_path(name))
                if not here:
                    index.set_present([name], False)
                entered += 1
    return entered, problems


def open_for_reading(spool: Spool) -> tuple[Index, list[str]]:
    """The index of a spool or of a copy of one, without writing anything; in memory, made from the files,
    where there is none.

    With it what is wrong with the files that could not be entered. Raises SpoolCorrupt and SpoolError.
    """
    try:
        return Index.read(spool), []
    except NoIndex:
        index = Index.in_memory(spool)
    from recorderd.spool.signing import find_host_public

    _, problems = rebuild(spool, index, find_host_public(spool))
    problems += [f"{spool.manifest_path(name)}: the manifest is missing" for name in spool.unstated()]
    enter_parts(spool, index)
    index.refuse_writing()
    return index, problems


def enter_parts(spool: Spool, index: Index) -> None:
    """Enter the recordings in progress, of which not more is known than when they began."""
    with index.batch():
        for name in spool.parts():
            index.recording_started(name, {"started_at": _start(name)})


def open_for_writing(spool: Spool, public: "HostPublic | None" = None) -> tuple[Index, list[str]]:
    """The index of a spool; made from the files where there is none. Raises SpoolError and DiskFull.

    With it what is wrong with the files that could not be entered.
    """
    known = spool.index_path.exists()
    index = Index.open(spool)
    if known:
        return index, []
    from recorderd.spool.signing import find_host_public

    return index, rebuild(spool, index, public or find_host_public(spool))[1]


def _start(recording_id: str) -> str | None:
    """When a recording began, by its name."""
    try:
        moment = datetime.strptime(recording_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return rfc3339(int(moment.timestamp()) * 1_000_000)
