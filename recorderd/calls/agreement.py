"""What the ends of one call agreed on, over all its legs, told as events.

After each message what is expected is worked out anew and compared with what was told before. So a
repetition, a message out of order and a second hop with the same addresses tell nothing twice.
"""

from recorderd.calls.besides import Besides
from recorderd.calls.call import MAX_HOLDS, Call, Hold
from recorderd.calls.events import (
    CallEvent,
    HoldChanged,
    MediaExpected,
    MediaWithdrawn,
    Side,
    other,
)
from recorderd.calls.negotiation import Expectation, Lines, Negotiation, audio_lines
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sdp import MediaDescription, SdpError, sdp_of
from recorderd.wire.sip import SipMessage

_MAX_EXPECTATIONS = 64


class Agreement:
    """The session descriptions of one call; what they mean goes into `call`."""

    __slots__ = ("_besides", "_call", "_changed", "_legs", "_senders", "_winner", "weight")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._legs: dict[int, Negotiation] = {}
        self._besides = Besides()
        self._senders: frozenset[Side] = frozenset()
        self._winner: str | None = None
        """Whom all was settled for."""
        self._changed = True
        """Whether something was said since."""
        self.weight = 0
        """Roughly how many bytes this takes, when it was last settled."""

    def request(self, message: SipMessage, leg: int, side: Side, fork: str, *, in_dialog: bool) -> None:
        """INVITE, UPDATE or PRACK of `side`."""
        lines = self._lines(message, side, fork)
        if lines is not None:
            self._changed = True
            self._leg(leg).request(side, fork, message.cseq, lines, in_dialog=in_dialog)

    def response(self, message: SipMessage, leg: int, requester: Side, fork: str) -> None:
        """A response to one of them."""
        said = message.body and message.status < 300
        lines = self._lines(message, other(requester), fork) if said else None
        if lines is not None or message.status >= 200:
            self._changed = True
        self._leg(leg).response(requester, fork, message.cseq, message.status, lines)

    def acknowledged(self, message: SipMessage, leg: int, side: Side, fork: str) -> None:
        """An ACK of `side`."""
        lines = self._lines(message, side, fork)
        if lines is not None:
            self._changed = True
            self._leg(leg).acknowledged(side, fork, message.cseq, lines)

    def settle(self, winner: str | None, now: int) -> list[CallEvent]:
        """Tell what changed in who is to receive and who holds.

        Args:
            winner: the tag of the callee that answered, None before the answer.
            now: ns since the epoch.
        """
        if not self._changed and winner == self._winner:
            return []
        self._changed, self._winner = False, winner
        self.weight = sum([leg.weight for leg in self._legs.values()])
        events = self._expect(winner, now)
        if winner is not None:
            self._judge(winner)
            events += self._hold(winner, now)
        events += self._besides.settle(self._call.key, winner, now)
        self._call.besides = self._besides.spans
        self.weight += 400 * len(self._call.expectations)
        return events

    def end(self, winner: str | None) -> None:
        """The call is over: judge what is left to judge and keep nothing else."""
        call = self._call
        if winner is not None and not call.described and self._legs:
            # At most one side's description was seen: who was to send follows from that one alone.
            senders = frozenset[Side]().union(*(leg.senders(winner) for leg in self._legs.values()))
            call.senders, call.audio = senders, any(leg.audio(winner) for leg in self._legs.values())
        for hold in call.holds:
            if hold.until is None:
                hold.until = max(call.ended_at or hold.since, hold.since)
        call.expectations, self._legs = {}, {}

    def _leg(self, leg: int) -> Negotiation:
        known = self._legs.get(leg)
        if known is None:
            known = self._legs[leg] = Negotiation()
        return known

    def _lines(self, message: SipMessage, side: Side, fork: str) -> Lines | None:
        """The audio of the message's session description, None when it has none that can be read."""
        try:
            description = sdp_of(message)
        except SdpError:
            self._call.note("a session description cannot be read")
            return None
        if description is None:
            return None
        if description.defects:
            self._call.note(*description.defects)
        self._besides.said(side, fork, description)
        return audio_lines(description)

    def _judge(self, winner: str) -> None:
        for leg in self._legs.values():
            if leg.described(winner):
                senders = leg.senders(winner)
                self._senders = self._senders | senders if self._senders else senders
                self._call.described = True
                self._call.senders = self._senders
                self._call.audio = self._call.audio or leg.audio(winner)

    def _expect(self, winner: str | None, now: int) -> list[CallEvent]:
        call, before = self._call, self._call.expectations
        found: dict[tuple[Side, Endpoint], tuple[Expectation, tuple[int, ...]]] = {}
        for number, leg in self._legs.items():
            for expected in leg.expectations(winner):
                place = (expected.side, expected.endpoint)
                if place in found:
                    first, legs = found[place]
                    found[place] = first, tuple(sorted({*legs, number}))
                elif len(found) < _MAX_EXPECTATIONS:
                    found[place] = expected, (number,)
        after: dict[tuple[Side, Endpoint], MediaExpected] = {}
        told: list[CallEvent] = []
        call.encrypted, call.refusal = False, ""
        for place, (expected, legs) in found.items():
            known = before.get(place)
            if known is None or not _says(known, expected, legs):
                known = _event(call.key, expected, legs, now)
                told.append(known)
            after[place] = known
            if known.encrypted:
                call.encrypted, call.refusal = True, call.refusal or known.refusal
        call.expectations = after
        if before.keys() <= after.keys():
            return told
        return [*(MediaWithdrawn(call.key, *place, now) for place in before if place not in after), *told]

    def _hold(self, winner: str, now: int) -> list[CallEvent]:
        """A side holds as the leg says that was last to say anything about it."""
        call = self._call
        events: list[CallEvent] = []
        for side, held in [found for leg in self._legs.values() for found in leg.holds(winner)]:
            if held == (side in call.holding):
                continue
            events.append(HoldChanged(call.key, side, held, now))
            if held:
                call.holding |= {side}
                if len(call.holds) < MAX_HOLDS:
                    call.holds.append(Hold(side, now))
                continue
            call.holding -= {side}
            for hold in call.holds:
                if hold.side == side and hold.until is None:
                    hold.until = max(now, hold.since)
        return events


def _event(call: str, expected: Expectation, legs: tuple[int, ...], now: int) -> MediaExpected:
    return MediaExpected(
        call=call,
        side=expected.side,
        endpoint=expected.endpoint,
        formats=expected.media.formats,
        direction=_direction(expected.media),
        encrypted=expected.encrypted,
        now=now,
        line=expected.line,
        legs=legs,
        crypto=expected.media.crypto,
        refusal=expected.media.refusal if expected.encrypted else "",
        besides=expected.media.besides,
    )


def _says(known: MediaExpected, expected: Expectation, legs: tuple[int, ...]) -> bool:
    """Whether an event that was told for a place says all that is expected there now."""
    media = expected.media
    return (
        (known.formats is media.formats or known.formats == media.formats)
        and known.direction == _direction(media)
        and known.encrypted == expected.encrypted
        and known.line == expected.line
        and known.crypto == media.crypto
        and known.besides == media.besides
        and known.legs == legs
    )


def _direction(media: MediaDescription) -> str:
    if not media.held:
        return media.direction
    return "sendonly" if media.direction in ("sendrecv", "sendonly") else "inactive"
