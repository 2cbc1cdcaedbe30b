"""Carries one recording to one store and sees it there.

Nothing of the index is touched here, so that several recordings can be under way at once, each in a thread
with a store of its own.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from recorderd.errors import RecorderError, RemoteError, SpoolCorrupt
from recorderd.spool.evidence import Damage
from recorderd.spool.layout import MANIFEST_SUFFIX, RECORD_SUFFIX, SLOT_SUFFIX, Spool
from recorderd.spool.manifest import Manifest, load_manifest
from recorderd.spool.pacing import Terms, is_sampled
from recorderd.spool.readback import facts_of, later_generation
from recorderd.spool.signing import HostPublic
from recorderd.spool.slot_files import changing, read_slots
from recorderd.spool.stores import RemoteOutage, Sent, Store, file_hash, stored_hash


@dataclass(frozen=True, slots=True)
class Job:
    """A recording to carry: what the index says of it, and its place in the pass."""

    recording: str
    sha256: str | None
    bytes: int
    attempts: int
    present: bool
    number: int
    total: int


@dataclass(slots=True)
class Outcome:
    """What came of a job: ``state`` is ``verified`` or ``stored``, None where it failed with ``error``, or
    ended with the remote's ``outage``."""

    job: Job
    state: str | None = None
    sha256: str | None = None
    slots_sha256: str | None = None
    versions: dict[str, list[str]] = field(default_factory=dict)
    damages: list[Damage] = field(default_factory=list)
    error: RecorderError | None = None
    outage: RemoteOutage | None = None


class NotKept(RemoteError):
    """A remote does not give back what it was sent."""


