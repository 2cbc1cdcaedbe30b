"""Equal payloads tell which stream passes on which."""

import numpy as np

from recorderd.media.likeness import likeness, prints, telling
from recorderd.media.table import Packets


def packets(*streams: tuple[int, int, list[bytes]]) -> Packets:
    """Streams as (row, first arrival in us, payloads 20 ms apart)."""
    rows = [(row, start + 20_000 * n, data) for row, start, sent in streams for n, data in enumerate(sent)]
    rows.sort(key=lambda one: one[1])
    width = max(len(data) for _, _, data in rows)
    payload = np.zeros((len(rows), width), np.uint8)
    for at, (_, _, data) in enumerate(rows):
        payload[at, : len(data)] = np.frombuffer(data, np.uint8)
    count = len(rows)
    return Packets(
        np.array([time for _, time, _ in rows], np.int64),
        np.array([row for row, _, _ in rows], np.int32),
        np.arange(count, dtype=np.uint16),
        np.arange(count, dtype=np.uint32),
        np.zeros(count, np.uint8),
        np.zeros(count, np.bool_),
        np.array([len(data) for _, _, data in rows], np.int32),
        payload,
    )


def voice(seed: int, count: int = 50, size: int = 160) -> list[bytes]:
    noise = np.random.default_rng(seed)
    return [noise.bytes(size) for _ in range(count)]


def test_what_is_passed_on_is_found_and_how_much_later():
    found = prints(packets((1, 0, voice(1)), (2, 3000, voice(1)), (3, 3000, voice(2))))
    alike = likeness(found.of(2), found)
    assert (alike[1].payloads, alike[1].lag_us) == (50, 3000)
    assert alike[2].lag_us == 0
    assert 3 not in alike


def test_silence_and_comfort_noise_tell_nothing():
    quiet = [b"\xff" * 160] * 30
    short = [bytes([n] * 5) for n in range(30)]
    found = prints(packets((1, 0, quiet), (2, 3000, quiet), (3, 0, short), (4, 3000, short)))
    assert not len(found.hashes)


def test_the_same_words_at_another_time_are_not_the_same_sound():
    found = prints(packets((1, 0, voice(1)), (2, 5_000_000, voice(1))))
    assert likeness(found.of(2), found).keys() == {2}


def test_the_beginning_of_a_payload_is_compared_and_its_length():
    sent = voice(1, 10, 20)
    found = prints(packets((1, 0, sent), (2, 3000, [data + b"\x01" for data in sent])))
    assert 1 not in likeness(found.of(2), found)


def test_what_all_send_tells_nothing():
    same = voice(1, 3)
    found = prints(packets(*((row, row, same) for row in range(1100))))
    assert likeness(found.of(5), found) == {}


def test_what_three_parties_have_tells_nothing_of_two():
    music, said = voice(1, 10), voice(2, 10)
    found = prints(packets((1, 0, music + said), (2, 3000, music + said), (3, 0, music), (4, 9000, said)))
    told = telling(found, {1: 10, 2: 20, 3: 30, 4: 20})  # the fourth is the second's, too
    assert sorted(np.unique(told.stream)) == [1, 2, 4]
    assert set(told.hashes) == set(found.of(4).hashes)
    assert list(told.hashes) == sorted(told.hashes)
    assert likeness(told.of(2), told)[1].payloads == 10
    assert 3 not in likeness(told.of(1), told)


def test_of_nothing_nothing_tells():
    assert not len(telling(prints(packets((1, 0, [b"\xff" * 160]))), {1: 1}).hashes)
