"""The first bytes of Opus packets, read for many packets at once (RFC 6716 section 3).

They tell how long a packet sounds without decoding it. The unit is the RTP clock of Opus, always 48 kHz
(RFC 7587 section 4.1).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

CLOCK: Final = 48_000

LONGEST: Final = CLOCK * 120 // 1000
"""A packet sounds at most 120 ms (RFC 6716 section 3.2.5, requirement R5)."""


def _frame_ticks() -> NDArray[np.int32]:
    """Ticks of one frame by TOC byte; its five high bits are the configuration (section 3.1, table 2)."""
    silk, hybrid, celt = (480, 960, 1920, 2880), (480, 960), (120, 240, 480, 960)
    by_config = silk * 3 + hybrid * 2 + celt * 4
    return np.repeat(np.array(by_config, np.int32), 8)


FRAME_TICKS: Final = _frame_ticks()
"""Length of one frame in 1/48000 s by TOC byte: int32 of shape (256)."""


def _vad_bits() -> NDArray[np.uint8]:
    """By TOC byte, the bits of a packet's second byte that say whether somebody speaks; 0 where none do.

    The first bits of a SILK frame, which is also the first part of a hybrid one, are a flag for each 20 ms
    (section 4.2.3). Of packets with several frames (code 1 and more) the flags are not looked for.
    """
    silk, hybrid, celt = (0x80, 0x80, 0xC0, 0xE0), (0x80, 0x80), (0, 0, 0, 0)
    by_config = np.array(silk * 3 + hybrid * 2 + celt * 4, np.uint8)
    return np.where(np.arange(256) & 3, 0, np.repeat(by_config, 8)).astype(np.uint8)


VAD_BITS: Final = _vad_bits()


def _heads(
    payload: NDArray[np.uint8], sizes: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """First and second byte of each packet; 0 where a packet has none."""
    ends = np.cumsum(sizes, dtype=np.int64)
    starts = ends - sizes
    # Two zeros behind everything, so that packets without the byte read nothing that is not there.
    padded = np.concatenate((payload, np.zeros(2, np.uint8)))
    first = np.where(sizes > 0, padded[starts], np.uint8(0))
    second = np.where(sizes > 1, padded[starts + 1], np.uint8(0))
    return first, second


def ticks(toc: NDArray[np.uint8], second: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Tell how long packets sound, by their first and second bytes (0 where there is none) and sizes.

    Returns 1/48000 s, int32 of shape (n): frames by code (section 3.2: 0 is one, 1 and 2 are two, 3 says in
    the next byte) times frame length; 0 where a packet is empty, lacks that byte, has no frames, or claims
    more than 120 ms.
    """
    code = toc & 3
    frames = np.where(code == 3, second & 0x3F, np.where(code == 0, 1, 2)).astype(np.int32)
    length = FRAME_TICKS[toc] * frames
    return np.where((sizes > 0) & (length <= LONGEST), length, np.int32(0))


def quiet(toc: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which packets, by their first and second bytes, the sender says are without speech."""
    flags = VAD_BITS[toc]
    none: NDArray[np.bool_] = (flags > 0) & (second & flags == 0)
    return none


def durations(payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Tell how long packets sound: see :func:`ticks`.

    ``payload`` holds the packets one after the other, ``sizes`` (n) their lengths in bytes.
    """
    toc, second = _heads(payload, sizes)
    return ticks(toc, second, sizes)


def channels(payload: NDArray[np.uint8], sizes: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Tell how many channels packets hold, by the TOC's s bit: uint8 of shape (n), 0 for an empty packet."""
    toc, _ = _heads(payload, sizes)
    return np.where(sizes > 0, (toc >> 2 & 1) + 1, 0).astype(np.uint8)
