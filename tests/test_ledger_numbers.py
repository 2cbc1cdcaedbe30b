"""With `ledger.numbers: false` no entry about a call has a number; and what waits for a ledger is counted."""

from pathlib import Path

import pytest

from recorderd.service.journal import Journal
from recorderd.service.notary import Notary
from recorderd.service.worker_status import merged
from recorderd.spool.index import Index
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_keeping import ledger_of
from tests.commands import configure, run
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript
from tests.spool_builder import make_desk
from tests.test_ledger_service import NEVER_S, FullLedger, call_row, entries
from tests.tools_runner import recorderctl

ALERT = {
    "kind": "review",
    "time_ns": 1_000,
    "fields": {"from": "5551001", "to": "200", "recording": "20261121T200501Z-0123456789"},
}


def test_a_recorder_keeps_them_out(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=3)
    simulator.add(CallScript(talk_s=1.0, caller="5551001", callee="5552002"))
    config = configure(tmp_path, "ledger: {numbers: false}\n")
    answer = run("recorderd", "replay", "-c", config, simulator.write(tmp_path / "calls.pcap"))
    assert answer.code == 0, answer.err
    ledger = Ledger(tmp_path / "spool/ledger")
    (call,) = entries(ledger, "call")
    assert {"call_id", "outcome", "recording"} <= call.fields.keys()
    everything = b"".join(ledger.entries())
    assert b"5551001" not in everything
    assert b"5552002" not in everything
    (row,) = recorderctl("-c", config, "--json", "calls").json
    assert (row["from"], row["to"]) == ("5551001", "5552002")
    # Only the index has them of a call: an index that is made anew has not.
    assert recorderctl("-c", config, "reindex").code == 0
    (again,) = recorderctl("-c", config, "--json", "calls").json
    assert (again["from"], again["to"], again["outcome"]) == (None, None, row["outcome"])
    (recording,) = recorderctl("-c", config, "--json", "list").json
    assert (recording["from"], recording["to"]) == ("5551001", "5552002")
    assert recorderctl("-c", config, "ledger", "verify").code == 0


@pytest.mark.parametrize("numbers", [True, False])
def test_of_calls_alerts_and_what_is_entered_late(tmp_path: Path, numbers: bool) -> None:
    desk = make_desk(tmp_path)
    ledger = ledger_of(desk.spool)
    with Index.open(desk.spool) as index:
        journal = Journal(index, pytest.fail, NEVER_S, ledger=ledger, numbers=numbers)
        journal.add("call_saved", call_row(0))
        journal.add("alert_added", ALERT)
        journal.close()
        index.call_saved(call_row(1))
        keeper = Notary(
            desk.spool, index, desk.signer, "pbx.example", NEVER_S, numbers=numbers, alerts=[ALERT]
        )
        keeper.close()
        assert {alert["fields"]["from"] for alert in index.alerts_pending()} == {"5551001"}
    found = [*entries(ledger, "call"), *entries(ledger, "alert")]
    assert len(found) == 4
    for entry in found:
        assert ({"from", "to"} <= entry.fields.keys()) == numbers
        assert ({"from", "to"}.isdisjoint(entry.fields)) != numbers


def test_how_many_entries_wait_is_told(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger = FullLedger(desk.spool.path / "ledger")
    with Index.open(desk.spool) as index:
        journal = Journal(index, pytest.fail, NEVER_S, ledger=ledger)
        for number in range(3):
            journal.add("call_saved", call_row(number))
        journal.settle()
        assert (len(journal), journal.unentered) == (1, 4)  # and the alert that says so
        ledger.full = False
        journal.settle()
        assert (len(journal), journal.unentered) == (0, 0)
        journal.close()
    workers = [{"state": "running", "calls": 0, "level": "none", "ledger_waiting": n} for n in (2, 3)]
    assert merged(workers, 0)["ledger_waiting"] == 5
