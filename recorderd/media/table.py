"""The packet table: media packets waiting for their window to close, in columns.

Packets come in batches (:meth:`PacketTable.add`), a batch's payloads as a matrix. When a window closes, the
packets that belong to it are taken out sorted, and the rest stays: packets of later windows, and packets of
streams that no signalling has explained yet.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from recorderd.media.columns import as_items, leading, picked
from recorderd.wire.recycled import Recycled

FEW, FEW_BATCHES = 1000, 32
"""Batches of fewer packets are put together when there are so many of them."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
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
        at = np.flatnonzero(which) if which.dtype == np.bool_ else which
        columns = {name: getattr(self, name).take(at) for name in COLUMNS}
        return Packets(**columns, payload=picked(self.payload, which))

    def after(self, first: int) -> "Packets":
        """The rows from ``first`` on."""
        return Packets(**{field.name: getattr(self, field.name)[first:].copy() for field in fields(self)})

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        # The payload may be a part of the frames' matrix, which stays as a whole.
        total: int = sum(getattr(self, name).nbytes for name in COLUMNS)
        total += len(self) * max(self.payload.shape[1], self.payload.strides[0])
        return total


COLUMNS = tuple(field.name for field in fields(Packets) if field.name != "payload")


def concatenate(batches: list[Packets]) -> Packets:
    """One batch of several, payloads padded to the widest."""
    if len(batches) == 1:
        return batches[0]
    columns = {name: np.concatenate([getattr(b, name) for b in batches]) for name in COLUMNS}
    payload = np.empty((len(columns["time_us"]), max(b.payload.shape[1] for b in batches)), np.uint8)
    at = 0
    for batch in batches:
        payload[at : at + len(batch), : batch.payload.shape[1]] = batch.payload
        at += len(batch)
    return Packets(**columns, payload=payload)


Choice = Callable[[Packets], tuple[list[NDArray[np.intp]], NDArray[np.bool_]]]


