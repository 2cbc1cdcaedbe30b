"""Streams followed in columns come out as those followed packet by packet."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.codecs.formats import STATIC, Format
from recorderd.media.beginning import begin_clocks
from recorderd.media.following import follow_steady, give_back, hand_lows, take_over
from recorderd.media.lane import Lane
from recorderd.media.sequence import Order, Sequencer
from recorderd.media.streams import StreamTable
from recorderd.media.table import Packets, PacketTable

START = 1_790_000_000_000_000
SECOND = 1_000_000
OPUS = 96
FORMATS = {**STATIC, OPUS: Format("opus", 48_000, 2)}
TYPES = {0: 160, 8: 160, OPUS: 960, 13: 160}


def stream_packets(row: int, seed: int, first: int) -> Packets:
    """Ten seconds of one stream; pauses, jumps, losses and other codecs by chance, but none in the first."""
    rng = np.random.default_rng(seed)
    n = np.arange(500)
    trouble = 0.01 if row else 0.0
    pauses = np.cumsum(np.where(rng.random(500) < trouble, rng.integers(0, 2_000_000, 500), 0))
    arrival = START + 20_000 * n + pauses + rng.integers(0, 30_000, 500)
    kind = int(rng.choice([0, 8, OPUS]))
    types = np.where(rng.random(500) < trouble, 13, kind)
    jumps = np.cumsum(np.where(rng.random(500) < trouble, rng.integers(-(2**31), 2**31, 500), 0))
    timestamp = first + TYPES[kind] * n + jumps
    kept = rng.random(500) >= trouble
    payload = rng.integers(0, 256, (500, 160)).astype(np.uint8)
    return Packets(
        arrival,
        np.full(500, row, np.int32),
        (first + n).astype(np.uint16),
        (timestamp % 2**32).astype(np.uint32),
        types.astype(np.uint8),
        np.zeros(500, np.bool_),
        rng.integers(1, 161, 500).astype(np.int32),
        payload,
    ).select(kept)


def windows(sequencer: Sequencer, batches: list[Packets]):
    """What each window gives, in order."""
    waiting = PacketTable()
    for batch in batches:
        waiting.add(batch)
    last = max(int(batch.time_us.max()) for batch in batches)
    for end in range(START + SECOND, max(last, START + 38 * SECOND) + 2 * SECOND, SECOND):
        orders: list[Order] = []

        def choose(packets: Packets):
            order, stay = sequencer.order(packets, end, end + 400_000, 0)  # noqa: B023
            orders.append(order)  # noqa: B023
            return [order.position], stay

        for taken in waiting.take(choose):
            if len(taken):
                yield orders[0], taken


def one_type_of(order: Order, packets: Packets) -> np.ndarray:
    types = np.split(packets.payload_type, order.starts[1:])
    return np.array([len(set(part.tolist())) == 1 for part in types])


def followed(batches: list[Packets], *, begin: bool = True):
    """The batches' streams on lanes, in columns where that goes and packet by packet; how many windows of the
    first went in columns; and the sequencer. Without ``begin`` they all begin on their lanes."""
    table = StreamTable()
    rows, _ = table.identify(np.arange(1, len(batches) + 1, dtype=np.uint64))
    for number, row in enumerate(rows.tolist()):
        table.owner[row] = number
        table.describe(row, FORMATS)
    quick = {row: Lane(FORMATS) for row in rows.tolist()}
    slow = {row: Lane(FORMATS) for row in rows.tolist()}
    steadily = 0
    sequencer = Sequencer(table)
    for order, packets in windows(sequencer, batches):
        one_type = one_type_of(order, packets)
        for number, *of in begin_clocks(table, order, packets, one_type) if begin else ():
            quick[int(order.rows[number])].begin(*of)
        steady, missing, full = follow_steady(table, order, packets, one_type)
        steadily += int(steady.sum())
        for number, *of in missing:
            quick[int(order.rows[number])].missing(*of)
        for number in full:
            hand_lows(table, int(order.rows[number]), quick[int(order.rows[number])])
        ends = [*order.starts[1:].tolist(), len(packets)]
        for at, row in enumerate(order.rows.tolist()):
            part = slice(int(order.starts[at]), ends[at])
            mine = packets.select(np.arange(part.start, part.stop))
            for lane in [slow[row]] if steady[at] else [slow[row], quick[row]]:
                if lane is quick[row]:
                    take_over(table, row, lane)
                lane.follow(
                    order.seq[part],
                    mine.timestamp,
                    mine.time_us,
                    mine.payload_type,
                    lambda n, of=mine: of.payload[n, : of.size[n]].tobytes(),
                )
            if not steady[at]:
                give_back(table, row, quick[row])
    for row in rows.tolist():
        take_over(table, row, quick[row])
    return quick, slow, steadily, sequencer


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**30), st.integers(0, 2**32 - 1)), min_size=1, max_size=4))
def test_columns_tell_the_same_as_the_packets(streams):
    quick, slow, steadily, sequencer = followed([stream_packets(row, *of) for row, of in enumerate(streams)])
    assert steadily >= 10  # all windows of the first stream, the one in which it begins included
    for row in quick:
        assert quick[row].segments() == slow[row].segments()
        assert quick[row].span() == slow[row].span()
        assert quick[row].standing == slow[row].standing
        holes = sequencer.holes(row)
        assert quick[row].gaps(holes) == slow[row].gaps(holes)
        assert len(slow[row].gaps(holes)) == len(holes)


def test_more_lows_than_columns_have_room_for_go_to_the_lane():
    """A packet each 0.4 s for 200 s: 25 stretches of eight seconds, and a drift in them."""
    n = np.arange(500)
    one = stream_packets(0, 1, 0).select(n)
    rate = {0: 8_000, 8: 8_000, OPUS: 48_000}[int(one.payload_type[0])]
    timestamp = (n * rate * 4 // 10).astype(np.uint32)
    batch = replace(one, time_us=START + 400_080 * n, timestamp=timestamp)
    quick, slow, steadily, _ = followed([batch])
    assert steadily == 200  # windows
    assert quick[0].clock_ppm == slow[0].clock_ppm == pytest.approx(-200, abs=1)
    assert quick[0].segments() == slow[0].segments()
    assert quick[0].standing == slow[0].standing


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**30), st.integers(0, 2**32 - 1)), min_size=1, max_size=4),
    st.integers(0, 9_000_000),
    st.integers(0, 60),
)
def test_a_clock_begins_in_columns_as_on_its_lane(streams, after_us, skipped):
    batches = [stream_packets(row, *of) for row, of in enumerate(streams)]
    for row, batch in enumerate(batches):
        batch.time_us[:] += after_us  # anywhere in a stretch of lows
        batches[row] = batch.after(min(row * skipped, len(batch) - 1))  # with other packets first
    (columns, _, steadily, one), (lanes, _, less, other) = followed(batches), followed(batches, begin=False)
    assert steadily >= less
    for row in columns:
        assert columns[row].standing == lanes[row].standing
        assert columns[row].segments() == lanes[row].segments()
        assert columns[row].gaps(one.holes(row)) == lanes[row].gaps(other.holes(row))
    for name in ("jitter_us", "jitter_sum_us", "jitter_packets"):
        assert np.array_equal(getattr(one.streams, name), getattr(other.streams, name))


@pytest.mark.parametrize("ppm", [150, -150])
def test_drift_is_told_the_same(ppm):
    rng = np.random.default_rng(9)
    n = np.arange(9000)
    arrival = START + np.rint(n * 20_000 / (1 + ppm * 1e-6)) + rng.exponential(4_000, len(n))
    packets = Packets(
        arrival.astype(np.int64),
        np.zeros(len(n), np.int32),
        (n % 65_536).astype(np.uint16),
        (160 * n).astype(np.uint32),
        np.where(n % 1000 == 999, 13, 0).astype(np.uint8),
        np.zeros(len(n), np.bool_),
        np.full(len(n), 160, np.int32),
        np.zeros((len(n), 160), np.uint8),
    ).select(rng.random(len(n)) > 0.01)
    quick, slow, steadily, _ = followed([packets])
    assert steadily > 100
    assert quick[0].segments() == slow[0].segments()
    assert quick[0].clock_ppm == pytest.approx(ppm, abs=3)
    assert quick[0].span() == slow[0].span()
