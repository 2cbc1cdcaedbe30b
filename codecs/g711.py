"""G.711: one byte a sample, decoded by table.

The values are those of ITU-T G.711 tables 1a and 2a, scaled to 16 bits as everybody scales them: mu-law by
4 (14 bits), A-law by 8 (13 bits), so that the largest are 32124 and 32256.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE: Final = 8000


def _mu_law() -> NDArray[np.int16]:
    """All 256 codes: every bit inverted, then sign, three bits of segment, four of position (table 2a)."""
    code = ~np.arange(256, dtype=np.uint8)
    segment, position = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    size = ((2 * position + 33) << segment) - 33
    return np.where(code & 0x80, -size * 4, size * 4).astype(np.int16)


def _a_law() -> NDArray[np.int16]:
    """All 256 codes: even bits inverted, a set sign bit is positive, the first two segments alike (1a)."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    segment, position = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    size = np.where(segment, (2 * position + 33) << np.maximum(segment - 1, 0), 2 * position + 1)
    return np.where(code & 0x80, size * 8, -size * 8).astype(np.int16)


class G711Decoder:
    """Decodes payloads one by one; has no state."""

    resting: Final = False

    def __init__(self, table: NDArray[np.int16], channels: int) -> None:
        """Decode by ``table`` (256 samples, by code) and repeat the sound on each of ``channels``."""
        self.rate = RATE
        self.channels = channels
        self._table = table

    def decode(self, payload: bytes) -> NDArray[np.int16]:
        """Decode a payload of n bytes to samples of shape (n, channels). Any bytes are G.711."""
        mono = self._table[np.frombuffer(payload, np.uint8)]
        return np.repeat(mono[:, None], self.channels, axis=1)

    def conceal(self, samples: int, following: bytes | None) -> NDArray[np.int16]:
        """Give zeros of shape (samples, channels): where the codec has no rule, no sound is made up."""
        return np.zeros((samples, self.channels), np.int16)


class G711:
    """One of the two laws."""

    def __init__(self, name: str, table: NDArray[np.int16]) -> None:
        """Know the law by its encoding name and its table of 256 samples."""
        self.name = name
        self.native_rate = RATE
        self.rates = (RATE,)
        table.flags.writeable = False
        self.table = table
        """The sample of each code: int16 of shape (256)."""

    def decoder(self, rate: int | None = None, channels: int | None = None) -> G711Decoder:
        """Make a decoder; the payload is mono (RFC 3551 table 4), more channels get the same sound.

        Raises:
            ValueError: another rate than 8000 Hz.
        """
        if rate not in (None, RATE):
            raise ValueError(f"{self.name} has no rate of {rate} Hz")
        return G711Decoder(self.table, channels or 1)

    def decode_block(self, coded: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Decode coded bytes of any shape to samples of the same shape."""
        # No code lies outside of the table; "clip" only spares the check (a fifth of the time).
        return self.table.take(coded, mode="clip")

    def durations(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Tell each packet's duration in units of 1/8000 s: its size in bytes."""
        return sizes.astype(np.int32)

    def channels_of(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Tell each packet's channels: 1, or 0 for an empty packet."""
        return (sizes > 0).astype(np.uint8)


PCMU: Final = G711("pcmu", _mu_law())
PCMA: Final = G711("pcma", _a_law())
