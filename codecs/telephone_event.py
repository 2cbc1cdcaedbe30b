"""RFC 4733 telephone events: keys pressed, told as values and never mixed into the sound.

An event is sent again and again while the key is down, all packets with the timestamp of its start and a
growing duration, and its end three times over; whoever follows a stream tells events apart by timestamp.
"""

from typing import Final, NamedTuple

from recorderd.codecs.payload import PayloadError

SIZE: Final = 4
"""Bytes of one event in a payload."""

_DIGITS: Final = "0123456789*#ABCD"  # RFC 4733 section 3.2, table 3
_FLASH: Final = 16


class ToneEvent(NamedTuple):
    """One event as one packet reports it."""

    code: int
    """The event code, 0 to 255."""
    digit: str | None
    """``0`` to ``9``, ``*``, ``#``, ``A`` to ``D``, ``flash``; None for any other event."""
    end: bool
    """The key is up: the last report of this event."""
    volume: int
    """Power in -dBm0, 0 (loud) to 63; means nothing for flash."""
    duration: int
    """Since the event began, in units of the RTP clock; 0 marks a state event (RFC 4733 section 2.3.5)."""


def tone_events(payload: bytes) -> tuple[ToneEvent, ...]:
    """Read the events of a telephone-event payload (RFC 4733 section 2.3), the earliest first.

    There is nearly always one; a sender may report several short ones together (section 2.5.1.5). Left-over
    bytes are ignored: some gateways pad.

    Raises:
        PayloadError: the payload is shorter than one event.
    """
    if len(payload) < SIZE:
        raise PayloadError(f"telephone-event: {len(payload)} bytes, an event has {SIZE}")
    return tuple(_event(payload[at : at + SIZE]) for at in range(0, len(payload) - SIZE + 1, SIZE))


def tone_event(payload: bytes) -> ToneEvent:
    """Read the first event of a payload, all that most senders ever put there.

    Raises:
        PayloadError: the payload is shorter than one event.
    """
    return tone_events(payload[:SIZE])[0]


def _event(four: bytes) -> ToneEvent:
    code = four[0]
    digit = _DIGITS[code] if code < len(_DIGITS) else "flash" if code == _FLASH else None
    # Bit 6 is reserved: "the receiver MUST ignore it" (section 2.3.3).
    return ToneEvent(code, digit, bool(four[1] & 0x80), four[1] & 0x3F, int.from_bytes(four[2:4], "big"))
