"""Brings many recordings back: to a spool that let them go, or to an empty one after a disaster.

What is here and whole is left alone, so a restoration that was interrupted goes on where it stopped. Index
and ledger are told of each recording once its file has its name; where a crash came between the two, the next
restoration tells them.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recorderd.errors import NoRoom, RemoteError, SpoolCorrupt, SpoolError
from recorderd.spool.bring_back import Told, Unentered, bring_back, bring_statement
from recorderd.spool.budget import Limits
from recorderd.spool.durable import write_file
from recorderd.spool.free_space import measure
from recorderd.spool.index import Index
from recorderd.spool.layout import MANIFEST_SUFFIX, Spool, is_recording_id
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter
from recorderd.spool.manifest import Manifest, load_manifest
from recorderd.spool.rebuild import put_manifest
from recorderd.spool.signing import HOST_PUBLIC_NAME, HostPublic
from recorderd.spool.slots import SlotFile
from recorderd.spool.stores import Store, file_hash

Became = Literal["restored", "here", "manifest", "destroyed", "failed"]


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of one recording. ``here``: it was here already; ``manifest``: the manifest alone was asked
    for, and is here; ``destroyed``: it is not to come back."""

    id: str
    became: Became
    remote: str | None = None
    bytes: int = 0
    error: str | None = None
    damage: dict[str, Any] | None = None
    """What stood in its place and was not what was sealed: hashes (hex), sizes, the file that keeps it."""


def fetch_host_public(stores: Mapping[str, Store], target: Path) -> HostPublic:
    """The recorder's public key from the first remote that has it, put at ``target``. Raises RemoteError."""
    problems = []
    for name, store in stores.items():
        try:
            with store.open(HOST_PUBLIC_NAME) as stream:
                data = stream.read(1 << 16)
            write_file(target, data, mode=0o644)
        except (RemoteError, OSError) as error:
            problems.append(f"{name}: {error}")
            continue
        try:
            return HostPublic.load(target)
        except SpoolError as error:
            target.unlink()
            problems.append(f"{name}: {error}")
    raise RemoteError(f"no remote gives the recorder's {HOST_PUBLIC_NAME}: {'; '.join(problems)}")


def ids_on(store: Store, since: str = "", until: str | None = None) -> Iterator[str]:
    """Ids of the recordings that a remote has a manifest of, in order of its names; their starts compared as
    the first letters of their ids. Raises RemoteError."""
    for stored in store.list(""):
        day, _, file_name = stored.name.partition("/")
        name = file_name.removesuffix(MANIFEST_SUFFIX)
        right = len(day) == 10 and name != file_name and is_recording_id(name)
        if right and since <= name and (until is None or name < until):
            yield name


