"""What is recorded of simulated calls is what was said, sample by sample, each speaker in the right place."""

import numpy as np
import pytest
from opuslib_next import Decoder

from recorderd.spool.reader import Recording
from recorderd.tools.listening import hear, stereo
from tests.recorder import assert_exact, record, samples
from tests.simulators.pbx import PbxSimulator
from tests.simulators.scenes import mixed_calls
from tests.simulators.script import CallScript, Impairment, OpusSettings

BAD = Impairment(loss=0.01, reorder=0.02, duplicate=0.01, jitter_ms=8)


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
def test_a_minute_of_g711_is_exact(tmp_path, codec):
    simulator = PbxSimulator(seed=1)
    truth = simulator.add(CallScript(codec=codec, talk_s=60))
    recorded = record(tmp_path, simulator)
    for side in (truth.caller, truth.callee):
        assert_exact(recorded, truth, side)
        track = recorded.track(recorded.of(truth), side.side)
        assert (track["packets"], track["lost"], track["late"], track["duplicates"]) == (
            side.packets,
            0,
            0,
            0,
        )
        assert track["codec"] == codec
        assert track["gaps"] == []
    assert recorded.call(truth)["outcome"] == "complete"
    assert recorded.call(truth)["recording"] == recorded.of(truth)["id"]
    assert recorded.engine.counters["streams_unclaimed"] == 0


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
def test_a_minute_of_g711_over_a_bad_network(tmp_path, codec):
    simulator = PbxSimulator(seed=2)
    truth = simulator.add(CallScript(codec=codec, talk_s=60, caller_network=BAD, callee_network=BAD))
    recorded = record(tmp_path, simulator)
    row = recorded.of(truth)
    for side in (truth.caller, truth.callee):
        assert_exact(recorded, truth, side)
        track = recorded.track(row, side.side)
        assert side.lost > 5
        assert side.duplicates > 5
        assert (track["packets"], track["lost"]) == (side.packets, side.lost_between)
        assert track["duplicates"] == side.duplicates
        # Each gap is listed, where it was and as long as it was, to the packet.
        inner = [p for p in side.lost_packets if p.position > side.heard_from]
        expected = [(side.time_of(p.position), p.length) for p in inner]
        expected = [(t, n) for t, n in expected if t < side.time_of(int(side.arrived["position"][-1]))]
        listed = [
            (gap["at_s"] + 0.02 * part)
            for gap in track["gaps"]
            for part in range(round(gap["length_s"] / 0.02))
        ]
        heard, _ = recorded.heard(row)
        assert len(listed) == len(expected)
        for at, (true_ns, _) in zip(listed, expected, strict=True):
            assert abs(at - (true_ns / 1000 - heard.start_us) / 1e6) < 0.02


@pytest.mark.parametrize("ptime_ms", [10, 30, 40, 60])
def test_packet_times(tmp_path, ptime_ms):
    simulator = PbxSimulator(seed=3)
    truth = simulator.add(CallScript(ptime_ms=ptime_ms, talk_s=8, caller_network=Impairment(loss=0.03)))
    recorded = record(tmp_path, simulator)
    assert_exact(recorded, truth, truth.caller)
    assert_exact(recorded, truth, truth.callee)


@pytest.mark.parametrize(
    "settings",
    [
        OpusSettings(),
        OpusSettings(channels=2, bitrate=64000),
        OpusSettings(bandwidth="nb", bitrate=12000),
        OpusSettings(inband_fec=True),
    ],
)
def test_opus_is_libopus_own_decode(tmp_path, settings):
    simulator = PbxSimulator(seed=4)
    truth = simulator.add(CallScript(codec="opus", opus=settings, talk_s=12))
    recorded = record(tmp_path, simulator)
    heard, _ = recorded.heard(recorded.of(truth))
    for side in (truth.caller, truth.callee):
        channels = 2 if heard.tracks[side.side].stereo() else 1
        assert channels == settings.channels
        got = np.concatenate(list(heard.tracks[side.side].blocks(heard.start_us, 48_000, channels)))
        decoder = Decoder(48_000, channels)
        expected = np.concatenate(
            [np.frombuffer(decoder.decode(p, 5760), np.int16).reshape(-1, channels) for p in side.payloads()]
        )
        lead = len(got) - len(expected)
        assert abs(lead - (side.start_ns / 1000 - heard.start_us) * 48_000 / 1e6) <= 960
        assert not got[:lead].any()
        assert np.array_equal(got[lead:], expected)


def test_two_hundred_calls_and_none_is_swapped(tmp_path):
    simulator = PbxSimulator(seed=5)
    truths = [simulator.add(script) for script in mixed_calls(200, seed=5, talk_s=2.5, spread_s=20)]
    recorded = record(tmp_path, simulator)
    assert len(recorded.rows) == 200
    for truth in truths:
        row = recorded.of(truth)
        assert (row["from"], row["to"]) == (truth.script.caller, truth.script.callee)
        with Recording.open(recorded.spool.record_path(row["id"]), recorded.identities) as recording:
            heard = hear(recording)
        both = np.concatenate(list(stereo(heard, 8000)))
        for channel, side in ((0, truth.caller), (1, truth.callee)):
            expected = np.trim_zeros(side.samples())
            got = np.trim_zeros(both[:, channel])
            assert np.array_equal(got, expected), (truth.call_id, side.side)
        assert recorded.call(truth)["outcome"] == "complete"


def test_the_same_capture_twice_gives_the_same(tmp_path):
    scripts = mixed_calls(12, seed=6, talk_s=4, spread_s=3)
    results = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        simulator = PbxSimulator(seed=6)
        for script in scripts:
            simulator.add(script)
        recorded = record(folder, simulator)
        rows = [{k: v for k, v in row.items() if k not in ("id", "sha256")} for row in recorded.rows]
        calls = [{k: v for k, v in call.items() if k != "recording"} for call in recorded.calls]
        audio = [
            samples(recorded.heard(row)[0], label).tobytes()
            for row in recorded.rows
            for label in ("caller", "callee")
        ]
        results.append((rows, calls, audio))
    assert results[0] == results[1]
