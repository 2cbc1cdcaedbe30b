"""Which codecs there are, and what every one of them can do."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.g711 import PCMA, PCMU
from recorderd.codecs.opus import OPUS


class Decoder(Protocol):
    """The state of one stream on its way from payloads to samples. Used by one thread at a time."""

    @property
    def rate(self) -> int:
        """Samples a second of what it gives."""

    @property
    def channels(self) -> int:
        """Channels of what it gives, whatever the payloads hold."""

    def decode(self, payload: bytes) -> NDArray[np.int16]:
        """Decode the payload of one packet.

        Returns samples of shape (n, channels).

        Raises:
            PayloadError: the payload is none of this codec's; the decoder goes on from where it was.
        """

    def conceal(self, samples: int, following: bytes | None) -> NDArray[np.int16]:
        """Make up for packets that did not arrive, as the codec knows how.

        ``samples`` is the length of the hole at the decoder's rate, ``following`` the payload of the packet
        right after it, if that arrived; it is still to be decoded afterwards. Returns samples of shape
        (samples, channels).
        """


class Codec(Protocol):
    """A payload format that can be decoded."""

    @property
    def name(self) -> str:
        """The encoding name in lower case."""

    @property
    def native_rate(self) -> int:
        """The rate in Hz at which nothing of the sound is lost."""

    @property
    def rates(self) -> tuple[int, ...]:
        """The rates in Hz at which it can decode."""

    def decoder(self, rate: int | None = None, channels: int | None = None) -> Decoder:
        """Make a decoder that gives ``rate`` (default: native) and ``channels`` (default: 1).

        Raises:
            ValueError: the codec has no such rate or number of channels.
        """

    def durations(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Tell how long each of many packets sounds, in units of the RTP clock.

        ``payload`` holds the packets one after the other, ``sizes`` (n) their lengths in bytes. Returns
        int32 of shape (n), 0 where a packet is malformed or empty.
        """

    def channels_of(self, payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Tell how many channels each of many packets holds: uint8 of shape (n), 0 for an empty packet."""


@runtime_checkable
class TableCodec(Codec, Protocol):
    """A codec without state, one byte a sample: whole windows are decoded at once."""

    def decode_block(self, coded: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Decode coded bytes of any shape to samples of the same shape."""


CODECS: Final[Mapping[str, Codec]] = MappingProxyType({codec.name: codec for codec in (PCMU, PCMA, OPUS)})
"""All codecs by name."""


def codec(name: str) -> Codec | None:
    """The codec of an encoding name, or None where there is none (yet); letter case does not matter."""
    return CODECS.get(name.lower())
