"""Who takes a recording is entered in the ledger first; where that cannot be, people are told."""

import os
import pwd
import shutil
from pathlib import Path

import pytest

from recorderd.errors import ConfigError, SpoolError
from recorderd.spool.index import Index
from recorderd.spool.keys import load_identities
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from tests.commands import configure, run
from tests.read_only import read_only
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript
from tests.tools_runner import Answer, recorderctl


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys, configuration and a spool of two recordings."""
    folder = tmp_path_factory.mktemp("replayed")
    simulator = PbxSimulator(seed=5)
    for number in range(2):
        simulator.add(CallScript(talk_s=1.0, start_s=number * 0.5))
    config = configure(folder)
    answer = run("recorderd", "replay", "-c", config, simulator.write(folder / "calls.pcap"))
    assert answer.code == 0, answer.err
    return folder


@pytest.fixture
def folder(replayed: Path, tmp_path: Path) -> Path:
    shutil.copytree(replayed, tmp_path / "host")
    return tmp_path / "host"


def ids(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "spool").rglob("*.rec"))


def exported(folder: Path, *words: object, where: tuple[object, ...] | None = None) -> Answer:
    where = ("-c", folder / "config.yaml") if where is None else where
    return recorderctl(*where, "export", *words, "--identity", folder / "listener.key")


def entries(folder: Path) -> list[tuple[int, Entry]]:
    found = [Entry.from_bytes(data) for data in Ledger(folder / "spool/ledger").entries()]
    return [(leaf, entry) for leaf, entry in enumerate(found) if entry.kind == "export"]


def owned_by_another(path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root: a folder of another user")
    for each in (path, *path.rglob("*")):
        os.chown(each, 65534, 65534)


def test_an_export_is_entered_with_who_and_how(folder: Path, tmp_path: Path) -> None:
    one, _ = ids(folder)
    answer = exported(folder, one, "-o", tmp_path / "out.flac", "--layout", "mix", "--json")
    assert (answer.code, answer.err) == (0, "")
    ((leaf, entry),) = entries(folder)
    assert answer.json[0]["ledger"] == leaf
    (identity,) = load_identities([folder / "listener.key"])
    assert entry.subject == one
    assert entry.fields == {
        "by": f"user {pwd.getpwuid(os.getuid()).pw_name}",
        "uid": os.getuid(),
        "layout": "mix",
        "format": "flac",
        "key": identity.recipient().id.hex(),
        "file": "out.flac",
    }
    with Index.read(Spool(folder / "spool")) as index:
        assert [row["leaf"] for row in index.ledger_rows(kind="export", subject=one)] == [leaf]


def test_each_of_several_has_its_entry(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    answer = exported(folder, "--all", "-o", tmp_path / "out", "--json")
    assert answer.code == 0, answer.out
    found = entries(folder)
    assert [(each["id"], each["ledger"]) for each in answer.json] == [
        (entry.subject, leaf) for leaf, entry in found
    ]
    assert sorted(entry.fields["file"] for _, entry in found) == sorted(f"{name}.wav" for name in ids(folder))


def test_it_is_entered_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    answer = exported(folder, ids(folder)[0], "-o", tmp_path / "no-such-folder" / "out.wav")
    assert answer.code != 0
    assert len(entries(folder)) == 1


def test_what_nobody_opens_is_no_export(folder: Path, tmp_path: Path) -> None:
    (folder / "listener.key").unlink()
    (folder / "listener.key.pub").rename(folder / "kept.pub")
    configure(folder)
    assert exported(folder, ids(folder)[0], "-o", tmp_path / "out.wav").code == 21
    assert entries(folder) == []


def test_a_spool_that_cannot_be_written_warns_once_and_exports(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with read_only(folder / "spool"):
        answer = exported(folder, "--all", "-o", tmp_path / "out")
        told = exported(folder, "--all", "-o", tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    (line,) = answer.err.splitlines()
    assert line.startswith("recorderctl: not entered in the ledger: ")
    assert [each["ledger"] for each in told.json] == [None, None]
    assert len(list((tmp_path / "out").glob("*.wav"))) == 2


def test_a_spool_of_another_user_is_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    owned_by_another(folder / "spool")
    before = Ledger(folder / "spool/ledger").size
    answer = exported(folder, ids(folder)[0], "-o", tmp_path / "out.wav")
    assert answer.code == 0
    assert "another user's: sudo -u nobody recorderctl" in answer.err
    assert Ledger(folder / "spool/ledger").size == before
    assert {each.stat().st_uid for each in (folder / "spool/ledger").rglob("*")} == {65534}


@pytest.mark.parametrize("copy", ["of a remote", "of the spool"])
def test_a_copy_has_no_account_of_its_own(folder: Path, tmp_path: Path, copy: str) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(folder / ("spool/recordings" if copy == "of a remote" else "spool"), copied)
    (copied / "host.key").unlink(missing_ok=True)
    answer = exported(folder, ids(folder)[0], "-o", tmp_path / "out.wav", where=("--spool", copied))
    assert answer.code == 0, answer.err
    assert answer.err == f"recorderctl: not entered in the ledger: {copied} is a copy\n"


def test_where_there_is_no_ledger_nothing_is_warned_of(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "spool/ledger")
    configure(folder, "ledger: {enabled: false}\n")
    answer = exported(folder, ids(folder)[0], "-o", tmp_path / "out.wav", "--json")
    assert (answer.code, answer.err, answer.json[0]["ledger"]) == (0, "", None)
    assert not (folder / "spool/ledger").exists()


@pytest.mark.parametrize("hindrance", ["gone", "torn away", "another user"])
def test_required_and_not_possible_is_refused(folder: Path, tmp_path: Path, hindrance: str) -> None:
    configure(folder, "ledger: {exports: require}\n")
    out = tmp_path / "out.wav"
    assert exported(folder, ids(folder)[0], "-o", out).code == 0
    out.unlink()
    ledger = folder / "spool/ledger"
    if hindrance == "gone":
        shutil.rmtree(ledger)
    elif hindrance == "torn away":
        (ledger / "tile/entries/000").unlink()
    else:
        owned_by_another(ledger)
    answer = exported(folder, ids(folder)[0], "-o", out)
    assert answer.code == SpoolError.exit_code
    assert "not exported (ledger.exports: require)" in answer.err
    assert not out.exists()


def test_naming_the_spool_does_not_get_around_what_is_required(folder: Path, tmp_path: Path) -> None:
    configure(folder, "ledger: {exports: require}\n")
    shutil.rmtree(folder / "spool/ledger")
    where = ("-c", folder / "config.yaml", "--spool", folder / "spool")
    assert exported(folder, ids(folder)[0], "-o", tmp_path / "out.wav", where=where).code == 24


def test_a_ledger_that_is_off_cannot_be_required(folder: Path, tmp_path: Path) -> None:
    configure(folder, "ledger: {exports: require, enabled: false}\n")
    answer = exported(folder, ids(folder)[0], "-o", tmp_path / "out.wav")
    assert answer.code == ConfigError.exit_code
    assert "`require` needs the ledger" in answer.err
