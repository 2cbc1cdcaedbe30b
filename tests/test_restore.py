"""Recordings come back from a remote: one, or all of them onto a fresh host; each checked, whatever
happens."""

import json
import os
import shutil
import signal
import sys

import pytest

from recorderd.errors import Evicted, NoRoom, RemoteError, SpoolCorrupt, UsageError
from recorderd.spool.bring_back import bring_back
from recorderd.spool.budget import GB, Limits, Room
from recorderd.spool.eviction import Evictor
from recorderd.spool.holds import place, release
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import call_entry, enter, ledger_of, recording_entry
from recorderd.spool.restoration import Restorer
from recorderd.spool.signing import HostKey
from recorderd.spool.stores import LocalStore, MemoryStore, file_hash
from recorderd.spool.times import rfc3339
from recorderd.spool.verify import verify
from tests.spool_builder import STARTED_US, make_desk
from tests.tools_runner import recorderctl

CONFIG = """\
spool: {path: SPOOL}
encryption: {recipients: [identity.pub], suite: x25519}
sync:
  remotes:
    - {name: nas, type: file, path: nas}
    - {name: vault, type: file, path: vault}
"""
DAY = "2026-11-21"
COUNT = 5
ENTRIES = 2 * COUNT + 1


def call_row(number: int, recording: str) -> dict[str, object]:
    return {
        "call_id": f"call-{number}@192.0.2.1",
        "from": f"10{number:02d}",
        "to": "200",
        "first_seen": rfc3339(STARTED_US + number * 1_000_000),
        "answered_at": rfc3339(STARTED_US + number * 1_000_000),
        "ended_at": rfc3339(STARTED_US + number * 1_000_000 + 3_000_000),
        "outcome": "complete",
        "reason": "",
        "recording": recording,
    }


class Home:
    """A recorder with two remotes that have everything."""

    def __init__(self, folder) -> None:
        self.folder, self.desk = folder, make_desk(folder)
        self.configure("spool")
        for name in ("nas", "vault"):
            (folder / name).mkdir()
        self.ids = []
        with Index.open(self.spool) as index:
            for number in range(COUNT):
                sealed = self.desk.record(number)
                self.desk.enter(index, sealed, number)
                self.ids.append(sealed.recording)
                row = call_row(number, sealed.recording)
                index.call_saved(row)
                where = sealed.path, sealed.sha256, sealed.bytes
                made = recording_entry(sealed.recording, "sealed", *where, STARTED_US)
                enter(ledger_of(self.spool), index, [made, call_entry(row, STARTED_US)])
            place(index, ledger_of(self.spool), [self.ids[2]], "case", "a letter", "user root", STARTED_US)
        ledger_of(self.spool).checkpoint(self.desk.signer)
        assert self.run("sync").code == 0
        self.hashes = {each: file_hash(self.spool.record_path(each)) for each in self.ids}

    @property
    def spool(self) -> Spool:
        return self.desk.spool

    def configure(self, spool: str) -> None:
        (self.folder / "config.yaml").write_text(CONFIG.replace("SPOOL", spool))

    def run(self, *arguments):
        return recorderctl("-c", self.folder / "config.yaml", *arguments)

    def evict(self) -> None:
        """Everything; also what was held."""
        with Index.open(self.spool) as index:
            release(index, ledger_of(self.spool), None, "case", "closed", "user root", STARTED_US)
        stores = {name: LocalStore(self.folder / name) for name in ("nas", "vault")}
        with Index.open(self.spool) as index:
            full = Room(GB, 0, GB, Limits(reserve_bytes=0))
            Evictor(self.spool, index, stores, ledger_of(self.spool)).evict(full, relieving=True)
        assert list(self.spool.records()) == []

    def entries(self, kind):
        found = [Entry.from_bytes(data) for data in ledger_of(self.spool).entries()]
        return [entry for entry in found if entry.kind == kind]

    def assert_whole(self, spool: Spool, ids=None) -> None:
        public = self.desk.signer.public
        for each in self.ids if ids is None else ids:
            assert file_hash(spool.record_path(each)) == self.hashes[each]
            verdict = verify(spool, each, public, (self.desk.identity,))
            assert verdict.ok, verdict.problems


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def test_what_was_evicted_is_told_everywhere_and_comes_back(home, tmp_path):
    home.evict()
    first = home.ids[0]
    assert [row["present"] for row in home.run("list", "--json").json] == [False] * COUNT
    assert "sealed, evicted" in home.run("list").out
    ledger_of(home.spool).checkpoint(home.desk.signer)
    answer = home.run("ledger", "verify")
    assert (answer.code, answer.err) == (0, "")
    shown = home.run("show", first)
    assert shown.code == 0, shown.err
    assert f"evicted, on nas, vault; `recorderctl restore {first}` brings it back" in shown.out
    assert home.run("show", first, "--json").json["recipients"] == [home.desk.recipient.id.hex()]
    verified = home.run("verify", "--all")
    assert (verified.code, verified.err) == (0, "")
    assert "evicted, on nas, vault; its manifest is right" in verified.out
    answer = home.run("export", first, "-o", tmp_path / "x.wav", "--identity", home.desk.identity_file)
    assert answer.code == Evicted.exit_code
    assert "evicted, on nas, vault" in answer.err
    assert "recorderctl restore" in answer.err
    answer = home.run("restore", first[:-1])
    assert (answer.code, answer.err) == (0, "")
    assert f"{first}  restored from nas" in answer.out
    home.assert_whole(home.spool, [first])
    assert [row["present"] for row in home.run("list", "--json").json] == [True] + [False] * (COUNT - 1)
    (entry,) = home.entries("restored")
    assert (entry.subject, entry.fields["remote"]) == (first, "nas")
    answer = home.run("restore", "--all", "--json")
    assert answer.code == 0
    assert [each["became"] for each in answer.json["recordings"]] == ["here"] + ["restored"] * (COUNT - 1)
    home.assert_whole(home.spool)
    assert len(home.entries("restored")) == COUNT
    assert home.run("verify", "--all").code == 0
    assert home.run("sync").code == 0


