"""What `recorderctl doctor` says of the ledger."""

import os
import time
from pathlib import Path

import pytest

from recorderd.config import load_config
from recorderd.config.ledger import LedgerConfig
from recorderd.spool.index import Index
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import add_alert, enter
from recorderd.spool.ledger_stamps import Stamps
from recorderd.tools.checks import Check
from recorderd.tools.ledger_checks import ledger_checks
from tests.commands import configure
from tests.spool_builder import Desk, make_desk
from tests.tools_runner import recorderctl

NOW_S = 1_795_300_000.0
NOW_US = int(NOW_S * 1e6)
HOUR_S = 3600.0


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path)


def ledger_with(desk: Desk, ages_s: list[float], signed: int) -> Ledger:
    """A ledger with entries of these ages, the first ones signed."""
    ledger = Ledger(desk.spool.path / "ledger")
    made = [Entry("started", NOW_US - int(age * 1e6), "pbx.example") for age in ages_s]
    with Index.open(desk.spool) as index:
        enter(ledger, index, made[:signed])
        if signed:
            ledger.checkpoint(desk.signer)
            os.utime(ledger.checkpoint_path, (NOW_S - ages_s[signed - 1],) * 2)
        enter(ledger, index, made[signed:])
    return ledger


def checks(desk: Desk, *remotes: str, **settings: object) -> dict[str, Check]:
    config = LedgerConfig.model_validate(settings)
    return {check.name: check for check in ledger_checks(config, desk.spool, remotes, NOW_S)}


def test_all_is_well(desk: Desk) -> None:
    ledger_with(desk, [50, 40, 30], signed=2)
    (check,) = checks(desk).values()
    assert (check.state, check.detail) == (
        "ok",
        "3 entries, 2 of them signed; the last checkpoint is 40 s old",
    )


def test_a_quiet_recorder_needs_no_new_checkpoint(desk: Desk) -> None:
    ledger_with(desk, [50 * HOUR_S], signed=1)
    assert checks(desk)["ledger"].state == "ok"
    assert "2 days old" in checks(desk)["ledger"].detail


@pytest.mark.parametrize(("age_s", "state"), [(170.0, "ok"), (200.0, "warning")])
def test_entries_that_nobody_signs(desk: Desk, age_s: float, state: str) -> None:
    ledger_with(desk, [500, age_s], signed=1)
    assert checks(desk, checkpoint_s=60.0)["ledger"].state == state
    assert checks(desk, checkpoint_s=3600.0)["ledger"].state == "ok"


def test_no_ledger_and_none_signed(desk: Desk) -> None:
    assert "not there yet" in checks(desk)["ledger"].detail
    assert checks(desk, enabled=False)["ledger"].detail.startswith("off")
    ledger_with(desk, [10], signed=0)
    check = checks(desk)["ledger"]
    assert (check.state, check.detail) == ("warning", "1 entries, none is signed")


def test_what_remotes_have(desk: Desk) -> None:
    ledger_with(desk, [5 * HOUR_S, 2 * HOUR_S, 60], signed=3)
    with Index.open(desk.spool) as index:
        for name, size in (("all", 3), ("most", 2), ("late", 1)):
            index.set_ledger_sent(name, size, None)
    found = checks(desk, "all", "most", "late", "none")
    assert [(name, check.state) for name, check in found.items()] == [
        ("ledger", "ok"),
        ("ledger at all", "ok"),
        ("ledger at most", "ok"),
        ("ledger at late", "warning"),
        ("ledger at none", "warning"),
    ]
    assert found["ledger at late"].detail == "1 of 3 signed entries; what it lacks is up to 2 h old"


STAMPS = {"url": "http://tsa.example/tsr", "ca": "/etc/tsa.pem", "every_s": HOUR_S}
OTS = {"calendars": ["http://calendar.example"], "every_s": 86_400.0}


def stamp(desk: Desk, size: int, age_s: float) -> None:
    stamps = Stamps(desk.spool.path / "ledger")
    for path in (stamps.of(size).token_path, stamps.of(size).ots_path):
        stamps.put(path, b"stamp")
        os.utime(path, (NOW_S - age_s,) * 2)


def test_stamps_that_come(desk: Desk) -> None:
    ledger_with(desk, [5 * HOUR_S, 10], signed=2)
    stamp(desk, 1, HOUR_S)
    found = checks(desk, timestamps=STAMPS, opentimestamps=OTS)
    assert (found["time stamps"].state, found["block chain"].state) == ("ok", "ok")
    assert found["time stamps"].detail == "1, the last one 60 min ago"


def test_stamps_that_do_not_come_say_why(desk: Desk) -> None:
    ledger_with(desk, [9 * HOUR_S, 10], signed=2)
    with Index.open(desk.spool) as index:
        alert = {"kind": "timestamp", "time_ns": NOW_US * 1000, "fields": {"error": "tsa.example: refused"}}
        add_alert(desk.spool, index, alert)
    found = checks(desk, timestamps=STAMPS)["time stamps"]
    assert (found.state, found.detail) == ("warning", "none yet; tsa.example: refused; due every 60 min")
    stamp(desk, 1, 5 * HOUR_S)
    found = checks(desk, timestamps=STAMPS)["time stamps"]
    assert found.state == "warning"
    assert found.detail == "1, the last one 5 h ago; tsa.example: refused; due every 60 min"


def test_an_old_stamp_of_all_there_is_is_enough(desk: Desk) -> None:
    ledger_with(desk, [9 * HOUR_S], signed=1)
    stamp(desk, 1, 8 * HOUR_S)
    assert checks(desk, timestamps=STAMPS)["time stamps"].state == "ok"


def test_the_command_tells_it(tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir()
    text = f"sync: {{remotes: [{{name: nas, type: file, path: {tmp_path}/nas}}]}}\n"
    config = configure(tmp_path, text)
    desk = make_desk(tmp_path)
    assert load_config(config).ledger.enabled
    ledger = Ledger(desk.spool.path / "ledger")
    with Index.open(desk.spool) as index:
        enter(ledger, index, [Entry("started", time.time_ns() // 1000 - 10**10, "pbx.example")] * 2)
    ledger.checkpoint(desk.signer)

    def found() -> dict[str, str]:
        told = recorderctl("-c", config, "--json", "doctor").json["checks"]
        return {check["name"]: check["state"] for check in told if check["name"].startswith("ledger")}

    assert found() == {"ledger": "ok", "ledger at nas": "warning"}
    assert recorderctl("-c", config, "sync").code == 0
    assert found() == {"ledger": "ok", "ledger at nas": "ok"}
    os.truncate(ledger.path / "tile/entries/000", 10)
    assert found() == {"ledger": "failed"}
