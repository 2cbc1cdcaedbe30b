"""`recorderctl keys`: who can open the recordings, a new key, and keys wrapped anew."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys

import pytest

from recorderd.errors import ConfigError, SpoolCorrupt, UsageError, WrongKey
from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity, load_identities, load_recipients
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import ledger_of
from recorderd.spool.reader import Recording
from recorderd.spool.slot_files import read_slots
from tests.spool_builder import fill, make_desk, summary
from tests.tools_runner import recorderctl


@pytest.fixture
def desk(tmp_path):
    desk = make_desk(tmp_path)
    (tmp_path / "recorderd.yaml").write_text(
        "spool: {path: spool}\nencryption: {recipients: [identity.pub], suite: x25519}\n"
    )
    generate_identity(tmp_path / "new", "x25519")
    with Index.open(desk.spool) as index:
        for number in range(3):
            desk.enter(index, desk.record(number), number)
    return desk


def keys(desk, *arguments, spool=False):
    where = ["--spool", desk.spool.path] if spool else ["-c", desk.identity_file.with_name("recorderd.yaml")]
    return recorderctl(*where, "keys", *arguments)


def new(desk, suffix=""):
    return desk.identity_file.with_name(f"new{suffix}")


def id_of(path):
    (recipient,) = load_recipients([path])
    return recipient.id.hex()


def entries(desk):
    return [Entry.from_bytes(data) for data in ledger_of(desk.spool).entries()]


# Who can open what


def test_the_recipients_and_what_they_open(desk):
    answer = keys(desk, "list", "--json").json
    (row,) = answer["recipients"]
    assert (row["id"], row["state"], row["recordings"]) == (desk.recipient.id.hex(), "configured", 3)
    assert (answer["recordings"], answer["old_only"], answer["without_keys"]) == (3, 0, [])
    text = keys(desk, "list")
    assert text.code == 0
    assert "3 recordings" in text.out


def test_keys_of_recordings_that_no_configuration_has(desk):
    (row,) = keys(desk, "list", "--json", spool=True).json["recipients"]
    assert (row["id"], row["state"], row["recordings"]) == (desk.recipient.id.hex(), "not configured", 3)


def test_an_identity_is_told_what_it_opens(desk):
    found = keys(desk, "list", "--json", "--identity", new(desk), "--identity", desk.identity_file).json
    rows = {row["id"]: (row["identity"], row["recordings"]) for row in found["recipients"]}
    assert rows == {desk.recipient.id.hex(): (True, 3), id_of(new(desk, ".pub")): (True, 0)}


def test_recordings_that_nobody_opens_are_told(desk):
    one, two, three = desk.spool.slots()
    desk.spool.slot_path(one).unlink()
    desk.spool.slot_path(two).write_bytes(b"damaged")
    desk.start(7)  # in progress
    answer = keys(desk, "list", "--json").json
    assert (answer["without_keys"], answer["damaged"], answer["recordings"]) == ([one], [two], 3)
    assert answer["recipients"][0]["recordings"] == 1
    assert f"nobody can open: 1, {one}" in keys(desk, "list").out
    assert three


# A new key


def test_a_new_recipient_takes_the_place_of_a_retired_one(desk):
    old, pub = desk.recipient.id.hex(), desk.identity_file.with_name("identity.pub")
    mode = pub.stat().st_mode
    answer = keys(desk, "rotate", "--to", new(desk, ".pub"), "--retire", old[:8], "--json").json
    assert (answer["new"], answer["retired"], answer["files"]) == (
        id_of(new(desk, ".pub")),
        [old],
        [str(pub)],
    )
    assert (answer["not_opened_by_new"], answer["old_only"]) == (3, 3)
    assert "restart" in answer["restart"]
    assert [each.id.hex() for each in load_recipients([pub])] == [id_of(new(desk, ".pub"))]
    assert pub.stat().st_mode == mode
    listed = keys(desk, "list", "--json").json
    assert [row["state"].split()[0] for row in listed["recipients"]] == ["configured", "retired"]
    assert listed["old_only"] == 3
    again = keys(desk, "rotate", "--to", new(desk, ".pub"))
    assert "nothing was changed" in again.out


def test_without_retiring_both_open_what_comes(desk):
    text = keys(desk, "rotate", "--to", new(desk, ".pub")).out
    assert "systemctl restart recorderd-capture" in text
    pub = desk.identity_file.with_name("identity.pub")
    assert {each.id.hex() for each in load_recipients([pub])} == {
        desk.recipient.id.hex(),
        id_of(new(desk, ".pub")),
    }


def test_rotations_that_cannot_be(desk, tmp_path):
    pub = desk.identity_file.with_name("identity.pub")
    before = pub.read_bytes()
    generate_identity(tmp_path / "hybrid")
    for arguments, error in (
        (["--to", new(desk, ".pub"), "--retire", "ffffffff"], ConfigError),
        (["--to", new(desk, ".pub"), "--retire", ""], ConfigError),
        (["--to", tmp_path / "hybrid.pub"], ConfigError),
        (["--to", new(desk)], ConfigError),
        (["--to", pub, "--retire", desk.recipient.id.hex()], UsageError),
        ([], UsageError),
    ):
        assert keys(desk, "rotate", *arguments, "--json").code == error.exit_code
    assert pub.read_bytes() == before


# Wrapped anew


def test_all_recordings_are_opened_to_another(desk):
    before = {path: path.read_bytes() for path in desk.spool.recordings.rglob("*.rec")}
    with Index.open(desk.spool) as index:
        index.set_remotes(["nas"])
        for name in desk.spool.records():
            index.sync_state(name, "nas", "verified", sha256="0" * 64, verified_at="2026-11-21T20:05:01Z")
        assert index.sync_pending("nas") == []
    answer = keys(
        desk, "rewrap", "--all", "--identity", desk.identity_file, "--to", new(desk, ".pub"), "--json"
    ).json
    assert [row["generation"] for row in answer["rewrapped"]] == [2, 2, 2]
    assert {path: path.read_bytes() for path in before} == before
    (identity,) = load_identities([new(desk)])
    for path in before:
        with Recording.open(path, [identity]) as recording:
            assert recording.status == "complete"
    told = entries(desk)
    assert [(entry.kind, entry.subject) for entry in told] == [
        ("rewrapped", name) for name in desk.spool.records()
    ]
    assert [entry.fields["slots_sha256"] for entry in told] == [row["sha256"] for row in answer["rewrapped"]]
    with Index.open(desk.spool) as index:
        # The remotes get the new slot files.
        assert [row["id"] for row in index.sync_pending("nas")] == list(desk.spool.records())
        assert len(index.ledger_rows()) == 3
    show = recorderctl("--spool", desk.spool.path, "show", told[0].subject, "--json").json
    assert show["slots"] == "detached, generation 2"
    assert show["recipients"] == [desk.recipient.id.hex(), id_of(new(desk, ".pub"))]
    again = keys(
        desk, "rewrap", "--all", "--identity", desk.identity_file, "--to", new(desk, ".pub"), "--json"
    )
    assert (again.json["rewrapped"], len(again.json["unchanged"])) == ([], 3)
    assert len(entries(desk)) == 3


def test_one_that_is_refused_keeps_nobody_from_the_others(desk):
    writer = desk.start(5, detached=False)
    fill(writer, 1)
    kept = writer.seal(summary(5)).recording
    arguments = ["--all", "--identity", desk.identity_file, "--to", new(desk, ".pub"), "--drop-old"]
    answer = keys(desk, "rewrap", *arguments, "--json")
    assert answer.code == UsageError.exit_code
    assert len(answer.json["rewrapped"]) == 3
    (refused,) = answer.json["refused"]
    assert refused["id"] == kept
    assert "header stay" in refused["reason"]
    stranger = keys(desk, "rewrap", "--all", "--identity", desk.identity_file, "--to", new(desk, ".pub"))
    assert stranger.code == WrongKey.exit_code
    assert "1 wrapped anew, 0 as before, 3 refused" in stranger.out


def test_on_the_machine_of_the_key_holder_and_back(desk, tmp_path):
    folder = tmp_path / "carried"
    shutil.copytree(desk.spool.recordings, folder, ignore=shutil.ignore_patterns("*.rec", "*.json"))
    there = recorderctl(
        "keys",
        "rewrap",
        "--folder",
        folder,
        "--identity",
        desk.identity_file,
        "--to",
        new(desk, ".pub"),
        "--json",
    )
    assert (there.code, len(there.json["rewrapped"])) == (0, 3)
    assert entries(desk) == []
    answer = keys(desk, "import", folder, "--json")
    assert (answer.code, [row["generation"] for row in answer.json["rewrapped"]]) == (0, [2, 2, 2])
    assert {entry.fields["how"] for entry in entries(desk)} == {"import"}
    assert "0 taken in, 3 as before, 0 refused" in keys(desk, "import", folder).out
    first = next(desk.spool.slots())
    bad = folder / "bad.key"
    bad.write_bytes(desk.spool.slot_path(first).read_bytes()[:-3])
    answer = keys(desk, "import", folder)
    assert answer.code == SpoolCorrupt.exit_code
    assert "bad.key" in answer.err


def test_a_copy_is_changed_without_an_account(desk, tmp_path):
    """The ledger and the index are the recorder's."""
    copy = tmp_path / "copy"
    shutil.copytree(desk.spool.recordings, copy)
    arguments = ["--all", "--identity", desk.identity_file, "--to", new(desk, ".pub")]
    assert recorderctl("--spool", copy, "keys", "rewrap", *arguments).code == 0
    assert sorted(path.name for path in copy.iterdir()) == ["2026-11-21"]
    (first, *_) = desk.spool.slots()
    assert read_slots(copy / "2026-11-21" / f"{first}.key").generation == 2
    assert read_slots(desk.spool.slot_path(first)).generation == 1
    assert recorderctl("--spool", copy, "keys", "import", copy).code == UsageError.exit_code


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_does_not_write_into_the_recorders_ledger(desk):
    os.chown(desk.spool.path, 65534, 65534)
    arguments = ["--all", "--identity", desk.identity_file, "--to", new(desk, ".pub")]
    answer = keys(desk, "rewrap", *arguments, "--json")
    assert answer.error["code"] == UsageError.exit_code
    assert "sudo -u '#65534'" in answer.error["message"]
    assert not (desk.spool.path / "ledger").exists()


