"""Carries finished recordings to the remotes and proves that they are there.

A recording is ``verified`` on a remote when recording and manifest were read back from it and their hashes
are those that the host signed. Nothing else counts: no answer of the remote, no size, no earlier success.
The host's public key goes with them, so that a copy of a remote can be checked by itself.
The state is in the index, so the work goes on where it stopped, whenever it stopped; what was sent but not
noted is found there and read back.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recorderd.errors import RemoteError, SpoolCorrupt
from recorderd.spool.index import Index
from recorderd.spool.index_sync import LONGEST_PAUSE_S
from recorderd.spool.layout import MANIFEST_SUFFIX, RECORD_SUFFIX, Spool
from recorderd.spool.manifest import load_manifest
from recorderd.spool.readback import copy_damage
from recorderd.spool.signing import HOST_PUBLIC_NAME, HostPublic
from recorderd.spool.stores import (
    RemoteConfig,
    RemoteOutage,
    Retrying,
    Store,
    Verifying,
    file_hash,
    open_store,
)
from recorderd.spool.times import rfc3339

_S = 1_000_000_000
FIRST_PAUSE_S = 2
_BATCH = 200


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
    rechecked: int = 0
    damaged: list[str] = field(default_factory=list)
    """What was found damaged or gone when the copies were read again."""

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
            "rechecked": self.rechecked,
            "damaged": list(self.damaged),
        }


@dataclass(slots=True)
class _Pause:
    """When a remote that was out is asked again."""

    failures: int = 0
    until_ns: int = 0
    error: str = ""


def open_remotes(remotes: Iterable[RemoteConfig]) -> dict[str, Store]:
    """The stores of the configured remotes, by name; nothing is touched yet."""
    return {remote.name: Retrying(open_store(remote)) for remote in remotes}


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
    _keyed: set[str] = field(default_factory=set)
    """Remotes that were seen to have the host's public key."""

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

        Nothing is taken to be there any more: everything is read back, and copied where it is not there.
        Raises RemoteOutage when it cannot be reached.
        """
        store = self.remotes[remote]
        identity = store.probe() or store.claim()
        with self.index.batch():
            self.index.set_remote_identity(remote, identity)
            self.index.sync_forget(remote)
        self._pauses.pop(remote, None)
        self._keyed.discard(remote)

    def recheck(
        self,
        remote: str,
        *,
        stopping: Callable[[], bool] = _never,
        progress: Callable[[Step], None] = _ignore,
    ) -> RemoteReport:
        """Read every copy that a remote is said to have back again; returns how many, and what is wrong.

        A copy that is damaged or gone is failed from then on, and the next pass sends it again. A remote that
        is away is in the report's ``error``, and nothing is said of the copies that were not read.
        """
        report = RemoteReport(remote)
        store = self.remotes[remote]
        rows = self.index.sync_verified(remote)
        try:
            public = self._host_public()
            self._identify(remote, store)
            for number, row in enumerate(rows, 1):
                if stopping():
                    break
                progress(Step(remote, row["id"], number, len(rows), 0, row["bytes"] or 0))
                damage = copy_damage(store, self.spool, row["id"], row["sha256"], public)
                report.rechecked += 1
                if damage is not None:
                    report.damaged.append(damage)
                    self.index.sync_state(row["id"], remote, "failed", error=damage)
        except RemoteOutage as error:
            report.outage, report.error = True, str(error)
        return report

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
                self._bring_host_key(name, Verifying(store), report)
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
        found = probe_known(name, store, known)
        if known is None:
            self.index.set_remote_identity(name, found or store.claim())

    def _bring_host_key(self, name: str, store: Verifying, report: RemoteReport) -> None:
        """Put the host's public key beside the copies; one that is there already must be the same."""
        path = self.spool.host_public_path
        if name in self._keyed or not path.exists():
            return
        try:
            sha256 = _local_hash(path)
            if store.size(HOST_PUBLIC_NAME) is not None and not store.holds(
                HOST_PUBLIC_NAME, path.stat().st_size, sha256
            ):
                raise RemoteError(
                    f"{name}: {HOST_PUBLIC_NAME} there is not the key of this recorder, and is left alone;"
                    " does another recorder use this remote? (if it is damaged: remove it there)"
                )
            store.deliver(HOST_PUBLIC_NAME, path, sha256)
        except RemoteOutage:
            raise
        except (RemoteError, SpoolCorrupt) as error:
            report.error = str(error)
        else:
            self._keyed.add(name)

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


def probe_known(name: str, store: Store, known: str | None) -> str | None:
    """The identity of a store, which is ``known`` where it was used before. Raises RemoteOutage when it is
    away, or another one stands in its place."""
    found = store.probe()
    if known not in (None, found):
        raise RemoteOutage(
            f"{name}: this is not the store that was used before; is the disk mounted?"
            f" (if it was replaced: recorderctl sync --adopt {name})"
        )
    return found


def _local_hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise SpoolCorrupt(f"{path}: {error.strerror}") from None
