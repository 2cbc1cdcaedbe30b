"""Memory that is used again, and by nobody else before."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from recorderd.wire.recycled import SPARE, WORTH, Recycled

SIZE = 4 * WORTH


def place(array: NDArray[np.uint8]) -> int:
    return int(array.__array_interface__["data"][0])


def test_what_nobody_needs_any_more_is_used_again():
    memory = Recycled()
    first = memory.bytes(SIZE)
    before = place(first)
    assert (len(first), first.dtype, first.flags.writeable) == (SIZE, np.uint8, True)
    del first
    again = memory.bytes(SIZE)
    assert place(again) == before


@pytest.mark.parametrize(
    "kept",
    [
        lambda array: array[10:20],
        lambda array: array.reshape(-1, 64)[3:, 5:],
        lambda array: array.view("V64")[1:],
        lambda array: array.data[7:],
        lambda array: np.ndarray((4,), np.uint32, array, 8, (64,)),
    ],
    ids=["slice", "matrix", "items", "memoryview", "strided"],
)
def test_what_a_view_points_into_is_nobody_elses(kept):
    memory = Recycled()
    first = memory.bytes(SIZE)
    before, view = place(first), kept(first)
    del first
    other = memory.bytes(SIZE)
    assert place(other) != before
    del view
    assert place(memory.bytes(SIZE)) == before


def test_a_little_more_fits():
    memory = Recycled()
    before = place(memory.bytes(SIZE))
    assert place(memory.bytes(SIZE + SIZE // 16)) == before


def test_what_comes_back_all_at_once_is_not_kept():
    tracemalloc.start()
    try:
        memory = Recycled(most=3)
        held_up = [memory.bytes(SIZE) for _ in range(20)]
        held_up.clear()
        memory.bytes(SIZE)
        assert tracemalloc.get_traced_memory()[0] < 5 * SIZE
    finally:
        tracemalloc.stop()


def test_when_the_load_is_over_its_memory_is_given_back():
    tracemalloc.start()
    try:
        memory = Recycled()
        memory.bytes(SPARE * SIZE)
        assert tracemalloc.get_traced_memory()[0] > SPARE * SIZE
        assert len(memory.bytes(SIZE // 2)) == SIZE // 2
        assert tracemalloc.get_traced_memory()[0] < SIZE
    finally:
        tracemalloc.stop()


def test_in_the_end_there_is_as_much_as_was_in_use_at_once():
    memory = Recycled()
    places = {place(memory.bytes(SIZE)) for _ in range(20)}
    assert len(places) == 1
