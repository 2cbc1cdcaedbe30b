"""What a crash kept out of the ledger: entered at the start of the next recorder, which waits for nothing."""

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from recorderd.calls.outcomes import RESTARTED
from recorderd.config import load_config
from recorderd.errors import SpoolError
from recorderd.service.notary import Notary
from recorderd.service.opening import open_spool, settled
from recorderd.service.worker import Worker
from recorderd.spool.index import Index
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import add_alert, call_entry, ledger_of
from recorderd.spool.times import rfc3339
from tests.commands import configure
from tests.live.process import until
from tests.spool_builder import STARTED_US, Desk, fill, make_desk, summary
from tests.test_ledger_service import NEVER_S, call_row, entries

HOUR_US = 3_600_000_000
SEEN = rfc3339(time.time_ns() // 1000)
"""When calls were seen that are of today, whichever day that is."""


def test_a_first_round_need_not_wait() -> None:
    done = threading.Event()
    with contextlib.closing(Worker("test", done.set, NEVER_S, at_once=True)):
        assert done.wait(20)


def test_a_later_start_has_entered_it_long_before_the_next_checkpoint(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger = ledger_of(desk.spool)
    ledger.append([Entry("started", 1, "pbx.example")])
    with Index.open(desk.spool) as index:
        sealed = desk.record()
        desk.enter(index, sealed)
        index.call_saved(call_row(0, recording=sealed.recording))
        # Whatever holds up the signing does not hold up who starts the recorder.
        with (ledger.path / "checkpoint.lock").open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            keeper = Notary(desk.spool, index, desk.signer, "pbx.example", NEVER_S)
            with contextlib.suppress(AssertionError):
                until(lambda: len(entries(ledger, "call")) == 1, "the call", 20)
            found, before = entries(ledger), ledger.stated()
        try:
            assert [entry.kind for entry in found] == ["started", "started", "recording", "call"]
            assert before is None
            until(lambda: ledger.stated() is not None, "the checkpoint", 20)
            signed = ledger.stated()
            assert signed is not None
            assert signed.size == ledger.size == 4
        finally:
            keeper.close()


# Alerts that go straight into the index


@pytest.fixture
def cut_off(tmp_path: Path) -> tuple[Desk, str]:
    """A spool as a crash left it: a recording in progress, with its call."""
    desk = make_desk(tmp_path)
    writer = desk.start()
    fill(writer, 2)
    name = writer.recording_id
    writer.abandon()
    with Index.open(desk.spool) as index:
        index.recording_started(name, summary())
        index.call_noted(call_row(0, outcome=None, recording=name, first_seen=SEEN))
        index.call_noted(call_row(1, outcome=None, first_seen=SEEN))
    return desk, name


def test_the_alerts_of_a_crash_are_entered_too(cut_off: tuple[Desk, str], tmp_path: Path) -> None:
    desk, name = cut_off
    with open_spool(load_config(configure(tmp_path))):
        pass
    ledger = ledger_of(desk.spool)
    assert {entry.fields["outcome"] for entry in entries(ledger, "call")} == {"partial", "missing"}
    (entry,) = entries(ledger, "alert")
    with Index.open(desk.spool) as index:
        (alert,) = index.alerts_pending()
        assert [row["leaf"] for row in index.ledger_rows(kind="alert", subject="recovered")] != []
    assert entry.subject == alert["kind"] == "recovered"
    assert entry.fields == {**alert["fields"], "happened_us": alert["time_ns"] // 1000}
    assert entry.fields["recording"] == name


def test_so_are_those_of_a_worker_that_died(cut_off: tuple[Desk, str]) -> None:
    desk, name = cut_off
    with Index.open(desk.spool) as index, Index.open(desk.spool) as own:
        keeper = Notary(desk.spool, own, desk.signer, "pbx.example", NEVER_S)
        keeper.settle()  # what was left before this start is seen to
        keeper.ask(settled(index, {(SEEN, str(call_row(0)["call_id"]))}))
        keeper.settle()
        ledger = ledger_of(desk.spool)
        (entry,) = entries(ledger, "alert")
        assert entry.fields["recording"] == name
        assert [each.fields["reason"] for each in entries(ledger, "call")] == [RESTARTED]
        keeper.settle()
        keeper.close()
    assert len(entries(ledger, "alert")) == 1


ALERT = {"kind": "remote-away", "time_ns": 5_000, "fields": {"remote": "nas"}}


def test_other_alerts_are_entered_where_there_is_a_ledger(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        add_alert(desk.spool, index, ALERT)
        assert not (desk.spool.path / "ledger").exists()
        ledger = ledger_of(desk.spool)
        ledger.append([Entry("started", 1, "pbx.example")])
        add_alert(desk.spool, index, ALERT)
        (entry,) = entries(ledger, "alert")
        assert (entry.subject, dict(entry.fields)) == ("remote-away", {"remote": "nas", "happened_us": 5})
        # One that cannot be entered is still told.
        (ledger.path / "tile/entries/000").unlink()
        (ledger.path / "tile/entries").rmdir()
        (ledger.path / "tile/entries").write_text("no folder")
        add_alert(desk.spool, index, ALERT)
        assert len(index.alerts_pending()) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a folder of another user")
def test_nobody_writes_into_the_ledger_of_another_user(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger = ledger_of(desk.spool)
    ledger.append([Entry("started", 1, "pbx.example")])
    os.chown(ledger.path, 65534, 65534)
    with Index.open(desk.spool) as index:
        add_alert(desk.spool, index, ALERT)
        assert len(index.alerts_pending()) == 1
    assert Ledger(ledger.path).size == 1


# What an earlier life left, however long ago


def life(desk: Desk) -> None:
    """The recorder is started, and stopped."""
    with Index.open(desk.spool) as index:
        Notary(desk.spool, index, desk.signer, "pbx.example", NEVER_S).close()


LONG_AGO_US = STARTED_US - 240 * HOUR_US
STARTED = Entry("started", STARTED_US - 48 * HOUR_US, "pbx.example")
"""A later start, also of long ago."""


@pytest.fixture
def crashed(tmp_path: Path) -> Desk:
    """A spool with two calls of long ago, of which a crash kept the second out of the ledger."""
    desk = make_desk(tmp_path)
    first, second = (call_row(number, first_seen=rfc3339(LONG_AGO_US + number)) for number in (0, 1))
    ledger_of(desk.spool).append(
        [Entry("started", LONG_AGO_US, "pbx.example"), call_entry(first, LONG_AGO_US)]
    )
    with Index.open(desk.spool) as index:
        index.call_saved(first)
        index.call_saved(second)
    return desk


@pytest.mark.parametrize(
    "since",
    [
        pytest.param([], id="down all the time"),
        pytest.param([STARTED, STARTED], id="died twice"),
        pytest.param([STARTED, Entry("recording", 1, "x")], id="died while it entered what was left"),
        pytest.param([STARTED, Entry("stopped", 1, "pbx.example")], id="could not look"),
        pytest.param([STARTED, call_entry(call_row(9), 1)], id="went on to a clock put right"),
    ],
)
def test_what_a_crash_kept_out_is_entered_whatever_came_since(crashed: Desk, since: list[Entry]) -> None:
    ledger = ledger_of(crashed.spool)
    ledger.append(since)
    for _ in range(2):
        life(crashed)
        assert sum("call-1@" in entry.subject for entry in entries(ledger, "call")) == 1


def test_a_call_whose_id_ends_early_for_some_is_entered_once(crashed: Desk) -> None:
    with Index.open(crashed.spool) as index:
        index.call_saved({**call_row(2), "call_id": "a\0b@192.0.2.1"})
    for _ in range(2):
        life(crashed)
        assert len(entries(ledger_of(crashed.spool), "call")) == 3


def test_many_calls_of_one_moment_are_entered_once_each(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        for number in range(1100):
            index.call_saved(call_row(number, first_seen="2026-11-20T05:00:00.000Z"))
    life(desk)
    found = [entry.subject for entry in entries(ledger_of(desk.spool), "call")]
    assert len(found) == len(set(found)) == 1100


def test_alerts_are_entered_once_though_the_index_was_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, told = make_desk(tmp_path), Index.ledger_entered

    def busy(index: Index, first: int, some: list[Entry]) -> None:
        if any(entry.kind == "alert" for entry in some):
            monkeypatch.setattr(Index, "ledger_entered", told)
            raise SpoolError("database is locked")
        told(index, first, some)

    monkeypatch.setattr(Index, "ledger_entered", busy)
    with Index.open(desk.spool) as index:
        alert = {"kind": "recovered", "time_ns": 5000, "fields": {"recording": "x"}}
        Notary(desk.spool, index, desk.signer, "pbx.example", NEVER_S, alerts=[alert]).close()
        kinds = [entry.kind for entry in entries(ledger_of(desk.spool))]
        assert kinds.count("alert") == 2  # of the crash, and of what failed
        assert index.ledger_known() == len(kinds)
