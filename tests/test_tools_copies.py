"""Commands that only look need no more than to read: bare copies, copies of remotes, read-only disks."""

import shutil

import pytest

from recorderd.errors import SpoolCorrupt, SpoolError
from recorderd.spool.index import Index
from recorderd.spool.stores import LocalStore
from recorderd.spool.sync import Synchronizer
from tests.read_only import read_only
from tests.spool_builder import make_desk
from tests.tools_runner import recorderctl


@pytest.fixture
def desk(tmp_path):
    """Two recordings, on a remote too."""
    desk = make_desk(tmp_path)
    (tmp_path / "nas").mkdir()
    with Index.open(desk.spool) as index:
        for number in range(2):
            desk.enter(index, desk.record(number), number)
        (report,) = Synchronizer(desk.spool, index, {"nas": LocalStore(tmp_path / "nas")}).run()
        assert report.ok
    return desk


def listed(folder):
    answer = recorderctl("--spool", folder, "list", "--json")
    assert answer.code == 0
    return answer.json


def everything_works(desk, folder):
    """Each command that looks, and afterwards the folder is as before."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    original = listed(desk.spool.path)
    assert [{**row, "sync": []} for row in listed(folder)] == [{**row, "sync": []} for row in original]
    recording = original[0]["id"]
    facts = recorderctl("--spool", folder, "show", recording[:16], "--json").json
    assert (facts["id"], facts["from"]) == (recording, "1000")
    assert recorderctl("--spool", folder, "calls").code == 0
    answer = recorderctl("--spool", folder, "verify", "--all", "--identity", desk.identity_file)
    assert (answer.code, answer.err) == (0, "")
    assert recorderctl("--spool", folder, "verify", recording[:16], "--json").json["checked"] == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("index", [False, True])
def test_a_copy_of_the_spool(desk, tmp_path, index, locked):
    copy = tmp_path / "copy"
    left_out = ["host.key"] if index else ["index.db*", "host.key"]
    shutil.copytree(desk.spool.path, copy, ignore=shutil.ignore_patterns(*left_out))
    if locked:
        with read_only(copy):
            everything_works(desk, copy)
    elif not index:  # SQLite leaves files beside an index that it may write to
        everything_works(desk, copy)


@pytest.mark.parametrize("where", ["", "recordings"])
def test_a_copy_of_a_remote(desk, tmp_path, where):
    """As it is, or put into a folder named recordings."""
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "nas", copy / where)
    everything_works(desk, copy)
    assert "only index.db knows them" in recorderctl("--spool", copy, "calls").out


def test_what_cannot_be_entered_from_a_bare_copy_is_told(desk, tmp_path):
    first, second = sorted((tmp_path / "nas").rglob("*.json"))
    first.write_bytes(first.read_bytes().replace(b'"200"', b'"911"'))
    second.unlink()
    answer = recorderctl("--spool", tmp_path / "nas", "list")
    assert (answer.code, answer.out) == (0, "no recordings\n")
    assert f"{first}: the manifest's signature is wrong" in answer.err
    assert f"{second}: the manifest is missing" in answer.err


def test_a_call_in_progress_is_in_a_bare_copy_too(desk):
    writer = desk.start(5)
    for path in desk.spool.path.glob("index.db*"):
        path.unlink()
    row = listed(desk.spool.path)[-1]
    assert (row["id"], row["state"]) == (writer.recording_id, "recording")
    assert row["started_at"] == "2026-11-21T20:05:06.000Z"


def test_neither_spool_nor_copy(tmp_path):
    (tmp_path / "2026-11-21").touch()
    assert recorderctl("--spool", tmp_path, "list").code == SpoolError.exit_code


def test_a_damaged_index_is_told_by_every_command(desk):
    for path in desk.spool.path.glob("index.db-*"):
        path.unlink()
    desk.spool.index_path.write_bytes(b"destroyed" * 1000)
    for command in (["list"], ["calls"], ["show", "2026"]):
        answer = recorderctl("--spool", desk.spool.path, *command)
        assert answer.code == SpoolCorrupt.exit_code
        assert "verify --all" in answer.err