def test_what_is_to_be_wrapped_has_to_be_said(desk):
    to = ["--to", new(desk, ".pub")]
    for arguments in (
        [*to, "--all"],
        [*to, "--identity", desk.identity_file],
        [*to, "--identity", desk.identity_file, "--all", "--folder", "."],
        ["--identity", desk.identity_file, "--all"],
    ):
        assert keys(desk, "rewrap", *arguments, "--json").code == UsageError.exit_code
    assert keys(desk, "import", desk.spool.path / "ledger").code == UsageError.exit_code
    assert keys(desk).code == UsageError.exit_code


# Passphrases


@pytest.fixture
def protected(tmp_path):
    """An identity behind a passphrase, and the file that has it."""
    secret = tmp_path / "passphrase"
    secret.write_text("horse battery\n")
    made = recorderctl(
        "keygen", "-o", tmp_path / "vault", "--suite", "x25519", "--passphrase", "--passphrase-file", secret
    )
    assert made.code == 0
    return tmp_path / "vault", secret


def test_every_command_takes_a_protected_identity(desk, protected, monkeypatch):
    vault, secret = protected
    recipients = load_recipients([vault.with_name("vault.pub")])
    writer = desk.start(9, recipients=recipients)
    fill(writer, 1)
    sealed = writer.seal(summary(9))
    name = sealed.recording
    with Index.open(desk.spool) as index:
        desk.enter(index, sealed, 9)
    spool = ["--spool", desk.spool.path]
    for command in (["verify", name], ["show", name], ["keys", "list"]):
        given = [*command, "--identity", vault]
        assert recorderctl(*spool, *given, "--passphrase-file", secret).code == 0
        monkeypatch.setenv("RECORDERD_PASSPHRASE_FILE", str(secret))
        assert recorderctl(*spool, *given).code == 0
        monkeypatch.delenv("RECORDERD_PASSPHRASE_FILE")


