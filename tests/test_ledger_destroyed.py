"""A destruction that the ledger tells of is one that people approved, and of what is not here any more."""

from pathlib import Path

from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_check import LedgerVerdict, RecordingsCheck
from recorderd.spool.ledger_entries import Entry
from tests.retention_builder import make_vault


def problems(vault_ledger: Ledger, check: RecordingsCheck) -> list[str]:
    for leaf, data in enumerate(vault_ledger.entries()):
        check.entry(leaf, Entry.from_bytes(data))
    verdict = LedgerVerdict()
    check.check(verdict)
    return verdict.problems


def test_a_purge_is_no_problem_and_what_came_back_is(tmp_path: Path) -> None:
    vault = make_vault(tmp_path)
    one, _ = vault.add(["short", "long"])
    kept = vault.desk.spool.record_path(one).read_bytes()
    manifest = vault.desk.spool.manifest_path(one).read_bytes()
    proposal = vault.propose()
    assert set(vault.destroy(proposal, vault.approve(proposal)).done) == {one}
    vault.index.close()
    assert problems(vault.ledger, RecordingsCheck(vault.desk.spool)) == []
    vault.desk.spool.record_path(one).write_bytes(kept)
    vault.desk.spool.manifest_path(one).write_bytes(manifest)
    (problem,) = problems(vault.ledger, RecordingsCheck(vault.desk.spool))
    assert problem.endswith("was destroyed, and is here again")


def test_an_entry_alone_excuses_no_loss(tmp_path: Path) -> None:
    """Whoever deletes a recording, and enters that it was destroyed."""
    vault = make_vault(tmp_path)
    (one,) = vault.add(["short"])
    vault.index.close()
    approved = [Entry("approved", 1, "0" * 64, {"key": "one", "by": name}) for name in ("Ann", "Ben")]
    vault.ledger.append([*approved, Entry("destroyed", 2, one, {"proposal": "0" * 64})])
    for path in vault.desk.spool.folder(one).iterdir():
        path.unlink()
    (problem,) = problems(vault.ledger, RecordingsCheck(vault.desk.spool))
    assert problem == f"{one}: destroyed, and 1 approvals of it were entered before"
