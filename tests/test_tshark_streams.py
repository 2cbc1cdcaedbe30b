"""What ``tshark -z rtp,streams`` says of a capture, and what the recorder says: the same, or why not.

Wireshark counts duplicates among the packets and takes them off the lost ones, so that two doubled packets
hide two that are missing. Where the first packet is overtaken it begins to count with the second. It sees
streams where the recorder sees speakers. All else is equal.
"""

import shutil

import pytest

from tests.live.tshark import RtpStream, tshark_rtp_streams
from tests.recorder import Recorded, record_files
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Impairment, OpusSettings, Pause
from tests.simulators.truth import CallTruth, TrackTruth
from tests.test_record_scenes import SCENES

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

NETWORKS = {
    "loss": Impairment(loss=0.03),
    "loss in bursts": Impairment(loss=0.05, burst=6),
    "jitter": Impairment(jitter_ms=12),
    "duplicates": Impairment(duplicate=0.05),
    "everything": Impairment(loss=0.02, burst=2, jitter_ms=8, duplicate=0.02),
}


def both(tmp_path, *scripts: CallScript) -> tuple[list[CallTruth], Recorded, list[RtpStream]]:
    simulator = PbxSimulator(seed=51)
    truths = [simulator.add(script) for script in scripts]
    path = simulator.write(tmp_path / "capture.pcap")
    return truths, record_files(tmp_path, [path]), tshark_rtp_streams(path)


def of_speaker(streams: list[RtpStream], track: TrackTruth) -> list[RtpStream]:
    """The streams that a speaker sent."""
    return [s for s in streams if (s.source, s.destination) in track.flows and s.ssrc in track.ssrcs]


def compare(recorded: Recorded, truth: CallTruth, streams: list[RtpStream]) -> None:
    row = recorded.of(truth)
    for side in (truth.caller, truth.callee):
        mine = of_speaker(streams, side)
        track = recorded.track(row, side.side)
        assert track["packets"] + track["duplicates"] == sum(s.packets for s in mine)
        assert track["lost"] - track["duplicates"] == sum(s.lost for s in mine)
        if len(mine) == 1 and not truth.script.happenings:
            # Of duplicates, which are no packets here, Wireshark tells that they come too soon.
            close = 0.3 if track["duplicates"] else 0.006
            assert track["jitter_ms"] == pytest.approx(mine[0].jitter_ms, rel=0.002, abs=close)


@pytest.mark.parametrize("name", SCENES)
def test_scenes(tmp_path, name):
    (truth,), recorded, streams = both(tmp_path, SCENES[name])
    compare(recorded, truth, streams)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(tmp_path, name):
    network = NETWORKS[name]
    truths, recorded, streams = both(
        tmp_path,
        CallScript(talk_s=30, caller_network=network, callee_network=network),
        CallScript(talk_s=20, caller_network=network, codec="opus", opus=OpusSettings(dtx=True)),
        CallScript(talk_s=20, callee_network=network, happenings=(Pause(5, 6),), ptime_ms=40),
    )
    for truth in truths:
        compare(recorded, truth, streams)


def test_packets_that_overtake(tmp_path):
    """Who overtakes is not late nor lost, whatever the order; only the jitter depends on it."""
    network = Impairment(jitter_ms=50, reorder=0.05, reorder_ms=120, loss=0.02)
    (truth,), recorded, streams = both(tmp_path, CallScript(talk_s=30, caller_network=network))
    track, (stream,) = recorded.track(recorded.of(truth), "caller"), of_speaker(streams, truth.caller)
    assert track["packets"] == stream.packets
    assert track["lost"] - stream.lost in (0, 1, 2, 3)
    assert track["lost"] == truth.caller.lost_between
    assert track["jitter_ms"] == pytest.approx(stream.jitter_ms, rel=0.25)
