import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.codecs.formats import STATIC, Format
from recorderd.media.clock import Run, StreamClock, segments
from recorderd.media.lane import Lane
from recorderd.media.sequence import Hole

START = 1_790_000_000_000_000


def follow(arrivals_us, timestamps, clock_rate=8000, window=50):
    """Feed a clock in windows, as the engine does; returns its segments."""
    clock = StreamClock()
    seq = np.arange(len(timestamps), dtype=np.int64)
    raw = np.array(timestamps, np.int64).astype(np.uint32)
    time = np.array(arrivals_us, np.int64)
    for at in range(0, len(seq), window):
        part = slice(at, at + window)
        full = clock.unwrap(seq[part], raw[part])
        clock.follow(seq[part], full, time[part], clock_rate)
    return clock, segments(clock.runs)


def test_the_least_delayed_packet_anchors_the_stream():
    rng = np.random.default_rng(1)
    sent = START + 20_000 * np.arange(500)
    delay = rng.integers(5_000, 60_000, 500)
    delay[7] = 5_000
    _, found = follow(sent + delay, 160 * np.arange(500) + 1234)
    assert len(found) == 1
    assert abs(found[0].anchor_us - (START + 5_000)) < 1


@pytest.mark.parametrize("first", [0, 2**31 - 160 * 20, 2**32 - 160 * 20])
def test_timestamps_wrap(first):
    _, found = follow(START + 20_000 * np.arange(200), first + 160 * np.arange(200))
    assert len(found) == 1
    assert abs(found[0].anchor_us - START) < 1


@pytest.mark.parametrize("at", [25, 80, 200])
@pytest.mark.parametrize("jump_s", [3600, -3600, 30])
def test_a_leaping_timestamp_moves_nothing_that_came_before(at, jump_s):
    n = np.arange(400)
    _, found = follow(START + 20_000 * n, 160 * n + np.where(n >= at, 8000 * jump_s, 0))
    assert [s.first_seq for s in found] == [0, at]
    assert abs(found[0].anchor_us - START) < 1
    assert abs(found[1].time_us(np.array([found[1].first_timestamp]))[0] - (START + 20_000 * at)) < 1


@pytest.mark.parametrize("window", [50, 400])
@pytest.mark.parametrize("back_s", [1, 3, 3600])
@pytest.mark.parametrize("at", [25, 200])
def test_a_clock_that_is_set_back_moves_nothing(at, back_s, window):
    """What came later sounds later; and a pause after it is as long as it was."""
    n = np.arange(400)
    arrivals = START + 20_000 * n - np.where(n >= at, back_s * 1_000_000, 0)
    arrivals += np.where(n >= 300, 5_000_000, 0)
    _, found = follow(arrivals, 160 * n, window=window)
    assert [s.first_seq for s in found] == [0, 300]
    assert abs(found[0].anchor_us - START) < 1
    assert abs(found[1].anchor_us - (START + 20_000 * 300 + 5_000_000)) < 1


@pytest.mark.parametrize("leap", [0, 123_456_789, -123_456_789])
def test_events_at_the_end_with_a_timestamp_of_their_own_are_no_sound(leap):
    lane = Lane({**STATIC, 101: Format("telephone-event", 8000)})
    n = np.arange(103, dtype=np.int64)
    key = n >= 100
    timestamp = (2_000_000_000 + 160 * np.minimum(n, 100) + leap * key).astype(np.uint32)
    types = np.where(key, 101, 0).astype(np.uint8)
    lane.follow(n, timestamp, START + 20_000 * n, types, lambda _: bytes(160))
    span = lane.span()
    assert span is not None
    assert span.start_us == pytest.approx(START, abs=1)
    assert 1.7e6 < span.end_us - span.start_us < 3.1e6


def test_silence_suppression_keeps_its_clock():
    """Sequence goes on, timestamp jumps with the time: nothing has moved."""
    n = np.arange(200)
    silence = np.where(n >= 100, 250, 0)
    _, found = follow(START + 20_000 * (n + silence), 160 * (n + silence))
    assert len(found) == 1


def test_a_pause_that_the_timestamps_do_not_show_is_a_new_segment():
    n = np.arange(400)
    _, found = follow(START + 20_000 * n + np.where(n >= 200, 5_000_000, 0), 160 * n)
    assert [s.first_seq for s in found] == [0, 200]
    assert abs(found[1].anchor_us - (START + 20_000 * 200 + 5_000_000)) < 1


