"""The disk budget: what may go and in what order, what never goes, and what a crash leaves."""

import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.service.room import RoomKeeper
from recorderd.spool.budget import (
    DAY_S,
    EVICT_TO,
    GB,
    Admittance,
    Limits,
    Local,
    Marks,
    Room,
    Trend,
    to_go,
)
from recorderd.spool.eviction import Evictor
from recorderd.spool.index import Index
from recorderd.spool.intent import Intent
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import ledger_of
from recorderd.spool.stores import LocalStore, RemoteOutage
from recorderd.spool.sync import Synchronizer
from recorderd.spool.times import rfc3339
from tests.spool_builder import STARTED_NS, Desk, make_desk, summary
from tests.tools_runner import recorderctl

NOW_NS = STARTED_NS + 3 * DAY_S * 1_000_000_000
FULL = Room(GB, 0, GB, Limits(reserve_bytes=0))


# -- decisions


def test_what_the_spool_may_use():
    room = Room(total=100 * GB, free=40 * GB, used=30 * GB)
    assert room.reserve == GB  # 2 % would be more than the most
    assert room.most == 69 * GB  # the other 30 GB are others' files
    assert room.left == 39 * GB
    assert room.fill == pytest.approx(30 / 69)
    assert Room(100 * GB, 40 * GB, 30 * GB, Limits(most_bytes=40 * GB)).left == 10 * GB
    assert Room(100 * GB, 40 * GB, 30 * GB, Limits(most_share=0.5)).fill == pytest.approx(0.6)
    assert Room(100 * GB, GB // 2, 30 * GB).fill > 1
    assert Room(1000, 10, 0).reserve == 20


@given(
    total=st.integers(1, 10**15),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    goes=st.floats(0, 1),
)
def test_what_goes_makes_room_and_changes_nothing_else(total, shares, goes):
    used = int(total * shares[0])
    free = int((total - used) * shares[1])
    before = Room(total, free, used)
    gone = int(used * goes)
    after = Room(total, free + gone, used - gone)
    assert after.most == before.most
    assert after.fill <= before.fill
    over = before.over(EVICT_TO)
    assert 0 <= over <= used or before.most == 0
    if over <= used and before.most:
        assert Room(total, free + over, used - over).fill <= EVICT_TO + 1e-9 + 1 / before.most


def test_each_mark_is_told_once_and_again_only_after_it_was_left():
    marks = Marks((0.8, 0.9, 0.95))
    fills = [0.5, 0.79, 0.8, 0.85, 0.81, 0.79, 0.8, 0.91, 0.9, 0.87, 0.89, 0.9, 0.99, 0.5, 0.96]
    told = [marks.look(fill) for fill in fills]
    assert told == [
        None, None, 0.8, None, None, None, None, 0.9, None, None, None, 0.9, 0.95, None, 0.95
    ]  # fmt: skip


def test_new_calls_wait_until_there_is_more_than_the_reserve():
    admittance = Admittance()
    assert [admittance.look(left, 100) for left in (50, 1, 0, -10, 1, 25, 26, 1)] == [
        False, False, True, True, True, True, False, False
    ]  # fmt: skip


def test_when_it_will_be_full():
    trend = Trend()
    assert trend.look(0, 1000) is None
    assert trend.look(200, 100) is None  # too soon to tell: a file may have been copied there
    assert trend.look(400, 900) == pytest.approx(3600)
    assert trend.look(500, 1100) is None
    assert trend.look(5000, -1) == 0.0


def test_old_ones_go_at_once_and_recent_ones_only_for_room():
    days = [Local(str(age), 100, age) for age in (40, 31, 29, 2, 1)]
    room = Room(2000, 1500, 500, Limits(reserve_bytes=0, keep_days=30))
    assert [each.id for each in to_go(days, room, relieving=False)] == ["40", "31"]
    tight = Room(600, 100, 500, Limits(reserve_bytes=0, keep_days=30))
    assert [each.id for each in to_go(days, tight, relieving=True)] == ["40", "31"]
    tighter = Room(500, 0, 500, Limits(reserve_bytes=0, keep_days=35))
    assert [each.id for each in to_go(days, tighter, relieving=True)] == ["40", "31"]
    kept = Room(500, 0, 500, Limits(reserve_bytes=0))
    assert [each.id for each in to_go(days, kept, relieving=False)] == []


# -- a spool with remotes


@dataclass
class House:
    desk: Desk
    index: Index
    stores: dict[str, LocalStore]
    ids: list[str]

    def evictor(self) -> Evictor:
        return Evictor(self.desk.spool, self.index, self.stores, ledger_of(self.desk.spool), lambda: NOW_NS)

    def here(self) -> list[str]:
        return list(self.desk.spool.records())

    def entries(self, kind: str) -> list[Entry]:
        ledger = ledger_of(self.desk.spool)
        if not ledger.path.exists():
            return []
        found = [Entry.from_bytes(data) for data in ledger.entries()]
        return [entry for entry in found if entry.kind == kind]


def carry(house_spool, index, stores) -> None:
    (report,) = [r for r in Synchronizer(house_spool, index, stores).run(force=True) if not r.ok] or [None]
    assert report is None, report


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    """Six recordings, verified on two remotes."""
    desk = make_desk(tmp_path)
    stores = {name: LocalStore.create(tmp_path / name) for name in ("nas", "vault")}
    with Index.open(desk.spool) as index:
        ids = []
        for number in range(6):
            sealed = desk.record(number)
            desk.enter(index, sealed, number)
            ids.append(sealed.recording)
        carry(desk.spool, index, stores)
        yield House(desk, index, stores, ids)


def test_what_every_remote_has_goes_oldest_first_and_can_be_told_afterwards(house):
    spool, index = house.desk.spool, house.index
    size = index.recording(house.ids[0])["bytes"]
    room = Room(10 * size, 4 * size, 6 * size, Limits(most_bytes=6 * size, reserve_bytes=0))
    assert room.fill == 1.0
    freed = house.evictor().evict(room, relieving=True)
    assert freed == 2 * size  # 70 % of six are four
    assert house.here() == house.ids[2:]
    assert index.evicted() == house.ids[:2]
    assert index.bytes_here() == 4 * size
    assert [entry.subject for entry in house.entries("evicted")] == house.ids[:2]
    assert house.entries("evicted")[0].fields == {"remotes": ["nas", "vault"]}
    assert list(spool.manifests()) == house.ids
    assert list(spool.slots()) == house.ids
    assert house.evictor().evict(Room(10 * size, 6 * size, 4 * size), relieving=True) == 0


@pytest.mark.parametrize("why", ["held", "review", "unsynced", "stored", "no remote", "a remote more"])
def test_what_never_goes(house, why):
    index, first = house.index, house.ids[0]
    if why == "held":
        index.hold_placed(first, "case", "a case", "user", rfc3339(NOW_NS // 1000))
    elif why == "review":
        told = {**summary(0), "review": {"needed": True, "causes": ["caller: silent"]}}
        row = index.recording(first)
        path = house.desk.spool.record_path(first)
        index.recording_finished(first, "sealed", told, path, row["sha256"], row["bytes"])
    elif why == "unsynced":
        index.sync_state(first, "vault", "failed", error="gone")
    elif why == "stored":
        index.execute("UPDATE sync SET state = 'stored' WHERE recording = ? AND remote = 'nas'", [first])
    elif why == "no remote":
        index.set_remotes([])
    else:
        index.set_remotes(["nas", "vault", "new"])
    house.evictor().evict(FULL, relieving=True)
    assert house.here() == (house.ids if "remote" in why else [first])


def test_a_review_is_closed_by_who_has_listened(house, tmp_path):
    index, first = house.index, house.ids[0]
    told = {**summary(0), "review": {"needed": True, "causes": ["caller: silent"]}}
    row = index.recording(first)
    index.recording_finished(
        first, "sealed", told, house.desk.spool.record_path(first), row["sha256"], row["bytes"]
    )
    answer = recorderctl("--spool", house.desk.spool.path, "review", first, "--done", "--note", "a fax")
    assert answer.code == 0, answer.err
    review = index.recording(first)["review"]
    assert (review["needed"], review["causes"]) == (False, ["caller: silent"])
    assert review["reviewed"]["note"] == "a fax"
    assert [entry.subject for entry in house.entries("reviewed")] == [first]
    assert index.recordings(review=True) == []
    house.evictor().evict(FULL, relieving=True)
    assert house.here() == []


def test_a_thousand_recordings_of_mixed_states_go_in_the_order_of_their_age(tmp_path):
    desk = make_desk(tmp_path)
    stores = {"nas": LocalStore.create(tmp_path / "nas")}
    chance = random.Random(7)
    free: list[str] = []
    with Index.open(desk.spool) as index:
        sample = desk.record(0)
        manifest = sample.manifest_path.read_bytes()
        index.set_remotes(["nas"])
        index.set_remote_identity("nas", stores["nas"].probe())
        with index.batch():
            for number in range(1, 1001):
                writer_id = desk.spool.new_id(STARTED_NS + number * 60_000_000_000)
                path = desk.spool.record_path(writer_id)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(b"x" * 100)
                desk.spool.manifest_path(writer_id).write_bytes(manifest)
                state = chance.choice(["free", "free", "held", "review", "failed", "stored", "recording"])
                told = {**summary(0), "review": {"needed": state == "review", "causes": []}}
                if state == "recording":
                    index.recording_started(writer_id, told)
                    continue
                index.recording_finished(writer_id, "sealed", told, path, "00", 100)
                there = "verified" if state not in ("failed", "stored") else "failed"
                index.sync_state(writer_id, "nas", there, sha256="00", verified_at=rfc3339(NOW_NS // 1000))
                if state == "stored":
                    index.execute("UPDATE sync SET state = 'stored' WHERE recording = ?", [writer_id])
                if state == "held":
                    index.hold_placed(writer_id, "case", "a case", "user", rfc3339(NOW_NS // 1000))
                folder = tmp_path / "nas" / path.parent.name
                folder.mkdir(exist_ok=True)
                for each in (path, desk.spool.manifest_path(writer_id)):
                    shutil.copy(each, folder / each.name)
                if state == "free":
                    free.append(writer_id)
        before = set(desk.spool.records())
        used = index.bytes_here()
        room = Room(used, 0, used, Limits(reserve_bytes=0))
        wanted = -(-room.over(EVICT_TO) // 100)
        assert 150 < wanted < len(free)
        evictor = Evictor(desk.spool, index, stores, ledger_of(desk.spool), lambda: NOW_NS)
        assert evictor.evict(room, relieving=True) == wanted * 100
        assert before - set(desk.spool.records()) == set(free[:wanted])
        assert index.evicted() == free[:wanted]
        told = [Entry.from_bytes(data) for data in ledger_of(desk.spool).entries()]
        assert [entry.subject for entry in told] == free[:wanted]


def test_a_copy_that_is_gone_keeps_the_original(house, tmp_path):
    first, second = house.ids[:2]
    (tmp_path / "vault" / "2026-11-21" / f"{first}.rec").unlink()
    damaged = tmp_path / "nas" / "2026-11-21" / f"{second}.rec"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    house.evictor().evict(FULL, relieving=True)
    assert house.here() == [first, second]
    states = {row["remote"]: row["state"] for row in house.index.recording(first)["sync"]}
    assert states == {"nas": "verified", "vault": "failed"}
    assert [entry.subject for entry in house.entries("remote-damage")] == [first, second]
    carry(house.desk.spool, house.index, house.stores)
    house.evictor().evict(FULL, relieving=True)
    assert house.here() == []


def test_a_copy_that_was_not_read_for_long_is_read_before_its_original_goes(house, tmp_path):
    first = house.ids[0]
    path = tmp_path / "vault" / "2026-11-21" / f"{first}.rec"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)  # of the same size
    recent = Limits(reserve_bytes=0, recheck_days=100_000)
    later = Limits(reserve_bytes=0, recheck_days=0)
    evictor = house.evictor()
    index = house.index
    index.execute("UPDATE sync SET verified_at = ?, checked_at = NULL", [rfc3339(NOW_NS // 1000 - 10**9)])
    evictor.evict(Room(GB, 0, GB, later), relieving=True)
    assert house.here() == [first]
    assert index.bytes_here() == index.recording(first)["bytes"]
    assert evictor.evict(Room(GB, 0, GB, recent), relieving=True) == 0  # it is failed now


@pytest.mark.parametrize("read_days_ago", [2, -400])
def test_the_only_copy_is_read_before_its_original_goes(house, tmp_path, read_days_ago):
    first = house.ids[0]
    read_at = rfc3339(NOW_NS // 1000 - read_days_ago * DAY_S * 1_000_000)
    house.index.execute("UPDATE sync SET verified_at = ?, checked_at = NULL", [read_at])
    path = tmp_path / "nas" / "2026-11-21" / f"{first}.rec"
    path.write_bytes(bytes(path.stat().st_size))
    del house.stores["vault"]
    house.index.set_remotes(["nas"])
    believing = Limits(reserve_bytes=0, recheck_days=100_000)
    evictor = house.evictor()
    evictor.evict(Room(GB, 0, GB, believing), relieving=True)
    assert house.here() == [first]
    assert house.index.recording(first)["sync"][0]["state"] == "failed"


def test_a_remote_that_is_away_keeps_everything_and_loses_no_state(house, tmp_path):
    (tmp_path / "vault").rename(tmp_path / "unplugged")
    (tmp_path / "vault").mkdir()  # an empty mount point looks like a loss of all copies
    with pytest.raises(RemoteOutage, match="mounted"):
        house.evictor().evict(FULL, relieving=True)
    assert house.here() == house.ids
    assert [row["verified"] for row in house.index.may_go()] == [1] * 6


def test_a_recording_that_was_lost_here_is_not_taken_for_evicted(house):
    house.desk.spool.record_path(house.ids[0]).unlink()
    house.evictor().evict(FULL, relieving=True)
    assert house.index.evicted() == house.ids[1:]
    assert house.ids[0] not in [entry.subject for entry in house.entries("evicted")]


def test_what_was_brought_back_counts_as_new_for_the_local_window(house):
    limits = Limits(reserve_bytes=0, keep_days=1)
    os.utime(house.desk.spool.record_path(house.ids[2]), ns=(NOW_NS, NOW_NS))
    for each in (*house.ids[:2], *house.ids[3:]):
        os.utime(house.desk.spool.record_path(each), ns=(STARTED_NS, STARTED_NS))
    house.evictor().evict(Room(GB, GB // 2, 1000, limits), relieving=False)
    assert house.here() == [house.ids[2]]


# -- crashes

ACTS, NEVER = 19, 1000
"""Of an eviction of six: files written and removed, transactions, and the statements in them that count."""


@pytest.mark.parametrize("act", [*range(1, ACTS + 1), NEVER])
def test_a_crash_at_each_act_of_an_eviction(house, act):
    """Killed at the n-th act on the disk, in a process of its own: nothing is lost, and the next round ends
    it."""
    done = killed_at(house, act)
    again = House(house.desk, house.index, house.stores, house.ids)
    gone = set(house.ids) - set(house.here())
    # Whatever is not here is written down, or told already.
    assert gone <= set(Intent(house.desk.spool.path / "evicting").read()) | set(house.index.evicted())
    evictor = again.evictor()
    evictor.prepare()
    assert set(house.index.evicted()) == gone
    assert {entry.subject for entry in house.entries("evicted")} >= gone
    evictor.evict(FULL, relieving=True)
    assert house.here() == []
    assert house.index.evicted() == house.ids
    assert {entry.subject for entry in house.entries("evicted")} == set(house.ids)
    for each in house.ids:
        for store in house.stores.values():
            assert store.size(f"2026-11-21/{each}.rec") == house.index.recording(each)["bytes"]
    assert done == (signal.SIGKILL if act != NEVER else 0)


def killed_at(house: House, act: int) -> int:
    """Evict in a child that is killed before its n-th act on the disk; the signal, or 0."""
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
                if kind in ("os.remove", "os.rename") or (kind == "open" and writes(arguments)):
                    count()

            def told(statement: str) -> None:
                if statement.startswith(("UPDATE recordings SET present", "COMMIT")):
                    count()

            with Index.open(house.desk.spool) as index:
                ledger = ledger_of(house.desk.spool)
                evictor = Evictor(house.desk.spool, index, house.stores, ledger, lambda: NOW_NS)
                evictor.prepare()
                index.trace(told)
                sys.addaudithook(guard)
                evictor.evict(FULL, relieving=True)
                os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert status in (signal.SIGKILL, 0), status
    return status


def writes(arguments: object) -> bool:
    _path, _mode, flags = arguments  # type: ignore[misc]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def test_a_torn_intent_names_nothing(tmp_path):
    intent = Intent(tmp_path / "evicting")
    intent.prepare()
    size = intent.path.stat().st_size
    intent.write(["20261121T200501Z-0123456789"])
    assert intent.read() == ["20261121T200501Z-0123456789"]
    assert intent.path.stat().st_size == size
    data = bytearray(intent.path.read_bytes())
    for at in (3, 70, 90):
        torn = bytearray(data)
        torn[at] ^= 1
        intent.path.write_bytes(torn)
        assert intent.read() == []
    intent.path.write_bytes(b"")
    assert intent.read() == []


def test_the_doctor_tells_how_much_room_there_is(house):
    answer = recorderctl("--spool", house.desk.spool.path, "doctor", "--json")
    (disk,) = [check for check in answer.json["checks"] if check["name"] == "disk"]
    assert "of their room is used" in disk["detail"]


def test_an_alert_says_what_stays_and_why(house):
    index, ids = house.index, house.ids
    index.hold_placed(ids[0], "case", "a case", "user", rfc3339(NOW_NS // 1000))
    index.sync_state(ids[1], "nas", "failed", error="gone")
    index.execute("UPDATE sync SET state = 'stored' WHERE recording = ? AND remote = 'vault'", [ids[2]])
    # More than there is of it: whatever goes, it is not enough.
    keeper = RoomKeeper(house.desk.spool, index, house.stores, Limits(most_bytes=1), every_s=0)
    keeper.keep(lambda: False, lambda: None)
    keeper.keep(lambda: False, lambda: None)
    assert house.here() == ids[:3]
    (alert,) = index.alerts_pending()
    assert alert["kind"] == "disk"
    assert alert["fields"]["full"] == "95%"
    assert alert["fields"]["stays"] == [
        "1 not on every remote",
        "1 stored on a remote and never read back",
        "1 held",
    ]
