"""Jitter in columns is that of RFC 3550 section A.8, packet by packet."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.media.jitter import note_jitter
from recorderd.media.streams import StreamTable


def by_the_book(skews):
    """The jitter at the last packet, and the mean over all."""
    jitter, told = 0.0, [0.0]
    for before, now in pairwise(skews):
        jitter += (abs(now - before) - jitter) / 16
        told.append(jitter)
    return jitter, sum(told) / len(told)


@given(st.integers(0, 2**30), st.lists(st.integers(1, 2000), min_size=1, max_size=6))
def test_windows_do_not_matter(seed, sizes):
    rng = np.random.default_rng(seed)
    table = StreamTable()
    rows, _ = table.identify(np.array([5, 6], np.uint64))
    streams = [rng.uniform(0, 30_000, sum(sizes)), rng.exponential(2_000, sum(sizes))]
    at = 0
    for size in sizes:
        parts = [stream[at : at + size] for stream in streams]
        known = np.full(2, at > 0)
        note_jitter(table, rows, np.array([0, size]), np.array([size, size]), np.concatenate(parts), known)
        table.last_skew_us[rows] = [part[-1] for part in parts]
        at += size
    for row, stream in zip(rows.tolist(), streams, strict=True):
        last, mean = by_the_book(stream.tolist())
        assert table.jitter_us[row] == pytest.approx(last)
        assert table.jitter_packets[row] == sum(sizes)
        assert table.jitter_sum_us[row] / sum(sizes) == pytest.approx(mean)


def test_a_leap_is_no_jitter():
    table = StreamTable()
    rows, _ = table.identify(np.array([5], np.uint64))
    skew = np.array([0.0, 16.0, 3_600e6, 3_600e6 + 16])
    note_jitter(table, rows, np.array([0]), np.array([4]), skew, np.array([False]))
    assert table.jitter_us[rows[0]] == pytest.approx(1 * (15 / 16) ** 2 + 1)
