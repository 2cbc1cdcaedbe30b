"""A remote as the outbox uses it: on its terms, at its bandwidth, by one process at a time."""

import contextlib
import fcntl
import io
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from recorderd.spool.durable import disk_error, write_file
from recorderd.spool.layout import Spool
from recorderd.spool.pacing import Terms, TokenBucket
from recorderd.spool.stores import CHUNK, RemoteOutage, Sent, Store
from recorderd.spool.stores.wrappers import Passing

_LONGEST_SLEEP_S = 0.5
_SAMPLE_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote: its store, which any number of threads may use at once, and how it is used."""

    store: Store
    terms: Terms = field(default_factory=Terms)


class Stopping(RemoteOutage):
    """Nothing is wrong with the remote: this process was told to stop."""


def never() -> bool:
    """Nobody stops it."""
    return False


@dataclass(slots=True)
class Pace:
    """Makes the threads of one remote wait, all together for its bandwidth. Raises Stopping when told to
    stop."""

    bucket: TokenBucket
    stopping: Callable[[], bool] = never
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, count: int) -> None:
        """So many bytes went, or came."""
        if self.stopping():
            raise Stopping("told to stop")
        with self._lock:
            wait = self.bucket.take(count, self.monotonic())
        while wait > 0:
            self.sleep(min(wait, _LONGEST_SLEEP_S))
            wait -= _LONGEST_SLEEP_S
            if self.stopping():
                raise Stopping("told to stop")


def pace_of(bandwidth: int | None) -> Pace:
    """A pace of so many bytes a second; a second of it may be saved up."""
    rate = None if bandwidth is None else float(bandwidth)
    return Pace(TokenBucket(rate, rate or 0.0))


class Paced(Passing):
    """A store whose bytes go and come at a pace."""

    def __init__(self, store: Store, pace: Pace) -> None:
        super().__init__(store)
        self._pace = pace

    def put(self, name: str, path: Path, sent: Sent | None = None) -> None:
        """Store; each chunk that was sent is waited for."""
        before = 0

        def told(done: int) -> None:
            nonlocal before
            # A store that tries again begins anew.
            self._pace(done - before if done >= before else done)
            before = done
            if sent is not None:
                sent(done)

        self._store.put(name, path, told)

    def open(self, name: str) -> BinaryIO:
        """The stored bytes, each chunk waited for."""
        return cast(BinaryIO, _PacedReader(self._store.open(name), self._pace))


class _PacedReader(io.BufferedIOBase):
    def __init__(self, stream: BinaryIO, pace: Pace) -> None:
        self._stream, self._pace = stream, pace

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        data = self._stream.read(size)
        self._pace(len(data))
        return data

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextlib.contextmanager
def carrying_alone(path: Path) -> Iterator[bool]:
    """Whether no other process carries to the same remote; none begins while the block runs. Where the lock
    cannot be had for another reason, it is done without."""
    descriptor = -1
    try:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError:
            yield True
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def sample_key(spool: Spool) -> bytes:
    """The key that chooses which copies are read back; made when it is first needed. Raises SpoolError."""
    path = spool.path / "sample.key"
    try:
        with contextlib.suppress(FileNotFoundError):
            key = path.read_bytes()
            if len(key) == _SAMPLE_KEY_BYTES:
                return key
        write_file(path, secrets.token_bytes(_SAMPLE_KEY_BYTES), mode=0o600)
        return path.read_bytes()
    except OSError as error:
        raise disk_error(error, path) from None
