"""How the codecs of RFC 3551 lie in their packets: a payload is cut into the frames that a decoder takes.

A frame is what the decoder is given at once, with the time that it stands for. What is left over behind the
last whole frame is padding, or an error of the sender's; the frames before it are good.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from recorderd.codecs.payload import PayloadError

MOST_FRAMES: Final = 50
"""Frames of a packet: half a second of the shortest ones. No sender waits so long; an attack would."""


class Frame(NamedTuple):
    """One coded frame."""

    coded: bytes
    samples: int
    """How long it sounds, at the codec's own rate."""
    bit_rate: int = 0
    """Tells the modes of a codec apart whose decoder must be told; 0 where there is one."""
    noise_dbov: float | None = None
    """The decoder does not know this frame, which describes background noise of this level."""
    rests: bool = False
    """The sender has stopped talking: until its next packet there is background noise."""


Unpack = Callable[[bytes], list[Frame]]
"""Cuts a payload of at least one byte. Raises PayloadError where it holds no frame."""


def whole(samples_of: Callable[[int], int]) -> Unpack:
    """Codecs of samples rather than frames: the payload is taken as it is; its size tells the samples."""

    def unpack(payload: bytes) -> list[Frame]:
        return [Frame(payload, samples_of(len(payload)))]

    return unpack


def equal(name: str, size: int, samples: int) -> Unpack:
    """Frames of ``size`` bytes."""

    def unpack(payload: bytes) -> list[Frame]:
        count = len(payload) // size
        if not 0 < count <= MOST_FRAMES:
            raise PayloadError(f"{name}: {len(payload)} bytes, a frame has {size}")
        return [Frame(payload[at * size : (at + 1) * size], samples) for at in range(count)]

    return unpack


# G.729 annex B: what the 5 bits of a SID frame's gain stand for, in dB of the excitation.
_SID_GAIN_DB: Final = (-12, *range(-4, 17, 4), *range(18, 67, 2))
_SID_TO_DBOV: Final = -96.0
"""Makes of them the level at which a decoder plays the noise: found by comparing with one (bcg729)."""


def g729(payload: bytes) -> list[Frame]:
    """G.729 and annex A: 10 bytes a frame of 10 ms; a last one of 2 bytes is annex B's (RFC 3551 4.5.6)."""
    speech, rest = divmod(len(payload), 10)
    if speech > MOST_FRAMES or (not speech and rest < 2):
        raise PayloadError(f"g729: {len(payload)} bytes")
    frames = [Frame(payload[at : at + 10], 80) for at in range(0, 10 * speech, 10)]
    if rest == 2:
        # 1 + 5 + 4 bits of spectrum, 5 of gain, one spare.
        gain = payload[-1] >> 1 & 0x1F
        level = _SID_GAIN_DB[gain] + _SID_TO_DBOV
        frames.append(Frame(payload[-2:], 80, noise_dbov=level, rests=True))
    return frames


_G723_SIZES: Final = (24, 20, 4, 1)
"""By the two lowest bits of a frame: 6.3 kbit/s, 5.3 kbit/s, silence described, not sent (RFC 3551 4.5.3)."""


def g723(payload: bytes) -> list[Frame]:
    """G.723.1: frames of 30 ms that tell their own sizes."""
    frames: list[Frame] = []
    at = 0
    while at < len(payload) and len(frames) < MOST_FRAMES:
        kind = payload[at] & 3
        size = _G723_SIZES[kind]
        if at + size > len(payload):
            break
        frames.append(Frame(payload[at : at + size], 240, rests=kind >= 2))
        at += size
    if not frames:
        raise PayloadError(f"g723: {len(payload)} bytes are no frame")
    return frames


_ILBC: Final = {38: (160, 15_200), 50: (240, 13_333)}
"""Frame size in bytes: samples, bit rate (RFC 3952 section 3)."""


def ilbc(payload: bytes) -> list[Frame]:
    """iLBC of 20 or 30 ms. The size tells which: what `mode` says in SDP is not always what is sent."""
    size = next((size for size in _ILBC if len(payload) % size == 0), 0)
    if not size or len(payload) // size > MOST_FRAMES:
        raise PayloadError(f"ilbc: {len(payload)} bytes")
    samples, bit_rate = _ILBC[size]
    return [Frame(payload[at : at + size], samples, bit_rate) for at in range(0, len(payload), size)]
