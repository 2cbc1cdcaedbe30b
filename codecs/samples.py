"""Codecs of plain samples: L16 (RFC 3551 section 4.5.11) and DVI4 (section 4.5.1). Neither has a state that
goes from packet to packet."""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.payload import PayloadError

RATES: Final = frozenset({8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000})
"""Rates of sound. SDP may name any; what else it names is no telephone's."""

DVI4_HEADER: Final = 4

# fmt: off
_STEPS: Final = (
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80,
    88, 97, 107, 118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544,
    598, 658, 724, 796, 876, 963, 1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749,
    3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894, 6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635,
    13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794, 32767,
)
# fmt: on
_MOVES: Final = (-1, -1, -1, -1, 2, 4, 6, 8)


def l16(payload: bytes, channels: int) -> NDArray[np.int16]:
    """Decode big-endian samples, interleaved: shape (n, channels)."""
    size = 2 * channels
    if len(payload) < size:
        raise PayloadError(f"l16: {len(payload)} bytes for {channels} channels")
    whole = payload[: len(payload) // size * size]
    return np.frombuffer(whole, ">i2").astype(np.int16).reshape(-1, channels)


def dvi4(payload: bytes, channels: int = 1) -> NDArray[np.int16]:
    """Decode IMA ADPCM: the value and step index before the first sample, then 4 bits a sample: (n, 1)."""
    if len(payload) <= DVI4_HEADER:
        raise PayloadError(f"dvi4: {len(payload)} bytes")
    value, index = int.from_bytes(payload[:2], signed=True), min(payload[2], len(_STEPS) - 1)
    out: list[int] = []
    for two in payload[DVI4_HEADER:]:
        for code in (two >> 4, two & 15):
            step = _STEPS[index]
            change = step >> 3
            change += step if code & 4 else 0
            change += step >> 1 if code & 2 else 0
            change += step >> 2 if code & 1 else 0
            value = max(-32768, value - change) if code & 8 else min(32767, value + change)
            index = min(max(index + _MOVES[code & 7], 0), len(_STEPS) - 1)
            out.append(value)
    return np.array(out, np.int16)[:, None]


class SampleDecoder:
    """Decodes payloads one by one; has no state."""

    resting: Final = False

    def __init__(
        self, read: Callable[[bytes, int], NDArray[np.int16]], rate: int, sent: int, channels: int
    ) -> None:
        self.rate, self.channels = rate, channels
        self._read, self._sent = read, sent

    def decode(self, payload: bytes) -> NDArray[np.int16]:
        """Decode a payload to samples of shape (n, channels): mono is the mean of what was sent.

        Raises:
            PayloadError: the payload is shorter than a sample.
        """
        samples = self._read(payload, self._sent)
        if self.channels == 1 and self._sent > 1:
            mean: NDArray[np.int16] = np.rint(samples.mean(axis=1, keepdims=True)).astype(np.int16)
            return mean
        return samples[:, np.arange(self.channels) % self._sent]

    def conceal(self, samples: int, following: bytes | None) -> NDArray[np.int16]:
        """Give zeros of shape (samples, channels): the codec has no rule for what is lost."""
        return np.zeros((samples, self.channels), np.int16)


class SampleCodec(NamedTuple):
    """L16 or DVI4 at one rate."""

    name: str
    native_rate: int
    channels: int
    read: Callable[[bytes, int], NDArray[np.int16]]

    @property
    def rates(self) -> tuple[int, ...]:
        """Its own rate."""
        return (self.native_rate,)

    def decoder(self, rate: int | None = None, channels: int | None = None) -> SampleDecoder:
        """Make a decoder: mono unless told otherwise.

        Raises:
            ValueError: another rate than its own.
        """
        if rate not in (None, self.native_rate):
            raise ValueError(f"{self.name} has no rate of {rate} Hz")
        return SampleDecoder(self.read, self.native_rate, self.channels, channels or 1)

    def durations(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Tell each packet's duration in samples, from its size."""
        if self.name == "l16":
            return (sizes // (2 * self.channels)).astype(np.int32)
        return (2 * np.maximum(sizes - DVI4_HEADER, 0)).astype(np.int32)

    def channels_of(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Tell each packet's channels, 0 for an empty one."""
        return np.where(sizes > 0, min(self.channels, 255), 0).astype(np.uint8)
