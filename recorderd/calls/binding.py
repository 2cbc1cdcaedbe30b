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
from typing import Final, NamedTuple

from recorderd.calls.events import MediaExpected, MediaWithdrawn, Side, other
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sdes import Crypto
from recorderd.wire.sdp_formats import PayloadFormat

WITHDRAWN_NS: Final = 1_000_000_000
"""A stream that began this long after its address was withdrawn is still what was on its way."""

PATIENCE_NS: Final = 2_000_000_000
"""How long a stream from a host that signalling never named waits for a better one to appear in its place."""

MAX_ANNOUNCERS: Final = 64
"""Calls that may announce one address at a time: a gateway has a port for each, more is a flood."""

MAX_CRYPTO: Final = 32
"""Crypto attributes of one side that are kept: a new key in mid-call comes with each offer at most."""

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


class Binding(NamedTuple):
    """What signalling says of a stream: who speaks, and what the payload types mean."""

    call: str
    speaker: Side
    formats: Mapping[int, PayloadFormat]
    standing: Standing
    encrypted: bool = False
    """Signalling says that it is SRTP."""
    hops: tuple[int, ...] = (0,)
    """On which hops of the call's signalling it runs, as far as its addresses tell (see `hops`)."""
    also: tuple[str, ...] = ()
    """Other calls where the speaker announced its source: a B2BUA passed on what a phone says of itself."""
    crypto: tuple[Crypto, ...] = ()
    """The keys that the speaker announced, the newest first."""
    refusal: str | None = None
    """Why there are none; None where the speaker was not heard of yet."""
    line: int = 0
    """Which of several audio lines that are open at once, 0 for the first."""
    besides: frozenset[int] = frozenset()
    """Payload types that would tell that it is no audio."""


@dataclass(slots=True, eq=False)
class _Expected:
    """Whose media is expected at an address."""

    call: str
    side: Side
    hops: tuple[int, ...] = (0,)
    line: int = 0
    besides: frozenset[int] = frozenset()
    until_ns: int | None = None


@dataclass(slots=True, eq=False)
class _Place:
    """The source that a speaker was last heard from, at one destination."""

    source: Endpoint
    standing: Standing
    heard_ns: int


@dataclass(slots=True, eq=False)
class _CallMedia:
    """What is known of the media of a call."""

    serial: int
    """Calls are numbered as they announce their first address."""
    endpoints: set[Endpoint] = field(default_factory=set)
    formats: dict[Side, Mapping[int, PayloadFormat]] = field(default_factory=dict)
    lines: dict[tuple[Side, int], Mapping[int, PayloadFormat]] = field(default_factory=dict)
    """The formats of audio lines beside others, by the number of the line."""
    encrypted: frozenset[Side] = frozenset()
    """The sides that want to receive SRTP."""
    crypto: dict[Side, tuple[Crypto, ...]] = field(default_factory=dict)
    refusals: dict[Side, str] = field(default_factory=dict)
    places: dict[tuple[Side, Endpoint], _Place] = field(default_factory=dict)

    def learn(self, side: Side, crypto: tuple[Crypto, ...]) -> None:
        """Keep a side's keys: packets on their way have the old ones, and each hop may have its own."""
        known = self.crypto.get(side, ())
        if not set(crypto) <= set(known):
            self.crypto[side] = tuple(dict.fromkeys((*crypto, *known)))[:MAX_CRYPTO]

    ended_ns: int | None = None


class _Announcer(NamedTuple):
    """Which call announced an end of a stream, and who speaks."""

    call: str
    speaker: Side
    at_source: bool
    """The source is the call's own; likewise `at_destination`."""
    at_destination: bool
    hops: tuple[int, ...]
    also: tuple[str, ...] = ()