def test_a_wrong_passphrase_is_a_wrong_key(desk, protected, tmp_path):
    vault, _ = protected
    (tmp_path / "wrong").write_text("horse battery ")
    answer = keys(desk, "list", "--identity", vault, "--passphrase-file", tmp_path / "wrong", "--json")
    assert answer.error["code"] == WrongKey.exit_code
    assert "the passphrase is wrong" in answer.error["message"]
    answer = keys(desk, "list", "--identity", vault, "--passphrase-file", tmp_path / "nowhere", "--json")
    assert answer.error["code"] == UsageError.exit_code


def test_who_names_a_file_with_a_passphrase_gets_a_protected_key(tmp_path):
    (tmp_path / "word").write_text("open sesame\n")
    answer = recorderctl("keygen", "-o", tmp_path / "vault", "--passphrase-file", tmp_path / "word")
    assert answer.code == 0
    with pytest.raises(WrongKey):
        load_identities([tmp_path / "vault"], lambda _: b"guess")
    answer = recorderctl(
        "retention", "keygen", "-o", tmp_path / "anne", "--passphrase-file", tmp_path / "word"
    )
    assert answer.code == 0
    assert b"ENCRYPTED" in (tmp_path / "anne").read_bytes()


def test_an_empty_passphrase_protects_nothing(tmp_path):
    (tmp_path / "empty").write_text("\n")
    arguments = ["-o", tmp_path / "vault", "--passphrase", "--passphrase-file", tmp_path / "empty"]
    assert recorderctl("keygen", *arguments).code == UsageError.exit_code
    assert not (tmp_path / "vault").exists()


