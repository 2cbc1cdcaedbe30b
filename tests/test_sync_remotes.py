"""Several remotes on terms of their own, and everything that goes to them beside the recordings."""

import json
import threading
from dataclasses import dataclass, field
from datetime import UTC

import pytest

from recorderd.errors import RemoteError
from recorderd.spool.index import Index
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import ledger_of
from recorderd.spool.pacing import LONGEST_PAUSE_S, Terms, Timetable, TokenBucket
from recorderd.spool.slot_files import put_slots, read_slots
from recorderd.spool.slots import parse_slots
from recorderd.spool.stores import LocalStore, MemoryStore, RemoteOutage
from recorderd.spool.sync import Remote, Synchronizer
from recorderd.spool.sync_status import remote_status
from recorderd.spool.sync_store import Pace, Paced, Stopping, carrying_alone
from tests.spool_builder import STARTED_NS, make_desk

S = 1_000_000_000
HOUR = 3600 * S


@dataclass
class Clock:
    now: int = STARTED_NS

    def __call__(self):
        return self.now


@pytest.fixture
def desk(tmp_path):
    return make_desk(tmp_path)


@pytest.fixture
def index(desk):
    with Index.open(desk.spool) as index:
        yield index


def record(desk, index, *numbers):
    recordings = []
    for number in numbers:
        sealed = desk.record(number)
        desk.enter(index, sealed, number)
        recordings.append(sealed)
    return recordings


def states(index, remote="nas"):
    return [
        next(each["state"] for each in row["sync"] if each["remote"] == remote) for row in index.recordings()
    ]


def alerts(index, kind):
    return [alert["fields"] for alert in index.alerts_pending(1000) if alert["kind"] == kind]


def on(store, **terms):
    return Remote(store, Terms(**terms))


# Several at once


class Meeting(MemoryStore):
    """Takes nothing before so many are under way at once."""

    def __init__(self, count):
        super().__init__()
        self.barrier = threading.Barrier(count, timeout=20)

    def put(self, name, path, sent=None):
        if name.endswith(".rec"):
            self.barrier.wait()
        super().put(name, path, sent)


def test_so_many_are_under_way_at_once(desk, index):
    record(desk, index, *range(8))
    (report,) = Synchronizer(desk.spool, index, {"nas": on(Meeting(4), parallel=4)}).run()
    assert (report.verified, report.error) == (8, None)
    assert states(index) == ["verified"] * 8


def test_remotes_do_not_wait_for_each_other(desk, index):
    record(desk, index, 0)
    here, there = Meeting(2), MemoryStore()
    there.put = lambda name, path, sent=None: (
        here.barrier.wait() if name.endswith(".rec") else None,
        MemoryStore.put(there, name, path, sent),
    )
    reports = Synchronizer(desk.spool, index, {"here": here, "there": there}).run()
    assert [report.ok for report in reports] == [True, True]


def test_an_outage_in_one_thread_stops_all(desk, index):
    record(desk, index, *range(40))

    class Breaking(MemoryStore):
        def put(self, name, path, sent=None):
            # A list of its own: others put meanwhile.
            if name.endswith(".rec") and sum(each.endswith(".json") for each in [*self.objects]) >= 8:
                raise RemoteOutage("connection lost")
            super().put(name, path, sent)

    (report,) = Synchronizer(desk.spool, index, {"nas": on(Breaking(), parallel=4)}).run()
    assert report.outage
    assert 8 <= report.verified <= 12
    assert states(index).count("verified") == report.verified
    assert states(index).count("failed") == 0


def test_progress_is_told_by_one_at_a_time(desk, index):
    record(desk, index, *range(12))
    steps, inside = [], threading.Lock()

    def progress(step):
        assert inside.acquire(blocking=False)
        steps.append(step)
        inside.release()

    remotes = {name: on(MemoryStore(), parallel=3) for name in ("a", "b")}
    reports = Synchronizer(desk.spool, index, remotes).run(progress=progress)
    assert [report.verified for report in reports] == [12, 12]
    assert {(step.remote, step.number) for step in steps if step.sent == step.size} == {
        (name, number) for name in ("a", "b") for number in range(1, 13)
    }


