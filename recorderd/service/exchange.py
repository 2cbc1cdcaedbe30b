"""What workers hand to one another: a mailbox in shared memory for each of them from each other one.

Each has one writer and one reader and needs no lock: the writer moves ``written`` on when a message is whole,
the reader ``read`` when it has it. So a worker that dies leaves no half of one behind. No room is no message;
what becomes of that is the sender's business.
"""

import mmap
import os
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

HEADER_BYTES: Final = 64
LENGTH_BYTES: Final = 8
INBOX_BYTES: Final = 32 << 20
"""Room for all that comes to one worker."""
LEAST_BYTES: Final = 1 << 20


def mailbox_bytes(count: int) -> int:
    """Room of one mailbox among ``count`` workers."""
    return max(LEAST_BYTES, INBOX_BYTES // max(1, count - 1) // mmap.PAGESIZE * mmap.PAGESIZE)


class Mailbox:
    """Messages from one process to another, in a piece of memory that both have."""

    def __init__(self, memory: memoryview) -> None:
        self._places = np.frombuffer(memory[: 2 * 8], np.uint64)
        self._data = memory[HEADER_BYTES:]
        self._size = len(self._data)

    def put(self, message: bytes) -> bool:
        """Send a message; False where there is no room for it."""
        written, needed = int(self._places[0]), LENGTH_BYTES + len(message)
        if needed > self._size - (written - int(self._places[1])):
            return False
        self._write(written, len(message).to_bytes(LENGTH_BYTES, "little"))
        self._write(written + LENGTH_BYTES, message)
        # After the message itself: x86 keeps the order of these stores.
        self._places[0] = written + needed
        return True

    def take(self) -> Iterator[bytes]:
        """The messages that have come, each given up once it is taken."""
        until = int(self._places[0])
        while (read := int(self._places[1])) < until:
            length = int.from_bytes(self._read(read, LENGTH_BYTES), "little")
            message = self._read(read + LENGTH_BYTES, length)
            self._places[1] = read + LENGTH_BYTES + length
            yield message

    def clear(self) -> None:
        """Give up what has come: it was meant for an earlier reader."""
        self._places[1] = self._places[0]

    def _write(self, place: int, data: bytes) -> None:
        at = place % self._size
        first = min(len(data), self._size - at)
        self._data[at : at + first] = data[:first]
        self._data[: len(data) - first] = data[first:]

    def _read(self, place: int, length: int) -> bytes:
        at = place % self._size
        first = min(length, self._size - at)
        return bytes(self._data[at : at + first]) + bytes(self._data[: length - first])


def make_exchange(count: int) -> int:
    """Memory for the mailboxes of ``count`` workers; its descriptor, for them to inherit."""
    descriptor = os.memfd_create("recorderd-exchange", 0)
    os.ftruncate(descriptor, count * count * _stride(count))
    return descriptor


def _stride(count: int) -> int:
    return mailbox_bytes(count) + mmap.PAGESIZE


class Exchange:
    """A worker's mailboxes: ``outgoing`` by the number of whom they are to, ``incoming`` of whom from."""

    def __init__(self, descriptor: int, number: int, count: int) -> None:
        """Worker ``number`` (from 0) of ``count``. What waits for it was meant for an earlier life."""
        stride = _stride(count)
        self._memory = mmap.mmap(descriptor, count * count * stride)
        whole = memoryview(self._memory)
        others = [other for other in range(count) if other != number]

        def mailbox(sender: int, receiver: int) -> Mailbox:
            at = (sender * count + receiver) * stride
            return Mailbox(whole[at : at + HEADER_BYTES + mailbox_bytes(count)])

        self.outgoing: Mapping[int, Mailbox] = {other: mailbox(number, other) for other in others}
        self.incoming: Mapping[int, Mailbox] = {other: mailbox(other, number) for other in others}
        for incoming in self.incoming.values():
            incoming.clear()
