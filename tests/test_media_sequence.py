from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.media.sequence import Hole, Holes, Sequencer
from recorderd.media.streams import UNBOUND, StreamTable
from recorderd.media.table import Packets, PacketTable
from tests.media_builder import numbers, packets, table_of

SECOND = 1_000_000
GRACE = 400_000


def drain(
    table: PacketTable, sequencer: Sequencer, until_us: int, start_us: int = 1_000_000
) -> list[list[int]]:
    """Close windows of one second; the numbers that each gave."""
    out = []
    end = start_us + SECOND
    while end <= until_us:
        out.append(close(table, sequencer, end))
        end += SECOND
    return out


def close(table: PacketTable, sequencer: Sequencer, end: int) -> list[int]:
    def choose(waiting: Packets):
        order, stay = sequencer.order(waiting, end, end + GRACE, end - 5 * SECOND)
        return [order.position], stay

    return [number for taken in table.take(choose) for number in numbers(taken)]


def run(batch: Packets, streams: StreamTable | None = None) -> tuple[list[int], StreamTable, Sequencer]:
    streams = streams or table_of(1)
    table, sequencer = PacketTable(), Sequencer(streams)
    table.add(batch)
    windows = drain(table, sequencer, int(batch.time_us.max()) + 3 * SECOND)
    assert len(table) == 0
    return [n for window in windows for n in window], streams, sequencer


def test_packets_in_order_leave_in_order():
    got, streams, _ = run(packets(range(100, 400)))
    assert got == list(range(100, 400))
    assert (streams.packets[0], streams.lost[0], streams.late[0], streams.duplicates[0]) == (300, 0, 0, 0)


def test_numbers_wrap():
    got, streams, _ = run(packets(range(65_400, 65_700)))
    assert got == list(range(65_400, 65_700))
    assert streams.lost[0] == 0


@pytest.mark.parametrize("after", range(4))
def test_a_sender_restarts_soon_after_the_end_of_a_window(after):
    """What came before the restart, and after the end, is looked at twice."""
    old, new = list(range(100, 150 + after)), list(range(40_000, 40_100))
    got, streams, sequencer = run(packets(old + new))
    assert got == old + new
    assert (streams.lost[0], streams.duplicates[0], sequencer.strays) == (0, 0, 0)


def test_reordered_across_the_end_of_a_window():
    order = list(range(200))
    order[49], order[50], order[51] = 51, 49, 50  # 50 packets a window
    got, streams, _ = run(packets(order))
    assert got == list(range(200))
    assert (streams.lost[0], streams.late[0]) == (0, 0)


def test_a_packet_after_its_window_fills_its_hole():
    arrivals = [*range(10), *range(11, 120), 10]
    streams = table_of(1)
    table, sequencer = PacketTable(), Sequencer(streams)
    table.add(packets(arrivals))
    first = close(table, sequencer, 2 * SECOND)
    assert 10 not in first
    assert sequencer.holes(0) == [Hole((1 << 16) + 10, 1)]
    assert streams.lost[0] == 1
    rest = close(table, sequencer, 3 * SECOND) + close(table, sequencer, 4 * SECOND)
    assert sorted(first + rest) == list(range(120))
    assert sequencer.holes(0) == []
    assert (streams.packets[0], streams.lost[0], streams.late[0]) == (120, 0, 1)


def test_a_copy_is_dropped_however_late_it_is():
    arrivals = [*range(10), 9, *range(10, 120), 3]
    got, streams, _ = run(packets(arrivals))
    assert got == list(range(120))
    assert (streams.packets[0], streams.duplicates[0], streams.late[0]) == (120, 2, 0)


def test_packets_before_the_first_one():
    got, streams, sequencer = run(packets([5, 4, 3, 6, *range(7, 60)]))
    assert got == list(range(3, 60))
    assert streams.lost[0] == 0
    assert sequencer.holes(0) == []


def test_a_restarted_sender_is_no_loss():
    got, streams, sequencer = run(packets([*range(1000, 1100), *range(40_000, 40_100)]))
    assert got == [*range(1000, 1100), *range(40_000, 40_100)]
    assert (streams.packets[0], streams.lost[0]) == (200, 0)
    assert sequencer.holes(0) == []


def test_a_lonely_stray_is_dropped_and_counted():
    got, streams, sequencer = run(packets([*range(100), 50_000, *range(100, 200)]))
    assert got == list(range(200))
    assert (streams.lost[0], sequencer.strays) == (0, 1)


def test_a_long_outage_is_loss_up_to_the_limit_of_the_rfc():
    _, streams, sequencer = run(packets([*range(100), *range(2000, 2100)]))
    assert streams.lost[0] == 1900
    assert sequencer.holes(0) == [Hole((1 << 16) + 100, 1900)]


