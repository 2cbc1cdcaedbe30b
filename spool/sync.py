"""Carries finished recordings to the remotes and proves that they are there.

A recording is ``verified`` on a remote when recording and manifest were read back from it and their hashes
are those that the host signed. Nothing else counts: no answer of the remote, no size, no earlier success.
The state is in the index, so the work goes on where it stopped, whenever it stopped; what was sent but not
noted is found there and read back.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from recorderd.errors import RemoteError, SpoolCorrupt
from recorderd.spool.index import Index
from recorderd.spool.index_sync import LONGEST_PAUSE_S
from recorderd.spool.layout import MANIFEST_SUFFIX, RECORD_SUFFIX, Spool
from recorderd.spool.manifest import load_manifest
from recorderd.spool.signing import HostPublic
from recorderd.spool.stores import (
    LocalStore,
    RemoteOutage,
    Retrying,
    Store,
    Verifying,
    file_hash,
)
from recorderd.spool.times import rfc3339

_S = 1_000_000_000
FIRST_PAUSE_S = 2
_BATCH = 200


class RemoteConfig(Protocol):
    """A remote of the configuration."""

    @property
    def name(self) -> str:
        """Unique."""

    @property
    def type(self) -> str:
        """``file``."""

    @property
    def path(self) -> Path:
        """The folder of a ``file`` remote."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a pass is: the ``number``-th of ``total`` copies to make, ``sent`` of its ``size`` bytes are
    there."""

    remote: str
    recording: str
    number: int
    total: int
    sent: int
    size: int


@dataclass
class RemoteReport:
    """What a pass did on one remote. ``error`` is why it stopped or what failed last, None when all is
    well."""

    remote: str
    verified: int = 0
    failed: int = 0
    pending: int = 0
    outage: bool = False
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Everything is there, verified."""
        return self.error is None and self.pending == 0

    def as_json(self) -> dict[str, Any]:
        """For ``sync --json``."""
        return {
            "remote": self.remote,
            "ok": self.ok,
            "verified": self.verified,
            "failed": self.failed,
            "pending": self.pending,
            "outage": self.outage,
            "error": self.error,
        }


@dataclass(slots=True)
class _Pause:
    """When a remote that was out is asked again."""

    failures: int = 0
    until_ns: int = 0
    error: str = ""


def open_remotes(remotes: Iterable[RemoteConfig]) -> dict[str, Store]:
    """The stores of the configured remotes, by name; nothing is touched yet."""
    return {remote.name: Retrying(LocalStore(remote.path)) for remote in remotes}


def pause_s(failures: int) -> float:
    """How long to wait after so many failures in a row, in seconds."""
    return float(min(FIRST_PAUSE_S * 2 ** min(failures - 1, 20), LONGEST_PAUSE_S))


def _never() -> bool:
    return False


def _ignore(step: Step) -> None:
    """Where nobody watches."""


