"""Destruction: exactly what was proposed, approved, expired and is not held; every key copy, every place."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from recorderd.errors import KeysMissing, NotAllowed, SpoolCorrupt, SpoolError
from recorderd.spool.certificate import as_text, check, issue
from recorderd.spool.destruction import BATCH, Outcome
from recorderd.spool.holds import number_subject, place, release
from recorderd.spool.index import Index
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter, ledger_of
from recorderd.spool.pacing import Terms
from recorderd.spool.proposals import Proposal
from recorderd.spool.reader import Recording
from recorderd.spool.reindex import reindex
from recorderd.spool.stores import Deleted, LocalStore, RemoteOutage, Sent
from recorderd.spool.sync_carry import Carrier, Job
from recorderd.spool.times import rfc3339
from tests.retention_builder import HOUR_US, LOCKED_UNTIL_US, NOW_US, YEAR_US, Vault, make_vault
from tests.simulators.worm_store import DeadlyStore


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = make_vault(tmp_path)
    yield made
    made.index.close()


def certificate(vault: Vault, proposal: Proposal, outcome: Outcome) -> bytes:
    data = vault.statements(proposal, 0, 1)
    approvals = list(zip(vault.approve(proposal, 0, 1), data, strict=True))
    key = vault.desk.signer
    return issue(proposal, approvals, vault.rules, outcome, "pbx.example", key, vault.hands.wall)


def left_of(vault: Vault, recording: str) -> set[str]:
    return {path for path in vault.files() if recording in path}


def test_what_expired_goes_everywhere_and_nothing_else(vault: Vault) -> None:
    short, long, always, classless = vault.add(["short", "long", "always", None])
    before = vault.files()
    proposal = vault.propose()
    assert [item["id"] for item in proposal.items] == [short]
    outcome = vault.destroy(proposal, vault.approve(proposal))
    assert list(outcome.done) == [short]
    assert not outcome.left
    assert outcome.trouble is None
    day = vault.desk.spool.folder(short).name
    assert left_of(vault, short) == {f"worm/{day}/{short}.rec", f"worm/{day}/{short}.json"}
    assert {path: inode for path, inode in before.items() if short not in path} == {
        path: inode for path, inode in vault.files().items() if short not in path
    }
    assert [vault.state(name) for name in (short, long, always, classless)] == ["destroyed"] + ["sealed"] * 3


def test_the_locked_object_is_unreadable_even_with_the_identity(vault: Vault) -> None:
    (name,) = vault.add(["short"])
    path = vault.folder / "worm" / vault.desk.spool.folder(name).name / f"{name}.rec"
    with Recording.open(path, [vault.desk.identity]) as recording:
        assert recording.status == "complete"
    proposal = vault.propose()
    vault.destroy(proposal, vault.approve(proposal))
    with pytest.raises(KeysMissing):
        Recording.open(path, [vault.desk.identity])


def test_a_tombstone_names_nobody(vault: Vault) -> None:
    (name,) = vault.add(["short"])
    call = {"call_id": "call-0@192.0.2.1", "from": "+4420000000", "to": "200", "first_seen": rfc3339(NOW_US)}
    vault.index.call_saved({**call, "outcome": "complete", "recording": name})
    alert = {"kind": "review", "time_ns": 1, "fields": {"recording": name, "from": "+4420000000"}}
    vault.index.alert_delivered(vault.index.alert_added(alert))
    proposal = vault.propose()
    vault.destroy(proposal, vault.approve(proposal))
    row = vault.index.recording(name)
    assert (row["from"], row["to"], row["call_ids"], row["tracks"]) == (None, None, [], [])
    expires_at = proposal.items[0]["expires_at"]
    assert row["retention"] == {"class": "short", "expires_at": expires_at}
    assert row["started_at"] == expires_at.replace("2027", "2026")
    assert row["sha256"] == proposal.items[0]["sha256"]
    (left,) = vault.index.calls()
    assert (left["from"], left["to"], left["outcome"]) == (None, None, "complete")
    assert vault.index.recordings(number="+4420") == []
    assert vault.index.query("SELECT * FROM alerts") == []
    kinds = [row["kind"] for row in vault.index.ledger_rows()]
    assert kinds == ["started", "recording", "proposed", "approved", "approved", "destroyed"]


def test_the_certificate_holds_with_public_keys_only(vault: Vault) -> None:
    vault.add(["short", "short", "long"])
    proposal = vault.propose()
    outcome = vault.destroy(proposal, vault.approve(proposal))
    data = certificate(vault, proposal, outcome)
    approvers = [key.public for key in vault.approvers]
    value = check(data, vault.desk.signer.public, approvers, 2)
    assert value["complete"]
    assert len(value["recordings"]) == 2
    for each in value["recordings"]:
        assert each["method"] == "key slots destroyed"
        assert each["readable_until"] is None
        copies = {(copy["where"], copy["part"]): copy for copy in each["copies"]}
        assert len(copies) == 9
        assert copies["worm", "recording"]["outcome"] == "locked"
        assert copies["worm", "recording"]["until"] == rfc3339(LOCKED_UNTIL_US)
        assert copies["worm", "slots"]["outcome"] == "gone"
        assert copies["worm", "slots"]["versions"]
    text = as_text(value, "0" * 64)
    assert "2 destroyed, 0 left" in text
    assert "worm: slots gone (versions" in text
    for at in range(0, len(data), max(1, len(data) // 200)):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(Exception, match=r"certificate|approval"):
            check(altered, vault.desk.signer.public, approvers, 2)
    with pytest.raises(NotAllowed, match="not the key of one of"):
        check(data, vault.desk.signer.public, approvers[:1], 2)


def test_keys_in_the_header_under_a_lock_are_reported_as_readable(vault: Vault) -> None:
    (name,) = vault.add(["short"], detached=False)
    proposal = vault.propose()
    outcome = vault.destroy(proposal, vault.approve(proposal))
    value = check(
        certificate(vault, proposal, outcome),
        vault.desk.signer.public,
        [key.public for key in vault.approvers],
        2,
    )
    (each,) = value["recordings"]
    assert each["method"] == "still readable"
    assert each["readable_until"] == rfc3339(LOCKED_UNTIL_US)
    assert f"STILL READABLE until {rfc3339(LOCKED_UNTIL_US)}" in as_text(value, "")
    path = vault.folder / "worm" / vault.desk.spool.folder(name).name / f"{name}.rec"
    with Recording.open(path, [vault.desk.identity]) as recording:
        assert recording.status == "complete"


def test_what_is_held_stays_and_goes_when_released(vault: Vault) -> None:
    one, two = vault.add(["short", "short"])
    proposal = vault.propose()
    approvals = vault.approve(proposal)
    place(vault.index, vault.ledger, [one], "case 7", "court order", "Ann", NOW_US)
    outcome = vault.destroy(proposal, approvals)
    assert outcome.left == {one: "held"}
    assert list(outcome.done) == [two]
    release(vault.index, vault.ledger, [one], "case 7", "over", "Ann", NOW_US)
    outcome = vault.destroy(proposal, approvals)
    assert set(outcome.done) == {one, two}
    assert not outcome.left


def test_a_hold_that_only_the_ledger_has_is_heeded(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    proposal = vault.propose()
    vault.ledger.append([Entry("hold", NOW_US, one, {"matter": "x", "reason": "r", "by": "b"})])
    assert vault.destroy(proposal, vault.approve(proposal)).left == {one: "held"}
    vault.ledger.append([Entry("release", NOW_US, one, {"matter": "x", "reason": "r", "by": "b"})])
    vault.ledger.append([Entry("hold", NOW_US, "number:+4420", {"matter": "x", "reason": "r", "by": "b"})])
    assert vault.destroy(proposal, vault.approve(proposal)).left == {one: "held"}


def test_too_late_for_a_hold(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    proposal = vault.propose()
    vault.destroy(proposal, vault.approve(proposal))
    with pytest.raises(NotAllowed, match="too late for a hold: destroyed"):
        place(vault.index, vault.ledger, [one], "case 7", "court order", "Ann", NOW_US)


def test_changed_since_the_proposal(vault: Vault) -> None:
    one, two = vault.add(["short", "short"])
    proposal = vault.propose()
    vault.index.set_retention(one, "short", rfc3339(NOW_US - HOUR_US))
    vault.index.set_retention(two, "long", proposal.items[1]["expires_at"])
    left = vault.destroy(proposal, vault.approve(proposal)).left
    assert left == {
        one: "changed since the proposal: expires_at",
        two: "changed since the proposal: class",
    }


def test_an_expiry_that_only_the_index_has_earlier_is_not_believed(vault: Vault) -> None:
    """Whoever can write to the index cannot make a recording expire: its manifest is signed."""
    (one,) = vault.add(["long"])
    vault.index.set_retention(one, "long", rfc3339(NOW_US - HOUR_US))
    proposal = vault.propose()
    outcome = vault.destroy(proposal, vault.approve(proposal))
    assert "not expired" in outcome.left[one]


def test_not_expired_by_the_clock_of_one_approver(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    vault.hands.wall = NOW_US
    proposal = vault.propose()
    early = vault.approve(proposal, 0), vault.approve(proposal, 1, at=NOW_US - 4 * 60 * 1_000_000)
    approvals = [each for pair in early for each in pair]
    vault.index.set_retention(one, "short", rfc3339(NOW_US - 60 * 1_000_000))
    shorter = {"expires_at": rfc3339(NOW_US - 60 * 1_000_000)}
    enter(vault.ledger, vault.index, [Entry("retention", NOW_US, one, shorter)])
    proposal = vault.propose()
    late = [*vault.approve(proposal, 0), *vault.approve(proposal, 1, at=NOW_US - 4 * 60 * 1_000_000)]
    assert "not expired" in vault.destroy(proposal, late).left[one]
    assert approvals[0].proposal != late[0].proposal
    assert list(vault.destroy(proposal, vault.approve(proposal)).done) == [one]


@pytest.mark.parametrize("jump", [HOUR_US, -HOUR_US, 5 * YEAR_US, -5 * YEAR_US])
@pytest.mark.parametrize("reboot", [False, True])
def test_a_clock_that_jumped_destroys_nothing(vault: Vault, jump: int, reboot: bool) -> None:
    (one,) = vault.add(["short"])
    proposal = vault.propose()
    approvals = vault.approve(proposal)
    before = vault.files()
    vault.hands.pass_by(HOUR_US)
    vault.hands.jump(jump)
    if reboot:
        vault.hands.boot, vault.hands.boot_id = 60 * 1_000_000, "boot-2"
    with pytest.raises(NotAllowed, match="a clock that cannot be believed"):
        vault.destroy(proposal, approvals)
    assert vault.files() == before
    assert vault.state(one) == "sealed"


@pytest.mark.parametrize("jump", [HOUR_US, 5 * YEAR_US])
def test_a_clock_that_was_ahead_all_the_time_expires_nothing_early(vault: Vault, jump: int) -> None:
    """Proposal, ledger and clock agree on a wrong time; the approvers' own clocks do not."""
    (one,) = vault.add(["long"])
    expires = YEAR_US * 7
    vault.hands.wall = NOW_US - 3 * YEAR_US + expires - 60 * 1_000_000 + jump - 6 * 86_400_000_000
    vault.ledger.append([Entry("started", vault.hands.wall, "pbx.example")])
    proposal = vault.propose([one])
    with pytest.raises(NotAllowed, match="one is wrong"):
        vault.approve(proposal, 0, 1, at=vault.hands.wall - jump)


