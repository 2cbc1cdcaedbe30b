"""The index from the files: what the manifests tell of every sealed and recovered recording."""

from pathlib import Path

from recorderd.errors import SpoolCorrupt
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.manifest import Manifest, load_manifest
from recorderd.spool.signing import HostPublic
from recorderd.spool.times import rfc3339

_BATCH = 500


def put_manifest(index: Index, manifest: Manifest, path: Path) -> None:
    """Enter a recording as its manifest has it."""
    summary = dict(manifest.summary)
    summary["started_at"] = summary.get("started_at") or rfc3339(manifest.started_us)
    if summary.get("duration_s") is None:
        summary["duration_s"] = (manifest.ended_us - manifest.started_us) / 1e6
    index.recording_finished(
        manifest.recording, manifest.state, summary, path, manifest.sha256, manifest.bytes
    )


def rebuild(spool: Spool, index: Index, public: HostPublic | None = None) -> tuple[int, list[str]]:
    """Enter every recording that the index does not know; returns how many, and what was wrong with the
    others.

    Manifests are checked against ``public`` where it is given. What the index knows already stays as it is.
    Calls without a recording, and what the remotes have, are not in the files: the first are lost, the
    second is verified anew.
    """
    entered = 0
    problems: list[str] = []
    names = list(spool.manifests())
    for start in range(0, len(names), _BATCH):
        with index.batch():
            for name in names[start : start + _BATCH]:
                if index.has_recording(name) or not spool.record_path(name).exists():
                    continue
                try:
                    manifest = load_manifest(spool.manifest_path(name), public)
                except SpoolCorrupt as error:
                    problems.append(str(error))
                    continue
                put_manifest(index, manifest, spool.record_path(name))
                entered += 1
    return entered, problems
