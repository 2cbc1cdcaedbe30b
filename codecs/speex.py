"""How many frames a Speex packet holds (RFC 5574): they lie bit by bit, and only their modes tell how long.

The layout is that of the Speex manual, section 9 and 10: a frame is a narrowband part, then for wideband a
part of its own for the band above, and for ultra-wideband one more.
"""

from typing import Final

from recorderd.codecs.packing import MOST_FRAMES, Frame, Unpack
from recorderd.codecs.payload import PayloadError

NARROW_BITS: Final = (5, 43, 119, 160, 220, 300, 364, 492, 79)
"""By submode, the first 5 bits included."""

WIDE_BITS: Final = (4, 36, 112, 192, 352)
"""By submode, the first 4 bits included; the same for both bands above."""

_IN_BAND: Final = (1, 1, 4, 4, 4, 4, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64)
"""Bits of a message to the decoder, by its first four."""
TERMINATOR, MESSAGE, CUSTOM = 15, 14, 13


def unpacker(rate: int) -> Unpack:
    """How to read packets of 8000, 16000 or 32000 Hz: the whole packet is decoded at once."""
    layers = {8000: 0, 16_000: 1, 32_000: 2}[rate]

    def unpack(payload: bytes) -> list[Frame]:
        count = frames(payload, layers)
        if not count:
            raise PayloadError(f"speex: {len(payload)} bytes hold no frame")
        return [Frame(payload, count * (160 << layers))]

    return unpack


def frames(payload: bytes, layers: int) -> int:
    """How many frames of up to ``layers`` bands above the lowest there are in a packet."""
    number, end = int.from_bytes(payload), 8 * len(payload)

    def bits(at: int, count: int) -> int:
        return number >> end - at - count & (1 << count) - 1 if at + count <= end else -1

    at = count = 0
    while count < MOST_FRAMES and (five := bits(at, 5)) >= 0:
        mode = five & 15 if five < 16 else -1
        if mode == TERMINATOR:
            break
        if mode == MESSAGE:
            at += 9 + _IN_BAND[max(bits(at + 5, 4), 0)]
        elif mode == CUSTOM:
            at += 10 + 8 * max(bits(at + 5, 5), 0)
        elif not 0 <= mode < len(NARROW_BITS):
            break
        else:
            at += NARROW_BITS[mode]
            for _ in range(layers):
                if bits(at, 1) == 1 and (wide := bits(at + 1, 3)) in range(len(WIDE_BITS)):
                    at += WIDE_BITS[wide]
            count += at <= end
    return count
