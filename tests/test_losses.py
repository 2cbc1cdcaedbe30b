"""What the recorder lost itself is found out for every call that it may concern, at its edges too."""

import pytest

from recorderd.capture.files import open_capture
from recorderd.media.lane import Span
from recorderd.service.engine import Engine
from recorderd.service.losses import MOST, Losses, uncovered
from recorderd.wire.frames import Frames
from tests.recorder import Recorded, record_by
from tests.simulators.pbx import EPOCH_NS, PbxSimulator
from tests.simulators.script import CallScript

SECOND = 1_000_000_000
RTP_BYTES = 214  #: of a frame with 20 ms of G.711; all others here are signalling


def test_losses_are_told_to_those_whose_time_they_are_in():
    losses = Losses()
    for at in (10, 30, 20):
        losses.add(at, Span(at, at + 5))
    assert losses.during(0, 10).packets == 0
    assert losses.during(14, 21).packets == 30
    assert [span.start_us for span in losses.during(0, 100).spans] == [10, 20, 30]
    losses.forget(15)
    assert losses.during(0, 100).packets == 50


def test_however_many_losses_there_are_none_is_forgotten():
    losses = Losses()
    for at in range(3 * MOST):
        losses.add(1, Span(10 * at, 10 * at + 5))
    assert len(losses) <= MOST
    assert losses.during(0, 30 * MOST).packets == 3 * MOST
    assert losses.during(30 * MOST - 6, 30 * MOST).packets >= 1


def test_what_no_span_covers_is_uncovered():
    assert uncovered([], 1, 9) == [Span(1, 9)]
    assert uncovered([Span(4, 6), Span(0, 2)], 1, 9) == [Span(2, 4), Span(6, 9)]
    assert uncovered([Span(0, 20)], 1, 9) == []


def record_without(tmp_path, simulator: PbxSimulator, first_s: float, last_s: float) -> Recorded:
    """Record all but the media between two moments, which the engine is told that the kernel dropped."""
    first, last = (EPOCH_NS + int(at * SECOND) for at in (first_s, last_s))
    capture = simulator.write(tmp_path / "calls.pcap")

    def feed(engine: Engine) -> None:
        dropped = 0
        for frames in open_capture(capture):
            gone = (frames.caplen == RTP_BYTES) & (frames.time_ns >= first) & (frames.time_ns < last)
            dropped += int(gone.sum())
            columns = (frames.time_ns, frames.data, frames.caplen, frames.wirelen)
            engine.feed(Frames(frames.link, *(column[~gone] for column in columns)))
        assert dropped
        engine.dropped(dropped, first, last)
        engine.advance(int(frames.time_ns[-1]))
        engine.finish("capture ended")

    return record_by(tmp_path, feed)


@pytest.mark.parametrize(("first_s", "last_s"), [(0.0, 3.5), (9.0, 30.0)])
def test_what_was_dropped_at_an_edge_of_a_call_makes_it_partial(tmp_path, first_s, last_s):
    simulator = PbxSimulator(seed=41)
    truth = simulator.add(CallScript(ring_s=1, talk_s=10))
    recorded = record_without(tmp_path, simulator, first_s, last_s)
    call, row = recorded.call(truth), recorded.of(truth)
    assert [track["lost"] for track in row["tracks"]] == [0, 0]
    assert call["outcome"] == "partial"
    assert call["reason"] == f"recorder lost {row['capture_drops']} packets"


def test_a_call_of_which_everything_was_dropped_is_the_recorders_loss(tmp_path):
    simulator = PbxSimulator(seed=42)
    truth = simulator.add(CallScript(ring_s=1, talk_s=4))
    other = simulator.add(CallScript(start_s=30, ring_s=1, talk_s=4))
    recorded = record_without(tmp_path, simulator, 0, 20)
    call = recorded.call(truth)
    assert call["outcome"] == "missing"
    assert call["reason"].startswith("recorder lost ")
    assert recorded.call(other)["outcome"] == "complete"
