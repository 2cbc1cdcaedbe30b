"""What the call engine tells: each event is named for what happened and names its call.

`call` is a key that is unique in the process (`CallTable.get` looks it up), `now` the time of the message
that caused the event, in ns since the epoch. Which event it is, its class tells: they are tuples, and two of
different classes may be equal.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sdes import Crypto
from recorderd.wire.sdp_formats import PayloadFormat

#: The caller sent the INVITE that formed the dialog, and stays the caller whoever sends the later requests.
Side = Literal["caller", "callee"]
SIDES: Final[tuple[Side, Side]] = ("caller", "callee")


def other(side: Side) -> Side:
    """The other end."""
    return "callee" if side == "caller" else "caller"


class CallStarted(NamedTuple):
    """The first message of a call was seen."""

    call: str
    now: int


class MediaExpected(NamedTuple):
    """One side is ready to receive media at an endpoint: what arrives there was sent by the *other* side.

    Repeated with the same side and endpoint when what is known of it changes. Before the answer several
    callees may be ready (forking); the endpoints of those that lose are withdrawn.

    Attributes:
        side: the side that receives here.
        endpoint: where; behind NAT only a hint.
        formats: payload type to meaning, for packets that arrive here. (RFC 3264 section 5.1: each end
            numbers the formats of what is sent to it.)
        direction: of this side's stream from its own point of view, `sendrecv` and so on; an address of
            0.0.0.0 has become `sendonly` or `inactive`.
        encrypted: SRTP, as far as known so far.
        line: index of the m-line.
        legs: which hops of the signalling announced it, in order. A proxy that relays media shows the same
            dialog several times with different addresses, and each leg alone is the whole conversation. 0
            is the hop seen first.
        crypto: the keys of what this side *sends* by SRTP.
        refusal: why what this side sends by SRTP cannot be opened; empty where it can.
        besides: payload types that are no audio: of video on the same port (RFC 9143), for instance.
    """

    call: str
    side: Side
    endpoint: Endpoint
    formats: Mapping[int, PayloadFormat]
    direction: str
    encrypted: bool
    now: int
    line: int = 0
    legs: tuple[int, ...] = (0,)
    crypto: tuple[Crypto, ...] = ()
    refusal: str = ""
    besides: frozenset[int] = frozenset()


class MediaWithdrawn(NamedTuple):
    """A side no longer receives at an endpoint: it moved, its stream was refused, or another callee answered.

    Packets on their way may still arrive for a moment. At the end of a call nothing is withdrawn one by one.
    """

    call: str
    side: Side
    endpoint: Endpoint
    now: int


class CallAnswered(NamedTuple):
    """The callee accepted the call."""

    call: str
    now: int


class HoldChanged(NamedTuple):
    """`side` put the other side on hold (asked it to send nothing), or took the call back."""

    call: str
    side: Side
    held: bool
    now: int


class OtherMedia(NamedTuple):
    """Something besides audio was offered, agreed on, or is not agreed on any more; it is not recorded.

    Attributes:
        kind: `fax (T.38)`, `video`, `messages (MSRP)`, `text (T.140)`, or what the m-line says.
    """

    call: str
    kind: str
    state: Literal["offered", "agreed", "ended"]
    now: int


class CallEnded(NamedTuple):
    """The call is over; `now` is when that became certain, `Call.ended_at` when it happened.

    `cause`: `bye`, `bye before answer`, `cancelled`, `timeout`, `rejected 486 Busy Here`, `redirected 302
    Moved Temporarily` or `call table full`.
    """

    call: str
    now: int
    cause: str


CallEvent = CallStarted | MediaExpected | MediaWithdrawn | CallAnswered | HoldChanged | OtherMedia | CallEnded
