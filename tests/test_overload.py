"""What is left out when there is too much to do: in order, told, and nothing else with it."""

import numpy as np
import pytest

from recorderd.capture.files import open_capture
from recorderd.media.table import PacketTable
from recorderd.service.engine import Engine
from recorderd.service.engine_settings import Bounds, EngineSettings
from recorderd.service.overload import (
    FILL,
    FULL,
    GIVE_UP_S,
    HOLD_S,
    LAG_FULL_S,
    Level,
    Overload,
    shortage,
)
from tests.media_builder import packets
from tests.recorder import Recorded, assert_exact, record_by
from tests.simulators.pbx import EPOCH_NS, PbxSimulator
from tests.simulators.script import CallScript

SECOND = 1_000_000_000


def test_each_level_begins_as_the_ring_fills():
    overload, now = Overload(), 100.0
    assert overload.look(0.1, 10, now, 1.0) == 0
    assert overload.level is Level.NONE
    for level, fill in FILL.items():
        overload.look(fill, 10, now, 1.0)
        assert overload.level is level
        now += 0.02


def test_levels_are_left_one_by_one_when_it_is_calm():
    overload = Overload()
    overload.look(FILL[Level.NO_NEW_CALLS], 10, 0.0, 1.0)
    seen = []
    for tenth in range(1, int(HOLD_S * 25)):
        overload.look(0.0, 10, tenth / 10, 1.0)
        seen.append(overload.level)
    assert list(dict.fromkeys(seen)) == [Level.NO_NEW_CALLS, Level.NO_QUALITY, Level.NONE]


def test_a_ring_that_is_neither_full_nor_calm_changes_nothing():
    overload = Overload()
    overload.look(FILL[Level.NO_QUALITY], 10, 0.0, 1.0)
    for second in range(1, 100):
        overload.look(0.2, 10, second, 1.0)
        assert overload.level is Level.NO_QUALITY


def test_calls_are_given_up_in_rounds_until_there_is_room():
    overload, calls, now = Overload(), 100, 0.0
    while now < 10 * GIVE_UP_S:
        calls -= overload.look(0.9, calls, now, 1.0)
        now += GIVE_UP_S / 4
    assert 30 < calls < 50
    assert overload.budget == calls
    assert overload.look(0.3, calls, now, 1.0) == 0
    overload.look(0.0, calls, now, 1.0)
    overload.look(0.0, calls, now + HOLD_S, 1.0)
    assert overload.budget is not None
    assert overload.budget > calls


def test_who_works_off_what_waits_gives_nothing_up():
    overload = Overload()
    assert overload.look(0.9, 100, 0.0, 0.3) == 0  # one bad second may be the host's
    assert overload.look(0.9, 100, 1.0, 3.0) == 0
    assert overload.look(0.9, 100, 2.0, None) == 0
    assert overload.level is Level.FEWER_CALLS
    assert overload.look(0.9, 100, 4.0, 0.7) == 37  # nine tenths of what it kept pace with stay
    assert overload.look(FULL, 63, 5.0, 0.1) == 31  # what is lost now is lost by all


def test_what_waits_outside_the_ring_counts_too():
    assert shortage(0.3, 0.0) == 0.3
    assert shortage(0.1, LAG_FULL_S / 2) == 0.5
    assert FILL[Level.FEWER_CALLS] < shortage(0.1, 100.0) < FULL


def calls(count: int) -> PbxSimulator:
    simulator = PbxSimulator(seed=5)
    for number in range(count):
        script = CallScript(
            caller=str(100 + number), callee=str(900 + number), start_s=number * 0.5, talk_s=8
        )
        simulator.add(script)
    return simulator


