import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recorderd.media.lookup import Lookup

KEYS = st.lists(st.integers(0, (1 << 64) - 1), unique=True, max_size=200)
CROWDED = st.lists(st.integers(0, 300).map(lambda n: (1 << 64) - 1 - n), unique=True, max_size=200)


def lookup_of(keys: list[int]) -> Lookup:
    lookup = Lookup()
    half = len(keys) // 2
    for part, first in ((keys[:half], 0), (keys[half:], half)):
        lookup.add(np.array(part, np.uint64), np.arange(first, first + len(part), dtype=np.int32))
    return lookup


@given(KEYS | CROWDED, st.integers(0, (1 << 64) - 1))
def test_finds_what_is_there_and_nothing_else(keys: list[int], other: int):
    lookup = lookup_of(keys)
    wanted = [*keys, other]
    expected = [*range(len(keys)), keys.index(other) if other in keys else -1]
    assert lookup.find(np.array(wanted, np.uint64)).tolist() == expected


@given(CROWDED.filter(bool), st.data())
def test_forgets_what_was_dropped(keys: list[int], data: st.DataObject):
    lookup = lookup_of(keys)
    gone = data.draw(st.sets(st.sampled_from(keys)))
    lookup.drop(np.isin(lookup.keys, np.array(list(gone), np.uint64)))
    expected = [-1 if key in gone else row for row, key in enumerate(keys)]
    assert lookup.find(np.array(keys, np.uint64)).tolist() == expected
    assert len(lookup) == len(keys) - len(gone)


def test_a_key_of_zero_is_a_key():
    lookup = Lookup()
    assert lookup.find(np.array([0], np.uint64)).tolist() == [-1]
    lookup.add(np.array([0], np.uint64), np.array([7], np.int32))
    assert lookup.find(np.array([0, 1], np.uint64)).tolist() == [7, -1]
