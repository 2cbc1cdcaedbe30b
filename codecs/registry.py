"""Which codecs there are, and what every one of them can do."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs import amr, packing, samples, speex
from recorderd.codecs.comfort_noise import COMFORT_NOISE
from recorderd.codecs.formats import Format
from recorderd.codecs.g711 import PCMA, PCMU
from recorderd.codecs.library import LibraryCodec
from recorderd.codecs.opus import OPUS


class Decoder(Protocol):
    """The state of one stream on its way from payloads to samples. Used by one thread at a time."""

    @property
    def rate(self) -> int:
        """Samples a second of what it gives."""

    @property
    def channels(self) -> int:
        """Channels of what it gives, whatever the payloads hold."""

    @property
    def resting(self) -> bool:
        """Whether the sender said that it is silent: until its next packet :meth:`conceal` gives noise."""

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


Made = Callable[[Format], Codec | None]


def _as_it_is(known: Codec) -> Made:
    return lambda _: known


def _g722(known: Format) -> Codec:
    # A byte is two samples of 16 kHz, and one tick of the clock of 8 kHz (RFC 3551 section 4.5.2).
    return LibraryCodec("g722", 16_000, known.clock_rate, packing.whole(lambda size: 2 * size), ("g722",))


def _g726(known: Format) -> Codec:
    # RFC 3551 section 4.5.4 begins with the lowest bits of a byte, the order of AAL2 with the highest.
    bits = int(known.name[-2:]) // 8
    decoder = "g726" if known.name.startswith("aal2-") else "g726le"
    unpack = packing.whole(lambda size: 8 * size // bits)
    return LibraryCodec(known.name, 8000, known.clock_rate, unpack, (decoder,), bits=bits)


def _g723_lost(last: packing.Frame) -> bytes:
    # A pitch lag that cannot be makes the decoder conceal (G.723.1 section 3.10).
    return b"\x03" if last.rests else b"\xfd" + b"\xff" * 19


def _framed(
    name: str, unpack: packing.Unpack, decoder: str, lost: Callable[[packing.Frame], bytes] | None = None
) -> Made:
    return lambda known: LibraryCodec(name, 8000, known.clock_rate, unpack, (decoder,), lost=lost)


def _as_zeros(last: packing.Frame) -> bytes:
    """Nothing is set: to the decoders of G.729 and iLBC an erased frame."""
    return bytes(len(last.coded))


def _amr(known: Format) -> Codec | None:
    unpack = amr.unpacker(known)
    if unpack is None:
        return None
    wide = known.name == "amr-wb"
    # FFmpeg's own decoders know no comfort noise.
    decoders = ("libopencore_amrwb", "amrwb") if wide else ("libopencore_amrnb", "amrnb")
    lost = bytes((amr.NO_DATA << 3 | 4,))
    rate = 16_000 if wide else 8000
    return LibraryCodec(known.name, rate, known.clock_rate, unpack, decoders, lost=lambda _: lost)


def _speex(known: Format) -> Codec | None:
    if known.clock_rate not in (8000, 16_000, 32_000) or known.channels != 1:
        return None
    unpack = speex.unpacker(known.clock_rate)
    return LibraryCodec("speex", known.clock_rate, known.clock_rate, unpack, ("speex",))


def _samples(known: Format) -> Codec | None:
    if known.clock_rate not in samples.RATES or (known.name == "dvi4" and known.channels != 1):
        return None
    read = samples.l16 if known.name == "l16" else samples.dvi4
    return samples.SampleCodec(known.name, known.clock_rate, known.channels, read)


_MADE: Final[Mapping[str, Made]] = MappingProxyType(
    {
        **{known.name: _as_it_is(known) for known in (PCMU, PCMA, OPUS, COMFORT_NOISE)},
        "g722": _g722,
        **{f"{order}g726-{rate}": _g726 for order in ("", "aal2-") for rate in (16, 24, 32, 40)},
        "g729": _framed("g729", packing.g729, "g729", _as_zeros),
        "g723": _framed("g723", packing.g723, "g723_1", _g723_lost),
        "gsm": _framed("gsm", packing.equal("gsm", 33, 160), "gsm"),
        "ilbc": _framed("ilbc", packing.ilbc, "ilbc", _as_zeros),
        "amr": _amr,
        "amr-wb": _amr,
        "speex": _speex,
        "l16": _samples,
        "dvi4": _samples,
    }
)

_ALIASES: Final = {
    "g721": "g726-32",  # RFC 3551 section 4.5.4: its former name
    "g729a": "g729",
    "g729b": "g729",
    "g729ab": "g729",
    "g7231": "g723",
    "g723.1": "g723",
}
"""What equipment says in SDP without being registered to."""

_CLOCKS: Final = {"opus": 48_000, "amr-wb": 16_000, "l16": 44_100}
"""Usual clocks, where they are not 8000."""


@lru_cache(maxsize=512)
def _made(known: Format) -> Codec | None:
    name = known.name.lower()
    name = _ALIASES.get(name, name)
    made = _MADE.get(name)
    how = made(known._replace(name=name)) if made is not None and known.clock_rate > 0 else None
    # Frames of several channels would lie side by side; nobody was seen to send them.
    return None if isinstance(how, LibraryCodec) and known.channels != 1 else how


def codec(known: Format | str) -> Codec | None:
    """The codec of a format, or None where there is none: its name, or what its parameters ask for, is not
    known here. A name alone, whatever its letter case, stands for the format as it usually is.
    """
    if isinstance(known, str):
        name = known.lower()
        known = Format(name, _CLOCKS.get(name, 8000))
    return _made(known)


CODECS: Final[Mapping[str, Codec]] = MappingProxyType(
    {name: known for name in _MADE if (known := codec(name)) is not None}
)
"""All codecs by name, as they usually are."""
