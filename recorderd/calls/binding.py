"""Which call and which speaker an RTP stream belongs to, from where it comes and where it goes.

An SDP says where its sender wants to *receive* (RFC 3264), so a packet to the callee's address is the caller
speaking. A sender behind NAT comes from elsewhere than its SDP says, and the far end answers to wherever it
latched on; then the other end of the packet still is an announced address (symmetric RTP, RFC 4961). At least
one end of every accepted stream was therefore announced by signalling.

Anybody can send to an announced address. How far a source is trusted is its *standing*; one that stands lower
never takes the place of one that stands higher and is heard, and one that nothing speaks for must wait, for a
better one may still come.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final

from recorderd.calls.events import MediaExpected, MediaWithdrawn, Side, other
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sdp_formats import PayloadFormat

WITHDRAWN_NS: Final = 1_000_000_000
"""A stream that began this long after its address was withdrawn is still what was on its way."""

PATIENCE_NS: Final = 2_000_000_000
"""How long a stream from a host that signalling never named waits for a better one to appear in its place."""

HOLDS_NS: Final = 2_000_000_000
"""A stream silent for this long no longer keeps others out of its place."""


class Standing(IntEnum):
    """How far signalling speaks for the source of a stream."""

    STRANGER = 0
    """Not at all."""
    KNOWN_HOST = 1
    """The call's signalling came from, or went to, this host: a phone behind NAT."""
    SIGNALLED = 2
    """The source is where the speaker announced to receive."""


class Held(Enum):
    """Why a stream to an announced address is not (yet) taken."""

    TAKEN = "another source holds the place"
    WAITING = "nothing speaks for its source, and a better one may come"


@dataclass(frozen=True, slots=True)
class Binding:
    """What signalling says of a stream: who speaks, and what the payload types mean."""

    call: str
    speaker: Side
    formats: Mapping[int, PayloadFormat]
    standing: Standing
    displaces: Endpoint | None = None
    """The source of lower standing that was taken for the speaker until now."""


@dataclass(slots=True)
class _Expected:
    call: str
    side: Side
    until_ns: int | None = None


@dataclass(slots=True)
class _Place:
    """The source that a speaker was last heard from, at one destination."""

    source: Endpoint
    standing: Standing
    heard_ns: int


@dataclass(slots=True)
class _CallMedia:
    endpoints: set[Endpoint] = field(default_factory=set)
    formats: dict[Side, Mapping[int, PayloadFormat]] = field(default_factory=dict)
    places: dict[tuple[Side, Endpoint], _Place] = field(default_factory=dict)


class Expectations:
    """Announced media addresses, and the calls that announced them."""

    def __init__(self, knows: Callable[[str, str], bool], patience_ns: int = PATIENCE_NS) -> None:
        """``knows(call, host)`` tells whether a host took part in a call's signalling."""
        self._knows, self._patience_ns = knows, patience_ns
        self._at: dict[Endpoint, list[_Expected]] = {}
        self._calls: dict[str, _CallMedia] = {}

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

    def match(self, source: Endpoint, destination: Endpoint, since: int, now: int) -> Binding | Held | None:
        """Find the call of a stream that began at ``since`` and is still without one at ``now``.

        None where nobody announced either end of it.
        """
        receiver = self._newest(destination, since)
        sender = self._newest(source, since)
        if receiver is None:
            if sender is None:
                return None
            formats = self._formats(sender.call, sender.side)
            return Binding(sender.call, sender.side, formats, Standing.SIGNALLED)
        call, speaker = receiver.call, other(receiver.side)
        standing = Standing.STRANGER
        if sender is not None and sender.call == call and sender.side == speaker:
            standing = Standing.SIGNALLED
        elif self._knows(call, source.host):
            standing = Standing.KNOWN_HOST
        places = self._calls[call].places
        held = places.get((speaker, destination))
        if held is not None and (held.source == source or since - held.heard_ns >= HOLDS_NS):
            held = None
        # Two announced sources are one speaker who has moved.
        if held is not None and (held.standing > standing or held.standing == standing < Standing.SIGNALLED):
            return Held.TAKEN
        if standing is Standing.STRANGER and now - since < self._patience_ns:
            return Held.WAITING
        places[speaker, destination] = _Place(source, standing, since)
        displaces = held.source if held is not None and held.standing < standing else None
        return Binding(call, speaker, self._formats(call, speaker), standing, displaces)

    def claim(self, call: str, speaker: Side, source: Endpoint, destination: Endpoint) -> Binding | None:
        """A stream between the hosts of a call's signalling, at addresses that nobody announced.

        None where the call announced no media, or announced some at one of these hosts: then it is not behind
        NAT at that end, and this stream is somebody else's.
        """
        media = self._calls.get(call)
        hosts = {endpoint.host for endpoint in media.endpoints} if media else set()
        if not hosts or hosts & {source.host, destination.host}:
            return None
        return Binding(call, speaker, self._formats(call, speaker), Standing.KNOWN_HOST)

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
