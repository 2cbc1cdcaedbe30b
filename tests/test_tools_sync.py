import shutil
import stat

import pytest

from recorderd.errors import RemoteError, UsageError
from recorderd.spool.index import Index
from recorderd.spool.keys import load_identities, load_recipients
from tests.spool_builder import make_desk
from tests.tools_runner import recorderctl

CONFIG = """\
spool: {path: spool}
encryption: {recipients: [identity.pub], suite: x25519}
sync:
  remotes:
    - {name: nas, type: file, path: nas}
    - {name: vault, type: file, path: vault}
"""


@pytest.fixture
def home(tmp_path):
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        for number in range(2):
            desk.enter(index, desk.record(number), number)
    for name in ("nas", "vault"):
        (tmp_path / name).mkdir()
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def run(home, *arguments):
    return recorderctl("-c", home / "config.yaml", *arguments)


def test_sync_copies_and_verifies(home):
    answer = run(home, "sync")
    assert (answer.code, answer.err) == (0, "")
    rows = [line.split() for line in answer.out.splitlines()[1:]]
    assert [row[:3] for row in rows] == [["nas", "2", "0"], ["vault", "2", "0"]]
    for row in run(home, "list", "--json").json:
        assert [each["state"] for each in row["sync"]] == ["verified", "verified"]
        assert all(each["verified_at"].endswith("Z") for each in row["sync"])
    answer = run(home, "sync", "--json")
    assert (answer.code, answer.json["ok"]) == (0, True)


def test_an_outage_is_told_and_ends(home):
    run(home, "sync")
    (home / "vault").rename(home / "unplugged")
    assert run(home, "sync").code == RemoteError.exit_code
    (home / "vault").mkdir()  # an empty mount point
    answer = run(home, "sync", "--json")
    assert answer.error["code"] == RemoteError.exit_code
    assert "mounted" in answer.error["message"]
    assert [each["ok"] for each in answer.json["remotes"]] == [True, False]
    (home / "vault").rmdir()
    (home / "unplugged").rename(home / "vault")
    assert run(home, "sync").code == 0


def test_status_only_looks(home):
    answer = run(home, "sync", "--status", "--json")
    assert answer.code == RemoteError.exit_code
    assert [each["pending"] for each in answer.json["remotes"]] == [2, 2]
    assert "still to be made" in answer.error["message"]
    assert list((home / "nas").iterdir()) == []
    run(home, "sync")
    assert run(home, "sync", "--status").code == 0


def test_a_replaced_disk_is_adopted(home):
    run(home, "sync")
    shutil.rmtree(home / "nas")
    (home / "nas").mkdir()
    answer = run(home, "sync")
    assert answer.code == RemoteError.exit_code
    assert "--adopt nas" in answer.out
    answer = run(home, "sync", "--adopt", "nas", "--json")
    assert (answer.code, answer.json["remotes"][0]["verified"]) == (0, 2)
    assert run(home, "sync", "--adopt", "nobody").code == UsageError.exit_code


def test_status_says_that_a_remote_is_away_and_writes_nothing(home):
    run(home, "sync")
    (home / "vault").rename(home / "unplugged")
    before = (home / "spool" / "index.db").read_bytes()
    answer = run(home, "sync", "--status", "--json")
    assert answer.error["code"] == RemoteError.exit_code
    assert "no such folder" in answer.error["message"]
    assert [(each["outage"], each["verified"]) for each in answer.json["remotes"]] == [(False, 2), (True, 2)]
    assert "mounted" in run(home, "sync", "--status").out
    assert (home / "spool" / "index.db").read_bytes() == before
    assert run(home, "sync", "--status", "--recheck").code == UsageError.exit_code