def test_the_clock_is_allowed_to_go_on(vault: Vault) -> None:
    vault.add(["short"])
    proposal = vault.propose()
    approvals = vault.approve(proposal)
    vault.hands.pass_by(20 * 24 * HOUR_US)
    vault.ledger.append([Entry("started", vault.hands.wall - HOUR_US, "pbx.example")])
    assert vault.destroy(proposal, approvals).done


def test_a_remote_that_is_away_stops_it_before_anything_is_touched(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    proposal = vault.propose()
    (vault.folder / "nas").rename(vault.folder / "away")
    with pytest.raises(RemoteOutage):
        vault.destroy(proposal, vault.approve(proposal))
    assert vault.state(one) == "sealed"
    assert vault.desk.spool.slot_path(one).exists()


class GoneInTheMiddle(LocalStore):
    """Away after so many deletions."""

    left = 3

    def delete(self, name: str) -> Deleted:
        self.left -= 1
        if self.left < 0:
            raise RemoteOutage("nas: away")
        return super().delete(name)


def test_a_remote_that_goes_away_in_the_middle_is_waited_for(vault: Vault) -> None:
    ids = vault.add(["short"] * 5)
    proposal = vault.propose()
    approvals = vault.approve(proposal)
    stores = {**vault.stores, "nas": GoneInTheMiddle(vault.folder / "nas")}
    outcome = vault.destroy(proposal, approvals, stores=stores)
    assert isinstance(outcome.trouble, RemoteOutage)
    assert not outcome.done
    assert set(outcome.left) == set(ids)
    assert {vault.state(name) for name in ids} == {"destroying"}
    again = vault.destroy(proposal, approvals)
    assert set(again.done) == set(ids)
    assert not again.left


class NotForUs(LocalStore):
    """Lets nobody delete."""

    def delete(self, name: str) -> Deleted:
        return Deleted("refused")


def test_credentials_that_may_not_delete(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    proposal = vault.propose()
    approvals = vault.approve(proposal)
    outcome = vault.destroy(
        proposal, approvals, stores={**vault.stores, "nas": NotForUs(vault.folder / "nas")}
    )
    assert "--credentials nas=FILE" in outcome.left[one]
    assert not outcome.done
    assert list(vault.destroy(proposal, approvals).done) == [one]


def test_a_copy_on_a_remote_that_is_not_configured_any_more(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    proposal = vault.propose()
    stores = {"worm": vault.stores["worm"]}
    outcome = vault.destroy(proposal, vault.approve(proposal), stores=stores)
    assert outcome.left == {one: "the remote nas has a copy, and is not configured"}
    assert vault.desk.spool.slot_path(one).exists()


def test_half_written_slots_go_too(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    slots = vault.desk.spool.slot_path(one)
    left = slots.with_name(f"{slots.name}.1234.tmp")
    left.write_bytes(slots.read_bytes())
    there = vault.folder / "nas" / slots.parent.name / f".{slots.name}.tmp"
    there.write_bytes(slots.read_bytes())
    proposal = vault.propose()
    vault.destroy(proposal, vault.approve(proposal))
    assert not left.exists()
    assert not there.exists()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2, 7, 10, 11, 29, 30])
def test_killed_in_the_middle_and_run_again(vault: Vault, at: int, after: bool) -> None:
    ids = vault.add(["short", "long"] * 10)
    expected = set(ids[::2])
    before = {path: inode for path, inode in vault.files().items() if not any(n in path for n in expected)}
    proposal = vault.propose()
    approvals = vault.approve(proposal)
    child = os.fork()
    if child == 0:
        try:
            deadly = DeadlyStore(LocalStore(vault.folder / "nas"), at, after=after)
            vault.index = Index.open(vault.desk.spool)
            vault.destroy(proposal, approvals, stores={**vault.stores, "nas": deadly})
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    outcome = vault.destroy(proposal, approvals)
    assert set(outcome.done) == expected
    assert not outcome.left
    assert {
        path: inode for path, inode in vault.files().items() if not any(n in path for n in expected)
    } == before
    assert not [path for path in vault.files() if path.endswith(".key") and any(n in path for n in expected)]
    for work in outcome.done.values():
        assert work.readable_until is None
        assert len(work.copies) == 9
    destroyed = [row["subject"] for row in vault.index.ledger_rows(kind="destroyed")]
    assert set(destroyed) == expected
    assert len(destroyed) == len(expected)


class SlowStore(LocalStore):
    """While what has the keys in it is sent to it, somebody destroys the recording; nothing of it can be
    deleted here by who sends."""

    def __init__(self, root: Path, suffix: str, meanwhile: Callable[[], object]) -> None:
        super().__init__(root)
        self._suffix, self._meanwhile = suffix, meanwhile

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        data = path.read_bytes()
        if name.endswith(self._suffix):
            self._meanwhile()
        (self.root / name).parent.mkdir(exist_ok=True)
        (self.root / name).write_bytes(data)

    def delete(self, name: str) -> Deleted:
        return Deleted("refused")


@pytest.mark.parametrize(("detached", "suffix"), [(True, ".key"), (False, ".rec")])
def test_what_was_on_its_way_does_not_stay(vault: Vault, detached: bool, suffix: str) -> None:
    (one,) = vault.add(["short"], detached=detached)
    day = vault.desk.spool.folder(one).name
    proposal = vault.propose()
    approvals = vault.approve(proposal)
    for left in (vault.folder / "nas" / day).glob(f"{one}.*"):
        left.unlink()
    row = vault.index.recording(one)
    only_nas = {"nas": LocalStore(vault.folder / "nas")}
    vault.index.execute("DELETE FROM sync WHERE remote = 'worm'")
    begun = threading.Event()

    def destroy() -> Outcome:
        begun.set()
        return vault.destroy(proposal, approvals, stores=only_nas)

    with ThreadPoolExecutor(1) as pool:
        purges: list[Future[Outcome]] = []

        def meanwhile() -> None:
            purges.append(pool.submit(destroy))
            begun.wait()
            # Nothing is certified before what is under way has arrived.
            assert not wait(purges, timeout=0.2).done
            assert vault.desk.spool.record_path(one).exists()

        slow = SlowStore(vault.folder / "nas", suffix, meanwhile)
        carrier = Carrier(vault.desk.spool, slow, Terms(), vault.desk.signer.public, b"key")
        carrier.carry(Job(one, row["sha256"], row["bytes"], 0, True, 1, 1), lambda _: None)
        assert set(purges[0].result().done) == {one}
    there = [path for path in (vault.folder / "nas").rglob("*") if path.suffix == suffix]
    assert not there


class InterruptedStore(LocalStore):
    """At the first deletion somebody does something else."""

    def __init__(self, root: Path, meanwhile: Callable[[], object]) -> None:
        super().__init__(root)
        self._meanwhile: Callable[[], object] | None = meanwhile

    def delete(self, name: str) -> Deleted:
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        return super().delete(name)


def test_a_hold_placed_meanwhile_comes_first_or_too_late(vault: Vault) -> None:
    ids = vault.add(["short"] * (BATCH + 20))
    proposal = vault.propose()

    def hold() -> None:
        """By another process, which has the index open for itself."""
        with Index.open(vault.desk.spool) as index:
            ledger = ledger_of(vault.desk.spool)
            with pytest.raises(NotAllowed, match="too late for a hold: destroying"):
                place(index, ledger, [ids[-1], ids[0]], "a", "r", "b", NOW_US)
            assert place(index, ledger, [ids[-1]], "a", "r", "b", NOW_US) == [ids[-1]]

    stores = {**vault.stores, "nas": InterruptedStore(vault.folder / "nas", hold)}
    outcome = vault.destroy(proposal, vault.approve(proposal), stores=stores)
    assert outcome.left == {ids[-1]: "held"}
    assert set(outcome.done) == set(ids[:-1])
    value = check(
        certificate(vault, proposal, outcome),
        vault.desk.signer.public,
        [key.public for key in vault.approvers],
        2,
    )
    assert not value["complete"]
    assert [(each["id"], each["why"]) for each in value["left"]] == [(ids[-1], "held")]
    assert f"{ids[-1]}  held" in as_text(value, "")


def test_two_purges_of_one_proposal_do_not_meet(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    proposal = vault.propose()
    approvals = vault.approve(proposal)

    def again() -> None:
        with pytest.raises(SpoolError, match="being carried out already"):
            vault.destroy(proposal, approvals)

    stores = {**vault.stores, "nas": InterruptedStore(vault.folder / "nas", again)}
    assert list(vault.destroy(proposal, approvals, stores=stores).done) == [one]


def test_run_again_when_all_is_done_changes_nothing(vault: Vault) -> None:
    vault.add(["short", "long"])
    proposal = vault.propose()
    approvals = vault.approve(proposal)
    first = vault.destroy(proposal, approvals)
    files, entries = vault.files(), vault.ledger.size
    second = vault.destroy(proposal, approvals)
    assert second.done == first.done
    assert (vault.files(), vault.ledger.size) == (files, entries)


def test_an_evicted_recording_is_destroyed_where_it_is(vault: Vault) -> None:
    (one,) = vault.add(["short"])
    vault.desk.spool.record_path(one).unlink()
    vault.index.set_present([one], False)
    proposal = vault.propose()
    outcome = vault.destroy(proposal, vault.approve(proposal))
    assert list(outcome.done) == [one]
    assert not list((vault.folder / "nas").glob(f"*/{one}.*"))


def test_the_text_of_a_certificate_cannot_play_tricks(vault: Vault) -> None:
    vault.add(["short"])
    proposal = vault.propose()
    tricky = Proposal.new("destroy", "pbx\x1b[2J", "x\n\u202e1 left", proposal.clock, proposal.items)
    outcome = vault.destroy(tricky, vault.approve(tricky))
    key = vault.desk.signer
    value = check(certificate(vault, tricky, outcome), key.public, vault.rules.approvers, 2)
    text = as_text(value, "")
    assert text.isascii()
    assert "\x1b" not in text
    assert "\n1 left" not in text


def test_a_damaged_progress_is_an_error_and_nothing_else(vault: Vault) -> None:
    vault.add(["short"])
    proposal = vault.propose()
    approvals = vault.approve(proposal)
    outcome = vault.destroy(proposal, approvals)
    path = outcome.progress.folder / "progress"
    path.write_bytes(path.read_bytes() + b'{"id": "torn')  # by a crash
    assert vault.destroy(proposal, approvals).done == outcome.done
    path.write_bytes(b"[]\n" + path.read_bytes())
    with pytest.raises(SpoolCorrupt, match="progress: not readable"):
        vault.destroy(proposal, approvals)


def test_without_its_manifest_a_recording_stays(vault: Vault) -> None:
    """What it was sealed for, and whose call it is, only the manifest says for sure: not the index."""
    forever, called, foreign = vault.add(["always", "short", "short"])
    place(vault.index, vault.ledger, [number_subject("+4420000001")], "a", "r", "b", NOW_US)
    vault.index.execute("UPDATE recordings SET expires_at = ?", [rfc3339(NOW_US - YEAR_US)])
    vault.desk.spool.manifest_path(forever).unlink()
    vault.desk.spool.manifest_path(called).write_bytes(b"{}")
    other = vault.desk.spool.manifest_path(foreign)
    other.write_bytes(other.read_bytes().replace(b"200", b"201"))
    before = vault.files()
    proposal = vault.propose()
    outcome = vault.destroy(proposal, vault.approve(proposal))
    assert not outcome.done
    assert {word.partition(",")[0] for word in outcome.left.values()} == {"its manifest is missing"}
    assert vault.files() == before


def test_an_approval_dated_ahead_would_never_expire(vault: Vault) -> None:
    vault.add(["short"])
    proposal = vault.propose()
    ahead = vault.approve(proposal, at=vault.hands.wall + YEAR_US)
    with pytest.raises(NotAllowed, match="one is wrong"):
        vault.destroy(proposal, ahead)
    vault.hands.pass_by(YEAR_US)
    assert len(vault.destroy(proposal, ahead).done) == 1


def test_what_another_proposal_destroyed_is_not_certified_twice(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = vault.add(["short"])
    first = vault.propose()

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        # Written down as begun, and not yet in the index.
        patch.setattr(Index, "destroying", killed)
        approvals = vault.approve(first)
        with pytest.raises(Killed):
            vault.destroy(first, approvals)
    vault.hands.pass_by(HOUR_US)
    second = vault.propose()
    assert set(vault.destroy(second, vault.approve(second)).done) == {one}
    outcome = vault.destroy(first, vault.approve(first))
    assert not outcome.done
    assert outcome.left == {one: "destroyed before, by another proposal"}


def test_what_came_back_goes_again(vault: Vault) -> None:
    """From a backup, here and at a remote; with the same purge."""
    for detached in (True, False):
        (one,) = vault.add(["short"], detached=detached)
        folder = vault.desk.spool.folder(one)
        kept = {path.name: path.read_bytes() for path in folder.glob(f"{one}.*")}
        proposal = vault.propose([one])
        assert set(vault.destroy(proposal, vault.approve(proposal)).done) == {one}
        gone = vault.files()
        for name, data in kept.items():
            for place_there in (folder, vault.folder / "nas" / folder.name):
                (place_there / name).write_bytes(data)
        outcome = vault.destroy(proposal, vault.approve(proposal))
        assert set(outcome.done) == {one}
        assert vault.files().keys() == gone.keys()
        assert len(vault.index.ledger_rows(kind="destroyed", subject=one)) == 1


def test_an_index_that_is_made_anew_knows_what_is_half_destroyed(vault: Vault) -> None:
    done, half, whole = vault.add(["short", "short", "short"])
    first = vault.propose([done])
    vault.destroy(first, vault.approve(first))
    proposal = vault.propose([half])

    class Away(LocalStore):
        def delete(self, name: str) -> Deleted:
            raise RemoteOutage("it went away")

    stores = {**vault.stores, "nas": Away(vault.folder / "nas")}
    assert vault.destroy(proposal, vault.approve(proposal), stores=stores).trouble is not None
    vault.index.close()
    assert not reindex(vault.desk.spool, vault.desk.signer.public).problems
    vault.index = Index.open(vault.desk.spool)
    assert {name: vault.state(name) for name in (done, half, whole)} == {
        done: "destroyed",
        half: "destroying",
        whole: "sealed",
    }
    with pytest.raises(NotAllowed, match="too late for a hold: destroying"):
        place(vault.index, vault.ledger, [half], "a", "r", "b", NOW_US)
    assert set(vault.destroy(proposal, vault.approve(proposal)).done) == {half}


def test_a_link_in_the_place_of_the_progress_is_not_followed(vault: Vault) -> None:
    """Whoever purges may be root, and the folder is the recorder's."""
    vault.add(["short"])
    proposal = vault.propose()
    folder = vault.desk.spool.path / "destruction" / proposal.sha256[:32]
    folder.mkdir(parents=True)
    elsewhere = vault.folder / "elsewhere"
    elsewhere.write_bytes(b"one line\nand no end")
    (folder / "progress").symlink_to(elsewhere)
    with pytest.raises(SpoolError):
        vault.destroy(proposal, vault.approve(proposal))
    assert elsewhere.read_bytes() == b"one line\nand no end"