def test_a_stall_of_the_network_moves_nothing():
    n = np.arange(400)
    arrival = START + 20_000 * n
    stalled = (n >= 100) & (n < 130)
    arrival = np.where(stalled, START + 20_000 * 130 + 100 * (n - 100), arrival)
    _, found = follow(arrival, 160 * n)
    assert len(found) == 1
    assert abs(found[0].anchor_us - START) < 1


def test_a_timestamp_jump_of_half_the_range_stays_where_it_arrived():
    n = np.arange(400)
    _, found = follow(START + 20_000 * n, 160 * n + np.where(n >= 200, 2**31, 0))
    assert [s.first_seq for s in found] == [0, 200]
    at = found[1].time_us(np.array([found[1].first_timestamp]))[0]
    assert abs(at - (START + 20_000 * 200)) < 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.integers(0, 2**30))
def test_windows_do_not_matter(window, first, seed):
    """However the packets are cut into windows, the segments are the same."""
    rng = np.random.default_rng(seed)
    n = np.arange(150)
    pauses = np.cumsum(np.where(rng.random(150) < 0.02, rng.integers(0, 4_000_000, 150), 0))
    arrival = START + 20_000 * n + pauses + rng.integers(0, 30_000, 150)
    timestamps = first + 160 * n
    assert follow(arrival, timestamps, window=window)[1] == follow(arrival, timestamps, window=150)[1]


def test_runs_are_bounded():
    rng = np.random.default_rng(3)
    clock, _ = follow(START + 20_000 * np.arange(30_000), rng.integers(0, 2**32, 30_000), window=3_000)
    assert len(clock.runs) <= 10_000


def test_segments_of_one_packet_runs():
    runs = [
        Run(0, 0, 8000, 0.0, 0.0),
        Run(1, 160, 8000, 20_000.0, 300_000.0),
        Run(2, 320, 8000, 40_000.0, 0.0, 5e6, 0.0),
    ]
    assert len(segments(runs)) == 1


def lane_of(seq, timestamps, arrivals, payload=bytes(160), payload_types=None):
    lane = Lane(STATIC)
    lane.follow(
        np.array(seq, np.int64),
        np.array(timestamps, np.int64).astype(np.uint32),
        np.array(arrivals, np.int64),
        np.array(payload_types if payload_types is not None else [0] * len(seq), np.uint8),
        lambda i: payload,
    )
    return lane


def test_a_hole_is_placed_to_the_packet():
    seq = np.array([*range(100, 150), *range(153, 200)])
    lane = lane_of(seq, 160 * seq, START + 20_000 * (seq - 100))
    span = lane.span()
    assert span is not None
    assert abs(span.start_us - START) < 1
    assert abs(span.end_us - (START + 2_000_000)) < 1
    (gap,) = lane.gaps([Hole(150, 3)])
    assert abs(gap.start_us - (START + 1_000_000)) < 1
    assert abs(gap.end_us - (START + 1_060_000)) < 1
    # A part of it was filled by a late packet.
    first, second = lane.gaps([Hole(150, 1), Hole(152, 1)])
    assert abs(second.start_us - (START + 1_040_000)) < 1
    assert abs(first.end_us - (START + 1_020_000)) < 1


def test_a_hole_beside_silence_is_as_long_as_its_packets():
    seq = np.array([*range(50), *range(52, 100)])
    ticks = np.where(seq >= 52, seq + 200, seq)
    lane = lane_of(seq, 160 * ticks, START + 20_000 * ticks)
    (gap,) = lane.gaps([Hole(50, 2)])
    assert abs(gap.end_us - gap.start_us - 40_000) < 1


def test_events_do_not_move_the_clock():
    """RFC 4733: all packets of an event have its start's timestamp, whatever the time."""
    lane = Lane({**STATIC, 101: Format("telephone-event", 8000)})
    n = np.arange(150)
    is_event = (n >= 50) & (n < 100)
    lane.follow(
        n.astype(np.int64),
        np.where(is_event, 160 * 50, 160 * n).astype(np.uint32),
        START + 20_000 * n,
        np.where(is_event, 101, 0).astype(np.uint8),
        lambda i: bytes(4) if is_event[i] else bytes(160),
    )
    assert len(lane.segments()) == 1


def test_nothing_but_events_has_no_span():
    lane = Lane({101: Format("telephone-event", 8000)})
    lane.follow(
        np.arange(3),
        np.zeros(3, np.uint32),
        START + np.arange(3),
        np.full(3, 101, np.uint8),
        lambda i: bytes(4),
    )
    assert lane.span() is None
    assert lane.gaps([Hole(1, 1)]) == []