@dataclass
class Restorer:
    """Restores into one spool. ``clock`` is in ns since 1970; ``ledger`` is told of what came back.

    ``own`` is the recorder's index where that is another spool's: it, too, knows what was destroyed."""

    spool: Spool
    index: Index
    stores: Mapping[str, Store]
    public: HostPublic
    ledger: Ledger | None
    limits: Limits
    by: str
    into: str | None = None
    own: Index | None = None
    clock: Callable[[], int] = time.time_ns

    def restore(
        self,
        ids: Iterable[str],
        *,
        thoroughly: bool = False,
        manifests_only: bool = False,
        told: Callable[[str], Told | None] = lambda _: None,
    ) -> Iterator[Restored]:
        """Bring these back, one after the other; ``thoroughly``: what is here is read, not only measured.

        What one remote does not have, or not whole, is asked of the next. Raises DiskFull and SpoolError of
        this disk; what was restored until then is.
        """
        for recording_id in ids:
            if self._destroyed(recording_id):
                yield Restored(recording_id, "destroyed")
                continue
            here = self._here(recording_id, thoroughly)
            if here is not None:
                self._note(here, None)
                yield Restored(recording_id, "here", None, here.bytes)
                continue
            yield self._bring(recording_id, manifests_only, told(recording_id))

    def statements(self, recording_id: str) -> None:
        """Put manifest and key slots in place where they are missing or damaged, and a remote has them."""
        for is_entered in (self._is_entered, None):
            for store in self.stores.values():
                with suppress(RemoteError, SpoolCorrupt):
                    bring_statement(store, self.spool, recording_id, self.public, is_entered)

    def _bring(self, recording_id: str, manifests_only: bool, told: Told | None) -> Restored:
        problems: list[str] = []
        # Key slots that the ledger has not are better than none, and worse than what another remote has.
        for is_entered in (self._is_entered, None):
            problems, unentered = [], False
            for name, store in self.stores.items():
                try:
                    manifest = bring_statement(store, self.spool, recording_id, self.public, is_entered)
                    self._enter_away(manifest)
                    if manifests_only:
                        return Restored(recording_id, "manifest", name)
                    self._check_room(manifest.bytes)
                    damage = bring_back(store, self.spool, recording_id, self.public, told, is_entered)
                except (RemoteError, SpoolCorrupt) as error:
                    problems.append(f"{name}: {error}")
                    unentered = unentered or isinstance(error, Unentered)
                    continue
                self._note(manifest, name, damage)
                return Restored(recording_id, "restored", name, manifest.bytes, damage=damage)
            if not unentered:
                break
        return Restored(recording_id, "failed", error="; ".join(problems) or "no remote to ask")

    def _is_entered(self, slots: SlotFile) -> bool:
        """Whether the ledger has an entry of exactly these key slots."""
        if self.ledger is None:
            return False
        rows = (self.own or self.index).ledger_rows(kind="rewrapped", subject=slots.recording)
        with suppress(SpoolCorrupt):
            for row in rows:
                for data in self.ledger.entries(row["leaf"], row["leaf"] + 1):
                    entry = Entry.from_bytes(data)
                    stated = entry.kind, entry.subject, entry.fields.get("slots_sha256")
                    if stated == ("rewrapped", slots.recording, slots.sha256):
                        return True
        return False

    def _here(self, recording_id: str, thoroughly: bool) -> Manifest | None:
        """The manifest of a recording that is here, whole."""
        path = self.spool.record_path(recording_id)
        try:
            manifest = load_manifest(self.spool.manifest_path(recording_id), self.public)
            if path.stat().st_size != manifest.bytes:
                return None
            if thoroughly and file_hash(path) != manifest.sha256:
                return None
        except (SpoolCorrupt, OSError):
            return None
        return manifest

    def _check_room(self, size: int) -> None:
        """The reserve is for the calls in progress. Raises NoRoom."""
        room = measure(self.spool.path, self.index.bytes_here(), self.limits)
        if room.left < size:
            raise NoRoom(
                f"{self.spool.path}: {max(0, room.left)} bytes are left for recordings, {size} are needed"
                " (--into DIR restores to another disk)"
            )

    def _destroyed(self, recording_id: str) -> bool:
        """Whatever a remote still has of it."""
        for index in (self.index, self.own):
            if index is None:
                continue
            rows = index.query("SELECT state FROM recordings WHERE id = ?", [recording_id])
            if rows and rows[0]["state"] in ("destroying", "destroyed"):
                return True
            if index.ledger_rows(kind="destroyed", subject=recording_id, limit=1):
                return True
        return False

    def _note(self, manifest: Manifest, remote: str | None, damage: dict[str, Any] | None = None) -> None:
        """Tell ledger and index that it is here, unless they know. ``remote``: where it came from, None where
        an earlier restoration got as far as that."""
        recording_id = manifest.recording
        known = self.index.has_recording(recording_id)
        expected = bool(self.index.evicted([recording_id]))
        if known and not expected and remote is None:
            return
        if self.ledger is not None and (remote is not None or expected):
            fields: dict[str, Any] = {"remote": remote, "by": self.by}
            fields |= {"into": self.into} if self.into is not None else {}
            fields |= {"damaged_sha256": damage["sha256"]} if damage is not None else {}
            enter(self.ledger, None, [Entry("restored", self.clock() // 1000, recording_id, fields)])
        with self.index.batch():
            if not known:
                put_manifest(self.index, manifest, self.spool.record_path(recording_id))
            self.index.set_present([recording_id], True)

    def _enter_away(self, manifest: Manifest) -> None:
        """Have the index expect it: it is named only then."""
        if self.index.has_recording(manifest.recording):
            return
        with self.index.batch():
            put_manifest(self.index, manifest, self.spool.record_path(manifest.recording))
            self.index.set_present([manifest.recording], False)
