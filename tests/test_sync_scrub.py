"""What was verified once is read again, a little at a time, and mended."""

import json
from dataclasses import dataclass

import pytest

from recorderd.spool.index import Index
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import ledger_of
from recorderd.spool.stores import LocalStore
from recorderd.spool.sync import Remote, Synchronizer
from recorderd.spool.sync_scrub import Scrubber, ScrubTerms
from tests.spool_builder import STARTED_NS, make_desk

S = 1_000_000_000
DAY = 86_400 * S


@dataclass
class Clock:
    now: int = STARTED_NS

    def __call__(self):
        return self.now


@dataclass
class Seconds:
    now: float = 0.0

    def __call__(self):
        return self.now


class Site:
    """A spool, two remotes that have everything, and a scrubber."""

    def __init__(self, folder, index, desk, **terms):
        self.desk, self.index = desk, index
        self.clock, self.seconds = Clock(), Seconds()
        self.stores = {name: LocalStore.create(folder / name) for name in ("nas", "vault")}
        self.synchronizer = Synchronizer(desk.spool, index, self.stores, self.clock)
        remotes = {name: Remote(store) for name, store in self.stores.items()}
        terms = {"every_days": 30, "bandwidth": None} | terms
        self.scrubber = Scrubber(
            desk.spool, index, remotes, ScrubTerms(**terms), clock=self.clock, monotonic=self.seconds
        )

    def record(self, *numbers, **size):
        recordings = []
        for number in numbers:
            sealed = self.desk.record(number, **size)
            self.desk.enter(self.index, sealed, number)
            recordings.append(sealed)
        assert all(report.ok for report in self.carry())
        return recordings

    def carry(self):
        return self.synchronizer.run(force=True)

    def copy(self, remote, sealed):
        return self.stores[remote].root / "2026-11-21" / sealed.path.name

    def scrub(self, rounds=200, pass_s=3600.0):
        """So many rounds, and what they did together."""
        checked, damaged, restored = 0, [], []
        for _ in range(rounds):
            done = self.scrubber.run()
            self.seconds.now += pass_s
            checked += done.checked
            damaged += done.damaged
            restored += done.restored
        return checked, damaged, restored


@pytest.fixture
def desk(tmp_path):
    return make_desk(tmp_path)


@pytest.fixture
def index(desk):
    with Index.open(desk.spool) as index:
        yield index


@pytest.fixture
def site(tmp_path, index, desk):
    return Site(tmp_path, index, desk, local=False)


@pytest.fixture
def at_home(tmp_path, index, desk):
    return Site(tmp_path, index, desk)


def alerts(index, kind):
    return [alert["fields"] for alert in index.alerts_pending(1000) if alert["kind"] == kind]


# Copies


def test_nothing_is_read_again_before_its_time(site):
    site.record(*range(4))
    assert site.scrub()[0] == 0
    site.clock.now += 29 * DAY
    assert site.scrub()[0] == 0
    site.clock.now += 2 * DAY
    assert site.scrub()[0] == 8
    assert site.scrub()[0] == 0


def test_rotten_and_lost_copies_are_found_told_and_sent_again(site, index):
    recordings = site.record(*range(4))
    rotten, lost = site.copy("nas", recordings[1]), site.copy("vault", recordings[2])
    data = bytearray(rotten.read_bytes())
    data[500] ^= 1
    rotten.write_bytes(data)
    lost.unlink()
    site.clock.now += 31 * DAY
    checked, damaged, _ = site.scrub()
    assert checked == 8
    assert [each.rsplit(": ")[-1] for each in damaged] == ["damaged", "gone"]
    assert {alert["found"] for alert in alerts(index, "remote-damage")} == {"damaged", "gone"}
    assert all(report.ok for report in site.carry())
    assert rotten.read_bytes() == recordings[1].path.read_bytes()
    assert lost.read_bytes() == recordings[2].path.read_bytes()
    # What was sent again over it found it once more, and tells nothing new.
    assert len(alerts(index, "remote-damage")) == 2
    assert len(list((site.desk.spool.path / "evidence").iterdir())) == 2


def test_what_is_not_here_any_more_comes_back_from_another_remote(site, index):
    (sealed,) = site.record(0)
    original = sealed.path.read_bytes()
    sealed.path.unlink()
    index.set_present([sealed.recording], False)
    site.copy("nas", sealed).write_bytes(b"rotten")
    site.clock.now += 31 * DAY
    _, damaged, restored = site.scrub()
    assert len(damaged) == 1
    assert restored == [sealed.recording]
    assert all(report.ok for report in site.carry())
    assert site.copy("nas", sealed).read_bytes() == sealed.path.read_bytes() == original


