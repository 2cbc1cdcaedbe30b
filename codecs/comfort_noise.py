"""Comfort noise (RFC 3389): a packet tells the level of the background, which sounds until the next packet.

It is played, as the far end played it: a listener takes sudden dead silence for a fault. It is white; the
spectrum that some senders describe behind the level is left out. Levels follow the packets, the noise itself
is the same each time.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.payload import PayloadError

RATES: Final = (8000, 16_000, 32_000, 48_000)

QUIETEST_DBOV: Final = -90.0
"""What is below this is silence: less than one step of 16 bits."""


class Noise:
    """Gives noise of a level; the same whenever it starts anew."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(3389)

    def samples(self, count: int, level_dbov: float) -> NDArray[np.int16]:
        """Make noise of shape (count); 0 dBov is the power of a full-scale square wave (RFC 6464)."""
        if level_dbov < QUIETEST_DBOV:
            return np.zeros(count, np.int16)
        wave = self._random.standard_normal(count, np.float32) * np.float32(32768 * 10 ** (level_dbov / 20))
        whole: NDArray[np.int16] = np.clip(np.rint(wave), -32768, 32767).astype(np.int16)
        return whole


class ComfortNoiseDecoder:
    """Follows the level that a sender tells."""

    def __init__(self, rate: int, channels: int) -> None:
        self.rate, self.channels = rate, channels
        self._noise = Noise()
        self._level: float | None = None

    @property
    def resting(self) -> bool:
        """Whether the sender has said that it is silent."""
        return self._level is not None

    def decode(self, payload: bytes) -> NDArray[np.int16]:
        """Take in the level; a packet has no length of its own: shape (0, channels).

        Raises:
            PayloadError: the payload is empty.
        """
        if not payload:
            raise PayloadError("cn: empty payload")
        self._level = -float(payload[0] & 0x7F)  # RFC 3389 section 3: the first bit is 0
        return np.zeros((0, self.channels), np.int16)

    def conceal(self, samples: int, following: bytes | None) -> NDArray[np.int16]:
        """Give the noise that sounds until the next packet; silence before the first one."""
        if self._level is None:
            return np.zeros((samples, self.channels), np.int16)
        return np.repeat(self._noise.samples(samples, self._level)[:, None], self.channels, axis=1)


class ComfortNoise:
    """The format as the registry knows it."""

    name: Final = "cn"
    native_rate: Final = 8000
    rates: Final = RATES

    def decoder(self, rate: int | None = None, channels: int | None = None) -> ComfortNoiseDecoder:
        """Make a decoder.

        Raises:
            ValueError: a rate that is none of RATES.
        """
        if rate not in (None, *RATES):
            raise ValueError(f"cn has no rate of {rate} Hz")
        return ComfortNoiseDecoder(rate or self.native_rate, channels or 1)

    def durations(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Tell each packet's duration: 0, for nobody knows when the next one comes."""
        return np.zeros(len(sizes), np.int32)

    def channels_of(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Tell each packet's channels: 1, or 0 for an empty one."""
        return (sizes > 0).astype(np.uint8)


COMFORT_NOISE: Final = ComfortNoise()
