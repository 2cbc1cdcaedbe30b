"""Restoring from a remote that somebody else writes to: with its credentials, and no key."""

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from recorderd.spool.bring_back import bring_statement
from recorderd.spool.bring_ledger import bring_ledger
from recorderd.spool.budget import Limits
from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity
from recorderd.spool.layout import Spool
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter, ledger_of
from recorderd.spool.reader import RecordFile
from recorderd.spool.restoration import Restorer
from recorderd.spool.rewrap import Rewrapping, rewrap_in_spool
from recorderd.spool.scan import read_header
from recorderd.spool.slot_files import read_slots
from recorderd.spool.slots import SlotFile, slots_of
from recorderd.spool.stores import LocalStore, Stored
from tests.spool_builder import Desk, make_desk


@dataclass
class Scene:
    """A spool with one recording that was wrapped anew, both generations, and two remotes that have it."""

    folder: Path
    desk: Desk
    recording: str
    first: SlotFile
    second: SlotFile
    index: Index

    def slots_on(self, remote: str) -> Path:
        """The slot file of a remote."""
        return self.folder / remote / self.desk.spool.folder(self.recording).name / f"{self.recording}.key"

    def forged(self) -> SlotFile:
        """What anybody can make of the slot file and a public key."""
        other = generate_identity(self.folder / "other", "x25519")
        return self.second.next([other.wrap(bytes(32), self.second.wrap_info)])

    def restorer(self, *remotes: str) -> Restorer:
        spool, public = self.desk.spool, self.desk.signer.public
        stores = {name: LocalStore(self.folder / name) for name in remotes or ("evil", "good")}
        limits = Limits(reserve_bytes=0)
        return Restorer(spool, self.index, stores, public, ledger_of(spool), limits, "test")

    def here(self) -> SlotFile | None:
        return read_slots(self.desk.spool.slot_path(self.recording))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    desk = make_desk(tmp_path)
    sealed = desk.record()
    name = sealed.recording
    first = read_slots(desk.spool.slot_path(name))
    vault = generate_identity(tmp_path / "vault", "x25519")
    second = rewrap_in_spool(desk.spool, name, Rewrapping([desk.identity], [vault]))
    assert first is not None
    assert second is not None
    day = desk.spool.folder(name)
    with Index.open(desk.spool) as index:
        desk.enter(index, sealed)
        fields = {"generation": 2, "slots_sha256": second.sha256}
        enter(ledger_of(desk.spool), index, [Entry("rewrapped", 1, name, fields)])
        for remote in ("evil", "good"):
            LocalStore.create(tmp_path / remote)
            shutil.copytree(day, tmp_path / remote / day.name)
        yield Scene(tmp_path, desk, name, first, second, index)


def lose(spool: Spool, recording: str) -> None:
    for path in (spool.record_path(recording), spool.slot_path(recording)):
        path.unlink(missing_ok=True)


def test_forged_key_slots_do_not_replace_those_that_are_here(scene: Scene) -> None:
    """Else one remote could take a recording from all of them: what is here goes to the others."""
    scene.slots_on("evil").write_bytes(scene.forged().raw)
    scene.desk.spool.record_path(scene.recording).unlink()
    (result,) = scene.restorer().restore([scene.recording])
    assert result.became == "restored"
    assert scene.here() == scene.second
    public = scene.desk.signer.public
    bring_statement(LocalStore(scene.folder / "evil"), scene.desk.spool, scene.recording, public)
    assert scene.here() == scene.second


def test_forged_key_slots_are_passed_over_for_the_next_remotes(scene: Scene) -> None:
    scene.slots_on("evil").write_bytes(scene.forged().raw)
    lose(scene.desk.spool, scene.recording)
    (result,) = scene.restorer().restore([scene.recording])
    assert (result.became, result.remote) == ("restored", "good")
    assert scene.here() == scene.second
    scene.desk.spool.slot_path(scene.recording).unlink()
    scene.restorer().statements(scene.recording)
    assert scene.here() == scene.second


def test_key_slots_that_nobody_entered_are_better_than_none(scene: Scene) -> None:
    """The ledger of a lost host may be older than the key slots at its remotes."""
    third = scene.forged()
    scene.slots_on("evil").write_bytes(third.raw)
    lose(scene.desk.spool, scene.recording)
    (result,) = scene.restorer("evil").restore([scene.recording])
    assert result.became == "restored"
    assert scene.here() == third


def test_later_key_slots_that_were_entered_replace_those_of_an_old_backup(scene: Scene) -> None:
    lose(scene.desk.spool, scene.recording)
    scene.desk.spool.slot_path(scene.recording).write_bytes(scene.first.raw)
    (result,) = scene.restorer().restore([scene.recording])
    assert result.became == "restored"
    assert scene.here() == scene.second


def test_first_key_slots_are_those_of_the_manifest(scene: Scene) -> None:
    other = generate_identity(scene.folder / "other", "x25519")
    wrapped = other.wrap(bytes(32), scene.first.wrap_info)
    # The same generation, with another slot.
    with RecordFile(scene.desk.spool.record_path(scene.recording)) as file:
        forged = slots_of(read_header(file.read), [wrapped])
    scene.slots_on("evil").write_bytes(forged.raw)
    scene.slots_on("good").write_bytes(scene.first.raw)
    lose(scene.desk.spool, scene.recording)
    (result,) = scene.restorer().restore([scene.recording])
    assert (result.became, result.remote) == ("restored", "good")
    assert scene.here() == scene.first


class Stamping(LocalStore):
    """Tells of stamps that no recorder made."""

    names = (
        "..",
        ".",
        "a\0b",
        "x" * 300,
        "\udcff",
        "7.checkpoint",
        "1.tsr",
        "01.checkpoint",
        "1.checkpoint\n",
    )

    def list(self, prefix: str = "") -> Iterator[Stored]:
        yield from super().list(prefix)
        for name in self.names:
            yield Stored(f"ledger/stamps/{name}", 1, None)

    def open(self, name: str) -> BinaryIO:
        known = (self.root / "ledger/stamps/1.checkpoint").read_bytes()
        return io.BytesIO(known) if name.endswith("7.checkpoint") else super().open(name)


def test_of_stamps_only_those_of_signed_checkpoints_are_brought(scene: Scene) -> None:
    ledger = ledger_of(scene.desk.spool)
    ledger.checkpoint(scene.desk.signer)
    there = scene.folder / "evil" / "ledger"
    shutil.copytree(ledger.path, there)
    (there / "stamps").mkdir()
    shutil.copy(there / "checkpoint", there / "stamps/1.checkpoint")
    (there / "stamps/1.tsr").write_bytes(b"a stamp")
    fresh = Spool(scene.folder / "fresh").prepare()
    assert bring_ledger(Stamping(scene.folder / "evil"), fresh, scene.desk.signer.public) == 1
    found = sorted(path.name for path in (fresh.path / "ledger/stamps").iterdir())
    assert found == ["1.checkpoint", "1.tsr"]
