"""Keys pressed on one stream: RFC 4733 packets to one value a key."""

from recorderd.codecs.payload import PayloadError
from recorderd.codecs.telephone_event import ToneEvent, tone_event


class ToneFollower:
    """Tells each event once, however often its packets are sent (RFC 4733 section 2.5.1.2)."""

    def __init__(self) -> None:
        self._told: int | None = None
        self._last: tuple[int, ToneEvent] | None = None

    def packet(self, timestamp: int, payload: bytes) -> list[ToneEvent]:
        """Take in a packet; returns the events that are now known to be over."""
        try:
            event = tone_event(payload)
        except PayloadError:
            return []
        over: list[ToneEvent] = []
        if self._last is not None and self._last[0] != timestamp:
            # The end packets of the one before were all lost.
            over.extend(self.rest())
        if timestamp == self._told:
            return over
        self._last = (timestamp, event)
        return over + self.rest() if event.end else over

    def rest(self) -> list[ToneEvent]:
        """The event whose end was never seen, when the stream is over."""
        if self._last is None:
            return []
        (self._told, event), self._last = self._last, None
        return [event]