def test_status_tells_that_a_remote_is_there_again_before_it_is_tried(home):
    (home / "vault").rename(home / "unplugged")
    run(home, "sync")
    (home / "unplugged").rename(home / "vault")
    answer = run(home, "sync", "--status", "--json")
    assert [each["outage"] for each in answer.json["remotes"]] == [False, False]
    assert answer.json["remotes"][1]["error"].startswith("it answers now; it is tried again at 2")
    run(home, "sync")
    answer = run(home, "sync", "--status", "--json")
    assert [each["error"] for each in answer.json["remotes"]] == [None, None]


def test_recheck_reads_everything_back(home):
    run(home, "sync")
    answer = run(home, "sync", "--recheck")
    assert answer.code == 0
    assert answer.out.count("2 copies read back, 0 damaged or gone") == 2
    gone = sorted((home / "nas").rglob("*.rec"))[0]
    gone.unlink()
    assert run(home, "sync").code == 0
    assert not gone.exists()
    answer = run(home, "sync", "--recheck", "nas")
    assert answer.code == 0
    assert "nas: 2 copies read back, 1 damaged or gone; sent again" in answer.out
    assert f"{gone.name}: gone" in answer.out
    assert "vault:" not in answer.out
    assert gone.exists()
    gone.write_bytes(b"")
    first, second = run(home, "sync", "--recheck", "--json").json["remotes"]
    assert (first["rechecked"], first["verified"], len(first["damaged"])) == (2, 1, 1)
    assert (second["rechecked"], second["damaged"]) == (2, [])
    assert run(home, "sync", "--recheck", "nobody").code == UsageError.exit_code


def test_sync_makes_a_lost_index_anew(home):
    run(home, "sync")
    for path in (home / "spool").glob("index.db*"):
        path.unlink()
    assert [each["verified"] for each in run(home, "sync", "--json").json["remotes"]] == [2, 2]
    assert len(run(home, "list", "--json").json) == 2


def test_a_copy_of_a_remote_is_not_synced(home):
    run(home, "sync")
    error = run(home, "--spool", home / "nas", "sync", "--json").error
    assert "copy of a remote" in error["message"]
    assert not (home / "nas" / "index.db").exists()


def test_sync_without_remotes_says_so(home):
    (home / "config.yaml").write_text(CONFIG.split("sync:")[0])
    answer = run(home, "sync")
    assert answer.code == UsageError.exit_code
    assert "sync.remotes" in answer.err


# keygen


@pytest.mark.parametrize("options", [[], ["--suite", "x25519"], ["--suite", "mlkem768-x25519"]])
def test_keygen_makes_a_pair(tmp_path, options):
    answer = recorderctl("keygen", "-o", tmp_path / "key", "--json", *options)
    assert answer.code == 0
    (identity,) = load_identities([tmp_path / "key"])
    (recipient,) = load_recipients([tmp_path / "key.pub"])
    assert identity.recipient() == recipient
    assert answer.json == {
        "identity": str(tmp_path / "key"),
        "recipient": str(tmp_path / "key.pub"),
        "id": recipient.id.hex(),
        "suite": options[1] if options else "mlkem768-x25519",
    }
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_keygen_for_people_says_which_is_which(tmp_path):
    answer = recorderctl("keygen", "-o", tmp_path / "key")
    private, public = answer.out.splitlines()
    assert "private" in private
    assert "encryption.recipients" in public
    assert "IDENTITY" not in answer.out.upper().replace(str(tmp_path).upper(), "")


def test_keygen_never_overwrites(tmp_path):
    recorderctl("keygen", "-o", tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    answer = recorderctl("keygen", "-o", tmp_path / "key", "--json")
    assert answer.error["code"] == UsageError.exit_code
    assert (tmp_path / "key").read_bytes() == before
    assert recorderctl("keygen", "-o", "").code == UsageError.exit_code
    for folder in (".", "/", "..", tmp_path):
        assert recorderctl("keygen", "-o", folder).code == UsageError.exit_code
    assert recorderctl("keygen").code == UsageError.exit_code
    assert recorderctl("keygen", "-o", tmp_path / "no" / "key").code == UsageError.exit_code
