"""The ledger of several workers, one of which is killed: every call and every recording is in it, once it is
stopped, and it verifies."""

import os
import signal
import time
from pathlib import Path

import pytest

from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_check import RecordingsCheck, check_ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.signing import HostPublic
from tests.live.process import until
from tests.live.test_live_workers import LEAD_NS, Workers, in_background
from tests.network_namespaces import Pair, privileged
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not privileged(), reason="needs root: network namespaces"),
]


@pytest.fixture
def pair():
    made = Pair()
    yield made
    made.remove()


def test_workers_and_a_dead_one_leave_a_whole_ledger(pair: Pair, tmp_path: Path) -> None:
    with Workers(tmp_path, pair.here, 2) as recorder:
        begin_ns = time.time_ns() + LEAD_NS
        simulator = PbxSimulator(seed=8, epoch_ns=begin_ns)
        for number in range(16):
            simulator.add(CallScript(start_s=0.1 * number, ring_s=0.3, talk_s=3.0))
        sending = in_background(simulator.write(tmp_path / "sent.pcap"), pair)
        until(lambda: time.time_ns() > begin_ns + 2_500_000_000, "the time to kill", 20)
        os.kill(recorder.processes()[0], signal.SIGKILL)
        sending.result()
        recorder.until_done()
    recorded = recorder.recorded()
    ledger = Ledger(recorder.spool.path / "ledger")
    entries = [Entry.from_bytes(data) for data in ledger.entries()]
    assert (entries[0].kind, entries[-1].kind) == ("started", "stopped")
    last = {entry.fields["call_id"]: entry.fields for entry in entries if entry.kind == "call"}
    assert {name: fields["outcome"] for name, fields in last.items()} == {
        row["call_id"]: row["outcome"] for row in recorded.calls
    }
    assert {entry.subject for entry in entries if entry.kind == "recording"} == {
        row["id"] for row in recorded.rows
    }
    recordings = RecordingsCheck(recorder.spool)
    verdict = check_ledger(
        ledger.path, HostPublic.load(recorder.spool.host_public_path), each=recordings.entry
    )
    recordings.check(verdict)
    assert verdict.ok, verdict.problems
    assert verdict.signed == verdict.size == len(entries)