@dataclass
class Synchronizer:
    """Carries to every remote; one in the process that has the network."""

    spool: Spool
    index: Index
    remotes: Mapping[str, Store]
    clock: Callable[[], int] = time.time_ns  # ns since 1970
    _pauses: dict[str, _Pause] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index.set_remotes(list(self.remotes))

    def run(
        self,
        *,
        stopping: Callable[[], bool] = _never,
        progress: Callable[[Step], None] = _ignore,
        force: bool = False,
    ) -> list[RemoteReport]:
        """One pass over all remotes: everything that is due is copied and verified. ``force`` ignores pauses.

        A remote's failure is in its report and never keeps another remote waiting. Raises what the index
        raises.
        """
        return [self._remote(name, store, stopping, progress, force) for name, store in self.remotes.items()]

    def adopt(self, remote: str) -> None:
        """Take a remote's store as it is now for the right one: the disk was changed on purpose.

        Everything is copied to it again. Raises RemoteOutage when it cannot be reached.
        """
        store = self.remotes[remote]
        self.index.set_remote_identity(remote, store.probe() or store.claim())
        self._pauses.pop(remote, None)

    def _remote(
        self,
        name: str,
        store: Store,
        stopping: Callable[[], bool],
        progress: Callable[[Step], None],
        force: bool,
    ) -> RemoteReport:
        report = RemoteReport(name)
        pause = self._pauses.setdefault(name, _Pause())
        # A clock that was set back must not stretch the pause.
        if not force and 0 < pause.until_ns - self.clock() <= LONGEST_PAUSE_S * _S:
            report.outage, report.error = True, pause.error
        else:
            try:
                self._identify(name, store)
                self._carry(name, Verifying(store), report, stopping, progress, force)
                pause.failures = 0
            except RemoteOutage as error:
                pause.failures += 1
                pause.until_ns = self.clock() + int(pause_s(pause.failures) * _S)
                pause.error = str(error)
                report.outage, report.error = True, str(error)
        counts = self.index.sync_counts(name)
        report.pending = counts["pending"] + counts["failed"]
        return report

    def _identify(self, name: str, store: Store) -> None:
        """An unmounted disk leaves an empty folder behind that looks like a new store: it is not the one
        that was used."""
        known = self.index.remote_identity(name)
        found = store.probe()
        if known is None:
            self.index.set_remote_identity(name, found or store.claim())
        elif found != known:
            raise RemoteOutage(
                f"{name}: this is not the store that was used before; is the disk mounted?"
                f" (if it was replaced: recorderctl sync --adopt {name})"
            )

    def _carry(
        self,
        name: str,
        store: Verifying,
        report: RemoteReport,
        stopping: Callable[[], bool],
        progress: Callable[[Step], None],
        force: bool,
    ) -> None:
        done: set[str] = set()
        while True:
            # What failed in this pass may be due again at once; it waits for the next pass.
            now = None if force else self.clock()
            due = self.index.sync_pending(name, now_ns=now, limit=_BATCH + len(done))
            due = [row for row in due if row["id"] not in done]
            if not due:
                return
            total = len(done) + len(due)
            for row in due:
                if stopping():
                    return
                done.add(row["id"])
                number = len(done)

                def tell(
                    sent: int, row: dict[str, Any] = row, number: int = number, total: int = total
                ) -> None:
                    progress(Step(name, row["id"], number, total, sent, row["bytes"] or 0))

                self._recording(name, store, row, report, tell)

    def _recording(
        self,
        name: str,
        store: Verifying,
        row: dict[str, Any],
        report: RemoteReport,
        tell: Callable[[int], None],
    ) -> None:
        recording = row["id"]
        try:
            sha256 = self._copy(store, recording, row["sha256"], tell)
        except RemoteOutage:
            raise
        except (RemoteError, SpoolCorrupt) as error:
            report.failed += 1
            report.error = str(error)
            pause = int(pause_s(row["attempts"] + 1) * _S)
            self.index.sync_state(recording, name, "failed", error=str(error), next_ns=self.clock() + pause)
            return
        report.verified += 1
        verified_at = rfc3339(self.clock() // 1000)
        self.index.sync_state(recording, name, "verified", sha256=sha256, verified_at=verified_at)

    def _copy(
        self, store: Verifying, recording: str, indexed: str | None, tell: Callable[[int], None]
    ) -> str:
        """Bring recording and manifest there; returns the SHA-256 of the recording as read back."""
        manifest = load_manifest(self.spool.manifest_path(recording), self._host_public())
        if indexed is not None and indexed != manifest.sha256:
            raise SpoolCorrupt(
                f"{recording}: index and manifest disagree; see `recorderctl verify {recording}`"
            )
        folder = self.spool.folder(recording).name
        path = self.spool.record_path(recording)
        tell(0)
        self._bring(store, f"{folder}/{recording}{RECORD_SUFFIX}", path, manifest.sha256, tell)
        path = self.spool.manifest_path(recording)
        self._bring(store, f"{folder}/{recording}{MANIFEST_SUFFIX}", path, _local_hash(path), None)
        return manifest.sha256

    def _host_public(self) -> HostPublic | None:
        path = self.spool.host_public_path
        return HostPublic.load(path) if path.exists() else None

    def _bring(
        self, store: Verifying, name: str, path: Path, sha256: str, sent: Callable[[int], None] | None
    ) -> None:
        if _local_hash(path) != sha256:
            # Never replace a good copy by a bad original.
            raise SpoolCorrupt(f"{path}: not what was sealed; see `recorderctl verify`")
        store.deliver(name, path, sha256, sent)


def _local_hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise SpoolCorrupt(f"{path}: {error.strerror}") from None