def test_one_process_at_a_time_carries_to_a_remote(desk, index):
    record(desk, index, 0)
    synchronizer = Synchronizer(desk.spool, index, {"nas": MemoryStore()})
    with carrying_alone(desk.spool.path / "sync-nas.lock") as alone:
        assert alone
        (report,) = synchronizer.run()
        assert (report.busy, report.verified, report.pending) == (True, 0, 1)
        # Who was asked by a person waits for the other, as long as something is missing.
        asked = []
        (report,) = synchronizer.run(force=True, stopping=lambda: asked.append(1) or len(asked) > 6)
        assert (report.verified, report.pending, len(asked) > 6) == (0, 1, True)
    assert synchronizer.run()[0].verified == 1


# Terms


def test_the_newest_can_go_first(desk, index):
    recordings = record(desk, index, *range(5))
    store, names = MemoryStore(), []
    put = store.put
    store.put = lambda name, *more: names.append(name) or put(name, *more)
    Synchronizer(desk.spool, index, {"nas": on(store, newest_first=True)}).run()
    sent = [name.split("/")[1][:-4] for name in names if name.endswith(".rec")]
    assert sent == [sealed.recording for sealed in reversed(recordings)]


def test_hours_are_kept_and_end_in_the_midst(desk, index):
    record(desk, index, *range(6))
    store, clock = MemoryStore(), Clock()
    minute = (STARTED_NS // S % 86400) // 60
    table = Timetable(((minute, minute + 10),), zone=UTC)
    synchronizer = Synchronizer(desk.spool, index, {"nas": on(store, timetable=table)}, clock)
    clock.now -= HOUR
    (report,) = synchronizer.run()
    assert (report.closed, report.verified, report.pending, store.objects) == (True, 0, 6, {})
    assert remote_status(index, "nas", Terms(timetable=table), clock()).opens is not None
    clock.now += HOUR
    put, puts = store.put, []

    def slow(name, *more):
        puts.append(name)
        clock.now += 2 * 60 * S
        put(name, *more)

    store.put = slow
    (report,) = synchronizer.run()
    assert (report.closed, report.verified, report.pending) == (True, 2, 4)
    assert synchronizer.run()[0].verified == 0
    assert synchronizer.run(force=True)[0].verified == 4


@dataclass
class Time:
    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def test_bandwidth_is_of_both_ways_and_all_threads(desk, index, tmp_path):
    (sealed,) = record(desk, index, 0)
    time = Time()
    pace = Pace(TokenBucket(1000.0, 1000.0), monotonic=time, sleep=time.sleep)
    first, second = Paced(LocalStore.create(tmp_path / "a"), pace), Paced(MemoryStore(), pace)
    for store in (first, second):
        store.put("2026-11-21/x.rec", sealed.path)
        with store.open("2026-11-21/x.rec") as stream:
            assert stream.read() == sealed.path.read_bytes()
    assert sum(time.slept) == pytest.approx(4 * sealed.bytes / 1000 - 1, abs=0.6)
    assert max(time.slept) <= 0.5


def test_who_waits_for_bandwidth_stops_at_once_when_told(desk, index):
    (sealed,) = record(desk, index, 0)
    time = Time()
    pace = Pace(TokenBucket(1.0), lambda: time.now > 2, monotonic=time, sleep=time.sleep)
    store = Paced(MemoryStore(), pace)
    with pytest.raises(Stopping):
        store.put("2026-11-21/x.rec", sealed.path)
    assert time.now < 3


def test_a_sample_is_read_back_and_the_others_are_never_verified(desk, index):
    record(desk, index, *range(40))
    store, reads = MemoryStore(), []
    opened = store.open
    store.open = lambda name: reads.append(name) or opened(name)
    (report,) = Synchronizer(desk.spool, index, {"nas": on(store, sample=0.3)}).run()
    assert report.ok
    assert report.verified + report.stored == 40
    assert 2 < report.verified < 25
    assert len([name for name in reads if name.endswith(".rec")]) == report.verified
    assert states(index).count("stored") == report.stored
    # Nothing is carried again, and nothing that was not read back may go from here.
    assert index.sync_pending("nas") == []
    may_go = [row["id"] for row in index.recordings() if index.still_may_go(row["id"])]
    assert len(may_go) == report.verified
    counts = index.sync_counts("nas")
    assert (counts["verified"], index.sync_stored("nas")) == (report.verified, report.stored)
    # Who asks for all to be read has them all verified.
    synchronizer = Synchronizer(desk.spool, index, {"nas": on(store, sample=0.3)})
    assert synchronizer.recheck("nas").rechecked == 40
    assert states(index) == ["verified"] * 40


def test_what_is_stored_has_the_right_size_at_least(desk, index):
    record(desk, index, 0)

    class Cutting(MemoryStore):
        def put(self, name, path, sent=None):
            super().put(name, path, sent)
            if name.endswith(".rec"):
                self.objects[name] = self.objects[name][:-1]

    (report,) = Synchronizer(desk.spool, index, {"nas": on(Cutting(), sample=0.0)}).run()
    assert (report.stored, report.failed) == (0, 1)


# Pauses


def test_a_pause_survives_a_restart_and_not_a_clock_that_jumps(desk, index):
    record(desk, index, 0)
    store, clock = MemoryStore(), Clock()
    probes = []

    def away():
        probes.append(1)
        raise RemoteOutage("away")

    store.probe = away
    for _ in range(20):
        Synchronizer(desk.spool, index, {"nas": store}, clock).run()
    first = len(probes)
    assert first < 20
    for jump in (HOUR, -HOUR, 5 * 365 * 24 * HOUR, -5 * 365 * 24 * HOUR):
        clock.now += jump
        before = len(probes)
        Synchronizer(desk.spool, index, {"nas": store}, clock).run()
        assert len(probes) == before + 1
    status = remote_status(index, "nas", Terms(), clock())
    assert (status.report.error, status.report.pending) == ("away", 1)


def test_a_remote_that_stays_away_is_told_of_once(desk, index):
    record(desk, index, 0)
    store, clock = MemoryStore(), Clock()
    store.probe = lambda: (_ for _ in ()).throw(RemoteOutage("away"))
    synchronizer = Synchronizer(desk.spool, index, {"nas": store}, clock)
    for _ in range(30):
        synchronizer.run()
        clock.now += (LONGEST_PAUSE_S + 1) * S
    (alert,) = alerts(index, "remote-away")
    assert (alert["remote"], alert["error"]) == ("nas", "away")
    del store.probe
    assert synchronizer.run()[0].ok
    assert index.remote_state("nas").get("failures", 0) == 0


# Key slots


def later(desk, sealed):
    """The next generation of the key slots."""
    path = desk.spool.slot_path(sealed.recording)
    slots = read_slots(path)
    return slots.next(slots.slots)


def key_name(sealed):
    return f"2026-11-21/{sealed.recording}.key"


def test_a_remote_can_go_without_key_slots(desk, index):
    (sealed,) = record(desk, index, 0)
    with_slots, without = MemoryStore(), MemoryStore()
    remotes = {"a": on(with_slots), "b": on(without, key_slots=False)}
    assert [report.ok for report in Synchronizer(desk.spool, index, remotes).run()] == [True, True]
    again = Synchronizer(desk.spool, index, remotes).run(force=True)
    assert [report.verified for report in again] == [0, 0]
    assert key_name(sealed) in with_slots.objects
    assert not [name for name in without.objects if name.endswith(".key")]


def test_slots_that_were_wrapped_anew_are_sent_again(desk, index):
    first, second = record(desk, index, 0, 1)
    store = MemoryStore()
    synchronizer = Synchronizer(desk.spool, index, {"nas": store})
    synchronizer.run()
    new = later(desk, first)
    put_slots(desk.spool.slot_path(first.recording), new)
    (report,) = synchronizer.run(force=True)
    assert report.verified == 1
    assert parse_slots(store.objects[key_name(first)]).generation == 2
    assert parse_slots(store.objects[key_name(second)]).generation == 1
    assert synchronizer.run(force=True)[0].verified == 0
    # Also by who begins anew, and without being asked to.
    put_slots(desk.spool.slot_path(second.recording), later(desk, second))
    assert Synchronizer(desk.spool, index, {"nas": store}).run()[0].verified == 1
    assert alerts(index, "remote-damage") == []


def test_later_slots_of_a_remote_are_never_replaced(desk, index):
    (sealed,) = record(desk, index, 0)
    store = MemoryStore()
    store.objects[key_name(sealed)] = later(desk, sealed).raw
    (report,) = Synchronizer(desk.spool, index, {"nas": store}).run()
    assert "later key slots" in report.error
    assert parse_slots(store.objects[key_name(sealed)]).generation == 2


def test_damaged_and_missing_slots_are_not_carried(desk, index):
    first, second = record(desk, index, 0, 1)
    path = desk.spool.slot_path(first.recording)
    path.write_bytes(path.read_bytes()[:-1])
    desk.spool.slot_path(second.recording).unlink()
    store = MemoryStore()
    (report,) = Synchronizer(desk.spool, index, {"nas": store}).run()
    assert (report.verified, report.failed) == (0, 2)
    assert not [name for name in store.objects if name.endswith((".key", ".json"))]


def test_what_was_destroyed_meanwhile_leaves_no_key_behind(desk, index):
    first, second, third = record(desk, index, 0, 1, 2)

    def destroyed(recording):
        index.execute("UPDATE recordings SET state = 'destroyed' WHERE id = ?", [recording])

    class Slow(MemoryStore):
        def put(self, name, path, sent=None):
            super().put(name, path, sent)
            if name.endswith(f"{first.recording}.json"):
                destroyed(first.recording)
                destroyed(third.recording)

    store = Slow()
    (report,) = Synchronizer(desk.spool, index, {"nas": store}).run()
    assert (report.verified, report.error) == (1, None)
    assert [name for name in store.objects if name.endswith(".key")] == [key_name(second)]
    assert not any(third.recording in name for name in store.objects)


# Evidence


def test_what_a_remote_did_to_the_bytes_is_kept(desk, index):
    (sealed,) = record(desk, index, 0)
    ledger_of(desk.spool).append([Entry("started", 1, "pbx")])
    original = sealed.path.read_bytes()

    class Liar(MemoryStore):
        lies = 1

        def put(self, name, path, sent=None):
            super().put(name, path, sent)
            if name.endswith(".rec") and self.lies:
                self.lies -= 1
                wrong = bytearray(self.objects[name])
                wrong[1000] ^= 0x40
                self.objects[name] = bytes(wrong)

    store, clock = Liar(), Clock()
    synchronizer = Synchronizer(desk.spool, index, {"nas": store}, clock)
    assert synchronizer.run()[0].failed == 1
    (path,) = (desk.spool.path / "evidence").glob("*.json")
    kept = json.loads(path.read_bytes())
    assert (kept["remote"], kept["found"], kept["recording"]) == ("nas", "not kept", sealed.recording)
    assert (kept["differs_at"], kept["bytes"], kept["expected_bytes"]) == (1000, len(original), len(original))
    assert kept["expected_sha256"] == sealed.sha256 != kept["sha256"] == kept["sha256_again"]
    assert bytes.fromhex(kept["here"])[0] == original[1000] == bytes.fromhex(kept["there"])[0] ^ 0x40
    (alert,) = alerts(index, "remote-damage")
    assert alert["evidence"] == f"evidence/{path.name}"
    entries = [Entry.from_bytes(data) for data in ledger_of(desk.spool).entries()]
    assert [each.subject for each in entries if each.kind == "remote-damage"] == [sealed.recording]
    clock.now += LONGEST_PAUSE_S * S
    assert synchronizer.run()[0].ok
    assert store.objects[f"2026-11-21/{sealed.recording}.rec"] == original


def test_evidence_has_nothing_of_what_a_manifest_says(desk, index):
    record(desk, index, 0)

    class Liar(MemoryStore):
        def put(self, name, path, sent=None):
            super().put(name, path, sent)
            if name.endswith(".json"):
                self.objects[name] = self.objects[name].replace(b"1000", b"1001")

    Synchronizer(desk.spool, index, {"nas": Liar()}, Clock()).run()
    (path,) = (desk.spool.path / "evidence").glob("*.json")
    kept = json.loads(path.read_bytes())
    assert kept["differs_at"] > 0
    assert not {"here", "there"} & set(kept)


def test_evidence_and_alerts_are_bounded(desk, index):
    record(desk, index, *range(30))

    class Losing(MemoryStore):
        def put(self, name, path, sent=None):
            if not name.endswith(".rec"):
                super().put(name, path, sent)

    clock = Clock()
    Synchronizer(desk.spool, index, {"nas": Losing()}, clock).run()
    told = alerts(index, "remote-damage")
    assert len(told) == 21
    assert told[-1] == {"remote": "nas", "more": 10}


# The ledger


def entered(desk, count, first=0):
    """A ledger with so many entries more, and a checkpoint of it."""
    ledger = ledger_of(desk.spool)
    ledger.append([Entry("call", number, f"call-{number}") for number in range(first, first + count)])
    return ledger.checkpoint(desk.signer)


def ledger_names(store):
    return sorted(name for name in store.objects if name.startswith("ledger/"))


def test_the_ledger_goes_along(desk, index):
    store = MemoryStore()
    synchronizer = Synchronizer(desk.spool, index, {"nas": store})
    entered(desk, 300)
    stamps = desk.spool.path / "ledger" / "stamps"
    stamps.mkdir()
    (stamps / "300.tsr").write_bytes(b"a stamp")
    assert synchronizer.run()[0].ok
    assert ledger_names(store) == [
        "ledger/checkpoint",
        "ledger/stamps/300.tsr",
        "ledger/tile/entries/000",
        "ledger/tile/entries/001.p/44",
    ]
    folder = desk.spool.path / "ledger"
    assert store.objects["ledger/checkpoint"] == (folder / "checkpoint").read_bytes()
    assert store.objects["ledger/tile/entries/000"] == (folder / "tile/entries/000").read_bytes()
    assert store.objects["ledger/tile/entries/001.p/44"] == (folder / "tile/entries/001").read_bytes()
    # What is immutable goes once, whoever carries.
    puts = []
    put = store.put
    store.put = lambda name, *more: puts.append(name) or put(name, *more)
    entered(desk, 300, 300)
    assert Synchronizer(desk.spool, index, {"nas": store}).run(force=True)[0].ok
    assert sorted(puts) == ["ledger/checkpoint", "ledger/tile/entries/001", "ledger/tile/entries/002.p/88"]
    assert synchronizer.run(force=True)[0].ok
    assert alerts(index, "ledger") == []


def test_a_remote_that_went_back_is_told_and_mended(desk, index):
    store = MemoryStore()
    entered(desk, 10)
    Synchronizer(desk.spool, index, {"nas": store}).run()
    old = dict(store.objects)
    entered(desk, 10, 10)
    Synchronizer(desk.spool, index, {"nas": store}).run(force=True)
    new = dict(store.objects)
    for objects, what in ((old, "an older checkpoint"), ({}, "is gone")):
        store.objects = {**objects, "host.pub": new["host.pub"]}
        assert Synchronizer(desk.spool, index, {"nas": store}).run(force=True)[0].ok
        assert what in alerts(index, "ledger")[-1]["error"]
        assert store.objects["ledger/checkpoint"] == new["ledger/checkpoint"]
        assert store.objects["ledger/tile/entries/000.p/20"] == new["ledger/tile/entries/000.p/20"]


def test_a_ledger_that_was_set_back_here_replaces_nothing(desk, index, tmp_path):
    store = MemoryStore()
    entered(desk, 10)
    Synchronizer(desk.spool, index, {"nas": store}).run()
    before = dict(store.objects)
    for wrong, count in (("set back", 5), ("forked", 12)):
        other = make_desk(tmp_path / wrong)
        other.signer = desk.signer
        ledger_of(other.spool).append([Entry("call", 7, f"other-{number}") for number in range(count)])
        ledger_of(other.spool).checkpoint(desk.signer)
        (desk.spool.path / "ledger").rename(tmp_path / f"aside of {wrong}")
        (other.spool.path / "ledger").rename(desk.spool.path / "ledger")
        # Also for who has forgotten what was sent.
        for remembered in (True, False):
            if not remembered:
                index.execute("DELETE FROM ledger_sync")
            (report,) = Synchronizer(desk.spool, index, {"nas": store}).run(force=True)
            assert wrong in report.error
            assert store.objects == before
        index.set_ledger_sent("nas", 10, before["ledger/checkpoint"].decode())
    assert len(alerts(index, "ledger")) == 4


def test_a_damaged_bundle_never_replaces_a_good_one(desk, index):
    store = MemoryStore()
    entered(desk, 256)
    Synchronizer(desk.spool, index, {"nas": store}).run()
    good = store.objects["ledger/tile/entries/000"]
    entered(desk, 1, 256)
    path = desk.spool.path / "ledger/tile/entries/000"
    path.write_bytes(path.read_bytes().replace(b"call-100", b"call-999"))
    index.execute("DELETE FROM ledger_sync")
    (report,) = Synchronizer(desk.spool, index, {"nas": store}).run(force=True)
    assert "not what was signed" in report.error
    assert store.objects["ledger/tile/entries/000"] == good


def test_a_recheck_reads_the_ledger_too(desk, index):
    store = MemoryStore()
    entered(desk, 256)
    synchronizer = Synchronizer(desk.spool, index, {"nas": store})
    synchronizer.run()
    name = "ledger/tile/entries/000"
    good = store.objects[name]
    store.objects[name] = good[:-1]
    assert synchronizer.run(force=True)[0].ok
    assert store.objects[name] != good
    assert synchronizer.recheck("nas").error is None
    assert store.objects[name] == good
    assert alerts(index, "remote-damage")[0]["name"] == name


def test_an_error_of_the_ledger_keeps_no_recording(desk, index):
    record(desk, index, 0)
    entered(desk, 3)

    class NoLedger(MemoryStore):
        def put(self, name, path, sent=None):
            if name.startswith("ledger/"):
                raise RemoteError("403")
            super().put(name, path, sent)

    (report,) = Synchronizer(desk.spool, index, {"nas": NoLedger()}).run()
    assert (report.verified, report.error) == (1, "the ledger: 403")


# Many


def test_a_pass_over_many_asks_the_index_in_proportion(desk, index):
    """What failed is not looked at again and again: the rows that are read grow as the recordings do."""

    def rows(count):
        with index.batch():
            for number in range(count):
                name = f"20250101T{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}Z-{number:010x}"
                index.recording_finished(name, "sealed", {}, "", "0" * 64, 1)
        seen = 0
        query = index.query

        def counted(sql, values=()):
            nonlocal seen
            found = query(sql, values)
            seen += len(found)
            return found

        index.query = counted
        try:
            Synchronizer(desk.spool, index, {"nas": MemoryStore()}).run(force=True)
        finally:
            del index.query
        return seen

    few, many = rows(400), rows(1600)
    assert many < few * 5


def test_what_is_carried_is_noted_in_groups(desk, index):
    record(desk, index, *range(100))
    statements = []
    index.trace(statements.append)
    Synchronizer(desk.spool, index, {"nas": MemoryStore()}).run()
    index.trace(None)
    assert states(index) == ["verified"] * 100
    assert sum(statement.startswith("COMMIT") for statement in statements) < 30
