"""What a codec says of a payload that it cannot make sense of."""

from recorderd.errors import PeerError


class PayloadError(PeerError):
    """A payload is not what its format says; the caller conceals it like a lost packet."""
