"""What an RTP payload type stands for (RFC 3551 section 6, RFC 4566 section 6: rtpmap and fmtp)."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from recorderd.wire.ascii_int import ascii_int

#: No registered encoding has a faster clock than this; what claims to is a mistake or an attack on
#: arithmetic.
MAX_CLOCK_RATE = 10_000_000

_ENCODING = re.compile(r"[!-.0-~]{1,64}")  # visible ASCII, no slash
_MAX_ENCODING = 128
_MAX_FMTP = 1024


class PayloadFormat(NamedTuple):
    """The meaning of one payload type.

    Attributes:
        encoding: lower case: `pcmu`, `pcma`, `opus`, `telephone-event`, `cn` ...
        clock_rate: RTP clock in Hz; for some encodings not the sampling rate (G.722, RFC 3551 section 4.5.2).
        channels: 1..255, as announced (Opus always says 2, RFC 7587 section 7).
        fmtp: the format's parameters as written, empty when there are none.
    """

    encoding: str
    clock_rate: int
    channels: int = 1
    fmtp: str = ""


#: RFC 3551 tables 4 and 5. 2 (G.721, now G.726-32) and 19 (comfort noise) are reserved there because
#: earlier drafts assigned them, and old equipment still sends them so.
STATIC: Mapping[int, PayloadFormat] = {
    0: PayloadFormat("pcmu", 8000),
    2: PayloadFormat("g726-32", 8000),
    3: PayloadFormat("gsm", 8000),
    4: PayloadFormat("g723", 8000),
    5: PayloadFormat("dvi4", 8000),
    6: PayloadFormat("dvi4", 16000),
    7: PayloadFormat("lpc", 8000),
    8: PayloadFormat("pcma", 8000),
    9: PayloadFormat("g722", 8000),
    10: PayloadFormat("l16", 44100, 2),
    11: PayloadFormat("l16", 44100),
    12: PayloadFormat("qcelp", 8000),
    13: PayloadFormat("cn", 8000),
    14: PayloadFormat("mpa", 90000),
    15: PayloadFormat("g728", 8000),
    16: PayloadFormat("dvi4", 11025),
    17: PayloadFormat("dvi4", 22050),
    18: PayloadFormat("g729", 8000),
    19: PayloadFormat("cn", 8000),
    25: PayloadFormat("celb", 90000),
    26: PayloadFormat("jpeg", 90000),
    28: PayloadFormat("nv", 90000),
    31: PayloadFormat("h261", 90000),
    32: PayloadFormat("mpv", 90000),
    33: PayloadFormat("mp2t", 90000),
    34: PayloadFormat("h263", 90000),
}


def payload_type(text: str) -> int | None:
    """A payload type, 0..127 (RFC 3550 section 5.1); None for anything else."""
    return ascii_int(text, 127)


def parse_rtpmap(encoding: str, fmtp: str = "") -> PayloadFormat | None:
    """The format of `opus/48000/2` and its parameters; None when name, clock or channels make no sense."""
    # Clipped before they become keys of the cache, so that its size is bounded in bytes too.
    return _format(encoding[:_MAX_ENCODING].strip(), fmtp[:_MAX_FMTP])


def static_format(number: int, fmtp: str = "") -> PayloadFormat | None:
    """The format that a payload type has without an rtpmap; None for the dynamic and unassigned ones."""
    known = STATIC.get(number)
    if known is None or not fmtp:
        return known
    return parse_rtpmap(f"{known.encoding}/{known.clock_rate}/{known.channels}", fmtp)


@lru_cache(maxsize=1024)
def _format(encoding: str, fmtp: str) -> PayloadFormat | None:
    """Cached, so that ten thousand calls with the same codecs share the same values."""
    name, _, rest = encoding.partition("/")
    clock_text, _, channels_text = rest.partition("/")
    clock = ascii_int(clock_text.strip(), MAX_CLOCK_RATE)
    channels = ascii_int(channels_text.strip(), 255) if channels_text.strip() else 1
    if not _ENCODING.fullmatch(name) or not clock or not channels:
        return None
    return PayloadFormat(name.lower(), clock, channels, fmtp)
