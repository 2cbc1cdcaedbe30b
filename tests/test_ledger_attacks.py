"""A thousand attacks on a ledger, each seen offline by recorderd and by the stand-alone verifier.

That one tries one in seven of them, and all with ``--thorough``.
"""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from recorderd.spool.ledger import CHECKPOINT, Ledger, ledger_key
from recorderd.spool.ledger_bundles import WIDTH, bundle_name, pack
from recorderd.spool.ledger_check import check_ledger, copied_checkpoints
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.merkle import leaf_hash, root
from recorderd.spool.note import Checkpoint, sign_checkpoint
from recorderd.spool.signing import HostKey
from tests.standalone import SAMPLED, alone

ATTACKS = 1_000
SIZES = (1, 40, 255, 256, 257, 300)
"""Of the ledger at each of its checkpoints."""

COPIED = (40, 257, 300)
"""Sizes of those that a remote has."""


@dataclass
class Scene:
    """A ledger as it was, and as somebody leaves it."""

    folder: Path
    entries: list[bytes]
    notes: dict[int, bytes]
    mine: HostKey
    strangers: HostKey

    @property
    def copies(self) -> list[Path]:
        return [self.folder / f"copy-{size}" for size in COPIED]

    def signed(self, entries: list[bytes], size: int, key: HostKey) -> bytes:
        """What a key signs of the first entries; under the recorder's name."""
        checkpoint = Checkpoint(
            ledger_key(self.mine.public).name, size, root(leaf_hash(each) for each in entries[:size])
        )
        return sign_checkpoint(checkpoint, key.public.key.public_bytes_raw(), key.sign)

    def leave(self, entries: list[bytes], history: list[bytes], checkpoint: bytes) -> None:
        """Put a ledger in place."""
        ledger = self.folder / "ledger"
        shutil.rmtree(ledger, ignore_errors=True)
        for number in range(-(-len(entries) // WIDTH)):
            path = ledger / bundle_name(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pack(entries[number * WIDTH : (number + 1) * WIDTH]))
        ledger.mkdir(parents=True, exist_ok=True)
        (ledger / "history").write_bytes(b"".join(history))
        (ledger / CHECKPOINT).write_bytes(checkpoint)

    def seen(self) -> bool:
        """Whether recorderd sees something wrong."""
        copies = [(str(path), path.read_bytes()) for path in self.copies]
        return not check_ledger(self.folder / "ledger", self.mine.public, copies).ok

    def seen_alone(self) -> bool:
        """Whether the stand-alone verifier does."""
        words = ["--host-key", self.folder / "host.pub", "--ledger", self.folder / "ledger", "--against"]
        return alone.main([str(word) for word in [*words, *self.copies]]) == 1


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("attacks")
    mine = HostKey.load_or_create(folder / "host.key")
    ledger, notes, done = Ledger(folder / "ledger"), {}, 0
    for size in SIZES:
        ledger.append(
            [Entry("call", number, f"call-{number}", {"n": number}) for number in range(done, size)]
        )
        ledger.checkpoint(mine)
        notes[size], done = ledger.note() or b"", size
    scene = Scene(
        folder, list(ledger.entries()), notes, mine, HostKey.load_or_create(folder / "strangers.key")
    )
    for size, path in zip(COPIED, scene.copies, strict=True):
        path.write_bytes(notes[size])
    return scene


Attack = Callable[[Scene, random.Random], None]


def another(chance: random.Random) -> bytes:
    return Entry("call", chance.randrange(1 << 40), "call-x", {"n": chance.random().hex()}).to_bytes()


def changed(scene: Scene, chance: random.Random) -> list[bytes]:
    """The entries with one of them edited, deleted, added, moved or exchanged with another."""
    entries, at = list(scene.entries), chance.randrange(len(scene.entries))
    match chance.randrange(5):
        case 0:
            entries[at] = another(chance)
        case 1:
            del entries[at]
        case 2:
            entries.insert(at, another(chance))
        case 3:
            entries.insert((at + chance.randrange(1, 200)) % (len(entries) - 1), entries.pop(at))
        case _:
            other = (at + chance.randrange(1, len(entries))) % len(entries)
            entries[at], entries[other] = entries[other], entries[at]
    if entries == scene.entries:
        return changed(scene, chance)
    return entries


def tampered(scene: Scene, chance: random.Random) -> None:
    """Without any key."""
    scene.leave(changed(scene, chance), list(scene.notes.values()), scene.notes[SIZES[-1]])


def set_back(scene: Scene, chance: random.Random) -> None:
    """Everything as it was at an earlier checkpoint."""
    size = chance.choice(SIZES[:-1])
    scene.leave(
        scene.entries[:size], [note for at, note in scene.notes.items() if at <= size], scene.notes[size]
    )


def forked(scene: Scene, chance: random.Random) -> None:
    """Another past, with the recorder's own key; it may be as long as the real one, or longer."""
    entries = changed(scene, chance) + [another(chance) for _ in range(chance.randrange(3))]
    sizes = [size for size in SIZES if size < len(entries)] + [len(entries)]
    notes = [scene.signed(entries, size, scene.mine) for size in dict.fromkeys(sizes)]
    scene.leave(entries, notes, notes[-1])


def signed_by_another(scene: Scene, chance: random.Random) -> None:
    """The same entries, or others, signed with a key of one's own."""
    entries = chance.choice([scene.entries, changed(scene, chance)])
    notes = [scene.signed(entries, min(size, len(entries)), scene.strangers) for size in SIZES]
    scene.leave(entries, notes, notes[-1])


def swapped_history(scene: Scene, chance: random.Random) -> None:
    """Checkpoints in another order, of another ledger of the same recorder, or without the newest."""
    notes, newest = list(scene.notes.values()), scene.notes[SIZES[-1]]
    match chance.randrange(4):
        case 0:
            first, second = chance.sample(range(len(notes)), 2)
            notes[first], notes[second] = notes[second], notes[first]
        case 1:
            at = chance.randrange(len(notes))
            notes[at] = scene.signed(changed(scene, chance)[::-1], SIZES[at], scene.mine)
        case 2:
            notes = notes[: chance.randrange(len(notes))]
        case _:
            newest = chance.choice(notes[:-2])
    scene.leave(scene.entries, notes, newest)


def half_a_checkpoint(scene: Scene, chance: random.Random) -> None:
    """A checkpoint or a history with some bytes changed, cut or added."""
    history, newest = b"".join(scene.notes.values()), scene.notes[SIZES[-1]]
    target = bytearray(chance.choice([history, newest]))
    at = chance.randrange(len(target))
    is_history = len(target) != len(newest)
    match chance.randrange(3):
        case 0:
            target[at] ^= 1 << chance.randrange(8)
        case 1:
            del target[at : at + chance.randrange(1, 100)]
        case _:
            target[at:at] = chance.randbytes(chance.randrange(1, 20))
    scene.leave(
        scene.entries, [bytes(target)] if is_history else [history], newest if is_history else bytes(target)
    )


KINDS: tuple[Attack, ...] = (
    tampered,
    set_back,
    forked,
    signed_by_another,
    swapped_history,
    half_a_checkpoint,
)


def test_the_ledger_as_it_was_is_right(scene: Scene) -> None:
    scene.leave(scene.entries, list(scene.notes.values()), scene.notes[SIZES[-1]])
    assert not scene.seen()
    assert not scene.seen_alone()
    one_behind = scene.notes[SIZES[-2]]  # it died between the history and the checkpoint
    scene.leave(scene.entries, list(scene.notes.values()), one_behind)
    assert not scene.seen()
    assert not scene.seen_alone()


@pytest.mark.parametrize("attack", KINDS, ids=lambda attack: attack.__name__)
def test_every_attack_is_seen(scene: Scene, attack: Attack, thorough: bool) -> None:
    chance = random.Random(attack.__name__)
    for number in range(-(-ATTACKS // len(KINDS))):
        attack(scene, chance)
        assert scene.seen(), (attack.__name__, number)
        if thorough or not number % SAMPLED:
            assert scene.seen_alone(), (attack.__name__, number)


def test_checkpoints_are_found_in_a_copy_of_a_remote(scene: Scene) -> None:
    found = dict(copied_checkpoints(scene.folder))
    assert {str(path) for path in scene.copies} <= set(found)
    assert set(scene.notes.values()) >= {found[str(path)] for path in scene.copies}
