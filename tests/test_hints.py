"""What is told with an error fits the situation: what to do next, and which file is meant."""

import subprocess
import sys
from pathlib import Path

import pytest

from recorderd.errors import LedgerCorrupt, NotOverwritten, SpoolCorrupt
from recorderd.spool.index import Index
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import ledger_of
from tests.spool_builder import Desk, make_desk
from tests.tools_runner import recorderctl

VERIFIER = Path(__file__).parents[1] / "tools" / "verifier" / "recorderd_verify.py"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """One recording, in a ledger that is signed."""
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        desk.enter(index, desk.record(0), 0)
    ledger = ledger_of(desk.spool)
    ledger.append([Entry("started", 1, "pbx")])
    ledger.checkpoint(desk.signer)
    return desk


def test_an_error_may_have_a_hint_of_its_own() -> None:
    own = SpoolCorrupt("altered", hint="ask for it again")
    assert (str(own), own.hint) == ("altered", "ask for it again")
    assert SpoolCorrupt("altered").hint == SpoolCorrupt.hint != own.hint


@pytest.mark.parametrize("data", [b"", b"not a checkpoint", b"a\nb\nc\n\n\xff"])
def test_an_unreadable_checkpoint_is_no_damaged_recording(desk: Desk, tmp_path: Path, data: bytes) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(data)
    words = ("ledger", "prove", "--since", kept, "-o", tmp_path / "proof")
    answer = recorderctl("--spool", desk.spool.path, "--json", *words)
    assert (answer.code, answer.error["hint"]) == (SpoolCorrupt.exit_code, LedgerCorrupt.hint)


def test_what_is_there_is_not_overwritten_and_help_would_not_help(tmp_path: Path) -> None:
    for words in (("keygen",), ("retention", "keygen")):
        path = tmp_path / words[0]
        assert recorderctl(*words, "-o", path).code == 0
        answer = recorderctl("--json", *words, "-o", path)
        assert (answer.code, answer.error["hint"]) == (2, NotOverwritten.hint)


def test_the_verifier_names_the_file_that_has_no_certificates(desk: Desk, tmp_path: Path) -> None:
    wrong = tmp_path / "tsa.pem"
    wrong.write_text("no certificate")
    words = ["--host-key", desk.spool.host_public_path, "--ledger", desk.spool.path / "ledger", "--ca", wrong]
    command = [sys.executable, VERIFIER, *words]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (1, f"WRONG: {wrong}: no certificates in PEM\n")
