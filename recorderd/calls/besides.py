"""What a call agrees on besides audio: a fax by T.38, video, messages. It is told, and not recorded.

A kind is *offered* once a side describes it, and *agreed* on while the last descriptions of both sides have
it with a port (RFC 3264 section 6). A refused offer is one that the other side's description does not have.
"""

from dataclasses import dataclass
from typing import Final

from recorderd.calls.events import OtherMedia, Side
from recorderd.wire.printable import printable
from recorderd.wire.sdp import MediaDescription, SessionDescription

MAX_KINDS: Final = 8  #: of one call
MAX_SPANS: Final = 64  #: times at which one of them was agreed on, of one call
MAX_SAID: Final = 17  #: descriptions kept: of the caller, and of each fork

_NONE: Final[frozenset[str]] = frozenset()  # most calls have nothing but audio

_NAMES: Final = {"image": "fax", "message": "messages (MSRP)", "text": "text (T.140)"}


@dataclass(slots=True)
class Span:
    """One kind was agreed on from `since` until `until` (ns since the epoch; None: to the end)."""

    kind: str
    since: int
    until: int | None = None


class Besides:
    """The m-lines of one call that are not audio."""

    __slots__ = ("_agreed", "_offered", "_said", "spans")

    def __init__(self) -> None:
        self._said: dict[tuple[Side, str], frozenset[str]] = {}
        self._offered = self._agreed = _NONE
        self.spans: list[Span] = []

    def said(self, side: Side, fork: str, description: SessionDescription) -> None:
        """A side described the session; `fork` is the callee's tag."""
        others = [media for media in description.media if media.kind != "audio" and media.endpoint]
        if not others and not self._said:
            return  # nearly always
        slot = (side, fork if side == "callee" else "")
        kinds = frozenset(map(_name, others))
        if (kinds or slot in self._said) and (slot in self._said or len(self._said) < MAX_SAID):
            self._said[slot] = kinds

    def settle(self, call: str, winner: str | None, now: int) -> list[OtherMedia]:
        """What changed since this was last asked; `winner` is the tag of the callee that answered."""
        if not self._said:
            return []
        events: list[OtherMedia] = []
        for kind in sorted(frozenset[str]().union(*self._said.values()) - self._offered)[:MAX_KINDS]:
            if len(self._offered) < MAX_KINDS:
                self._offered |= {kind}
                events.append(OtherMedia(call, kind, "offered", now))
        theirs = self._said.get(("callee", winner), _NONE) if winner is not None else _NONE
        agreed = self._said.get(("caller", ""), _NONE) & theirs & self._offered
        for kind in sorted(agreed - self._agreed):
            events.append(OtherMedia(call, kind, "agreed", now))
            if len(self.spans) < MAX_SPANS:
                self.spans.append(Span(kind, now))
        for kind in sorted(self._agreed - agreed):
            events.append(OtherMedia(call, kind, "ended", now))
            for span in self.spans:
                if span.kind == kind and span.until is None:
                    span.until = now
        self._agreed = agreed
        return events


def _name(media: MediaDescription) -> str:
    if media.kind == "image" and "UDPTL" in media.protocol:
        return "fax (T.38)"
    return _NAMES.get(media.kind) or printable(media.kind, 16) or "unknown"
