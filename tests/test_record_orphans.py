"""Media without signalling: ignored and counted, or recorded by its addresses."""

import numpy as np
import pytest

from recorderd.service.engine_settings import EngineSettings
from recorderd.service.orphans import OrphanSettings
from tests.recorder import Recorded, record, record_files, samples
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Refresh


def without_signalling(capture, keep=lambda at_s, text: False) -> None:
    """Make SIP ports of a capture file others, apart from what is to be kept; the sizes stay."""
    data = bytearray(capture.read_bytes())
    at, first = 24, None
    while at < len(data):
        seconds, fraction, length = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (0, 4, 8))
        frame = slice(at + 16, at + 16 + length)
        moment = seconds + fraction / 1e9
        first = moment if first is None else first
        ports = bytes(data[at + 16 + 34 : at + 16 + 38])
        if ports == b"\x13\xc4\x13\xc4" and not keep(moment - first, bytes(data[frame])):
            data[at + 16 + 34 : at + 16 + 38] = b"\x00\x09\x00\x09"
        at += 16 + length
    capture.write_bytes(bytes(data))


def recorded_from(tmp_path, simulator, keep=lambda at_s, text: False, **orphans) -> Recorded:
    capture = simulator.write(tmp_path / "media.pcap")
    without_signalling(capture, keep)
    made = EngineSettings(orphans=OrphanSettings(**{"record": True, **orphans}))
    return record_files(tmp_path, [capture], made)


def test_media_alone_is_recorded_with_both_directions(tmp_path):
    simulator = PbxSimulator(seed=81)
    truth = simulator.add(CallScript(talk_s=12))
    simulator.add(CallScript(start_s=60, talk_s=1))
    recorded = recorded_from(tmp_path, simulator, end_s=10)
    [row] = recorded.rows
    [call] = recorded.calls
    assert (call["outcome"], call["reason"]) == ("partial", "its signalling was not seen")
    assert ":" in call["from"]
    assert ":" in call["to"]
    assert sorted(track["packets"] for track in row["tracks"]) == sorted(
        (truth.caller.packets, truth.callee.packets)
    )
    heard, _ = recorded.heard(row)
    said = {np.trim_zeros(samples(heard, label)).tobytes() for label in ("caller", "callee")}
    assert said == {np.trim_zeros(side.samples()).tobytes() for side in (truth.caller, truth.callee)}
    assert row["review"]["needed"] is False
    # One second of media is too little to be told from anything else.
    assert recorded.engine.counters["streams_unclaimed"] == 2


def test_by_default_it_is_counted_and_ignored(tmp_path):
    simulator = PbxSimulator(seed=82)
    simulator.add(CallScript(talk_s=12))
    simulator.add(CallScript(start_s=30, talk_s=1))
    recorded = recorded_from(tmp_path, simulator, record=False)
    assert recorded.rows == recorded.calls == []
    assert recorded.engine.counters["streams_unclaimed"] >= 2


def test_one_direction_alone(tmp_path):
    simulator = PbxSimulator(seed=83)
    simulator.add(CallScript(talk_s=8, callee_sends=False))
    recorded = recorded_from(tmp_path, simulator)
    assert [[track["label"] for track in row["tracks"]] for row in recorded.rows] == [["caller"]]
    assert recorded.calls[0]["reason"] == "capture ended; its signalling was not seen"


def test_no_more_than_so_many(tmp_path):
    simulator = PbxSimulator(seed=84)
    for _ in range(4):
        simulator.add(CallScript(talk_s=8))
    recorded = recorded_from(tmp_path, simulator, most=2)
    assert len(recorded.rows) == 2
    assert recorded.engine.counters["orphans_over_limit"] > 0


def test_what_signalling_explains_is_no_orphan(tmp_path):
    simulator = PbxSimulator(seed=85)
    truth = simulator.add(CallScript(talk_s=10))
    recorded = record(tmp_path, simulator, settings=EngineSettings(orphans=OrphanSettings(record=True)))
    assert [row["call_ids"] for row in recorded.rows] == [[truth.call_id]]


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_signalling_that_comes_later_takes_over(tmp_path, method):
    """The recorder was started, or the mirror began to work, in the middle of a call."""
    simulator = PbxSimulator(seed=86)
    truth = simulator.add(CallScript(talk_s=20, happenings=(Refresh(10, method=method),)))
    recorded = recorded_from(tmp_path, simulator, lambda at_s, _: at_s > 5)
    if method == "UPDATE":
        assert len(recorded.rows) == 1  # a call is told by its INVITE
        return
    [orphan] = [row for row in recorded.rows if row["call_ids"] != [truth.call_id]]
    call = recorded.of(truth)
    assert orphan["duration_s"] == pytest.approx(10, abs=1.2)
    assert call["duration_s"] == pytest.approx(10, abs=1.2)
    total = sum(track["packets"] for row in (orphan, call) for track in row["tracks"])
    assert total == truth.caller.packets + truth.callee.packets
    assert recorded.call(truth)["outcome"] == "partial"
    assert {one["recording"] for one in call["related"]} == {orphan["id"]}
    assert recorded.engine.counters["orphans_explained"] == 1


def test_one_that_the_media_timeout_ended_is_forgotten(tmp_path):
    """And what comes from there again is recorded anew, however long an orphan may be silent."""
    simulator = PbxSimulator(seed=87)
    simulator.add(CallScript(talk_s=12))
    simulator.add(CallScript(start_s=40, talk_s=90))
    capture = simulator.write(tmp_path / "media.pcap")
    without_signalling(capture)
    orphans = OrphanSettings(record=True, end_s=3600)
    recorded = record_files(tmp_path, [capture], EngineSettings(orphans=orphans, media_timeout_s=10))
    assert len(recorded.rows) == len(recorded.calls) == recorded.engine.counters["orphans"] == 2
    assert sorted(row["duration_s"] for row in recorded.rows) == pytest.approx([12, 90], abs=1)
