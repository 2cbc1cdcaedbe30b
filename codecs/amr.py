"""AMR and AMR-WB in RTP (RFC 4867): frames out of both payload formats, as files of section 5 have them.

What is refused as a whole (None for a codec) are the options that change what lies where and that nobody in
telephony was seen to use: CRCs, robust sorting, interleaving, several channels.
"""

from typing import Final

from recorderd.codecs.formats import Format
from recorderd.codecs.packing import MOST_FRAMES, Frame, Unpack
from recorderd.codecs.payload import PayloadError

NARROW_BITS: Final = {0: 95, 1: 103, 2: 118, 3: 134, 4: 148, 5: 159, 6: 204, 7: 244, 8: 39, 15: 0}
WIDE_BITS: Final = {
    0: 132,
    1: 177,
    2: 253,
    3: 285,
    4: 317,
    5: 365,
    6: 397,
    7: 461,
    8: 477,
    9: 40,
    14: 0,
    15: 0,
}
"""Bits by frame type (3GPP TS 26.101 and 26.201). Packets with other types are to be discarded (4.3.2)."""

NO_DATA: Final = 15
"""The frame type of nothing at all."""

NARROW_SID, WIDE_SID = 8, 9
"""Frame types that describe silence."""


def parameters(fmtp: str) -> dict[str, str]:
    """The parameters of an fmtp line by name in lower case; one without a value has ``1``."""
    out = {}
    for part in fmtp.split(";"):
        name, found, value = part.partition("=")
        out[name.strip().lower()] = value.strip() if found else "1"
    return out


def unpacker(known: Format) -> Unpack | None:
    """How to read packets of this format; None where it cannot be read."""
    told = parameters(known.fmtp)
    if known.channels != 1 or told.get("interleaving") is not None:
        return None
    if any(told.get(name, "0") not in ("0", "") for name in ("crc", "robust-sorting")):
        return None
    wide = known.name == "amr-wb"
    aligned = told.get("octet-align", "0") == "1"
    bits, sid, samples = (WIDE_BITS, WIDE_SID, 320) if wide else (NARROW_BITS, NARROW_SID, 160)

    def unpack(payload: bytes) -> list[Frame]:
        found = _read(payload, bits, aligned=aligned)
        if found is None:
            # Some gateways answer without their fmtp, and go on in the format that was offered. Only one of
            # the two formats fits a packet's length, nearly always.
            found = _read(payload, bits, aligned=not aligned)
        if found is None:
            raise PayloadError(f"{known.name}: {len(payload)} bytes hold no frames")
        return [Frame(coded, samples, rests=kind == sid) for kind, coded in found]

    return unpack


def _read(payload: bytes, bits: dict[int, int], *, aligned: bool) -> list[tuple[int, bytes]] | None:
    """Frame types, and frames with the header that files have (RFC 4867 section 5.3); None for no packet.

    A packet is: a mode request of 4 bits, a table of contents with 6 bits a frame (more follow, type, good
    quality), the frames. Octet-aligned, each of these is padded to whole bytes (section 4.4), else only the
    packet is (section 4.3).
    """
    number, left = int.from_bytes(payload), 8 * len(payload)

    def take(count: int, padded: int) -> int:
        nonlocal left
        if padded > left:
            raise IndexError
        left -= padded
        return number >> left + padded - count & (1 << count) - 1

    try:
        take(4, 8 if aligned else 4)
        contents: list[tuple[int, int]] = []
        more = 1
        while more:
            entry = take(6, 8 if aligned else 6)
            more, kind, good = entry >> 5, entry >> 1 & 15, entry & 1
            if kind not in bits or len(contents) == MOST_FRAMES:
                return None
            contents.append((kind, good))
        frames = []
        for kind, good in contents:
            count = bits[kind]
            size = -(-count // 8)
            speech = take(count, 8 * size if aligned else count) << 8 * size - count
            frames.append((kind, bytes((kind << 3 | good << 2,)) + speech.to_bytes(size)))
    except IndexError:
        return None
    return frames if left < 8 else None
