"""Calls whose BYE was not seen end when nothing is heard of them any more."""

import pytest

from recorderd.service.engine_settings import EngineSettings
from tests.recorder import assert_exact, record
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Hold, Pause


def test_a_call_without_bye_ends_where_its_media_did(tmp_path):
    simulator = PbxSimulator(seed=71)
    truth = simulator.add(CallScript(talk_s=6, ending="open"))
    simulator.add(CallScript(start_s=50, talk_s=3))
    recorded = record(tmp_path, simulator, settings=EngineSettings(media_timeout_s=20))
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("complete", "its BYE was not seen: no media for 20 s")
    row = recorded.of(truth)
    assert call["recording"] == row["id"]
    assert row["duration_s"] == pytest.approx(6, abs=0.2)
    _, events = recorded.heard(row)
    assert events[-1]["cause"] == "no media for 20 s"
    assert_exact(recorded, truth, truth.caller)


@pytest.mark.parametrize(
    "script",
    [
        CallScript(talk_s=40, happenings=(Hold(3, 30, style="inactive"),)),
        CallScript(talk_s=40, happenings=(Pause(3, 30),)),
        CallScript(talk_s=16, happenings=(Pause(3, 8), Pause(3, 8, side="callee"))),
        CallScript(talk_s=30, caller_sends=False, callee_sends=False),
    ],
)
def test_a_call_that_may_be_silent_goes_on(tmp_path, script):
    simulator = PbxSimulator(seed=72)
    truth = simulator.add(script)
    simulator.add(CallScript(start_s=60, talk_s=3))
    recorded = record(tmp_path, simulator, settings=EngineSettings(media_timeout_s=15))
    assert "BYE" not in recorded.call(truth)["reason"]
    assert recorded.call(truth)["ended_at"] is not None


def test_without_a_timeout_it_waits(tmp_path):
    simulator = PbxSimulator(seed=73)
    truth = simulator.add(CallScript(talk_s=4, ending="open"))
    simulator.add(CallScript(start_s=60, talk_s=3))
    recorded = record(tmp_path, simulator, settings=EngineSettings(media_timeout_s=0))
    assert recorded.call(truth)["reason"] == "capture ended"
