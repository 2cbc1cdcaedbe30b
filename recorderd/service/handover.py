"""Packets on their way from the worker whose ring got them to the one whose call they belong to.

A message has a head in JSON, of which there is little (a stream is told once), and the packets in columns.
"""

import json
import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.media.table import Packets
from recorderd.wire.endpoint import Endpoint

SALT: Final = np.uint64(0x5BD1E995C2B2AE35)
"""Keys of streams that were handed over are not those of what a worker's own rings show of the same stream:
fragments come to all of them.
"""

WHOLE: Final = np.uint64(0x9AE16A3B2F90404F)
"""With it, the key tells that a packet has all that UDP carried, as SRTP needs it."""

MOST: Final = 8192
"""Packets of one message."""

_HEAD: Final = struct.Struct("<III")
_COLUMNS: Final = (
    ("time_us", np.int64),
    ("timestamp", np.uint32),
    ("size", np.int32),
    ("seq", np.uint16),
    ("payload_type", np.uint8),
    ("marker", np.bool_),
)


class Introduced(NamedTuple):
    """A stream that is handed over from now on."""

    key: int
    ssrc: int
    source: Endpoint
    destination: Endpoint
    since_ns: int
    explained: bool
    """It belonged to another call before."""


class Lost(NamedTuple):
    """Packets that may be of calls of the receiver's, and were lost by the recorder between two moments."""

    packets: int
    since_ns: int
    until_ns: int


class Word(NamedTuple):
    """What one worker tells of a call, by what all know it by.

    ``about`` is the side whose media its owner has; UNANNOUNCED: there is media that may be of this call, or
    of others.
    """

    call_id: str
    first_seen: int
    about: str


UNANNOUNCED: Final = "unannounced"


class Handed(NamedTuple):
    """One message. ``packets`` have no stream (their column of it is 0): ``keys`` tell it."""

    keys: NDArray[np.uint64]
    packets: Packets
    introduced: Sequence[Introduced] = ()
    lost: Sequence[Lost] = ()
    words: Sequence[Word] = ()

    def encode(self) -> bytes:
        """As bytes."""
        packets = self.packets
        head: dict[str, Any] = {}
        if self.introduced:
            head["streams"] = [
                [s.key, s.ssrc, *s.source, *s.destination, s.since_ns, s.explained] for s in self.introduced
            ]
        if self.lost:
            head["lost"] = [list(one) for one in self.lost]
        if self.words:
            head["words"] = self.words
        text = json.dumps(head).encode() if head else b""
        width = int(packets.size.max(initial=0))
        columns = [getattr(packets, name).astype(kind, copy=False).tobytes() for name, kind in _COLUMNS]
        payload = packets.payload[:, :width].tobytes()
        start = _HEAD.pack(len(text), len(packets), width)
        return b"".join([start, text, self.keys.tobytes(), *columns, payload])

    @classmethod
    def decode(cls, message: bytes) -> "Handed":
        """What :meth:`encode` made."""
        length, count, width = _HEAD.unpack_from(message)
        at = _HEAD.size + length
        head = json.loads(message[_HEAD.size : at]) if length else {}
        keys = np.frombuffer(message, np.uint64, count, at)
        at += keys.nbytes
        columns: dict[str, Any] = {}
        for name, kind in _COLUMNS:
            columns[name] = np.frombuffer(message, kind, count, at)
            at += columns[name].nbytes
        payload = np.frombuffer(message, np.uint8, count * width, at).reshape(count, width)
        return cls(
            keys,
            Packets(**columns, stream=np.zeros(count, np.int32), payload=payload),
            [
                Introduced(s[0], s[1], Endpoint(s[2], s[3]), Endpoint(s[4], s[5]), s[6], s[7])
                for s in head.get("streams", ())
            ],
            [Lost(*one) for one in head.get("lost", ())],
            [Word(*one) for one in head.get("words", ())],
        )


def joined(batches: list[Packets]) -> Packets:
    """Batches, or none at all, as one; their stream is not kept."""
    if len(batches) == 1:
        return batches[0]
    columns: dict[str, Any] = {
        name: np.concatenate([np.empty(0, kind), *(getattr(batch, name) for batch in batches)], dtype=kind)
        for name, kind in _COLUMNS
    }
    count, width = sum(map(len, batches)), max((batch.payload.shape[1] for batch in batches), default=0)
    payload, at = np.empty((count, width), np.uint8), 0
    for batch in batches:
        payload[at : at + len(batch), : batch.payload.shape[1]] = batch.payload
        at += len(batch)
    return Packets(**columns, stream=np.zeros(count, np.int32), payload=payload)
