"""Ports that somebody else uses: the next call, a stranger, another stream of the same sender."""

import pytest

from recorderd.spool.index import Index
from tests.recorder import assert_exact, record
from tests.simulators.encapsulation import Address
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, NewSource, Stranger
from tests.simulators.signals import Noise, Speech

ENDS = {"caller_host": "10.3.0.1", "callee_host": "10.3.0.2", "caller_port": 4000, "callee_port": 6000}


@pytest.mark.parametrize("after_s", [0.05, 0.3, 0.9, 1.5])
@pytest.mark.parametrize("early", [frozenset(), frozenset({"callee"})])
def test_the_next_call_has_the_ports_and_the_ssrcs(tmp_path, after_s, early):
    """A gateway may use everything again at once, the SSRC and its first sequence number too."""
    simulator = PbxSimulator(seed=61)
    first = simulator.add(CallScript(talk_s=4, seed=1, ring_s=0.5, call_id="first@pbx", **ENDS))
    second = simulator.add(
        CallScript(
            caller="1002", call_id="second@pbx", seed=1, start_s=4.5 + after_s, ring_s=0.2, talk_s=4,
            caller_signal=Speech(71), callee_signal=Speech(72), early=early, **ENDS,
        )
    )  # fmt: skip
    assert [first.tracks[side].ssrcs for side in first.tracks] == [
        second.tracks[side].ssrcs for side in second.tracks
    ]
    recorded = record(tmp_path, simulator)
    for truth in (first, second):
        call = recorded.call(truth)
        assert (call["outcome"], call["reason"]) == ("complete", "")
        for side in (truth.caller, truth.callee):
            assert_exact(recorded, truth, side)
            assert recorded.track(recorded.of(truth), side.side)["packets"] == side.packets
    assert recorded.engine.status()["streams"] == 0


def alerts(recorded, kind):
    with Index.open(recorded.spool) as index:
        return [alert for alert in index.alerts_pending(1000) if alert["kind"] == kind]


@pytest.mark.parametrize("spoofed", [False, True])
def test_an_intruder_is_kept_out_and_told_once(tmp_path, spoofed):
    """From another address, or from the very address and port of the caller with an SSRC of his own."""
    simulator = PbxSimulator(seed=62)
    script = CallScript(talk_s=10, happenings=(Stranger(2, 4, toward="callee"), Stranger(7, 2)))
    if spoofed:
        script = CallScript(talk_s=10, happenings=(Stranger(2, 4, toward="callee", spoofed=True),))
    truth, other = simulator.add(script), simulator.add(CallScript(talk_s=5))
    recorded = record(tmp_path, simulator)
    for call in (truth, other):
        for side in (call.caller, call.callee):
            assert_exact(recorded, call, side)
            assert recorded.track(recorded.of(call), side.side)["packets"] == side.packets
        assert recorded.call(call)["outcome"] == "complete"
    (alert,) = alerts(recorded, "intruder")
    assert alert["fields"]["call_id"] == truth.call_id
    assert alert["fields"]["packets"] == truth.stranger_packets
    assert alert["fields"]["streams"] == (1 if spoofed else 2)
    host = str(truth.caller.flows[0][0].host) if spoofed else "10.66.6.6"
    assert f"{host}:" in alert["fields"]["sources"]


def test_a_flood_of_sources_is_one_alert(tmp_path):
    simulator = PbxSimulator(seed=63)
    happenings = tuple(Stranger(1 + 0.05 * n, 0.5, toward="callee") for n in range(100))
    truth = simulator.add(CallScript(talk_s=8, happenings=happenings))
    recorded = record(tmp_path, simulator)
    assert_exact(recorded, truth, truth.caller)
    (alert,) = alerts(recorded, "intruder")
    assert (alert["fields"]["streams"], alert["fields"]["packets"]) == (100, truth.stranger_packets)
    assert len(alert["fields"]["sources"]) < 500


def test_who_begins_anew_is_no_intruder(tmp_path):
    """A new SSRC, its numbers anew, on the same ports; and what the last call left behind on the way."""
    simulator = PbxSimulator(seed=64)
    anew = tuple(NewSource(1.0 + 0.9 * n, side) for n in range(8) for side in ("caller", "callee"))
    truth = simulator.add(CallScript(talk_s=10, happenings=anew, **ENDS))
    later = simulator.add(CallScript(start_s=11.3, ring_s=0.2, talk_s=3, call_id="later@pbx", **ENDS))
    recorded = record(tmp_path, simulator)
    for call in (truth, later):
        for side in (call.caller, call.callee):
            assert_exact(recorded, call, side)
            assert recorded.track(recorded.of(call), side.side)["packets"] == side.packets
    assert alerts(recorded, "intruder") == []
    assert recorded.engine.counters["streams_kept_out"] == 0


def test_an_intruder_who_stays_disturbs_none_of_many_calls(tmp_path):
    """A call after the other, all on the same ports with the same SSRCs; and nothing is left behind."""
    simulator = PbxSimulator(seed=65)
    truths = [
        simulator.add(
            CallScript(
                seed=1, call_id=f"call-{number}@pbx", start_s=number * 2.4, ring_s=0.2, talk_s=2.0,
                caller_signal=Speech(100 + number), callee_signal=Speech(300 + number), **ENDS,
            )
        )
        for number in range(20)
    ]  # fmt: skip
    simulator.send(0.7, 46, Address("10.66.6.6", 666), Address("10.3.0.2", 6000), Noise(3))
    recorded = record(tmp_path, simulator)
    for truth in truths:
        assert recorded.call(truth)["outcome"] == "complete"
        for side in (truth.caller, truth.callee):
            assert_exact(recorded, truth, side)
            assert recorded.track(recorded.of(truth), side.side)["packets"] == side.packets
    told = [alert["fields"]["call_id"] for alert in alerts(recorded, "intruder")]
    assert told
    assert len(told) == len(set(told))
    assert recorded.engine.status()["streams"] == 0
