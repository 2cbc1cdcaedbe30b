"""What is sent to a bucket and what comes from it."""

import base64
import hashlib
import io
from contextlib import AbstractContextManager
from typing import Any, Protocol

from recorderd.errors import RemoteError


class Asker(Protocol):
    """What is needed of the store."""

    def asking(self, name: str) -> AbstractContextManager[None]:
        """Makes botocore's errors the store's."""


class Body(io.RawIOBase):
    """What comes; a failure in its midst is the store's error."""

    def __init__(self, store: Asker, name: str, body: Any) -> None:
        self._store = store
        self._name = name
        self._body = body

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes. Raises RemoteError."""
        with self._store.asking(self._name):
            data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Give the connection back, or end it where not all was read."""
        if not self.closed:
            self._body.close()
        super().close()


def taken(answer: Any) -> Any:
    """The answer to an upload; another server's friendly page is none. Raises LookupError."""
    answer["ETag"]
    return answer


def read_whole(file: io.BufferedReader, length: int) -> bytes:
    """So many bytes of what is to be stored. Raises RemoteError, which is not to be taken for the store's."""
    try:
        data = file.read(length)
    except OSError as error:
        raise RemoteError(f"{file.name}: {error.strerror}") from None
    if len(data) != length:
        raise RemoteError(f"{file.name}: changed while it was sent")
    return data


def sha256_of(data: bytes) -> str:
    """As S3 has checksums in headers."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