class Expectations:
    """Announced media addresses, and the calls that announced them."""

    def __init__(self, knows: Callable[[str, str], bool], patience_ns: int = PATIENCE_NS) -> None:
        """``knows(call, host)`` tells whether a host took part in a call's signalling."""
        self._knows, self._patience_ns = knows, patience_ns
        self.ask: Callable[[str, Side, Endpoint, Endpoint], None] = lambda *place: None
        """Called with call, speaker, source and destination of a bound stream when another source wants its
        place: whoever knows tells :meth:`heard`.
        """
        self._at: dict[Endpoint, list[_Expected]] = {}
        self._calls: dict[str, _CallMedia] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._at)

    def expect(self, event: MediaExpected) -> None:
        """Take note of where a side wants to receive. The newest call that announced an address has it."""
        media = self._calls.get(event.call)
        if media is None:
            self._serial += 1
            media = self._calls[event.call] = _CallMedia(self._serial)
        if event.line and self._ordinal(event.call, event.side, event.line):
            media.lines[event.side, event.line] = event.formats
        else:
            media.formats[event.side] = event.formats
        waiting = self._at.setdefault(event.endpoint, [])
        if event.encrypted != (event.side in media.encrypted):
            media.encrypted ^= {event.side}
        if event.crypto:
            media.learn(event.side, event.crypto)
        if event.refusal:
            media.refusals[event.side] = event.refusal
        if waiting:
            waiting[:] = [known for known in waiting if known.call != event.call]
        if len(waiting) < MAX_ANNOUNCERS:
            waiting.append(_Expected(event.call, event.side, event.legs, event.line, event.besides))
            media.endpoints.add(event.endpoint)

    def withdraw(self, event: MediaWithdrawn) -> None:
        """A side has moved: streams that begin later are not for it."""
        for known in self._at.get(event.endpoint, ()):
            if known.call == event.call and known.side == event.side:
                known.until_ns = event.now + WITHDRAWN_NS

    def ended(self, call: str, now: int) -> None:
        """A call is over: streams that begin later are not for it where another call wants them."""
        media = self._calls.get(call)
        if media is not None:
            media.ended_ns = now

    def announcers(self, endpoint: Endpoint) -> list[str]:
        """The calls that announced an address."""
        return [known.call for known in self._at.get(endpoint, ())]

    def release(self, call: str) -> None:
        """Forget what a call announced."""
        media = self._calls.pop(call, None)
        for endpoint in media.endpoints if media else ():
            left = [known for known in self._at[endpoint] if known.call != call]
            if left:
                self._at[endpoint] = left
            else:
                del self._at[endpoint]

    def is_announced(self, source: Endpoint, destination: Endpoint) -> bool:
        """Whether an end of a stream was announced by a call that is not forgotten."""
        return destination in self._at or source in self._at

    def match(
        self, source: Endpoint, destination: Endpoint, since: int, now: int, *, only_signalled: bool = False
    ) -> Binding | Held | None:
        """Find the call of a stream that began at ``since`` and is still without one at ``now``.

        ``only_signalled`` is for a stream that belonged to another call: its source must have been announced.
        None where nobody announced either end of it.
        """
        if not self.is_announced(source, destination):
            return None
        found = self._announcer(source, destination, since)
        if found is None:
            return None
        call, speaker, at_source, at_destination, hops, also = found
        if not at_destination:
            return self._of_line(self._binding(call, speaker, Standing.SIGNALLED, hops), source)
        standing = Standing.STRANGER
        if at_source:
            standing = Standing.SIGNALLED
        elif self._knows(call, source.host):
            standing = Standing.KNOWN_HOST
        if only_signalled and standing < Standing.SIGNALLED:
            return Held.TAKEN
        places = self._calls[call].places
        held = places.get((speaker, destination))
        if held is not None and held.source != source:
            if held.heard_ns != now:  # else it came at this very moment
                self.ask(call, speaker, held.source, destination)
            if self._keeps(held, standing, now):
                return Held.TAKEN
        if standing is Standing.STRANGER and now - since < self._patience_ns:
            return Held.WAITING
        places[speaker, destination] = _Place(source, standing, now)
        return self._of_line(self._binding(call, speaker, standing, hops, also), destination)

    def whose(self, source: Endpoint, destination: Endpoint, since: int) -> str | None:
        """The call that announced an end of a stream, or both, whether or not the stream is taken for it."""
        found = self._announcer(source, destination, since)
        return found.call if found else None

    def speaker(self, source: Endpoint, destination: Endpoint, since: int) -> tuple[str, Side] | None:
        """That call, and who of it speaks."""
        found = self._announcer(source, destination, since)
        return (found.call, found.speaker) if found else None

    def _announcer(self, source: Endpoint, destination: Endpoint, since: int) -> _Announcer | None:
        """Which call announced an end, and who speaks."""
        receivers, senders = self._announced(destination, since), self._announced(source, since)
        if not receivers:
            if not senders:
                return None
            one = senders[0]
            return _Announcer(one.call, one.side, True, False, one.hops)
        # A call that announced both ends comes before one that announced this address later.
        from_both = {(known.call, known.side): known.hops for known in senders}
        both = [r for r in receivers if (r.call, other(r.side)) in from_both] if senders else []
        receiver = both[0] if both else receivers[0]
        call, speaker, hops = receiver.call, other(receiver.side), receiver.hops
        if both and len(hops) > 1:
            hops = tuple(hop for hop in hops if hop in from_both[call, speaker]) or hops
        also = tuple([known.call for known in senders if known.call != call and known.side == speaker])
        return _Announcer(call, speaker, bool(both), True, hops, also)

    @staticmethod
    def _keeps(held: _Place, standing: Standing, now: int) -> bool:
        """Whether who was heard in a place keeps it from a newcomer."""
        if standing is Standing.STRANGER and held.standing > standing:
            return True  # however silent the real one is
        if now - held.heard_ns >= HOLDS_NS:
            return False
        # Two announced sources are one speaker who has moved.
        return held.standing > standing or held.standing == standing < Standing.SIGNALLED

    def _binding(
        self,
        call: str,
        speaker: Side,
        standing: Standing,
        hops: tuple[int, ...] = (0,),
        also: tuple[str, ...] = (),
    ) -> Binding:
        encrypted = other(speaker) in self._calls[call].encrypted
        if not encrypted:
            return Binding(call, speaker, self.formats(call, speaker), standing, False, hops, also)
        crypto, refusal = self.keys(call, speaker), self._calls[call].refusals.get(speaker)
        formats = self.formats(call, speaker)
        return Binding(call, speaker, formats, standing, True, hops, also, crypto, refusal)

    def _of_line(self, found: Binding, announced: Endpoint) -> Binding:
        """The same with what is said of the m-line at an announced address."""
        one = next((known for known in self._at[announced] if known.call == found.call), None)
        if one is None or not (one.line or one.besides):
            return found
        ordinal = self._ordinal(one.call, one.side, one.line)
        lines, speaker = self._calls[one.call].lines, found.speaker
        formats = {**lines.get((speaker, one.line), {}), **lines.get((other(speaker), one.line), {})}
        own = formats if ordinal and formats else found.formats
        return found._replace(formats=own, line=ordinal, besides=one.besides)

    def _ordinal(self, call: str, side: Side, line: int) -> int:
        """How many audio lines of a side are open that come before one."""
        media = self._calls[call]
        known = (one for endpoint in media.endpoints for one in self._at.get(endpoint, ()))
        mine = (one for one in known if (one.call, one.side) == (call, side) and one.until_ns is None)
        return len({one.line for one in mine if one.line < line})

    def claim(self, call: str, speaker: Side, source: Endpoint, destination: Endpoint) -> Binding | None:
        """A stream between the hosts of a call's signalling, at addresses that nobody announced.

        None where the call announced no media, or announced some at one of these hosts: then it is not behind
        NAT at that end, and this stream is somebody else's.
        """
        if not self._calls.get(call) or self.is_elsewhere(call, source, destination) is not True:
            return None
        return self._binding(call, speaker, Standing.STRANGER)

    def is_elsewhere(self, call: str, source: Endpoint, destination: Endpoint) -> bool | None:
        """Whether all media that a call announced is at other hosts than these two; None where it announced
        none.
        """
        media = self._calls.get(call)
        hosts = {endpoint.host for endpoint in media.endpoints} if media else set()
        return not hosts & {source.host, destination.host} if hosts else None

    def formats(self, call: str, speaker: Side) -> Mapping[int, PayloadFormat]:
        """What the payload types from a speaker mean: the receiver numbers them (RFC 3264 section 5.1).

        Some senders use their own numbers all the same: those the receiver does not have are taken from
        theirs.
        """
        media = self._calls.get(call)
        formats = media.formats if media else {}
        return {**formats.get(speaker, {}), **formats.get(other(speaker), {})}

    def keys(self, call: str, speaker: Side) -> tuple[Crypto, ...]:
        """The keys that a speaker announced, the newest first; the same tuple while nothing changes."""
        media = self._calls.get(call)
        return media.crypto.get(speaker, ()) if media else ()

    def is_encrypted(self, call: str, speaker: Side) -> bool | None:
        """Whether what a speaker sends is SRTP, as far as signalling says; None where the call is over."""
        media = self._calls.get(call)
        return None if media is None else other(speaker) in media.encrypted

    def heard(self, call: str, speaker: Side, source: Endpoint, destination: Endpoint, now: int) -> None:
        """Say that a bound stream is still heard, so that it holds its place."""
        media = self._calls.get(call)
        place = media.places.get((speaker, destination)) if media else None
        if place is not None and place.source == source:
            place.heard_ns = now

    def _announced(self, endpoint: Endpoint, now: int) -> list[_Expected]:
        """Who announced an address, the newest call first: the same order at every address."""
        waiting = self._at.get(endpoint)
        if waiting is None:
            return []
        known = [one for one in waiting if one.until_ns is None or now <= one.until_ns]
        if len(known) < 2:
            return known
        running = [one for one in known if now <= (self._calls[one.call].ended_ns or now)]
        return sorted(running or known, key=lambda one: self._calls[one.call].serial, reverse=True)