def test_onto_a_fresh_host(home, tmp_path):
    home.configure("new")
    answer = home.run("restore", "--all")
    assert answer.code == 0, answer.err
    assert "its backup" in answer.err
    assert "--host-key" in answer.err
    home.assert_whole(Spool(tmp_path / "new"))
    assert [row["id"] for row in home.run("list", "--json").json] == home.ids
    assert home.run("verify", "--all").code == 0
    assert (tmp_path / "new" / "host.pub").read_bytes() == home.spool.host_public_path.read_bytes()
    # The next pass verifies everything anew, and sends nothing.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "nas").rglob("*.rec")}
    assert home.run("sync").code == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "nas").rglob("*.rec")} == before


@pytest.mark.parametrize("damaged", [None, "tile/entries/000.p/11", "checkpoint"])
def test_onto_a_fresh_host_with_all_that_the_ledger_knows(home, tmp_path, damaged):
    calls = home.run("calls", "--json").json
    before = list(ledger_of(home.spool).entries())
    assert len(before) == ENTRIES == 2 * len(calls) + 1
    if damaged:
        path = tmp_path / "nas" / "ledger" / damaged
        path.write_bytes(path.read_bytes().replace(b"call-", b"fall-").replace(b"\n11\n", b"\n10\n"))
    home.configure("new")
    (tmp_path / "new").mkdir()
    shutil.copy(home.spool.host_key_path, tmp_path / "new" / "host.key")
    answer = home.run("restore", "--all")
    assert answer.code == 0, answer.err
    assert f"the ledger has {ENTRIES} entries, as {'vault' if damaged else 'nas'} has it" in answer.err
    spool = Spool(tmp_path / "new")
    entries = list(ledger_of(spool).entries())
    assert entries[:ENTRIES] == before
    assert [Entry.from_bytes(data).kind for data in entries[ENTRIES:]] == ["restored"] * COUNT
    assert home.run("calls", "--json").json == calls
    rows = home.run("list", "--json").json
    assert [row["held"] for row in rows] == [False, False, True, False, False]
    # The ledger goes on where it was signed last.
    assert home.run("ledger", "verify").code == 0
    checkpoint = ledger_of(spool).checkpoint(home.desk.signer)
    assert checkpoint.size == ENTRIES + COUNT
    assert home.run("ledger", "verify").code == 0
    assert home.run("sync").code == 0


def test_manifests_alone_are_enough_to_tell_what_there_is(home, tmp_path):
    home.configure("new")
    trusted = tmp_path / "trusted.pub"
    shutil.copy(home.spool.host_public_path, trusted)
    answer = home.run("restore", "--all", "--manifests", "--host-key", trusted)
    assert answer.code == 0, answer.err
    spool = Spool(tmp_path / "new")
    assert list(spool.records()) == []
    assert list(spool.slots()) == home.ids
    assert [row["present"] for row in home.run("list", "--json").json] == [False] * COUNT
    assert home.run("restore", home.ids[3]).code == 0
    home.assert_whole(spool, [home.ids[3]])


