"""Slot files against the ledger: one that was set back, one that nobody entered, and one that is another.

`recorderctl verify` and the stand-alone verifier find them."""

import json
import shutil
from pathlib import Path

import pytest

from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity, load_identities, load_recipients
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import ledger_of, recording_entry
from recorderd.spool.rewrap import Rewrapping, rewrap_in_spool
from tests.spool_builder import Desk, fill, make_desk, summary
from tests.standalone import alone
from tests.tools_runner import Answer, recorderctl


@pytest.fixture(params=[True, False], ids=["detached", "in the header"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    """A spool with a recording whose keys were wrapped anew, and the slot files before that in ``before``."""
    desk = make_desk(tmp_path)
    writer = desk.start(detached=request.param)
    fill(writer, 1)
    sealed = writer.seal(summary())
    ledger = ledger_of(desk.spool)
    with Index.open(desk.spool) as index:
        desk.enter(index, sealed)
    ledger.append([recording_entry(sealed.recording, "sealed", sealed.path, sealed.sha256, sealed.bytes, 2)])
    shutil.copytree(desk.spool.recordings, tmp_path / "before")
    for name in ("one", "two", "other"):
        generate_identity(tmp_path / name, "x25519")
    rewrap(desk, "one")
    rewrap(desk, "two")
    ledger.checkpoint(desk.signer)
    return desk


def rewrap(desk: Desk, to: str) -> None:
    words = ("keys", "rewrap", "--all", "--identity", desk.identity_file)
    pub = desk.identity_file.with_name(f"{to}.pub")
    assert recorderctl("--spool", desk.spool.path, *words, "--to", pub).code == 0


def secretly(desk: Desk, to: str) -> None:
    """Wrap keys anew and enter nothing."""
    pub = desk.identity_file.with_name(f"{to}.pub")
    task = Rewrapping(load_identities([desk.identity_file]), load_recipients([pub]))
    (name,) = desk.spool.records()
    assert rewrap_in_spool(desk.spool, name, task) is not None


def slots(desk: Desk) -> Path:
    (path,) = desk.spool.recordings.rglob("*.key")
    return path


def verified(desk: Desk) -> Answer:
    return recorderctl("--spool", desk.spool.path, "--json", "verify", "--all")


def independent(desk: Desk, *words: object) -> int:
    (path,) = desk.spool.recordings.rglob("*.rec")
    given = ("--host-key", desk.spool.host_public_path, *words, path)
    return alone.main([str(word) for word in given])


def by_ledger(desk: Desk) -> int:
    return independent(desk, "--ledger", desk.spool.path / "ledger")


def proof_of(desk: Desk) -> Path:
    path = desk.identity_file.with_name("proof.json")
    (name,) = desk.spool.records()
    assert recorderctl("--spool", desk.spool.path, "ledger", "prove", name, "-o", path).code == 0
    return path


def problem(desk: Desk) -> str:
    answer = verified(desk)
    assert answer.code == 20, answer.out
    (text,) = answer.json["recordings"][0]["problems"]
    return text


def test_the_generation_that_was_entered_is_right(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    answer = verified(desk)
    assert answer.code == 0, answer.out
    assert by_ledger(desk) == 0
    proof = proof_of(desk)
    kinds = [json.loads(each["entry"])["kind"] for each in json.loads(proof.read_text())["entries"]]
    assert kinds == ["recording", "rewrapped", "rewrapped"]
    assert independent(desk, "--proof", proof) == 0
    assert "wrapped the keys anew" not in capsys.readouterr().out
    assert independent(desk) == 0
    assert "NOT CHECKED who wrapped the keys anew" in capsys.readouterr().out


def test_an_earlier_generation_was_set_back(desk: Desk) -> None:
    proof = proof_of(desk)
    before = desk.identity_file.with_name("before")
    old = next(before.rglob("*.key"), None)
    if old is None:
        slots(desk).unlink()
        assert "no key slots, the ledger has generation 2 (entry 2): set back" in problem(desk)
        return
    shutil.copy(old, slots(desk))
    assert "generation 1, the ledger has generation 3 (entry 2): set back" in problem(desk)
    assert "keys import" in problem(desk)
    assert by_ledger(desk) == 1
    assert independent(desk, "--proof", proof) == 1
    assert independent(desk) == 0  # it cannot know


def test_a_later_generation_that_nobody_entered(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    proof = proof_of(desk)
    secretly(desk, "other")
    assert "wrapped anew and not entered" in problem(desk)
    assert by_ledger(desk) == 1
    assert independent(desk, "--proof", proof) == 1
    assert "which nobody entered" in capsys.readouterr().out
    # As it says: one that is wrapped anew once more is entered.
    generate_identity(desk.identity_file.with_name("fourth"), "x25519")
    rewrap(desk, "fourth")
    assert verified(desk).code == 0


def test_another_one_of_the_same_generation(desk: Desk) -> None:
    good = slots(desk).read_bytes()
    before = next(desk.identity_file.with_name("before").rglob("*.key"), None)
    if before is None:
        slots(desk).unlink()
    else:
        shutil.copy(before, slots(desk))
    secretly(desk, "other")
    secretly(desk, "one")
    assert slots(desk).read_bytes() != good
    assert "SHA-256 of the key slots is not the one in the ledger (entry 2)" in problem(desk)
    assert by_ledger(desk) == 1


def test_a_first_generation_needs_no_entry(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    desk.record()
    ledger_of(desk.spool).append([Entry("started", 1, "pbx.example")])
    assert verified(desk).code == 0


def test_a_copy_of_the_ledger_may_be_behind(desk: Desk, tmp_path: Path) -> None:
    """At a remote the slot file may be there before the entry is."""
    copy = tmp_path / "copy"
    shutil.copytree(desk.spool.recordings, copy)
    shutil.copytree(desk.spool.path / "ledger", copy / "ledger")
    shutil.copy(desk.spool.host_public_path, copy)
    words = ("--spool", copy, "--json", "verify", "--all")
    assert recorderctl(*words).code == 0
    secretly(desk, "other")
    (there,) = copy.glob("*/*.key")
    shutil.copy(slots(desk), there)
    assert recorderctl(*words).code == 0
    (copy / "ledger/history").unlink()
    (path,) = copy.glob("*/*.rec")
    given = ("--host-key", copy / "host.pub", "--ledger", copy / "ledger", path)
    assert alone.main([str(word) for word in given]) == 0


def test_a_damaged_ledger_is_no_news_of_key_slots(desk: Desk) -> None:
    (desk.spool.path / "ledger/tile/entries/000").rename(desk.spool.path / "ledger/tile/entries/001")
    words = ("--spool", desk.spool.path, "verify", "--all")
    answer = recorderctl(*words)
    assert answer.code == 0, answer.err
    assert "the ledger, see `recorderctl ledger verify`" in answer.err