def test_a_new_remote_gets_what_is_not_here_any_more(site, index, tmp_path):
    (sealed,) = site.record(0)
    sealed.path.unlink()
    index.set_present([sealed.recording], False)
    store = LocalStore.create(tmp_path / "new")
    synchronizer = Synchronizer(site.desk.spool, index, {**site.stores, "new": store})
    reports = synchronizer.run(force=True)
    assert "has to be restored first" in reports[2].error
    assert site.scrub(1)[2] == [sealed.recording]
    assert [report.ok for report in synchronizer.run(force=True)] == [True] * 3
    assert (store.root / "2026-11-21" / sealed.path.name).read_bytes() == sealed.path.read_bytes()


def test_the_ledger_there_is_read_again_too(site, index, desk):
    ledger = ledger_of(desk.spool)
    ledger.append([Entry("call", number, f"call-{number}") for number in range(300)])
    ledger.checkpoint(desk.signer)
    site.record(0)
    bundle = site.stores["nas"].root / "ledger/tile/entries/000"
    good = bundle.read_bytes()
    site.scrub(2)
    bundle.write_bytes(good[:-1])
    site.scrub(2)
    assert bundle.read_bytes() != good
    site.clock.now += 31 * DAY
    site.scrub(2)
    assert bundle.read_bytes() == good
    assert [alert["remote"] for alert in alerts(index, "remote-damage")] == ["nas"]


def test_an_outage_says_nothing_about_copies(site, index):
    site.record(*range(3))
    site.clock.now += 31 * DAY
    root = site.stores["nas"].root
    root.rename(root.with_name("away"))
    root.mkdir()
    checked, damaged, _ = site.scrub()
    assert (checked, damaged) == (3, [])
    root.rmdir()
    root.with_name("away").rename(root)
    assert site.scrub()[0] == 3


def test_the_reading_is_spread_over_the_days(site):
    """Twice as fast as needed, so all of it takes half of the time."""
    site.record(*range(20), windows=20, packets=50, size=160)
    site.clock.now += 31 * DAY
    days = []
    while sum(days) < 40 and len(days) < 40:
        checked = 0
        for _ in range(24):
            checked += site.scrubber.run().checked
            site.seconds.now += 3600.0
        days.append(checked)
    assert 13 <= len(days) <= 17
    assert max(days) <= 6


def test_a_clock_that_was_ahead_keeps_nothing_from_being_read(site):
    site.clock.now += 5 * 365 * DAY
    site.record(*range(2))
    site.clock.now -= 5 * 365 * DAY
    assert site.scrub()[0] == 4
    assert site.scrub()[0] == 0
    site.clock.now += 5 * 365 * DAY
    assert site.scrub()[0] == 4


def test_every_0_days_is_never(tmp_path, index, desk):
    site = Site(tmp_path, index, desk, every_days=0)
    site.record(0)
    site.clock.now += 1000 * DAY
    assert site.scrub(10)[0] == 0


# Files here


def test_files_here_are_read_once_in_the_time(at_home):
    at_home.record(*range(5))
    assert at_home.scrub(900)[0] == 5
    assert at_home.scrub(100)[0] == 0
    at_home.clock.now += 15 * DAY
    assert at_home.scrub(100)[0] == 0
    at_home.clock.now += 16 * DAY
    assert at_home.scrub(900)[0] == 5 * 3


def test_a_restart_goes_on_where_it_was(tmp_path, index, desk, at_home):
    at_home.record(*range(6))
    assert at_home.scrub(1)[0] == 1
    again = Site(tmp_path, index, desk)
    assert again.scrub(900)[0] == 5


@pytest.mark.parametrize("suffix", [".rec", ".json", ".key"])
@pytest.mark.parametrize("how", ["rotten", "gone"])
def test_what_went_bad_here_comes_back(desk, at_home, index, suffix, how):
    first, second = at_home.record(0, 1)
    path = second.path.with_suffix(suffix)
    good = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(good[:-40] + bytes([good[-40] ^ 1]) + good[-39:])
    _, damaged, restored = at_home.scrub(900)
    assert len(damaged) == 1
    assert restored == [second.recording]
    assert path.read_bytes() == good
    (alert,) = alerts(index, "local-damage")
    assert (alert["recording"], alert["restored"]) == (second.recording, True)
    assert first.path.exists()
    if (suffix, how) == (".rec", "rotten"):
        (evidence,) = (desk.spool.path / "evidence").iterdir()
        assert json.loads(evidence.read_bytes())["expected_sha256"] == second.sha256


def test_what_no_remote_has_is_told(at_home, index):
    (sealed,) = at_home.record(0)
    for store in at_home.stores.values():
        (store.root / "2026-11-21" / sealed.path.name).unlink()
    sealed.path.write_bytes(b"rotten")
    _, damaged, restored = at_home.scrub(900)
    assert damaged
    assert restored == []
    assert alerts(index, "local-damage")[0]["restored"] is False


def test_what_was_evicted_or_destroyed_meanwhile_is_no_damage(at_home, index):
    first, second = at_home.record(0, 1)
    first.path.unlink()
    index.set_present([first.recording], False)
    second.path.unlink()
    index.execute("UPDATE recordings SET state = 'destroyed' WHERE id = ?", [second.recording])
    assert at_home.scrub(900)[1] == []
    assert alerts(index, "local-damage") == []
