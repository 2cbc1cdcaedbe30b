"""What an RTP payload type stands for: the static assignments, and which formats are sound at all."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Format(NamedTuple):
    """One payload format as signalling describes it.

    ``name`` is the encoding name in lower case (``pcmu``, ``opus``), ``clock_rate`` the RTP clock in Hz,
    ``channels`` the number announced, ``fmtp`` the format's parameters as they came. For Opus the announced
    clock and channels say nothing of the sound: they are always 48000 and 2 (RFC 7587 section 4.1).
    """

    name: str
    clock_rate: int
    channels: int = 1
    fmtp: str = ""


STATIC: Final[Mapping[int, Format]] = MappingProxyType(
    {
        0: Format("pcmu", 8000),
        3: Format("gsm", 8000),
        4: Format("g723", 8000),
        5: Format("dvi4", 8000),
        6: Format("dvi4", 16000),
        7: Format("lpc", 8000),
        8: Format("pcma", 8000),
        # The clock is 8000 though the sound is 16 kHz: an error of an early RFC, kept (RFC 3551 section
        # 4.5.2).
        9: Format("g722", 8000),
        10: Format("l16", 44100, 2),
        11: Format("l16", 44100),
        12: Format("qcelp", 8000),
        13: Format("cn", 8000),
        14: Format("mpa", 90000),
        15: Format("g728", 8000),
        16: Format("dvi4", 11025),
        17: Format("dvi4", 22050),
        18: Format("g729", 8000),
    }
)
"""Payload types that need no rtpmap, the audio ones (RFC 3551 section 6, table 4)."""

_NOT_AUDIO: Final = frozenset(
    {
        "telephone-event",  # RFC 4733: events
        "tone",  # RFC 4733 section 4: a description of tones
        "cn",  # RFC 3389: a description of background noise
        "rtx",  # RFC 4588: packets sent again
        "parityfec",  # RFC 5109
        "ulpfec",  # RFC 5109
        "flexfec",  # RFC 8627
    }
)


def is_audio(name: str) -> bool:
    """Whether packets of this format carry coded sound, known to us or not.

    Events, descriptions of noise and repair packets do not; they share the timestamps of the sound beside
    them.
    """
    return name.lower() not in _NOT_AUDIO
