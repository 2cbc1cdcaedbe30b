"""The packet table: media packets waiting for their window to close, in columns.

Packets come in batches (:meth:`PacketTable.add`), a batch's payloads as a matrix. When a window closes, the
packets that belong to it are taken out sorted, and the rest stays: packets of later windows, and packets of
streams that no signalling has explained yet.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Packets:
    """Media packets in columns, one row a packet.

    ``payload`` has shape (n, width); what lies beyond a row's ``size`` is undefined. ``time_us`` is the
    arrival in microseconds since the epoch: captures differ in resolution, and what is stored must not.
    """

    time_us: NDArray[np.int64]
    stream: NDArray[np.int32]
    seq: NDArray[np.uint16]
    timestamp: NDArray[np.uint32]
    payload_type: NDArray[np.uint8]
    marker: NDArray[np.bool_]
    size: NDArray[np.int32]
    payload: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.time_us)

    def select(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "Packets":
        """The given rows, in the given order."""
        return Packets(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))


def concatenate(batches: list[Packets]) -> Packets:
    """One batch of several, payloads padded to the widest."""
    if len(batches) == 1:
        return batches[0]
    columns = {f.name: np.concatenate([getattr(b, f.name) for b in batches]) for f in fields(Packets)[:-1]}
    payload = np.empty((len(columns["time_us"]), max(b.payload.shape[1] for b in batches)), np.uint8)
    at = 0
    for batch in batches:
        payload[at : at + len(batch), : batch.payload.shape[1]] = batch.payload
        at += len(batch)
    return Packets(**columns, payload=payload)


class PacketTable:
    """Packets that wait, and the bounded room they wait in."""

    def __init__(self, limit_bytes: int = 256 << 20) -> None:
        """Hold at most ``limit_bytes`` of waiting packets; beyond it the oldest batch is dropped."""
        self.limit_bytes = limit_bytes
        self.overflow = 0
        self._batches: list[Packets] = []
        self._bytes = 0

    def __len__(self) -> int:
        return sum(map(len, self._batches))

    def earliest_us(self) -> int:
        """The arrival of the first packet that waits; the end of all times where none does."""
        return min((int(batch.time_us.min()) for batch in self._batches), default=1 << 62)

    def add(self, packets: Packets) -> None:
        """Put a batch into the table."""
        if not len(packets):
            return
        self._batches.append(packets)
        self._bytes += packets.nbytes
        while self._bytes > self.limit_bytes and len(self._batches) > 1:
            dropped = self._batches.pop(0)
            self._bytes -= dropped.nbytes
            self.overflow += len(dropped)

    def take(self, choose: Callable[[Packets], tuple[NDArray[np.intp], NDArray[np.bool_]]]) -> Packets | None:
        """Take packets out.

        ``choose`` sees the columns of all waiting packets (with an empty payload matrix) and returns the
        positions to take, in the order in which they are wanted, and a mask of those that stay. The others
        are dropped. Payloads move once, straight into their place.
        """
        if not self._batches:
            return None
        bare = concatenate([replace(b, payload=b.payload[:, :0]) for b in self._batches])
        wanted, stay = choose(bare)
        taken = bare.select(wanted)
        payload = np.empty((len(wanted), int(taken.size.max(initial=0))), np.uint8)
        place = np.full(len(bare), -1, np.intp)
        place[wanted] = np.arange(len(wanted))
        kept: list[Packets] = []
        at = 0
        for batch in self._batches:
            span = slice(at, at + len(batch))
            at += len(batch)
            target = place[span]
            width = min(payload.shape[1], batch.payload.shape[1])
            if (target >= 0).all():
                payload[target, :width] = batch.payload[:, :width]
                continue
            mine = np.flatnonzero(target >= 0)
            payload[target[mine], :width] = batch.payload[mine, :width]
            if stay[span].any():
                kept.append(batch if stay[span].all() else batch.select(stay[span]))
        self._batches = [concatenate(kept)] if kept else []
        self._bytes = sum(batch.nbytes for batch in self._batches)
        return replace(taken, payload=payload)
