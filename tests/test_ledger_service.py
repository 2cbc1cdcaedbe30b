"""The ledger as the services keep it: what is recorded, judged and alerted is entered, also after a crash."""

import hashlib
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from recorderd.errors import DiskFull, SpoolError
from recorderd.service.journal import Journal
from recorderd.service.notary import Notary
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_check import RecordingsCheck, check_ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import call_entry, enter, ledger_of, reconcile
from recorderd.spool.times import rfc3339
from tests.commands import configure, run
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript
from tests.spool_builder import make_desk, summary
from tests.standalone import alone
from tests.tools_runner import recorderctl

NEVER_S = 3600.0


def entries(ledger: Ledger, kind: str | None = None) -> list[Entry]:
    found = [Entry.from_bytes(data) for data in ledger.entries()]
    return [entry for entry in found if kind in (None, entry.kind)]


def call_row(number: int = 0, **more: object) -> dict[str, object]:
    row = {"call_id": f"call-{number}@192.0.2.1", "from": "1001", "to": "200", "outcome": "complete"}
    times = {"first_seen": f"2026-11-21T20:05:{number:02d}.000Z", "answered_at": None, "ended_at": None}
    return {**row, **times, "reason": "", "recording": None, **more}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spool into which three calls were replayed, numbers masked."""
    folder = tmp_path_factory.mktemp("recorded")
    simulator = PbxSimulator(seed=1)
    for number in range(3):
        simulator.add(CallScript(talk_s=1.5, start_s=number * 0.5))
    capture = simulator.write(folder / "calls.pcap")
    config = configure(folder, "privacy: {mask_numbers: {manifest: true}}\n")
    answer = run("recorderd", "replay", "-c", config, capture)
    assert answer.code == 0, answer.err
    return folder


def test_everything_that_happened_is_entered_and_signed(recorded: Path) -> None:
    ledger = Ledger(recorded / "spool/ledger")
    kinds = [entry.kind for entry in entries(ledger)]
    assert kinds[0] == "started"
    assert kinds[-1] == "stopped"
    assert kinds.count("recording") == 3
    assert kinds.count("call") == 3
    stated = ledger.stated()
    assert stated is not None
    assert stated.size == len(kinds)
    for entry in entries(ledger, "recording"):
        (path,) = (recorded / "spool").rglob(f"{entry.subject}.rec")
        assert entry.fields["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        stated_by = hashlib.sha256(path.with_suffix(".json").read_bytes()).hexdigest()
        assert entry.fields["manifest_sha256"] == stated_by


def test_numbers_are_masked_as_privacy_says(recorded: Path) -> None:
    calls = entries(Ledger(recorded / "spool/ledger"), "call")
    assert all(re.fullmatch(r"[^*]*\*+[^*]*", call.fields[side]) for call in calls for side in ("from", "to"))


def test_the_index_knows_each_entry(recorded: Path) -> None:
    answer = recorderctl("--spool", recorded / "spool", "--json", "ledger", "list", "--limit", "1000")
    assert answer.code == 0
    with Index.read(Spool(recorded / "spool")) as index:
        rows = index.ledger_rows()
    assert [(row["leaf"], row["kind"], row["subject"]) for row in rows] == [
        (each["leaf"], each["kind"], each["subject"]) for each in answer.json
    ]


def test_verify_agrees_and_sees_another_recording(recorded: Path) -> None:
    answer = recorderctl("--spool", recorded / "spool", "--json", "ledger", "verify")
    assert answer.code == 0, answer.out
    assert answer.json["recordings"] == 3
    path = next((recorded / "spool").rglob("*.rec"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    try:
        answer = recorderctl("--spool", recorded / "spool", "--json", "ledger", "verify")
    finally:
        path.write_bytes(data)
    assert answer.code == 20
    assert answer.json["problems"] == [f"{path}: not the file that was entered"]


def test_a_proof_is_of_the_recording_and_its_calls(recorded: Path, tmp_path: Path) -> None:
    name = next((recorded / "spool").rglob("*.rec")).stem
    answer = recorderctl("--spool", recorded / "spool", "ledger", "prove", name, "-o", tmp_path / "proof")
    assert answer.code == 0, answer.err
    proof = json.loads((tmp_path / "proof").read_text())
    assert [json.loads(each["entry"])["kind"] for each in proof["entries"]] == ["recording", "call"]
    nobody = recorderctl("--spool", recorded / "spool", "ledger", "prove", "2", "-o", tmp_path / "other")
    assert nobody.code == 22


def test_without_a_ledger_there_is_none(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=1)
    simulator.add(CallScript(talk_s=1.0))
    config = configure(tmp_path, "ledger: {enabled: false}\n")
    answer = run("recorderd", "replay", "-c", config, simulator.write(tmp_path / "calls.pcap"))
    assert answer.code == 0, answer.err
    assert not (tmp_path / "spool/ledger").exists()


# Crashes between the index and the ledger


def test_what_a_crash_kept_out_is_entered_at_the_next_start(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        sealed = [desk.record(number) for number in range(3)]
        for number, each in enumerate(sealed):
            desk.enter(index, each, number)
            index.call_saved(call_row(number, recording=each.recording))
        index.call_noted(call_row(9, outcome=None))
        ledger = ledger_of(desk.spool)
        # It died behind the first recording and before the index was told of that.
        ledger.append([call_entry(call_row(0), 5)])
        keeper = Notary(desk.spool, index, desk.signer, "pbx.example", NEVER_S)
        keeper.close()
        found = entries(ledger)
        assert [entry.subject for entry in found if entry.kind == "recording"] == [
            each.recording for each in sealed
        ]
        assert sorted(entry.fields["call_id"] for entry in found if entry.kind == "call") == [
            f"call-{number}@192.0.2.1" for number in range(3)
        ]
        assert reconcile(desk.spool, ledger, index) == 0
        assert index.ledger_known() == ledger.size
    recordings = RecordingsCheck(desk.spool)
    verdict = check_ledger(ledger.path, desk.signer.public, each=recordings.entry)
    recordings.check(verdict)
    assert verdict.ok, verdict.problems
    assert verdict.recordings == 3
    assert verdict.signed == verdict.size


def test_an_entry_that_the_ledger_lost_again_is_an_alert(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        ledger = ledger_of(desk.spool)
        enter(ledger, index, [call_entry(call_row(number), number) for number in range(5)])
        bundle = ledger.path / "tile/entries/000"
        first = next(ledger.entries())
        os.truncate(bundle, 2 + len(first))
        Notary(desk.spool, index, desk.signer, "pbx.example", NEVER_S).close()
        (alert,) = [each for each in index.alerts_pending() if each["kind"] == "ledger"]
        assert "3 entries are gone" in alert["fields"]["error"]


# A ledger that fails


class FullLedger(Ledger):
    """A ledger on a disk that is full for a while."""

    full = True

    def append(self, new):
        if self.full:
            raise DiskFull(f"{self.path}: no space left")
        return super().append(new)


def test_a_ledger_that_fails_stops_nothing_and_is_caught_up(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    ledger = FullLedger(desk.spool.path / "ledger")
    with Index.open(desk.spool) as index:
        journal = Journal(index, pytest.fail, NEVER_S, ledger=ledger)
        for number in range(3):
            journal.add("call_saved", call_row(number))
        journal.settle()
        journal.settle()
        with Index.open(desk.spool) as other:
            assert len(other.calls()) == 3
            assert [alert["kind"] for alert in other.alerts_pending()] == ["ledger"]
        assert ledger.size == 0
        ledger.full = False
        journal.settle()
        assert [entry.kind for entry in entries(ledger)] == ["call", "call", "call", "alert"]
        assert [entry.fields["call_id"][:6] for entry in entries(ledger)[:3]] == [
            "call-0",
            "call-1",
            "call-2",
        ]
        journal.close()
        assert index.ledger_known() == 4


def test_what_another_entered_meanwhile_is_not_entered_again(tmp_path: Path) -> None:
    """The index knows what waits for the ledger, and a worker dies: the notary enters what the index has."""
    desk = make_desk(tmp_path)
    ledger = FullLedger(desk.spool.path / "ledger")
    with Index.open(desk.spool) as index, Index.open(desk.spool) as own:
        keeper = Notary(desk.spool, own, desk.signer, "pbx.example", NEVER_S)
        keeper.settle()
        journal = Journal(index, pytest.fail, NEVER_S, ledger=ledger)
        journal.add("call_saved", call_row(0, first_seen=rfc3339(time.time_ns() // 1000)))
        journal.settle()
        keeper.settle()
        assert len(entries(ledger, "call")) == 1
        journal.add("call_saved", call_row(1))
        ledger.full = False
        journal.settle()
        journal.close()
        keeper.close()
        assert index.ledger_known() == ledger.size
    assert [entry.fields["call_id"][:6] for entry in entries(ledger, "call")] == ["call-0", "call-1"]


def test_a_damaged_ledger_is_an_alert_and_recording_goes_on(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        keeper = Notary(desk.spool, index, desk.signer, "pbx.example", NEVER_S)
        keeper.close()
        (desk.spool.path / "ledger/tile/entries/000").write_bytes(b"")
        keeper = Notary(desk.spool, index, desk.signer, "pbx.example", NEVER_S)
        keeper.close()
        alerts = [each["fields"]["error"] for each in index.alerts_pending()]
        assert any("entries that were there are missing" in alert for alert in alerts)


@pytest.mark.parametrize("moment", ["index", "ledger"])
def test_a_killed_recorder_has_entered_every_recording_after_its_next_start(tmp_path: Path, moment) -> None:
    desk = make_desk(tmp_path)
    sealed = [desk.record(number) for number in range(4)]
    pid = os.fork()
    if pid == 0:
        try:
            index = Index.open(desk.spool)
            journal = Journal(index, print, NEVER_S, ledger=ledger_of(desk.spool))
            for number, each in enumerate(sealed):
                where = (each.path, each.sha256, each.bytes)
                journal.add("recording_finished", each.recording, "sealed", summary(number), *where)
            if moment == "ledger":
                journal.settle()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    with Index.open(desk.spool) as index:
        if moment == "index":
            for number, each in enumerate(sealed):
                desk.enter(index, each, number)
        Notary(desk.spool, index, desk.signer, "pbx.example", NEVER_S).close()
    found = entries(ledger_of(desk.spool), "recording")
    assert [entry.subject for entry in found] == [each.recording for each in sealed]


def test_an_unreadable_ledger_raises_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("no folder")
    with pytest.raises(SpoolError):
        Ledger(tmp_path / "ledger").append([Entry("started", 1, "x")])


# With a remote


def test_a_ledger_that_was_set_back_is_seen_by_the_copy_at_a_remote(tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    config = configure(tmp_path, f"sync: {{remotes: [{{name: nas, type: file, path: {tmp_path}/remote}}]}}\n")
    simulator = PbxSimulator(seed=1)
    simulator.add(CallScript(talk_s=1.0))
    answer = run("recorderd", "replay", "-c", config, simulator.write(tmp_path / "calls.pcap"))
    assert answer.code == 0, answer.err
    ledger = tmp_path / "spool/ledger"
    shutil.copytree(ledger, tmp_path / "before")
    enter(Ledger(ledger), None, [Entry("export", 1, "20261121T200501Z-0123456789", {"by": "somebody"})])
    told = recorderctl("-c", config, "ledger", "checkpoint")
    assert told.code == 0
    assert told.out.encode() == (ledger / "checkpoint").read_bytes()
    assert recorderctl("-c", config, "sync").code == 0
    against = ("ledger", "verify", "--against", tmp_path / "remote/ledger")
    assert recorderctl("-c", config, *against).code == 0
    copy = recorderctl("--spool", tmp_path / "remote", "--json", "ledger", "verify")
    assert copy.code == 0, copy.out
    assert copy.json["recordings"] == 1
    words = ("--host-key", tmp_path / "remote/host.pub", "--ledger", tmp_path / "remote/ledger")
    assert alone.main([str(word) for word in words]) == 0
    since = ("ledger", "prove", "--since", tmp_path / "before/checkpoint", "-o", tmp_path / "since")
    assert recorderctl("-c", config, *since).code == 0
    words = ("--host-key", tmp_path / "remote/host.pub", "--consistency", tmp_path / "since")
    assert alone.main([str(word) for word in words]) == 0
    shutil.rmtree(ledger)
    (tmp_path / "before").rename(ledger)
    assert recorderctl("-c", config, "ledger", "verify").code == 0  # it knows nothing of later
    seen = recorderctl("-c", config, "--json", *against)
    assert seen.code == 20
    later = (*since[:3], tmp_path / "remote/ledger/checkpoint", *since[4:])
    assert recorderctl("-c", config, *later).code == 20
    assert "set back or cut" in seen.json["problems"][0]