def test_what_went_and_was_brought_elsewhere_is_not_missed_here(home, tmp_path):
    home.evict()
    assert home.run("restore", "--all", "--into", tmp_path / "case").code == 0
    ledger_of(home.spool).checkpoint(home.desk.signer)
    answer = home.run("ledger", "verify")
    assert (answer.code, answer.err) == (0, "")


def test_into_a_folder_of_its_own_and_by_time(home, tmp_path):
    since = f"{DAY}T20:05:03"
    answer = home.run("restore", "--since", since, "--from", "vault", "--into", tmp_path / "case", "--json")
    assert answer.code == 0, answer.out
    found = [each["id"] for each in answer.json["recordings"]]
    assert found == [each for each in home.ids if each >= "20261121T200503Z"]
    assert 0 < len(found) < COUNT
    home.assert_whole(Spool(tmp_path / "case"), found)
    assert recorderctl("--spool", tmp_path / "case", "verify", "--all").code == 0
    assert {entry.fields["into"] for entry in home.entries("restored")} == {str(tmp_path / "case")}
    assert all(row["present"] for row in home.run("list", "--json").json)


@pytest.mark.parametrize("what", ["recording", "cut", "manifest", "gone", "slots"])
def test_a_copy_that_is_not_right_is_passed_over_for_the_next(home, tmp_path, what):
    first = home.ids[0]
    suffix = {"manifest": ".json", "slots": ".key"}.get(what, ".rec")

    def damage(remote: str) -> None:
        path = tmp_path / remote / DAY / f"{first}{suffix}"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data[:-1] if what == "cut" else data)
        if what == "gone":
            path.unlink()

    damage("nas")
    answer = home.run("restore", first[:-1], "--into", tmp_path / "one")
    assert answer.code == 0, answer.err
    assert "restored from vault" in answer.out
    home.assert_whole(Spool(tmp_path / "one"), [first])
    damage("vault")
    answer = home.run("restore", first, "--into", tmp_path / "two", "--json")
    assert answer.code == RemoteError.exit_code
    assert first in answer.json["error"]["message"]
    spool = Spool(tmp_path / "two")
    assert not list(spool.records())
    assert not list(spool.recordings.rglob("*.tmp"))


def test_another_recorders_statement_is_not_believed(home, tmp_path):
    home.evict()
    other = HostKey.load_or_create(tmp_path / "other.key", tmp_path / "other.pub")
    answer = home.run("restore", "--all", "--into", tmp_path / "x", "--host-key", tmp_path / "other.pub")
    assert answer.code == RemoteError.exit_code
    assert "another host's key" in answer.out
    assert other.id.hex() in answer.out
    assert list(Spool(tmp_path / "x").records()) == []


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_a_damaged_original_is_kept_as_evidence(home, tmp_path, kind):
    first = home.ids[0]
    path = home.spool.record_path(first)
    store = MemoryStore() if kind == "memory" else LocalStore.create(tmp_path / "third")
    for each in (path, home.spool.manifest_path(first), home.spool.slot_path(first)):
        store.put(f"{DAY}/{each.name}", each)
    damaged = bytearray(path.read_bytes())
    damaged[99] ^= 1
    path.write_bytes(damaged)
    bring_back(store, home.spool, first, home.desk.signer.public)
    home.assert_whole(home.spool, [first])
    assert home.spool.damaged_path(first).read_bytes() == damaged


def test_damage_that_a_restoration_finds_is_told(home):
    first, path = home.ids[0], home.spool.record_path(home.ids[0])
    for number in range(2):
        damaged = bytearray(path.read_bytes())
        damaged[99 + number] ^= 1
        path.write_bytes(damaged)
        found = file_hash(path)
        answer = home.run("--json", "restore", first)
        assert answer.code == 0
        kept = [f"{first}.rec.damaged", None][number]
        damage = answer.json["recordings"][0]["damage"]
        assert (damage["sha256"], damage["kept"]) == (found, kept)
        assert damage["expected_sha256"] == home.hashes[first]
        assert home.entries("restored")[-1].fields["damaged_sha256"] == found
        with Index.read(home.spool) as index:
            told = [each["fields"] for each in index.alerts_pending() if each["kind"] == "local-damage"]
        assert len(told) == number + 1
        evidence = json.loads((home.spool.path / told[-1]["evidence"]).read_bytes())
        assert evidence["sha256"] == found
        home.assert_whole(home.spool, [first])
    # What is whole is no evidence, though its manifest be lost; nothing is said of it.
    home.spool.manifest_path(first).unlink()
    assert home.run("--json", "restore", first).json["recordings"][0]["damage"] is None
    assert "damaged_sha256" not in home.entries("restored")[-1].fields
    assert "damaged" not in home.run("restore", first).out


