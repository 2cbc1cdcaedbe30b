"""Whatever the disk does to a recording, each of its packets is in a file, or is told to be missing."""

import contextlib
import os
from pathlib import Path
from random import Random

import pytest

from recorderd.errors import DiskFull, SpoolError
from recorderd.spool.recovery import recover
from tests.shelf import CALL, PACKETS, Disk, Shelf, complete, lost
from tests.spool_builder import make_desk

SEEDS = 300


class Unlucky(Shelf):
    """A recording to which everything happens, in an order that depends on the seed."""

    def __init__(self, folder: Path, chance: Random, disk: Disk) -> None:
        super().__init__(make_desk(folder))
        self.chance, self.disk = chance, disk
        self.durable = self.recording._writer.size  # of the present file, which begins with a header
        self.windows_sent = 0
        self.leaves = True

    def make(self, of, recording, started_ns, previous):
        made = super().make(of, recording, started_ns, previous)
        self.durable = made.size
        return made

    def leave(self, of, reason):
        if not self.leaves:
            raise lost()
        path = self.desk.spool.part_path(of.recording_id)
        size = path.stat().st_size
        os.truncate(path, self.chance.randint(min(self.durable, size), size))
        return super().leave(of, reason)

    def send(self) -> None:
        self.windows_sent += 1
        self.record(self.windows_sent - 1)

    def happen(self) -> None:
        self.recording.event({**CALL, "event": self.chance.choice(["hold", "tone", "paused", "resumed"])})

    def commit(self) -> None:
        self.recording.go_on()
        self.rounds.begun += 1
        name, size = self.recording.recording_id, self.recording._writer.size
        if self.chance.random() < 0.2:
            self.send()  # while the disk syncs
        self.rounds.done = self.rounds.begun
        if self.recording.recording_id == name:
            self.durable = size

    def trouble(self) -> None:
        match self.chance.randrange(4):
            case 0:
                self.disk.fails = True
            case 1:
                self.leaves = not self.leaves
            case 2:
                self.broken = None if self.broken else self.chance.choice([DiskFull("full"), lost()])
            case _:
                self.recording.lose(lost())

    def fill_or_free(self) -> None:
        self.disk.room = self.chance.choice([None, None, 0, 0, 1])

    def step(self, often: tuple[float, ...]) -> None:
        acts = (self.send, self.happen, self.commit, self.fill_or_free, self.trouble)
        (act,) = self.chance.choices(acts, often)
        with contextlib.suppress(DiskFull):  # who writes counts that, and goes on
            act()

    def heal(self) -> None:
        self.disk.room, self.disk.fails, self.broken, self.leaves = None, False, None, True

    def there(self) -> set[int]:
        """The windows that are in some file."""
        recover(self.desk.spool, None, self.desk.signer)
        ids = [name for name in self.recording.ids if self.desk.spool.record_path(name).exists()]
        return {each for name in ids for each in self.windows(name)}


def the_life_of_one(folder: Path, seed: int, disk: Disk) -> None:
    chance = Random(seed)
    disk.room, disk.fails = None, False
    shelf = Unlucky(folder, chance, disk)
    often = (1.0, 0.2, chance.choice([0.2, 0.6]), chance.choice([0.0, 0.2, 0.5]), chance.choice([0.02, 0.1]))
    for _ in range(chance.choice([20, 60, 120])):
        shelf.step(often)
    if chance.random() < 0.7:
        shelf.heal()
    unwritten = sum(shelf.recording.unwritten().packets.values())
    for _ in range(2):
        try:
            shelf.recording.end(complete())
            break
        except (DiskFull, SpoolError):
            shelf.heal()
    shelf.recording.seal(complete())
    missing = (shelf.windows_sent - len(shelf.there())) * PACKETS
    told = shelf.recording.packets_lost + unwritten
    assert missing <= told, f"seed {seed}: {missing} packets are missing, {told} told"
    assert not shelf.recording.acknowledged_lost, f"seed {seed}"


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    for seed in range(SEEDS):
        the_life_of_one(tmp_path / str(seed), seed, disk)