def record_with(tmp_path, simulator: PbxSimulator, at_s: float, then) -> Recorded:
    """Record, and do something to the engine once the calls have run for ``at_s``."""
    capture = tmp_path / "calls.pcap"
    simulator.write(capture)

    def feed(engine: Engine) -> None:
        left = [then]
        for frames in open_capture(capture):
            if frames.unfinished:
                engine.feed(frames)
                continue
            for step in range(int(frames.time_ns[0]), int(frames.time_ns[-1]) + SECOND // 4, SECOND // 4):
                now = (frames.time_ns >= step) & (frames.time_ns < step + SECOND // 4)
                if left and step >= EPOCH_NS + at_s * SECOND:
                    left.pop()(engine)
                columns = (frames.time_ns, frames.data, frames.caplen, frames.wirelen)
                engine.feed(type(frames)(frames.link, *(column[now] for column in columns)))
                engine.advance(step)
        engine.finish("capture ended")

    return record_by(tmp_path, feed)


def test_calls_that_begin_too_late_are_accounted_for_and_the_others_exact(tmp_path):
    simulator = calls(6)

    def refuse(engine: Engine) -> None:
        engine.recordings.level = Level.NO_NEW_CALLS

    recorded = record_with(tmp_path, simulator, 4, refuse)
    rows = map(recorded.call, simulator.calls)
    outcomes = [(row["outcome"], row["reason"]) for row in rows]
    begun = len(recorded.rows)
    assert 0 < begun < 6
    assert outcomes == [("complete", "")] * begun + [("missing", "recorder overloaded")] * (6 - begun)
    for truth in simulator.calls[:begun]:
        for side in (truth.caller, truth.callee):
            assert_exact(recorded, truth, side)
            assert recorded.track(recorded.of(truth), side.side)["measured"] < 1
    assert recorded.engine.counters["calls_refused"] == 6 - begun
    assert recorded.engine.counters["packets_shed"] > 0


def test_a_budget_refuses_what_is_beyond_it(tmp_path):
    simulator = calls(5)

    def limit(engine: Engine) -> None:
        engine.recordings.budget = 3

    recorded = record_with(tmp_path, simulator, 0, limit)
    outcomes = [recorded.call(truth)["outcome"] for truth in simulator.calls]
    assert outcomes == ["complete"] * 3 + ["missing"] * 2


def test_the_newest_calls_are_given_up_and_say_since_when(tmp_path):
    simulator = calls(4)
    recorded = record_with(tmp_path, simulator, 6, lambda engine: engine.give_up(2))
    for truth in simulator.calls[:2]:
        assert recorded.call(truth)["outcome"] == "complete"
        for side in (truth.caller, truth.callee):
            assert_exact(recorded, truth, side)
    for truth in simulator.calls[2:]:
        call, row = recorded.call(truth), recorded.of(truth)
        assert (call["outcome"], call["reason"]) == ("partial", "recorder overloaded")
        assert [track["lost"] for track in row["tracks"]] == [0, 0]
        assert 2 < row["duration_s"] < 6
        _, events = recorded.heard(row)
        (given_up,) = [event for event in events if event["event"] == "given up"]
        end_us = given_up["time_us"]
        assert abs(end_us * 1000 - (EPOCH_NS + 6 * SECOND)) <= 2 * SECOND


def test_without_quality_everything_is_recorded(tmp_path):
    simulator = calls(1)

    def deaf(engine: Engine) -> None:
        engine.recordings.level = Level.NO_QUALITY

    recorded = record_with(tmp_path, simulator, 0, deaf)
    (truth,) = simulator.calls
    row = recorded.of(truth)
    for side in (truth.caller, truth.callee):
        assert_exact(recorded, truth, side)
        track = recorded.track(row, side.side)
        assert track["measured"] == 0
        assert track["speech_level_dbov"] is None
    # That nobody listened is no fault of the call's.
    assert row["review"] == {"needed": False, "causes": []}


def test_what_waits_is_bounded_and_calls_come_first():
    table = PacketTable(limit_bytes=20_000)
    for number in range(10):
        table.add(packets(range(100), stream=[number % 2] * 100, start_us=number * 1_000_000))
    assert table.overfull
    lost = table.make_room(np.array([True, False]))
    assert not table.overfull
    assert lost is None
    assert len(table) == 500
    assert table.overflow == 500


@pytest.mark.parametrize("limit", [1, 3000])
def test_what_is_lost_of_calls_is_told(limit):
    table = PacketTable(limit_bytes=limit)
    for number in range(4):
        table.add(packets(range(100), start_us=number * 10_000_000))
    lost = table.make_room(np.array([True]))
    assert lost is not None
    assert len(lost) + len(table) == 400
    assert int(lost.max()) < 30_000_000  # the newest stays


def test_the_engine_books_what_it_had_no_room_for(tmp_path):
    simulator = calls(2)
    capture = tmp_path / "calls.pcap"
    simulator.write(capture)

    def feed(engine: Engine) -> None:
        for frames in open_capture(capture):
            engine.feed(frames)
            if not frames.unfinished:
                engine.advance(int(frames.time_ns.max()))
        engine.finish("capture ended")

    recorded = record_by(tmp_path, feed, EngineSettings(bounds=Bounds(pending_bytes=20_000)))
    for truth in simulator.calls:
        call = recorded.call(truth)
        assert call["outcome"] in ("partial", "missing")


def test_streams_that_find_no_room_are_the_recorders_loss(tmp_path):
    simulator = calls(4)
    capture = tmp_path / "calls.pcap"
    simulator.write(capture)

    def feed(engine: Engine) -> None:
        engine.streams.limit = 4
        for frames in open_capture(capture):
            engine.feed(frames)
            if not frames.unfinished:
                engine.advance(int(frames.time_ns.max()))
        engine.finish("capture ended")

    recorded = record_by(tmp_path, feed)
    refused = recorded.engine.counters["packets_refused"]
    assert refused > 0
    kept = sum(track["packets"] for row in recorded.rows for track in row["tracks"])
    assert kept + refused == sum(
        side.packets for truth in simulator.calls for side in (truth.caller, truth.callee)
    )
    outcomes = []
    for truth in simulator.calls:
        call = recorded.call(truth)
        rows = [row for row in recorded.rows if row["call_ids"] == [truth.call_id]]
        got = {track["label"]: track["packets"] for row in rows for track in row["tracks"]}
        whole = got == {"caller": truth.caller.packets, "callee": truth.callee.packets}
        outcomes.append(call["outcome"])
        assert whole == (call["outcome"] == "complete")
        assert whole or "recorder lost" in call["reason"]
    assert {"complete", "partial"} <= set(outcomes) or "missing" in outcomes
