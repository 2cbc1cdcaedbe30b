"""Whose fault a loss is, by what the listener's end reports."""

import pytest

from tests.recorder import record
from tests.simulators.pbx import PbxSimulator
from tests.simulators.rtcp import Reporting, received_by_listener, reports
from tests.simulators.script import CallScript, Impairment


def recorded_with(tmp_path, how, **script):
    simulator = PbxSimulator(seed=41)
    truth = simulator.add(CallScript(**{"talk_s": 40, **script}))
    for report in reports(truth, how):
        simulator.say(*report)
    recorded = record(tmp_path, simulator)
    return truth, recorded, recorded.of(truth)


def causes(row, side):
    return [cause for cause in row["review"]["causes"] if cause.startswith(side)]


@pytest.mark.parametrize("way", [{}, {"mux": True}, {"apart": 7}])
@pytest.mark.parametrize("version", [4, 6])
def test_without_loss_the_listener_had_everything(tmp_path, way, version):
    _, recorded, row = recorded_with(tmp_path, Reporting(**way), ip_version=version)
    assert recorded.engine.counters["rtcp_malformed"] == 0
    for side in ("caller", "callee"):
        told = recorded.track(row, side)["rtcp"]
        assert (told["receiver_lost"], told["lost_behind"], told["lost_here_alone"]) == (0, 0, 0)
        assert told["reports"] >= 7
        assert told["receiver_jitter_ms"] == 5.0
        assert told["round_trip_ms"] == pytest.approx(30, abs=0.2)
    assert row["review"]["causes"] == []


def test_a_network_that_loses_before_the_recorder(tmp_path):
    _, recorded, row = recorded_with(tmp_path, Reporting(), caller_network=Impairment(loss=0.05))
    told = recorded.track(row, "caller")["rtcp"]
    assert told["receiver_lost"] > 50
    # The last packets are lost after the last report.
    assert told["lost_behind"] == 0
    assert told["lost_here_alone"] <= 3
    (cause,) = causes(row, "caller")
    assert cause.endswith("% of packets lost before they came by")
    assert causes(row, "callee") == []


def test_a_network_that_loses_behind_the_recorder(tmp_path):
    how = Reporting(lost_behind=0.06)
    truth, recorded, row = recorded_with(tmp_path, how)
    for side in ("caller", "callee"):
        track = recorded.track(row, side)
        missed = int((~received_by_listener(truth, how)[side]).sum())
        assert track["lost"] == 0
        assert 0.8 * missed < track["rtcp"]["lost_behind"] <= missed
        (cause,) = causes(row, side)
        assert cause.endswith("% of packets lost behind the recorder")


def test_a_mirror_that_loses_what_the_listener_had(tmp_path):
    _, recorded, row = recorded_with(
        tmp_path, Reporting(had_anyway=0.95), callee_network=Impairment(loss=0.05)
    )
    told = recorded.track(row, "callee")["rtcp"]
    assert told["lost_here_alone"] > 50
    (cause,) = causes(row, "callee")
    assert cause.endswith("% of packets lost on the way to the recorder alone")


def test_without_reports_nothing_is_said(tmp_path):
    simulator = PbxSimulator(seed=41)
    truth = simulator.add(CallScript(caller_network=Impairment(loss=0.05)))
    recorded = record(tmp_path, simulator)
    row = recorded.of(truth)
    assert recorded.track(row, "caller")["rtcp"] is None
    (cause,) = causes(row, "caller")
    assert cause.endswith("% of packets lost")


def test_the_speakers_own_clock(tmp_path):
    _, recorded, row = recorded_with(
        tmp_path, Reporting(every_s=10), talk_s=400, ptime_ms=60, caller_drift_ppm=200, callee_drift_ppm=-200
    )
    for side, ppm in (("caller", 200), ("callee", -200)):
        track = recorded.track(row, side)
        assert track["rtcp"]["sender_drift_ppm"] == pytest.approx(ppm, abs=2)
        assert track["clock_ppm"] == pytest.approx(ppm, abs=3)


@pytest.mark.parametrize("garbage", [b"\x80\xc8\0\x40" + bytes(60), b"\x81\xc9\0\x01\0\0\0\1", b"\x80\xc8"])
def test_damaged_reports_are_counted(tmp_path, garbage):
    simulator = PbxSimulator(seed=42)
    truth = simulator.add(CallScript(talk_s=4))
    track = truth.caller
    for n in range(20):
        simulator.say(track.start_ns + n * 10**8, *track.flows[0], garbage + bytes(8 * (n % 2)))
    recorded = record(tmp_path, simulator)
    row = recorded.of(truth)
    assert recorded.track(row, "caller")["rtcp"] is None
    assert recorded.engine.counters["rtcp_malformed"] == (20 if len(garbage) > 2 else 10)
    assert recorded.call(truth)["outcome"] == "complete"