def test_what_was_destroyed_stays_destroyed(home):
    home.evict()
    first = home.ids[0]
    with Index.open(home.spool) as index:
        index.destroyed([first])
    answer = home.run("restore", "--all", "--json")
    assert answer.code == 0
    assert [each["became"] for each in answer.json["recordings"]] == ["destroyed"] + ["restored"] * 4
    assert not home.spool.record_path(first).exists()
    answer = home.run("restore", "--all", "--into", home.folder / "elsewhere", "--json")
    assert [each["became"] for each in answer.json["recordings"]] == ["destroyed"] + ["restored"] * 4


def test_the_reserve_is_not_for_restoring(home):
    home.evict()
    with Index.open(home.spool) as index:
        stores = {"nas": LocalStore(home.folder / "nas")}
        most = Limits(most_bytes=1, reserve_bytes=0)
        restorer = Restorer(home.spool, index, stores, home.desk.signer.public, None, most, "test")
        with pytest.raises(NoRoom, match="--into"):
            list(restorer.restore(home.ids))
    assert list(home.spool.records()) == []


def test_what_makes_no_sense_is_refused(home):
    assert home.run("restore").code == UsageError.exit_code
    assert home.run("restore", home.ids[0], "--all").code == UsageError.exit_code
    assert home.run("restore", "--all", "--from", "nowhere").code == UsageError.exit_code
    assert home.run("restore", "20990101T000000Z-0123456789").code == RemoteError.exit_code


ACTS, NEVER = 16, 1000
"""Of the restoration of one recording from nothing."""


@pytest.mark.parametrize("act", [*range(1, ACTS + 1), NEVER])
def test_a_crash_at_each_act_of_a_restoration(home, tmp_path, act):
    """Killed at the n-th act on the disk, in a process of its own: what has its name is whole, and the next
    restoration goes on."""
    spool = Spool(tmp_path / "new").prepare()
    shutil.copy(home.spool.host_public_path, spool.host_public_path)
    status = restore_killed_at(home, spool, act)
    assert status == (signal.SIGKILL if act != NEVER else 0)
    for each in spool.records():
        home.assert_whole(spool, [each])
    assert list(spool.unstated()) == []
    stores = {"nas": LocalStore(tmp_path / "nas")}
    with Index.open(spool) as index:
        restorer = Restorer(
            spool, index, stores, home.desk.signer.public, ledger_of(spool), Limits(reserve_bytes=0), "test"
        )
        assert {each.became for each in restorer.restore(home.ids[:1])} <= {"here", "restored"}
        assert [row["present"] for row in index.recordings()] == [True]
    home.assert_whole(spool, home.ids[:1])
    entries = [Entry.from_bytes(data) for data in ledger_of(spool).entries()]
    assert {entry.subject for entry in entries if entry.kind == "restored"} == set(home.ids[:1])


def restore_killed_at(home: Home, spool: Spool, act: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            left = act

            def count() -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            def guard(kind: str, arguments: object) -> None:
                writes = kind == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY  # type: ignore[index]
                if kind in ("os.remove", "os.rename", "os.mkdir") or writes:
                    count()

            def told(statement: str) -> None:
                if statement.startswith(("INSERT INTO recordings", "COMMIT")):
                    count()

            with Index.open(spool) as index:
                stores = {"nas": LocalStore(home.folder / "nas")}
                public = home.desk.signer.public
                limits = Limits(reserve_bytes=0)
                ledger = ledger_of(spool)
                restorer = Restorer(spool, index, stores, public, ledger, limits, "test")
                index.trace(told)
                sys.addaudithook(guard)
                list(restorer.restore(home.ids[:1]))
                os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert status in (signal.SIGKILL, 0), status
    return status


def test_nothing_is_believed_that_is_not_whole(home, tmp_path):
    """The store gives other bytes, shorter, longer, none: never a file under the recording's name."""
    store = MemoryStore()
    first = home.ids[0]
    record = home.spool.record_path(first)
    for each in (home.spool.manifest_path(first), home.spool.slot_path(first)):
        store.put(f"{DAY}/{each.name}", each)
    data = record.read_bytes()
    spool = Spool(tmp_path / "new").prepare()
    for wrong in (b"", data[:-1], data + b"x", data[1:] + b"x", os.urandom(len(data))):
        (tmp_path / "wrong").write_bytes(wrong)
        store.put(f"{DAY}/{record.name}", tmp_path / "wrong")
        with pytest.raises(SpoolCorrupt, match="not what was sealed"):
            bring_back(store, spool, first, home.desk.signer.public)
        assert list(spool.records()) == []
        assert not list(spool.recordings.rglob("*.tmp"))
