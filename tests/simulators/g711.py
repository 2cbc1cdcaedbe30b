"""G.711 both ways, written from ITU-T G.711 and on purpose without the product's own tables."""

import numpy as np
from numpy.typing import NDArray

# ITU-T G.711 works on 14-bit (mu-law) and 13-bit (A-law) numbers; in 16-bit samples the mu-law bias 33
# becomes 132.
_MU_BIAS = 132
_MU_CLIP = 32635


def _mu_decode_table() -> NDArray[np.int16]:
    code = 255 - np.arange(256)  # mu-law is sent with every bit inverted (table 2a, note 1)
    segment, step = (code >> 4) & 7, code & 15
    magnitude = ((step * 8 + _MU_BIAS) << segment) - _MU_BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _mu_encode_table() -> NDArray[np.uint8]:
    sample = np.arange(65536).astype(np.uint16).view(np.int16).astype(np.int64)
    magnitude = np.minimum(np.abs(sample), _MU_CLIP) + _MU_BIAS
    segment = np.floor(np.log2(magnitude)).astype(np.int64) - 7
    step = (magnitude >> (segment + 3)) & 15
    code: NDArray[np.int64] = (segment << 4) | step | np.where(sample < 0, 0x80, 0)
    return np.asarray(255 - code, np.uint8)


def _a_decode_table() -> NDArray[np.int16]:
    code = np.arange(256) ^ 0x55  # even bits are inverted on the wire (table 1a, note 2)
    segment, step = (code >> 4) & 7, code & 15
    magnitude = np.where(segment == 0, step * 16 + 8, (step * 16 + 264) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _a_encode_table() -> NDArray[np.uint8]:
    sample = np.arange(65536).astype(np.uint16).view(np.int16).astype(np.int64)
    magnitude = np.where(sample < 0, -1 - sample, sample) >> 4
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int64) - 3, 0)
    step = (magnitude >> np.maximum(segment - 1, 0)) & 15
    code = (segment << 4) | step | np.where(sample < 0, 0, 0x80)
    return np.asarray(code ^ 0x55, np.uint8)


DECODE: dict[str, NDArray[np.int16]] = {"pcmu": _mu_decode_table(), "pcma": _a_decode_table()}
_ENCODE = {"pcmu": _mu_encode_table(), "pcma": _a_encode_table()}


def encode(law: str, samples: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Code 16-bit samples, any shape, to one byte each."""
    return _ENCODE[law][samples.view(np.uint16)]


def decode(law: str, coded: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Bytes, any shape, to the 16-bit values that the standard assigns them."""
    return DECODE[law][coded]
