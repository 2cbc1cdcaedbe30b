"""What workers hand to one another: mailboxes in shared memory, and the messages in them."""

import os
import random
from collections.abc import Iterator

import numpy as np
import pytest

from recorderd.media.table import Packets
from recorderd.service.exchange import Exchange, Mailbox, mailbox_bytes, make_exchange
from recorderd.service.handover import Handed, Introduced, Lost, Word, joined
from recorderd.wire.endpoint import Endpoint

HEADER = 64


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = make_exchange(3)
    yield descriptor
    os.close(descriptor)


def test_messages_come_in_order_through_a_small_mailbox() -> None:
    """At every place that a message can wrap at, and never half of one."""
    mailbox = Mailbox(memoryview(bytearray(HEADER + 257)))
    rng = random.Random(1)
    sent, got = [], []
    for _ in range(3000):
        message = rng.randbytes(rng.randrange(0, 120))
        if mailbox.put(message):
            sent.append(message)
        if rng.random() < 0.4:
            got += mailbox.take()
    assert [*got, *mailbox.take()] == sent
    assert len(sent) > 1000


def test_a_full_mailbox_takes_nothing_more_and_keeps_what_it_has() -> None:
    mailbox = Mailbox(memoryview(bytearray(HEADER + 64)))
    assert mailbox.put(b"x" * 48)
    assert not mailbox.put(b"y")
    assert list(mailbox.take()) == [b"x" * 48]
    assert mailbox.put(b"z" * 56)
    assert not mailbox.put(b"")
    assert list(mailbox.take()) == [b"z" * 56]
    assert not mailbox.put(b"q" * 57), "more than it ever holds"


def test_each_pair_has_a_mailbox_of_its_own(memory: int) -> None:
    workers = [Exchange(memory, number, 3) for number in range(3)]
    for worker, exchange in enumerate(workers):
        for other, mailbox in exchange.outgoing.items():
            assert mailbox.put(f"{worker} to {other}".encode())
    for worker, exchange in enumerate(workers):
        for other, mailbox in exchange.incoming.items():
            assert list(mailbox.take()) == [f"{other} to {worker}".encode()]
    assert workers[0].outgoing.keys() == workers[0].incoming.keys() == {1, 2}


def test_a_new_life_does_not_get_what_was_meant_for_the_old_one(memory: int) -> None:
    sender, _ = Exchange(memory, 0, 3), Exchange(memory, 1, 3)
    assert sender.outgoing[1].put(b"old")
    again = Exchange(memory, 1, 3)
    assert list(again.incoming[0].take()) == []
    assert sender.outgoing[1].put(b"new")
    assert list(again.incoming[0].take()) == [b"new"]


def test_room_is_for_seconds_of_media() -> None:
    assert mailbox_bytes(2) == 32 << 20
    assert mailbox_bytes(64) == 1 << 20
    assert all(mailbox_bytes(count) % 4096 == 0 for count in range(2, 65))


def packets(count: int, width: int) -> Packets:
    rng = np.random.default_rng(count)
    return Packets(
        time_us=rng.integers(1 << 60, size=count),
        stream=np.zeros(count, np.int32),
        seq=rng.integers(1 << 16, size=count).astype(np.uint16),
        timestamp=rng.integers(1 << 32, size=count).astype(np.uint32),
        payload_type=rng.integers(128, size=count).astype(np.uint8),
        marker=rng.random(count) < 0.5,
        size=rng.integers(width + 1, size=count).astype(np.int32),
        payload=rng.integers(256, size=(count, width + 7)).astype(np.uint8)[:, : width + 3],
    )


@pytest.mark.parametrize(("count", "width"), [(0, 0), (1, 160), (500, 160), (33, 0), (7, 1399)])
def test_a_message_is_read_as_it_was_written(count: int, width: int) -> None:
    some = packets(count, width) if count else joined([])
    message = Handed(
        np.arange(count, dtype=np.uint64) + np.uint64(1 << 63),
        some,
        [Introduced(1 << 63, 7, Endpoint("10.0.0.1", 4), Endpoint("fd00::1", 5), 1 << 60, True)],
        [Lost(3, 1, 2)],
        [Word("id \u20ac", 1 << 60, "caller")],
    )
    again = Handed.decode(message.encode())
    assert (again.introduced, again.lost, again.words) == (message.introduced, message.lost, message.words)
    assert np.array_equal(again.keys, message.keys)
    for name in ("time_us", "seq", "timestamp", "payload_type", "marker", "size"):
        assert np.array_equal(getattr(again.packets, name), getattr(some, name)), name
    for row in range(count):
        size = int(some.size[row])
        assert np.array_equal(again.packets.payload[row, :size], some.payload[row, :size])
    bare = Handed(message.keys, some)
    assert not Handed.decode(bare.encode()).introduced
