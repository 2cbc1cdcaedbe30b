"""Hears one stream for the figures: decodes what arrived, at the lowest rate that serves, into a track's
meter.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.formats import Format
from recorderd.codecs.payload import PayloadError
from recorderd.codecs.registry import Decoder, TableCodec, codec
from recorderd.quality.meter import TrackMeter

Table = Callable[[NDArray[np.uint8]], NDArray[np.int16]]

RATE = 8000
"""Speech level, noise and voice activity need no more, in Hz."""

HOLD_BYTES = 24_000
"""Coded bytes gathered before they are measured: three seconds of G.711."""


class Listener:
    """Feeds one stream of a track to the track's meter."""

    def __init__(self, meter: TrackMeter) -> None:
        self.meter = meter
        self.heard: Counter[Format] = Counter()
        """Packets of each format."""
        self.undecodable = 0
        self._decoders: dict[str, Decoder] = {}
        self._tables: dict[str, Table | None] = {}
        self._held: list[NDArray[np.uint8]] = []
        self._held_bytes = 0
        self._held_for: Table | None = None

    def hear_alike(self, known: Format | None, payload: NDArray[np.uint8]) -> None:
        """Take in packets of one format and size: ``payload`` of shape (n, size), all of it coded sound."""
        decode_block = self._table(known)
        if known is not None and decode_block is not None:
            self.heard[known] += len(payload)
            self._hold(decode_block, payload.flatten())
        else:
            self._hear_type(known, payload, np.full(len(payload), payload.shape[1], np.int32))

    def hear(
        self,
        formats: Mapping[int, Format],
        payload_type: NDArray[np.uint8],
        payload: NDArray[np.uint8],
        size: NDArray[np.int32],
    ) -> None:
        """Take in packets in order: ``payload`` of shape (n, width), of which row i holds ``size[i]``
        bytes.
        """
        first = int(payload_type[0])
        if (payload_type == first).all():
            self._hear_type(formats.get(first), payload, size)
            return
        for number in dict.fromkeys(payload_type.tolist()):
            which = payload_type == number
            self._hear_type(formats.get(number), payload[which], size[which])

    def _hear_type(self, known: Format | None, payload: NDArray[np.uint8], size: NDArray[np.int32]) -> None:
        if known is None:
            self.undecodable += len(size)
            return
        self.heard[known] += len(size)
        decode_block = self._table(known)
        if decode_block is None:
            self._decode(known.name, payload, size)
        else:
            self._hold(decode_block, payload[np.arange(payload.shape[1]) < size[:, None]])

    def _hold(self, table: Table, coded: NDArray[np.uint8]) -> None:
        """Gather a few seconds: measuring them costs little more than measuring one."""
        if table is not self._held_for:
            self.settle()
        self._held_for = table
        self._held.append(coded)
        self._held_bytes += len(coded)
        if self._held_bytes >= HOLD_BYTES:
            self.settle()

    def settle(self) -> None:
        """Measure what was gathered; before the meter is asked for its figures."""
        if self._held and self._held_for is not None:
            self.meter.add(self._held_for(np.concatenate(self._held)), RATE)
        self._held, self._held_bytes = [], 0

    def _table(self, known: Format | None) -> Table | None:
        """How whole windows of a format are decoded, where they can be."""
        if known is None:
            return None
        if known.name not in self._tables:
            how = codec(known.name)
            # Asked once: isinstance() of a protocol costs as much as decoding a second of sound.
            self._tables[known.name] = how.decode_block if isinstance(how, TableCodec) else None
        return self._tables[known.name]

    def _decode(self, name: str, payload: NDArray[np.uint8], size: NDArray[np.int32]) -> None:
        decoder = self._decoders.get(name)
        if decoder is None:
            how = codec(name)
            if how is None:
                self.undecodable += len(size)
                return
            rate = RATE if RATE in how.rates else how.native_rate
            decoder = self._decoders[name] = how.decoder(rate, 1)
        pieces = []
        for row, length in zip(payload, size.tolist(), strict=True):
            try:
                pieces.append(decoder.decode(row[:length].tobytes()))
            except PayloadError:
                self.undecodable += 1
        if pieces:
            self.settle()
            self.meter.add(np.concatenate(pieces)[:, 0], decoder.rate)
