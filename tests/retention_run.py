"""A whole retention run: recordings of several classes, holds placed and released, two approvals, a remote
that deletes and one that locks, and a death by SIGKILL in the middle."""

import os
import random
from pathlib import Path

import pytest

from recorderd.errors import KeysMissing
from recorderd.spool.certificate import check, issue
from recorderd.spool.destruction import Outcome
from recorderd.spool.holds import number_subject, place, release
from recorderd.spool.index import Index
from recorderd.spool.proposals import Proposal
from recorderd.spool.reader import Recording
from recorderd.spool.stores import LocalStore
from tests.retention_builder import Vault, make_vault
from tests.simulators.worm_store import DeadlyStore

KINDS = ("short", "short", "long", "always", None)
OPENED = 100


def retention_run(folder: Path, count: int) -> None:
    """Exactly the right ones of ``count`` recordings are destroyed, provably."""
    vault = make_vault(folder)
    chance = random.Random(count)
    ids = vault.add([chance.choice(KINDS) for _ in range(count)])
    held = _hold(vault, ids, chance)
    expired = {name for name in ids if vault.classes[name] == "short"}
    assert set(vault.due()) == expired
    before = _others(vault, expired - held)
    proposal = vault.propose()
    assert {item["id"] for item in proposal.items} == expired - held
    late = _hold_late(vault, proposal, chance)
    approvals = vault.approve(proposal)
    _die(vault, proposal, chance.randrange(1, 3 * len(proposal.items) // 2))
    outcome = vault.destroy(proposal, approvals)
    gone = expired - held - late
    assert outcome.trouble is None
    assert set(outcome.left) == late & expired
    assert set(outcome.done) == gone
    assert _others(vault, expired - held) == before
    states = {row["id"]: row["state"] for row in vault.index.recordings()}
    assert {name for name, state in states.items() if state == "destroyed"} == gone
    assert {state for name, state in states.items() if name not in gone} == {"sealed"}
    _nothing_opens(vault, gone, chance)
    _certified(vault, proposal, outcome, gone)
    vault.index.close()


def _hold(vault: Vault, ids: list[str], chance: random.Random) -> set[str]:
    """Some are held by their ids, and half of these released; some by a number."""
    chosen = chance.sample(ids, len(ids) // 10)
    now = vault.hands.wall
    place(vault.index, vault.ledger, chosen, "case-1", "a court asks for them", "Ann", now)
    freed = chosen[::2]
    release(vault.index, vault.ledger, freed, "case-1", "the court is content", "Ann", now)
    number = "+442000001"  # ten numbers begin so
    by_number = vault.index.concerned(number)
    subjects = [*by_number, number_subject(number)]
    place(vault.index, vault.ledger, subjects, "case-2", "a claim", "Ben", now)
    return set(chosen[1::2]) | set(by_number)


def _hold_late(vault: Vault, proposal: Proposal, chance: random.Random) -> set[str]:
    """Held after they were proposed."""
    late = chance.sample([item["id"] for item in proposal.items], 3)
    place(vault.index, vault.ledger, late, "case-3", "found later", "Ann", vault.hands.wall)
    return set(late)


def _die(vault: Vault, proposal: Proposal, at: int) -> None:
    """Begin, and be killed at the deletion of this number."""
    approvals = vault.approve(proposal)
    child = os.fork()
    if child == 0:
        try:
            deadly = DeadlyStore(LocalStore(vault.folder / "nas"), at, after=bool(at % 2))
            vault.index = Index.open(vault.desk.spool)
            vault.destroy(proposal, approvals, stores={**vault.stores, "nas": deadly})
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


def _others(vault: Vault, expected: set[str]) -> dict[str, int]:
    """The files that nobody may touch."""
    return {path: inode for path, inode in vault.files().items() if Path(path).name[:27] not in expected}


def _nothing_opens(vault: Vault, gone: set[str], chance: random.Random) -> None:
    left = [path for path in vault.files() if Path(path).name[:27] in gone]
    assert not [path for path in left if path.endswith(".key")]
    assert {Path(path).parts[0] for path in left} == {"worm"}
    for name in chance.sample(sorted(gone), min(OPENED, len(gone))):
        path = vault.folder / "worm" / vault.desk.spool.folder(name).name / f"{name}.rec"
        with pytest.raises(KeysMissing):
            Recording.open(path, [vault.desk.identity])
    for name in vault.ids[:OPENED]:
        if name not in gone:
            with Recording.open(vault.desk.spool.record_path(name), [vault.desk.identity]) as recording:
                assert recording.status == "complete"


def _certified(vault: Vault, proposal: Proposal, outcome: Outcome, gone: set[str]) -> None:
    statements = vault.statements(proposal)
    pairs = list(zip(vault.approve(proposal), statements, strict=True))
    key, wall = vault.desk.signer, vault.hands.wall
    data = issue(proposal, pairs, vault.rules, outcome, "pbx.example", key, wall)
    value = check(data, key.public, vault.rules.approvers, 2)
    assert {each["id"] for each in value["recordings"]} == gone
    for each in value["recordings"]:
        places = {(copy["where"], copy["part"]): copy["outcome"] for copy in each["copies"]}
        assert [places[where, "slots"] for where in ("local", "nas", "worm")] == ["gone"] * 3
        assert (places["nas", "recording"], places["worm", "recording"]) == ("gone", "locked")
        assert (each["method"], each["readable_until"]) == ("key slots destroyed", None)
