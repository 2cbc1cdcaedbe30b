"""One message of the signalling, however it came: by UDP, in a stream, or passed on in HEP."""

from typing import NamedTuple

from recorderd.wire.endpoint import Endpoint


class Signalling(NamedTuple):
    """One message to or from a SIP port. ``truncated``: the capture kept only this beginning of it.

    ``time_ns`` is when it was whole, by the capture clock. ``transport`` is how it was seen: 'udp', 'tcp',
    'ws', or 'hep'. The payload, which may hold keys, is not shown.
    """

    time_ns: int
    source: Endpoint
    destination: Endpoint
    payload: bytes
    transport: str = "udp"
    truncated: bool = False

    def __repr__(self) -> str:
        ends = f"source={self.source!r}, destination={self.destination!r}"
        how = f"transport={self.transport!r}, truncated={self.truncated!r}"
        return f"Signalling(time_ns={self.time_ns!r}, {ends}, {how})"


class Framed(NamedTuple):
    """One message cut out of a stream of bytes; ``truncated``: its end is missing."""

    payload: bytes
    truncated: bool = False