class Carrier:
    """Carries to one store; any number of threads may use it."""

    def __init__(
        self,
        spool: Spool,
        store: Store,
        terms: Terms,
        public: HostPublic | None,
        sample_key: bytes,
        keep: Callable[[str, Damage], object] = lambda recording, damage: None,
    ) -> None:
        """``keep`` is told of a recording's damage before what was found is replaced."""
        self._keep = keep
        self._spool, self._store, self._terms, self._public = spool, store, terms, public
        self._sample_key = sample_key
        self._has_versions = True

    def carry(self, job: Job, sent: Sent) -> Outcome:
        """Bring recording, manifest and key slots there."""
        outcome = Outcome(job)
        try:
            self._carry(job, sent, outcome)
        except RemoteOutage as error:
            outcome.outage = error
        except RecorderError as error:
            outcome.error = error
        return outcome

    def _carry(self, job: Job, sent: Sent, outcome: Outcome) -> None:
        recording, spool = job.recording, self._spool
        manifest = load_manifest(spool.manifest_path(recording), self._public)
        if job.sha256 is not None and job.sha256 != manifest.sha256:
            raise SpoolCorrupt(
                f"{recording}: index and manifest disagree; see `recorderctl verify {recording}`"
            )
        full = not job.present or is_sampled(recording, self._terms.sample, self._sample_key)
        base = f"{spool.folder(recording).name}/{recording}"
        sent(0)
        path = spool.record_path(recording)
        # A destruction waits for keys that are under way; these may be inside of the recording.
        inside = manifest.slots_sha256 is None
        with changing(path.parent, sending=True) if inside else nullcontext():
            if job.present:
                self._bring(base + RECORD_SUFFIX, path, manifest.sha256, full, sent, outcome)
            else:
                self._find(base + RECORD_SUFFIX, recording, manifest.sha256, outcome)
        if self._terms.key_slots:
            with changing(path.parent, sending=True):
                self._bring_slots(base + SLOT_SUFFIX, manifest, full, outcome)
        # The manifest goes last: where it is, the rest is, too.
        path = spool.manifest_path(recording)
        self._bring(base + MANIFEST_SUFFIX, path, local_hash(path), full, None, outcome)
        outcome.sha256 = manifest.sha256
        outcome.state = "verified" if full else "stored"

    def _bring(
        self, name: str, path: Path, sha256: str, full: bool, sent: Sent | None, outcome: Outcome
    ) -> None:
        if local_hash(path) != sha256:
            # Never replace a good copy by a bad original.
            raise SpoolCorrupt(f"{path}: not what was sealed; see `recorderctl verify`")
        self._deliver(name, path, sha256, full, sent, outcome)

    def _find(self, name: str, recording: str, sha256: str, outcome: Outcome) -> None:
        """See a recording there that is not here any more: it may have been carried before the index was made
        anew."""
        if self._store.size(name) is None or stored_hash(self._store, name) != sha256:
            # The scrubbing brings it back from another remote.
            raise SpoolCorrupt(f"{recording}: not here any more; it has to be restored first")
        self._note_versions(name, outcome)

    def _bring_slots(self, name: str, manifest: Manifest, full: bool, outcome: Outcome) -> None:
        path = self._spool.slot_path(manifest.recording)
        slots = read_slots(path)
        if slots is None:
            if manifest.slots_sha256 is not None:
                raise SpoolCorrupt(f"{path}: the key slots are missing; see `recorderctl verify`")
            return
        sha256 = slots.sha256
        if (slots.recording, slots.header_hash.hex()) != (manifest.recording, manifest.header_sha256):
            raise SpoolCorrupt(f"{path}: key slots of another recording")
        self._deliver(name, path, sha256, full, None, outcome, generation=slots.generation)
        outcome.slots_sha256 = sha256

    def _deliver(
        self,
        name: str,
        path: Path,
        sha256: str,
        full: bool,
        sent: Sent | None,
        outcome: Outcome,
        generation: int | None = None,
    ) -> None:
        """Have a file's bytes, of this hash, under a name; sent only where they are not. What else has the
        name is noted, unless it is an earlier ``generation``."""
        store = self._store
        size = _size(path)
        if store.size(name) is not None:
            found = stored_hash(store, name)
            if found == sha256:
                self._note_versions(name, outcome)
                return
            if generation is None:
                self._note(outcome, Damage(name, "foreign", facts_of(store, name, path, sha256, found)))
            elif later_generation(store, name, generation):
                raise SpoolCorrupt(f"{path}: the remote has later key slots; they are left as they are")
        store.put(name, path, sent)
        found = self._found(name) if full else ""
        kept = found == sha256 if full else store.size(name) == size
        if not kept:
            if local_hash(path) != sha256:
                raise SpoolCorrupt(f"{path}: changed while it was carried")
            facts = facts_of(store, name, path, sha256, found) if found else {"expected_bytes": size}
            self._note(outcome, Damage(name, "not kept", facts))
            raise NotKept(f"{name}: what the remote gives back is not what was sent")
        self._note_versions(name, outcome)

    def _note(self, outcome: Outcome, damage: Damage) -> None:
        outcome.damages.append(damage)
        self._keep(outcome.job.recording, damage)

    def _found(self, name: str) -> str:
        """The hash of what is read back; empty where nothing is there."""
        try:
            return stored_hash(self._store, name)
        except RemoteOutage:
            raise
        except RemoteError:
            if self._store.size(name) is not None:
                raise
            return ""

    def _note_versions(self, name: str, outcome: Outcome) -> None:
        """Of what may be locked, or is to be destroyed; the manifest is neither. A request each."""
        if self._has_versions and not name.endswith(MANIFEST_SUFFIX):
            versions = self._store.versions(name)
            self._has_versions = bool(versions)
            if versions:
                outcome.versions[name] = list(versions)


def deliver_small(store: Store, name: str, path: Path, sha256: str) -> None:
    """Have a small file's bytes, of this hash, under a name, and see them there. Raises RemoteError."""
    if store.size(name) is not None and stored_hash(store, name) == sha256:
        return
    store.put(name, path)
    if stored_hash(store, name) != sha256:
        raise NotKept(f"{name}: what the remote gives back is not what was sent")


def local_hash(path: Path) -> str:
    """SHA-256 (hex) of a file of the spool. Raises SpoolCorrupt."""
    try:
        return file_hash(path)
    except OSError as error:
        raise SpoolCorrupt(f"{path}: {error.strerror}") from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise RemoteError(f"{path}: {error.strerror}") from None
