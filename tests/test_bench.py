"""The benches measure what they say: their loads are what phones send, and what was recorded wrongly is
found.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recorderd.spool.container import PACKET_ROW
from tests.bench.__main__ import figures, growth
from tests.bench.check import Check
from tests.bench.live.__main__ import measure
from tests.bench.live.account import used
from tests.bench.live.load import BYTES, PERIOD, Load, payloads, speech
from tests.bench.live.recount import as_sent
from tests.bench.live.sender import Pace
from tests.bench.load import staged
from tests.bench.replay import Run, empty_capture, prepare, replay
from tests.bench.scene import Scene
from tests.bench.tmpfs import folder_for
from tests.bench.tracks import RecordedStream
from tests.network_namespaces import privileged
from tests.simulators.script import SideName
from tests.simulators.truth import TrackTruth

SCENE = Scene("g711", calls=3, seconds=2.0, impaired=0.2)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the identity and the spool of the scene's recordings."""
    folder = tmp_path_factory.mktemp("bench")
    config = prepare(folder)
    capture = staged(SCENE).write(folder / "calls.pcap")
    run = replay(capture, config, folder / "spool", folder)
    assert 0 < sum(run.stages.values()) <= run.cpu_s
    assert run.peak_rss_mb > 10
    assert replay(empty_capture(folder), config, folder / "nothing", folder).cpu_s > 0
    return folder


def check_of(folder: Path, scene: Scene) -> Check:
    return Check(folder, folder / "spool", staged(scene).calls)


def test_impaired_calls_are_checked_to_the_packet(replayed: Path) -> None:
    check = check_of(replayed, SCENE)
    assert [*check.accounts(), *check.samples(), *check.packets()] == []


def test_calls_other_than_those_sent_are_found_out(replayed: Path) -> None:
    other = check_of(replayed, replace(SCENE, impaired=0.21))
    assert [*other.accounts()]
    assert [*other.packets()]
    assert "3 recordings of 2 calls" in [*check_of(replayed, SCENE.with_calls(2)).accounts()]
    assert any("not recorded" in problem for problem in check_of(replayed, SCENE.with_calls(4)).accounts())


def test_other_sound_in_the_same_packets_is_found_out(replayed: Path) -> None:
    simulated = staged(SCENE).calls
    call = simulated[1]
    swapped: dict[SideName, TrackTruth] = {"caller": call.callee, "callee": call.caller}
    check = Check(replayed, replayed / "spool", [simulated[0], replace(call, tracks=swapped), simulated[2]])
    found = [*check.packets()]
    assert {problem.split(":")[0].split()[-1] for problem in found} == {"caller", "callee"}


def test_the_line_of_a_scene_has_start_up_taken_off() -> None:
    runs = [Run(cpu, 3.0, 100.0, {"record": 0.5, "seal": 0.1}) for cpu in (2.5, 2.0, 9.0)]
    line = figures(Scene("g711", calls=10, seconds=60.0), runs, 0.5)
    assert line["cpu_s"] == 2.5
    assert line["call_seconds_per_cpu_second"] == 240
    assert line["cpu_net_ms_per_call"] == 200
    assert line["stages"] == {"record": 0.2, "seal": 0.04, "start": 0.2, "other": 0.56}
    dearer = line | {"calls": 100, "cpu_net_ms_per_call": 300}
    ratio = {"bench": "g711 growth", "calls": [10, 100], "cost_per_call_ratio": 1.5}
    assert growth(line, dearer) == ratio


def test_what_does_not_fit_into_memory_is_refused() -> None:
    with pytest.raises(SystemExit, match="are needed"), folder_for(1 << 60):
        pass


