"""Makes the tones of keys inaudible in a window's G.711, before it is written."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.g711 import PCMA as A_LAW
from recorderd.codecs.g711 import PCMU as MU_LAW
from recorderd.media.dtmf import BLOCK, RATE, Found, find_tones
from recorderd.media.sequence import Order
from recorderd.media.streams import PCMA, PCMU, StreamTable
from recorderd.media.table import Packets
from recorderd.service.recordings import Recordings

AT_ONCE: Final = 2000
"""Packets looked at together: what is made of them stays in the cache, and memory stays bounded."""

QUIET: Final = {PCMU: 0xFF, PCMA: 0xD5}


class Silencing:
    """Knows which streams were in the middle of a tone when their last window ended."""

    def __init__(self, streams: StreamTable, recordings: Recordings) -> None:
        self._streams, self._recordings = streams, recordings
        self._sounding: NDArray[np.intp] = np.empty(0, np.intp)

    def window(self, order: Order, packets: Packets) -> Packets:
        """The packets without tones; the recordings of those that had any tell of it."""
        edges = np.append(order.starts, len(packets))
        kind = self._streams.kind[order.stream, packets.payload_type]
        sounding: list[NDArray[np.intp]] = [np.setdiff1d(self._sounding, order.rows)]
        payload = packets.payload if packets.payload.flags.writeable else packets.payload.copy()
        for law, codec in ((PCMU, MU_LAW), (PCMA, A_LAW)):
            at = 0
            while at < len(order.rows):
                until = max(at + 1, int(np.searchsorted(edges, edges[at] + AT_ONCE, side="right")) - 1)
                part = slice(int(edges[at]), int(edges[until]))
                mine = np.flatnonzero((kind[part] == law) & (packets.size[part] > 0)) + part.start
                if len(mine):
                    sounding.append(self._part(order, packets, payload, mine, law, codec.table))
                at = until
        self._sounding = np.unique(np.concatenate(sounding))
        return Packets(
            packets.time_us, packets.stream, packets.seq, packets.timestamp, packets.payload_type,
            packets.marker, packets.size, payload,
        )  # fmt: skip

    def _part(
        self,
        order: Order,
        packets: Packets,
        payload: NDArray[np.uint8],
        mine: NDArray[np.intp],
        law: int,
        table: NDArray[np.int16],
    ) -> NDArray[np.intp]:
        """Silence the tones in some packets, whole streams of one law; the rows of those that end in one."""
        size = packets.size[mine]
        stream = np.searchsorted(order.starts, mine, side="right") - 1
        begins = np.flatnonzero(np.diff(stream, prepend=-1))
        total = np.add.reduceat(size, begins, dtype=np.intp)
        blocks = -(-total // BLOCK)
        first = np.cumsum(blocks) - blocks
        rows = order.rows[stream[begins]]
        goes_on = np.isin(rows, self._sounding)
        length = int(size[0])
        if length % BLOCK == 0 and (size == length).all():
            # As nearly always: packets are whole blocks, all of one length.
            coded = payload[mine, :length]
            found = find_tones(table.take(coded).reshape(-1, BLOCK), first, goes_on)
            if found.blocks.any():
                coded.reshape(-1, BLOCK)[found.blocks] = QUIET[law]
                payload[mine, :length] = coded
        else:
            found = self._uneven(payload, mine, size, (first, blocks, total, goes_on), law, table)
        if found.blocks.any():
            self._tell(packets, rows, first, blocks, found.blocks, mine, begins)
        return rows[found.ends]

    def _uneven(
        self,
        payload: NDArray[np.uint8],
        mine: NDArray[np.intp],
        size: NDArray[np.int32],
        streams: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]],
        law: int,
        table: NDArray[np.int16],
    ) -> Found:
        """The same for packets of any lengths; each stream begins with a block of its own."""
        first, blocks, total, goes_on = streams
        shift = first * BLOCK - (np.cumsum(total) - total)
        place = np.arange(int(total.sum())) + np.repeat(shift, total)
        row = np.repeat(mine, size)
        column = np.arange(len(row)) - np.repeat(np.cumsum(size, dtype=np.intp) - size, size)
        samples = np.zeros(int(blocks.sum()) * BLOCK, np.int16)
        samples[place] = table.take(payload[row, column])
        found = find_tones(samples.reshape(-1, BLOCK), first, goes_on)
        gone = np.flatnonzero(np.repeat(found.blocks, BLOCK)[place])
        payload[row[gone], column[gone]] = QUIET[law]
        return found

    def _tell(
        self,
        packets: Packets,
        rows: NDArray[np.intp],
        first: NDArray[np.intp],
        blocks: NDArray[np.intp],
        silent: NDArray[np.bool_],
        mine: NDArray[np.intp],
        begins: NDArray[np.intp],
    ) -> None:
        """One event a stream and window: how much of it was made silent."""
        count = np.add.reduceat(silent, first, dtype=np.intp)
        for at in np.flatnonzero(count).tolist():
            row = int(rows[at])
            session = self._recordings.numbered(int(self._streams.owner[row]))
            early = int(np.flatnonzero(silent[first[at] : first[at] + blocks[at]])[0])
            since_us = int(packets.time_us[mine[begins[at]]]) + early * BLOCK * 1_000_000 // RATE
            number = session.streams[int(self._streams.lane[row])].number
            length_ms = int(count[at]) * BLOCK * 1000 // RATE
            session.event("silenced", since_us, stream=number, length_ms=length_ms)