def at_a_terminal(arguments, typed):
    """Run recorderctl where it has a terminal of its own; what it wrote there, and its exit code."""
    command = [sys.executable, "-m", "recorderd.tools.cli", *map(str, arguments)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, command)
    shown = b""

    def read():
        if not select.select([terminal], [], [], 30)[0]:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"nothing more was shown: {shown!r}")
        return os.read(terminal, 1000)

    for number, line in enumerate(typed, 1):
        while shown.count(b": ") < number:
            shown += read()
        os.write(terminal, line + b"\n")
    try:
        while more := read():
            shown += more
    except OSError:  # a terminal whose other end is gone
        pass
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_terminal_is_asked_and_shows_nothing(tmp_path):
    arguments = ["keygen", "-o", tmp_path / "vault", "--suite", "x25519", "--passphrase"]
    shown, code = at_a_terminal(arguments, [b"secret words", b"other words"])
    assert (code, "differ" in shown, (tmp_path / "vault").exists()) == (UsageError.exit_code, True, False)
    shown, code = at_a_terminal(arguments, [b"secret words", b"secret words"])
    assert code == 0
    assert "secret" not in shown
    assert load_identities([tmp_path / "vault"], lambda _: b"secret words")


def test_without_a_terminal_it_says_where_a_passphrase_is_taken_from(desk, protected):
    vault, _ = protected
    command = [sys.executable, "-m", "recorderd.tools.cli", "--spool", str(desk.spool.path)]
    command += ["keys", "list", "--identity", str(vault)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True
    )
    assert done.returncode == UsageError.exit_code
    assert "--passphrase-file" in done.stderr