def test_live_streams_are_spread_evenly_and_differ() -> None:
    load = Load(calls=3500, seconds=10)
    in_slot = np.bincount(load.slot, minlength=PERIOD)
    assert in_slot.max() - in_slot.min() <= 1
    assert (load.first_tick % PERIOD == load.slot).all()
    streams = np.arange(2 * load.calls)
    assert len(np.unique(load.ssrc)) == len(streams)
    assert len({load.media(stream) for stream in streams.tolist()}) == len(streams)
    assert len(np.unique(load.payload_at(streams, np.full(len(streams), 7)))) == len(streams)


def test_a_live_call_sends_between_its_answer_and_its_bye() -> None:
    load = Load(calls=250, seconds=3)
    for call in (0, 123, 249):
        messages = load.signalling(call)
        (answer,) = [m.time_ns for m in messages if b" 200 OK" in m.payload and b" INVITE" in m.payload]
        (bye,) = [m.time_ns for m in messages if m.payload.startswith(b"BYE")]
        first = load.first_tick[2 * call : 2 * call + 2] * 1_000_000
        last = first + (load.packets - 1) * PERIOD * 1_000_000
        assert (first > answer).all()
        assert (first < answer + 41_000_000).all()
        assert (last < bye).all()
        assert answer / 1e9 < load.steady_from_s
        assert bye / 1e9 >= load.steady_from_s + load.seconds
        assert messages[-1].time_ns / 1e6 < load.ends


def stream_of(load: Load, stream: int) -> RecordedStream:
    """A stream as it is recorded when nothing is lost."""
    number = np.arange(load.packets)
    rows = np.zeros(load.packets, PACKET_ROW)
    rows["seq"] = int(load.first_seq[stream]) + number
    rows["timestamp"] = (int(load.first_timestamp[stream]) + number * BYTES) & 0xFFFFFFFF
    rows["size"] = BYTES
    rows["payload_type"][0] = 0x80
    pool = speech()
    starts = load.payload_at(np.full(load.packets, stream), number)
    payload = np.concatenate([pool[start : start + BYTES] for start in starts.tolist()])
    return RecordedStream(int(load.ssrc[stream]), rows, payload)


def test_the_recount_finds_every_packet_that_is_not_as_sent() -> None:
    load = Load(calls=2, seconds=1400)  # more packets than sequence numbers
    pool = payloads(speech())
    whole = stream_of(load, 1)
    assert load.packets > 1 << 16
    assert as_sent(load, 1, whole, pool) == load.packets
    assert as_sent(load, 3, whole, pool) == 0

    changed = whole.payload.copy()
    changed[70_000 * BYTES + 5] ^= 1
    assert as_sent(load, 1, replace(whole, payload=changed), pool) == load.packets - 1

    kept = np.ones(load.packets, bool)
    kept[100:1100] = False
    fewer = RecordedStream(whole.ssrc, whole.rows[kept], whole.payload[np.repeat(kept, BYTES)])
    assert as_sent(load, 1, fewer, pool) == load.packets - 1000

    late = whole.rows.copy()
    late["timestamp"][7] += 1
    assert as_sent(load, 1, replace(whole, rows=late), pool) == load.packets - 1


def test_the_sender_tells_how_late_it_was() -> None:
    pace = Pace(0, ticks=2)  # due at the start of this machine's clock
    pace.wait(1)
    pace.done(1)
    assert pace.late_ns.tolist()[0] == 0
    assert pace.late_ns.tolist()[1] > 0


def test_cpu_time_counts_children_too() -> None:
    before = used(os.getpid()).total_s
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    assert used(os.getpid()).total_s >= before + 0.05


@pytest.mark.skipif(not privileged(), reason="needs root")
def test_a_live_load_is_recorded_to_the_byte() -> None:
    line = measure(Load(calls=3, seconds=1), ring_mb=8)
    assert line["correct"], json.dumps(line)
    assert line["calls_exact"] == line["calls_complete"] == 3
    assert line["packets"] == line["packets_sent"] == 6 * Load(3, 1).packets
    assert (line["drops"], line["lost_before_the_tap"], line["lost_said"]) == (0, 0, 0)
