"""Calls whose signalling is no plain datagram: TCP, WebSocket, HEP. The recording is the same."""

import pytest

from recorderd.service.engine_settings import EngineSettings
from tests.recorder import assert_exact, record
from tests.simulators.connections import COLLECTOR, Carrier
from tests.simulators.encapsulation import ETHERNET, Encapsulation
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Hold, Move

PLAIN = Encapsulation(ETHERNET)
BOTH = frozenset({"caller", "callee"})

CARRIERS = {
    "tcp": {"over": "tcp"},
    "tcp in small segments": {"over": "tcp", "segment_bytes": 90},
    "tcp out of order": {"over": "tcp", "segment_bytes": 200, "disorder": True},
    "tcp with a connection for each request": {"over": "tcp", "reconnect": True},
    "websocket": {"over": "ws"},
    "websocket in small segments": {"over": "ws", "segment_bytes": 33, "disorder": True},
    "hep": {"over": "hep"},
    "hep and the wire": {"over": "hep", "beside": True},
    "hep that comes late": {"over": "hep", "late_ns": 1_500_000_000},
    "hep of a clock that is wrong": {"over": "hep", "clock_ns": 3600 * 10**9},
}
SCRIPTS = {
    "a call": CallScript(talk_s=4),
    "IPv6": CallScript(talk_s=4, ip_version=6),
    "challenged, held, moved": CallScript(
        talk_s=7, challenge=True, happenings=(Hold(1, 2), Move(5, "callee"))
    ),
    "both behind NAT": CallScript(talk_s=4, nat=BOTH),
}
SETTINGS = EngineSettings(hep_ports=frozenset({COLLECTOR.port}))


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_recording_is_exact(tmp_path, carrier, script):
    simulator = PbxSimulator(seed=31, carrier=Carrier(encapsulation=PLAIN, **CARRIERS[carrier]))
    truth = simulator.add(SCRIPTS[script])
    recorded = record(tmp_path, simulator, settings=SETTINGS)
    for side in (truth.caller, truth.callee):
        assert_exact(recorded, truth, side)
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("complete", "")
    assert len(recorded.rows) == len(recorded.calls) == 1
    counters = recorded.engine.status()["counters"]
    assert counters.get("sip_malformed", 0) == counters.get("frames_tcp_holes", 0) == 0
    assert counters["frames_hep" if "hep" in carrier else "frames_tcp"]


def test_many_calls_share_the_wire_by_every_transport(tmp_path):
    """As a mirror shows them: each packet twice."""
    for number, name in enumerate(CARRIERS):
        simulator = PbxSimulator(
            seed=40 + number, doubles=True, carrier=Carrier(encapsulation=PLAIN, **CARRIERS[name])
        )
        truths = [simulator.add(CallScript(talk_s=3, start_s=0.3 * n)) for n in range(5)]
        folder = tmp_path / str(number)
        folder.mkdir()
        recorded = record(folder, simulator, settings=SETTINGS)
        assert [recorded.call(truth)["outcome"] for truth in truths] == ["complete"] * 5, name
        for truth in truths:
            assert_exact(recorded, truth, truth.caller)