class PacketTable:
    """Packets that wait, and the bounded room they wait in."""

    def __init__(self, limit_bytes: int = 256 << 20) -> None:
        """Have room for ``limit_bytes`` of waiting packets, payloads included."""
        self.limit_bytes = limit_bytes
        self.overflow = 0
        self._batches: list[Packets] = []
        self._bytes = 0
        self._memory = Recycled()

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

    def first_us(self, stream: int, since_us: int) -> int | None:
        """When the first packet of a stream came that waits and is not older than ``since_us``."""
        return min(
            (int(times.min()) for batch in self._batches if len(times := _since(batch, stream, since_us))),
            default=None,
        )

    def last_us(self, stream: int, before_us: int) -> int:
        """When the last packet of a stream came that waits and is older than ``before_us``; 0 for none."""
        waiting = (batch.time_us[batch.stream == stream] for batch in self._batches)
        return max((int(times.max()) for each in waiting if len(times := each[each < before_us])), default=0)

    def counts(self, since_us: int, before_us: int) -> NDArray[np.intp]:
        """How many packets of each stream wait that came from ``since_us`` on, before ``before_us``; streams
        beyond the end have none.
        """
        found = np.zeros(0, np.intp)
        for batch in self._batches:
            mine = np.bincount(batch.stream[(batch.time_us >= since_us) & (batch.time_us < before_us)])
            if len(mine) > len(found):
                mine, found = found, mine
            found[: len(mine)] += mine
        return found

    def payload_types(self, stream: int) -> set[int]:
        """What the packets carry that wait of a stream."""
        found: set[int] = set()
        for batch in self._batches:
            found.update(batch.payload_type[batch.stream == stream].tolist())
        return found

    def of(self, streams: NDArray[np.int32]) -> Packets | None:
        """What waits of some streams (rows, ascending); None where nothing does. Nothing is taken out."""
        masks = [np.isin(batch.stream, streams) for batch in self._batches]
        found = [batch.select(mask) for batch, mask in zip(self._batches, masks, strict=True) if mask.any()]
        return concatenate(found) if found else None

    def succeed(self, stream: int, since_us: int, new: int) -> None:
        """What waits of a stream from ``since_us`` on is of another one."""
        for batch in self._batches:
            batch.stream[(batch.stream == stream) & (batch.time_us >= since_us)] = new

    @property
    def overfull(self) -> bool:
        """Whether more waits than there is room for."""
        return self._bytes > self.limit_bytes

    def make_room(self, bound: NDArray[np.bool_]) -> NDArray[np.int64] | None:
        """Drop what belongs to no call, by ``bound`` (rows of the stream table); where that is not enough,
        the oldest batches.

        Returns when the packets of calls arrived that were dropped, in microseconds; None for none.
        """
        known = [bound[batch.stream] for batch in self._batches]
        self.overflow += sum(int(np.count_nonzero(~mask)) for mask in known)
        kept = [
            batch if mask.all() else batch.select(mask)
            for batch, mask in zip(self._batches, known, strict=True)
            if mask.any()
        ]
        lost: list[NDArray[np.int64]] = []
        self._bytes = sum(batch.nbytes for batch in kept)
        while self._bytes > self.limit_bytes and len(kept) > 1:
            oldest = kept.pop(0)
            self._bytes -= oldest.nbytes
            lost.append(oldest.time_us)
        self._batches = kept
        return np.concatenate(lost) if lost else None

    def take(self, choose: Choice) -> list[Packets]:
        """Take packets out, in groups.

        ``choose`` sees the columns of all waiting packets (with an empty payload matrix) and returns the
        positions to take, for each group in the order in which they are wanted, and a mask of those that
        stay. The others are dropped. Payloads move once, straight into their place.
        """
        if not self._batches:
            return []
        bare = concatenate([replace(b, payload=b.payload[:, :0]) for b in self._batches])
        wanted, stay = choose(bare)
        groups = [self._group(bare.select(positions), positions, len(bare)) for positions in wanted]
        kept: list[Packets] = []
        at = 0
        for batch in self._batches:
            span = slice(at, at + len(batch))
            at += len(batch)
            for group in groups:
                group.put(group.place[span], batch.payload)
            if stay[span].any():
                kept.append(_remaining(batch, stay[span]))
        # What waits for an explanation is a few packets of each batch.
        few = [batch for batch in kept if len(batch) < FEW]
        if len(few) > FEW_BATCHES:
            kept = [concatenate(few), *(batch for batch in kept if len(batch) >= FEW)]
        self._batches = kept
        self._bytes = sum(batch.nbytes for batch in kept)
        return [replace(group.packets, payload=group.payload) for group in groups]

    def _group(self, packets: Packets, positions: NDArray[np.intp], waiting: int) -> "_Group":
        width = int(packets.size.max(initial=0))
        payload = self._memory.bytes(len(packets) * width).reshape(len(packets), width)
        return _Group(packets, payload, positions, waiting)


def _since(batch: Packets, stream: int, since_us: int) -> NDArray[np.int64]:
    times: NDArray[np.int64] = batch.time_us[(batch.stream == stream) & (batch.time_us >= since_us)]
    return times


class _Group:
    """Packets on their way out, and the matrix that their payloads are put into."""

    def __init__(
        self, packets: Packets, payload: NDArray[np.uint8], positions: NDArray[np.intp], waiting: int
    ) -> None:
        self.packets, self.payload = packets, payload
        self.place = np.full(waiting, -1, np.intp)
        self.place[positions] = np.arange(len(positions))

    def put(self, place: NDArray[np.intp], rows: NDArray[np.uint8]) -> None:
        """Put a batch's rows in their places, those with a place of -1 nowhere."""
        width = min(self.payload.shape[1], rows.shape[1])
        if not width:
            return
        items = as_items(rows[:, :width])
        here = place >= 0
        first = leading(here)
        if first is not None:
            place, items = place[first], items[first]
        else:
            place, items = place[here], items[here]
        as_items(self.payload[:, :width])[place] = items


def _remaining(batch: Packets, stay: NDArray[np.bool_]) -> Packets:
    """Those packets of a batch that stay."""
    if stay.all():
        return batch
    gone = leading(~stay)
    return batch.select(stay) if gone is None else batch.after(gone.stop)
