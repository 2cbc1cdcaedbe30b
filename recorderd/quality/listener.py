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

RATE = 8000
"""Speech level, noise and voice activity need no more, in Hz."""


class Listener:
    """Feeds one stream of a track to the track's meter."""

    def __init__(self, meter: TrackMeter) -> None:
        self.meter = meter
        self.heard: Counter[Format] = Counter()
        """Packets of each format."""
        self.undecodable = 0
        self._decoders: dict[str, Decoder] = {}
        self._tables: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.int16]] | None] = {}

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
        if known.name not in self._tables:
            how = codec(known.name)
            # Asked once: isinstance() of a protocol costs as much as decoding a second of sound.
            self._tables[known.name] = how.decode_block if isinstance(how, TableCodec) else None
        decode_block = self._tables[known.name]
        if decode_block is None:
            self._decode(known.name, payload, size)
        else:
            width = int(size[0])
            if (size == width).all():
                coded = payload[:, :width].reshape(-1)
            else:
                coded = payload[np.arange(payload.shape[1]) < size[:, None]]
            self.meter.add(decode_block(coded), RATE)

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
            self.meter.add(np.concatenate(pieces)[:, 0], decoder.rate)
