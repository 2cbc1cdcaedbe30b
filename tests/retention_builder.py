"""A spool with recordings of several classes, copies of them on two remotes, and people who may approve."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recorderd.spool.approvals import Approval, Rules, approve, read_approval
from recorderd.spool.clock_check import Clock
from recorderd.spool.destruction import Destroyer, Outcome, last_entry_us
from recorderd.spool.index import Index
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter, ledger_of, recording_entry
from recorderd.spool.proposals import Proposal
from recorderd.spool.retention import stamp
from recorderd.spool.signing import HostKey
from recorderd.spool.stores import LocalStore, Store
from recorderd.spool.times import rfc3339
from tests.simulators.worm_store import WormStore
from tests.spool_builder import SECOND_US, STARTED_NS, STARTED_US, Desk, fill, make_desk, summary

YEAR_US = 366 * 86_400 * SECOND_US
HOUR_US = 3600 * SECOND_US
NOW_US = STARTED_US + 3 * YEAR_US
LOCKED_UNTIL_US = NOW_US + 4 * YEAR_US
CLASSES = {"short": "1y", "long": "7y", "always": "forever"}
BATCH = 200


@dataclass
class Hands:
    """A clock whose hands the test moves, all in us."""

    wall: int = NOW_US
    boot: int = 10 * 86_400 * SECOND_US
    boot_id: str = "boot-1"

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.boot, self.boot_id)

    def pass_by(self, us: int) -> None:
        """Time goes by, as it does."""
        self.wall += us
        self.boot += us

    def jump(self, us: int) -> None:
        """Somebody sets the clock."""
        self.wall += us


@dataclass
class Vault:
    """Everything that a destruction takes."""

    folder: Path
    desk: Desk
    index: Index
    ledger: Ledger
    hands: Hands
    approvers: list[HostKey]
    ids: list[str] = field(default_factory=list)
    classes: dict[str, str | None] = field(default_factory=dict)

    @property
    def rules(self) -> Rules:
        return Rules(tuple(key.public for key in self.approvers), 2, 30)

    @property
    def stores(self) -> dict[str, Store]:
        worm = WormStore(self.folder / "worm", LOCKED_UNTIL_US, NOW_US)
        return {"nas": LocalStore(self.folder / "nas"), "worm": worm}

    def add(self, classes: Sequence[str | None], *, detached: bool = True) -> list[str]:
        """One small recording for each class (None: of no class), with copies on both remotes."""
        new: list[str] = []
        for start in range(0, len(classes), BATCH):
            new += self._add(classes[start : start + BATCH], detached)
        return new

    def _add(self, classes: Sequence[str | None], detached: bool) -> list[str]:
        desk, writers, spool = self.desk, [], self.desk.spool
        for name in classes:
            number = len(self.ids)
            writer = desk.start(number, detached=detached)
            fill(writer, 1, 2, 4)
            told = {**summary(number), "from": f"+4420{number:06d}"}
            if name is not None:
                ended = STARTED_US + number * SECOND_US
                told["retention"] = stamp(name, CLASSES[name], ended)
            writer.end(told, now_ns=STARTED_NS + 60 * 1_000_000_000)
            writers.append((writer, told))
            self.ids.append(writer.recording_id)
            self.classes[writer.recording_id] = name
        spool.flush()
        entries = []
        with self.index.batch():
            for writer, told in writers:
                sealed = writer.finish()
                facts = (sealed.path, sealed.sha256, sealed.bytes)
                self.index.recording_finished(sealed.recording, "sealed", told, *facts)
                entries.append(recording_entry(sealed.recording, "sealed", *facts, self.hands.wall - HOUR_US))
            enter(self.ledger, self.index, entries)
        ids = [writer.recording_id for writer, _ in writers]
        for remote in ("nas", "worm"):
            self._copy(ids, remote)
        return ids

    def _copy(self, ids: Sequence[str], remote: str) -> None:
        with self.index.batch():
            for name in ids:
                day = self.desk.spool.folder(name)
                there = self.folder / remote / day.name
                there.mkdir(parents=True, exist_ok=True)
                for suffix in (".rec", ".json", ".key"):
                    source = day / (name + suffix)
                    if source.exists():
                        os.link(source, there / source.name)
                self.index.sync_state(name, remote, "verified", sha256="", verified_at=rfc3339(NOW_US))

    def due(self) -> list[str]:
        return [row["id"] for row in self.index.due(rfc3339(self.hands.wall))]

    def propose(self, ids: Sequence[str] | None = None) -> Proposal:
        rows = [row for row in self.index.due(rfc3339(self.hands.wall)) if not row["held"]]
        if ids is not None:
            rows = self.index.retained(ids)
        items = [{**row, "class": row["retention"]} for row in rows]
        return Proposal.new("destroy", "pbx.example", "expired", self.hands.clock().noted(), items)

    def approve(self, proposal: Proposal, *who: int, at: int | None = None) -> list[Approval]:
        return [read_approval(data) for data in self.statements(proposal, *who, at=at)]

    def statements(self, proposal: Proposal, *who: int, at: int | None = None) -> list[bytes]:
        now = self.hands.wall if at is None else at
        return [approve(proposal, self.approvers[one], f"approver {one}", now) for one in who or (0, 1)]

    def destroyer(self, stores: Mapping[str, Store] | None = None) -> Destroyer:
        return Destroyer(
            self.desk.spool,
            self.index,
            self.ledger,
            self.stores if stores is None else stores,
            self.hands.clock(),
            self.desk.signer.public,
            last_entry_us(self.ledger),
        )

    def destroy(self, proposal: Proposal, approvals: Sequence[Approval], **more: Any) -> Outcome:
        return self.destroyer(**more).run(proposal, approvals, self.rules)

    def state(self, recording: str) -> str:
        return str(self.index.recording(recording)["state"])

    def files(self) -> dict[str, int]:
        """All files of recordings, here and on the remotes, with their inodes."""
        places = (self.desk.spool.recordings, self.folder / "nas", self.folder / "worm")
        found = [path for place in places for path in place.glob("????-??-??/*")]
        return {str(path.relative_to(self.folder)): path.stat().st_ino for path in found}


def make_vault(folder: Path, approvers: int = 3) -> Vault:
    """An empty one; to be closed by closing its index."""
    desk = make_desk(folder)
    index = Index.open(desk.spool)
    for remote in ("nas", "worm"):
        LocalStore.create(folder / remote)
        index.set_remote_identity(remote, LocalStore(folder / remote).probe())
    keys = [HostKey.load_or_create(folder / f"approver-{number}.key") for number in range(approvers)]
    ledger = ledger_of(desk.spool)
    enter(ledger, index, [Entry("started", NOW_US - HOUR_US, "pbx.example")])
    return Vault(folder, desk, index, ledger, Hands(), keys)