@pytest.mark.parametrize("late", [0, 1_900_000])
def test_payloads_stay_with_their_packets(late):
    """Also where a batch is cut: in two, or into pieces by a stream whose packets stay longer."""
    streams = table_of(2)
    table, sequencer = PacketTable(), Sequencer(streams)
    number = np.repeat(np.arange(200), 2)
    frames = np.zeros((400, 40), np.uint8)
    frames[:, 10:18] = (2 * number + np.arange(400) % 2).astype(">u8").view(np.uint8).reshape(-1, 8)
    times = 1_000_000 + 20_000 * number + np.where(np.arange(400) % 2, 0, late)
    batch = packets(number.tolist(), stream=[0, 1] * 200, time_us=times.tolist())
    batch = replace(batch, size=np.full(400, 8, np.int32), payload=frames[:, 10:18])
    for first in range(0, 400, 150):
        table.add(batch.select(np.arange(first, min(first + 150, 400))))
    got = []

    def choose(end: int, waiting: Packets):
        order, stay = sequencer.order(waiting, end, end + GRACE, 0)
        return [order.position], stay

    for end in range(2 * SECOND, 9 * SECOND, SECOND):
        for taken in table.take(partial(choose, end)):
            coded = taken.payload.copy().view(">u8")[:, 0].astype(np.int64)
            assert (coded == 2 * taken.seq.astype(np.int64) + taken.stream).all()
            got += coded.tolist()
    assert sorted(got) == list(range(400))


def test_unexplained_packets_wait_and_expire():
    streams = table_of(1)
    streams.owner[0] = UNBOUND
    table, sequencer = PacketTable(), Sequencer(streams)
    table.add(packets(range(50)))
    assert close(table, sequencer, 2 * SECOND) == []
    assert len(table) == 50
    streams.owner[0] = 0
    assert close(table, sequencer, 3 * SECOND) == list(range(50))
    streams.owner[0] = UNBOUND
    table.add(packets(range(50, 100), start_us=3_000_000))
    close(table, sequencer, 10 * SECOND)
    assert len(table) == 0


def test_streams_leave_sorted_by_lane():
    streams = table_of(3)
    streams.lane[:3] = [2, 0, 1]
    batch = packets(
        [n for n in range(40) for _ in range(3)],
        stream=[0, 1, 2] * 40,
        time_us=[1_000_000 + 20_000 * n for n in range(40) for _ in range(3)],
    )
    table, sequencer = PacketTable(), Sequencer(streams)
    table.add(batch)
    order = None

    def choose(waiting: Packets):
        nonlocal order
        order, stay = sequencer.order(waiting, 2 * SECOND, 2 * SECOND + GRACE, 0)
        return [order.position], stay

    (taken,) = table.take(choose)
    assert order is not None
    assert order.stream.tolist() == [1] * 40 + [2] * 40 + [0] * 40
    assert order.starts.tolist() == [0, 40, 80]
    assert numbers(taken) == list(range(40)) * 3


@settings(max_examples=150, deadline=None)
@given(
    first=st.integers(0, 65_535),
    lost=st.sets(st.integers(1, 198)),
    copies=st.lists(st.tuples(st.integers(0, 199), st.integers(0, 300_000)), max_size=20),
    delays=st.dictionaries(st.integers(0, 199), st.integers(0, 380_000), max_size=60),
)
def test_against_a_plain_model(first, lost, copies, delays):
    """Loss, reordering within the grace and copies: what is kept, lost and doubled, packet by packet."""
    sent = [(first + i, 1_000_000 + 20_000 * i) for i in range(200)]
    arrivals = [(t + delays.get(i, 0), n) for i, (n, t) in enumerate(sent) if i not in lost]
    kept = [n for n, _ in sent if n - first not in lost]
    doubled = [(sent[i][1] + delays.get(i, 0) + later, sent[i][0]) for i, later in copies if i not in lost]
    arrivals = sorted(arrivals + doubled)
    batch = packets([n for _, n in arrivals], time_us=[t for t, _ in arrivals])
    got, streams, sequencer = run(batch)
    assert sorted(got) == kept
    assert streams.packets[0] == len(kept)
    assert streams.duplicates[0] == len(doubled)
    inner = {i for i in lost if kept[0] - first < i < kept[-1] - first}
    assert streams.lost[0] == len(inner)
    base = (1 << 16) + kept[0] - sequencer_base(first, kept, arrivals)
    assert {hole.first + i - base for hole in sequencer.holes(0) for i in range(hole.count)} == {
        i - (kept[0] - first) for i in inner
    }


def sequencer_base(first: int, kept: list[int], arrivals: list[tuple[int, int]]) -> int:
    """Extended numbers start one cycle above the first packet's own."""
    head = arrivals[0][1]
    return kept[0] - ((head & 0xFFFF) + kept[0] - head)


def test_holes_split_and_close():
    holes = Holes()
    holes.add(10, 5)
    assert holes.fill(12)
    assert holes.items == [Hole(10, 2), Hole(13, 2)]
    assert not holes.fill(12)
    assert holes.fill(10)
    assert holes.fill(14)
    assert holes.items == [Hole(11, 1), Hole(13, 1)]
    assert not holes.fill(99)


def test_stream_rows_are_found_reused_and_bounded():
    table = StreamTable(limit=3)
    rows, new = table.identify(np.array([7, 9, 7, 9, 8], np.uint64))
    assert rows.tolist() == [0, 1, 0, 1, 2]
    assert new.tolist() == [0, 1, 4]
    rows, new = table.identify(np.array([1, 9], np.uint64))
    assert rows.tolist() == [-1, 1]
    assert len(new) == 0
    assert table.refused == 1
    table.remove([1])
    rows, new = table.identify(np.array([1, 8], np.uint64))
    assert rows.tolist() == [1, 2]
    assert new.tolist() == [0]
