"""Which call and which speaker an RTP stream belongs to, from where it comes and where it goes.

An SDP says where its sender wants to *receive* (RFC 3264), so a packet to the callee's address is the caller
speaking. A sender behind NAT comes from elsewhere than its SDP says, and the far end answers to wherever it
latched on; then the other end of the packet still is an announced address (symmetric RTP, RFC 4961). At least
one end of every accepted stream was therefore announced by signalling. A stranger's stream towards an
announced address is kept out for as long as the one that holds the place is heard.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from recorderd.calls.events import MediaExpected, MediaWithdrawn, Side, other
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sdp_formats import PayloadFormat

WITHDRAWN_NS: Final = 1_000_000_000
"""A stream that began this long after its address was withdrawn is still what was on its way."""

HOLDS_NS: Final = 2_000_000_000
"""A stream silent for this long no longer keeps others out of its place."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What signalling says of a stream: who speaks, and what the payload types mean."""

    call: str
    speaker: Side
    formats: Mapping[int, PayloadFormat]
    signalled: bool
    """Whether the source, too, is an announced address."""


@dataclass(slots=True)
class _Expected:
    call: str
    side: Side
    until_ns: int | None = None


@dataclass(slots=True)
class _Place:
    """The source that a speaker was last heard from, at one destination."""

    source: Endpoint
    heard_ns: int


@dataclass(slots=True)
class _CallMedia:
    endpoints: set[Endpoint] = field(default_factory=set)
    formats: dict[Side, Mapping[int, PayloadFormat]] = field(default_factory=dict)
    places: dict[tuple[Side, Endpoint], _Place] = field(default_factory=dict)


class Expectations:
    """Announced media addresses, and the calls that announced them."""

    def __init__(self) -> None:
        self._at: dict[Endpoint, list[_Expected]] = {}
        self._calls: dict[str, _CallMedia] = {}
        self.foreign = 0
        """Streams that were kept out because another holds their place."""

    def __len__(self) -> int:
        return len(self._at)

    def expect(self, event: MediaExpected) -> None:
        """Take note of where a side wants to receive. The newest call that announced an address has it."""
        media = self._calls.setdefault(event.call, _CallMedia())
        media.formats[event.side] = event.formats
        waiting = self._at.setdefault(event.endpoint, [])
        waiting[:] = [known for known in waiting if known.call != event.call]
        waiting.append(_Expected(event.call, event.side))
        media.endpoints.add(event.endpoint)

    def withdraw(self, event: MediaWithdrawn) -> None:
        """A side has moved: streams that begin later are not for it."""
        for known in self._at.get(event.endpoint, ()):
            if known.call == event.call and known.side == event.side:
                known.until_ns = event.now + WITHDRAWN_NS

    def release(self, call: str) -> None:
        """Forget what a call announced."""
        media = self._calls.pop(call, None)
        for endpoint in media.endpoints if media else ():
            left = [known for known in self._at[endpoint] if known.call != call]
            if left:
                self._at[endpoint] = left
            else:
                del self._at[endpoint]

    def match(self, source: Endpoint, destination: Endpoint, now: int) -> Binding | None:
        """Find the call of a stream that began at ``now``; None where nobody announced it, or its place is
        held.
        """
        receiver = self._newest(destination, now)
        sender = self._newest(source, now)
        if receiver is not None:
            speaker = other(receiver.side)
            signalled = sender is not None and sender.call == receiver.call and sender.side == speaker
            if not self._admit(receiver.call, speaker, source, destination, signalled, now):
                self.foreign += 1
                return None
            return Binding(receiver.call, speaker, self._formats(receiver.call, speaker), signalled)
        if sender is not None:
            return Binding(sender.call, sender.side, self._formats(sender.call, sender.side), signalled=True)
        return None

    def _formats(self, call: str, speaker: Side) -> Mapping[int, PayloadFormat]:
        """What the payload types from a speaker mean: the receiver numbers them (RFC 3264 section 5.1).

        Some senders use their own numbers all the same: those the receiver does not have are taken from
        theirs.
        """
        formats = self._calls[call].formats
        return {**formats.get(speaker, {}), **formats.get(other(speaker), {})}

    def heard(self, call: str, speaker: Side, source: Endpoint, destination: Endpoint, now: int) -> None:
        """Say that a bound stream is still heard, so that it holds its place."""
        media = self._calls.get(call)
        place = media.places.get((speaker, destination)) if media else None
        if place is not None and place.source == source:
            place.heard_ns = now

    def _newest(self, endpoint: Endpoint, now: int) -> _Expected | None:
        for known in reversed(self._at.get(endpoint, ())):
            if known.until_ns is None or now <= known.until_ns:
                return known
        return None

    def _admit(
        self, call: str, speaker: Side, source: Endpoint, destination: Endpoint, signalled: bool, now: int
    ) -> bool:
        places = self._calls[call].places
        held = places.get((speaker, destination))
        taken = held is not None and held.source != source and now - held.heard_ns < HOLDS_NS
        if taken and not signalled:
            return False
        places[speaker, destination] = _Place(source, now)
        return True
