"""Good bytes made bad: what damage, carelessness and malice do to messages, drawn from a seed."""

import random
from collections.abc import Callable, Sequence

MOST: int = 65_535
"""Bytes of a datagram, which is the longest that is tried."""

EXTREMES = [
    b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0", b"\xff\xff", b"\x7f\xff", b"\0\0\0\0", b"\xff\xff\xff\xff",
    b"\x80\0\0\0", b"\r\n", b"\n", b"\r\n\r\n", b" ", b":", b";", b"=", b",", b"%00", b'"', b"\\", b"<",
    b"{", b"-1", b"0", b"4294967296", b"99999999999999999999", b"\xf0\x9f\x98\x80",
    b"\xc3", b"\xed\xa0\x80",
]  # fmt: skip

Change = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def _flip(data: bytearray, generator: random.Random, _: Sequence[bytes]) -> None:
    if data:
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def _overwrite(data: bytearray, generator: random.Random, _: Sequence[bytes]) -> None:
    at, value = generator.randrange(len(data) + 1), generator.choice(EXTREMES)
    data[at : at + len(value)] = value


def _insert(data: bytearray, generator: random.Random, _: Sequence[bytes]) -> None:
    at = generator.randrange(len(data) + 1)
    data[at:at] = generator.choice([*EXTREMES[:6], generator.randbytes(generator.randrange(1, 9))])


def _insert_token(data: bytearray, generator: random.Random, _: Sequence[bytes]) -> None:
    at = generator.randrange(len(data) + 1)
    data[at:at] = generator.choice(EXTREMES)


def _delete(data: bytearray, generator: random.Random, _: Sequence[bytes]) -> None:
    at = generator.randrange(len(data) + 1)
    del data[at : at + generator.choice([1, 2, 4, 16, 100])]


def _cut(data: bytearray, generator: random.Random, _: Sequence[bytes]) -> None:
    del data[generator.randrange(len(data) + 1) :]


def _repeat(data: bytearray, generator: random.Random, _: Sequence[bytes]) -> None:
    at = generator.randrange(len(data) + 1)
    piece = data[at : at + generator.choice([1, 3, 20, 200])]
    data[at:at] = piece * generator.choice([1, 2, 10, 1000])


def _splice(data: bytearray, generator: random.Random, seeds: Sequence[bytes]) -> None:
    other = generator.choice(seeds)
    data[generator.randrange(len(data) + 1) :] = other[generator.randrange(len(other) + 1) :]


def _grow(data: bytearray, generator: random.Random, _: Sequence[bytes]) -> None:
    piece = generator.choice([b"\0", b" ", b"\r\n", b"a", b"a=b;", b"--", b"("])
    data += piece * generator.choice([30, 3000])


CHANGES: list[Change] = [
    _flip, _flip, _flip, _overwrite, _overwrite, _insert, _insert_token, _delete, _cut, _repeat, _splice,
    _grow,
]  # fmt: skip


def mutated(seeds: Sequence[bytes], generator: random.Random) -> bytes:
    """One of the seeds, changed in one to six ways; now and then nothing but noise."""
    if generator.random() < 0.02:
        return generator.randbytes(generator.choice([0, 1, 3, 12, 40, 1500]))
    data = bytearray(generator.choice(seeds))
    for _ in range(generator.choice([1, 1, 1, 2, 3, 6])):
        generator.choice(CHANGES)(data, generator, seeds)
    return bytes(data[:MOST])
