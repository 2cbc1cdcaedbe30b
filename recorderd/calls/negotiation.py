"""Offers and answers on one leg: where each side takes media, who sends, who holds (RFC 3264, RFC 6337).

An offer may stand in INVITE, UPDATE, PRACK or in a response, its answer in a response, PRACK or ACK; each
may be seen twice, late, or never. Two things make that manageable: a description says where its *sender*
receives, whatever it answers; and each side numbers its requests, so that a repetition of an older exchange
is told from a new one.

An offer within the dialog may be refused, then what was agreed before holds on. Until then it is
`tentative`: its endpoints are expected too, because media may arrive as soon as it is sent (RFC 3264
section 5.1).
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from recorderd.calls.events import SIDES, Side, other
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sdp import MediaDescription, SessionDescription, nowhere

MAX_FORKS: Final = 16  #: callees of one leg whose descriptions are kept
MAX_LINES: Final = 4  #: audio lines of a description that are looked at

#: Audio lines by index of the m-line.
Lines = dict[int, MediaDescription]


class Verdict(Enum):
    """What became of an exchange."""

    OPEN = 0
    ACCEPTED = 1
    REFUSED = 2


class Exchange(NamedTuple):
    """The last exchange that a side's request began and that carried a description."""

    cseq: int
    verdict: Verdict


# An Enum takes its time to find a member.
_OPEN: Final = Verdict.OPEN
_ACCEPTED: Final = Verdict.ACCEPTED
_REFUSED: Final = Verdict.REFUSED
_NO_EXCHANGE: Final = Exchange(-1, _OPEN)


class Expectation(NamedTuple):
    """One endpoint at which a side is ready; see `events.MediaExpected`."""

    side: Side
    line: int
    media: MediaDescription
    endpoint: Endpoint
    encrypted: bool


def audio_lines(description: SessionDescription) -> Lines:
    """The audio m-lines of a description, refused ones included."""
    if len(description.media) == 1:
        return {0: description.media[0]} if description.media[0].kind == "audio" else {}
    lines = [(index, media) for index, media in enumerate(description.media) if media.kind == "audio"]
    if len(lines) < len(description.media):
        others = {number for media in description.media if media.kind != "audio" for number in media.formats}
        besides = frozenset(others.difference(*(media.formats for _, media in lines)))
        lines = [(index, media._replace(besides=besides)) for index, media in lines]
    return dict(lines[:MAX_LINES])


class Negotiation:
    """What both sides said on one leg.

    `fork` is the callee's tag: each callee of a forked INVITE speaks for itself.
    """

    __slots__ = ("_exchanges", "_holds", "_outstanding", "_said", "_tentative", "_weight", "_winner")

    def __init__(self) -> None:
        self._said: dict[tuple[Side, str], Lines] = {}
        self._weight = 0  # of all that
        self._tentative: tuple[Side, str, int, Lines] | None = None
        self._exchanges: dict[Side, Exchange] = {}
        self._outstanding: Side | None = None
        self._holds: dict[tuple[Side, str], bool] = {}
        self._winner: str | None = None

    def request(self, side: Side, fork: str, cseq: int, lines: Lines, *, in_dialog: bool) -> None:
        """INVITE, UPDATE or PRACK of `side` with a description; `cseq` is -1 when it could not be read."""
        last = self._exchanges.get(side, _NO_EXCHANGE)
        if 0 <= cseq < last.cseq or (cseq == last.cseq >= 0 and last.verdict is _REFUSED):
            return  # a late repetition
        if self._outstanding == other(side):
            # The other side's response made the offer, so this is its answer and cannot be refused.
            self._outstanding = None
            self._commit(side, fork, lines, is_offer=False)
        elif cseq == last.cseq and last.verdict is _ACCEPTED:
            # The response was seen first: a mirror port does that.
            self._commit(side, fork, lines, is_offer=True)
        else:
            self._exchanges[side] = Exchange(cseq, _OPEN)
            if in_dialog and _slot(side, fork) in self._said:
                self._tentative = (side, fork, cseq, lines)
            else:
                self._commit(side, fork, lines, is_offer=True)

    def response(self, requester: Side, fork: str, cseq: int, status: int, lines: Lines | None) -> None:
        """A response to INVITE, UPDATE or PRACK of `requester`, with or without a description."""
        last = self._exchanges.get(requester, _NO_EXCHANGE)
        if cseq < last.cseq:
            return
        if status >= 300:
            self._refused(requester, cseq)
            return
        responder = other(requester)
        known = cseq == last.cseq
        if known and last.verdict is _ACCEPTED and (status < 200 or _slot(responder, fork) in self._said):
            return  # a repetition, or a provisional response that was overtaken
        if known and (lines is not None or status >= 200):
            self._accept_tentative(requester, cseq)
        if lines is not None:
            is_offer = not known or self._outstanding == responder
            self._outstanding = responder if is_offer else None
            self._commit(responder, fork, lines, is_offer=is_offer)
        if lines is not None or known:
            verdict = _ACCEPTED if status >= 200 else _OPEN
            self._exchanges[requester] = Exchange(cseq, verdict)

    def acknowledged(self, side: Side, fork: str, cseq: int, lines: Lines) -> None:
        """An ACK with a description: the answer to an offer in the 2xx."""
        if cseq >= self._exchanges.get(side, _NO_EXCHANGE).cseq:
            self._outstanding = None
            self._commit(side, fork, lines, is_offer=False)

    def expectations(self, winner: str | None) -> list[Expectation]:
        """Where media is expected; `winner` is the tag of the callee that answered, None before."""
        self._winner = winner
        found: list[Expectation] = []
        for (side, fork), lines in self._said.items():
            if side == "caller" or winner is None or fork == winner:
                found += _expected(side, lines, self._peers(side, winner))
        if self._tentative is not None:
            side, fork, _, lines = self._tentative
            if side == "caller" or winner in (None, fork):
                found += _expected(side, lines, [])
        return found

    def holds(self, winner: str) -> list[tuple[Side, bool]]:
        """Which sides were found to hold, or to hold no more, since this was last asked."""
        found = [(side, held) for (side, fork), held in self._holds.items() if fork in ("", winner)]
        self._holds.clear()
        return found

    def described(self, winner: str) -> bool:
        """Whether both sides' descriptions were seen."""
        return _CALLER in self._said and ("callee", winner) in self._said

    def audio(self, winner: str) -> bool:
        """Whether an audio stream was agreed on, as far as descriptions were seen."""
        mine, theirs = self._said.get(_CALLER), self._said.get(("callee", winner))
        if mine is None or theirs is None:
            return any(map(_open, (mine or theirs or {}).values()))
        return any(_open(media) and _open(theirs.get(index)) for index, media in mine.items())

    def senders(self, winner: str) -> frozenset[Side]:
        """The sides that are to send: they say so and the other takes it, as far as both were seen."""
        caller, callee = self._said.get(_CALLER), self._said.get(("callee", winner))
        return _SENDERS[_sends(caller, callee), _sends(callee, caller)]

    @property
    def weight(self) -> int:
        """Roughly how many bytes this takes. (Mostly less: equal lists of formats are kept once.)"""
        return self._weight if self._tentative is None else self._weight + _weight(self._tentative[3])

    def _peers(self, side: Side, winner: str | None) -> list[Lines]:
        if side == "callee":
            caller = self._said.get(_CALLER)
            return [] if caller is None else [caller]
        return [
            lines for (who, fork), lines in self._said.items() if who == "callee" and winner in (None, fork)
        ]

    def _forget_fork(self, fork: str) -> None:
        """Too many callees answer: the one goes that spoke first, of those that are neither this nor the
        winner."""
        others = [
            known for known in self._said if known[0] == "callee" and known[1] not in (fork, self._winner)
        ]
        if len(others) >= MAX_FORKS:
            self._weight -= _weight(self._said.pop(others[0]))

    def _refused(self, requester: Side, cseq: int) -> None:
        """A refused offer changes nothing; one that forms the dialog stands: another INVITE repeats it."""
        if self._tentative is not None and self._tentative[0] == requester and self._tentative[2] == cseq:
            self._tentative = None
        self._exchanges[requester] = Exchange(cseq, _REFUSED)

    def _accept_tentative(self, requester: Side, cseq: int) -> None:
        if self._tentative is None or self._tentative[0] != requester or self._tentative[2] != cseq:
            return
        side, fork, _, lines = self._tentative
        self._tentative = None
        self._commit(side, fork, lines, is_offer=True)

    def _commit(self, side: Side, fork: str, lines: Lines, *, is_offer: bool) -> None:
        slot = _slot(side, fork)
        before = self._said.get(slot)
        kept = _with_known_addresses(lines, before) if before else lines
        self._said[slot] = kept
        self._weight += _weight(kept) - (_weight(before) if before else 0)
        if len(self._said) > MAX_FORKS:
            self._forget_fork(fork)
        peer = self._said.get(_slot(other(side), fork))
        held = _holds(lines, before, None if is_offer else peer)
        if held is not None:
            self._holds[slot] = held


_CALLER: Final[tuple[Side, str]] = ("caller", "")

#: By whether the caller is to send, and whether the callee is.
_SENDERS: Final[Mapping[tuple[bool, bool], frozenset[Side]]] = {
    (True, True): frozenset(SIDES),
    (True, False): frozenset({"caller"}),
    (False, True): frozenset({"callee"}),
    (False, False): frozenset(),
}


def _slot(side: Side, fork: str) -> tuple[Side, str]:
    return (side, fork) if side == "callee" else _CALLER


def _weight(lines: Lines) -> int:
    weight = 0
    for media in lines.values():
        weight += 400 + 150 * len(media.formats) + 500 * len(media.crypto)
        weight += sum([len(known.fmtp) for known in media.formats.values()])
    return weight


def _open(media: MediaDescription | None) -> bool:
    return media is not None and media.endpoint is not None


def _main(lines: Lines | None) -> MediaDescription | None:
    """The stream that speaks for the description: the first that is not refused."""
    for media in (lines or {}).values():
        if media.endpoint is not None:
            return media
    return None


def _holds(lines: Lines, before: Lines | None, offer: Lines | None) -> bool | None:
    """Whether a description means that its side holds the call; None when it says nothing new about that.

    `offer` is what it answers. An answer that takes nothing is a hold only if the offer would have sent:
    `recvonly` leaves no other answer than `sendonly`, and `inactive` only itself. For the same reason an
    offer that repeats its side's last direction, as a session refresh does, says nothing new.
    """
    media = _main(lines)
    if media is None or media.receives:
        return False
    if offer is not None:
        offered = _main(offer)
        return True if offered is not None and offered.sends else None
    previous = _main(before)
    unchanged = previous is not None and (previous.direction, previous.held) == (media.direction, media.held)
    return None if unchanged else True


def _sends(mine: Lines | None, theirs: Lines | None) -> bool:
    if mine is None:
        return theirs is None or any(media.receives for media in theirs.values())
    for index, media in mine.items():
        peer = None if theirs is None else theirs.get(index)
        if media.sends and (theirs is None or (peer is not None and peer.receives)):
            return True
    return False


def _with_known_addresses(lines: Lines, before: Lines) -> Lines:
    """The old hold names 0.0.0.0 (RFC 3264 section 8.4); the side is still where it was."""
    return {
        index: media._replace(endpoint=before[index].endpoint)
        if media.held and media.endpoint is not None and _open(before.get(index)) and not _lost(before[index])
        else media
        for index, media in lines.items()
    }


def _lost(media: MediaDescription) -> bool:
    """Whether a held stream never had an address."""
    return media.endpoint is not None and nowhere(media.endpoint.host)


def _expected(side: Side, lines: Lines, peers: list[Lines]) -> list[Expectation]:
    found: list[Expectation] = []
    for index, media in lines.items():
        if media.endpoint is None or (media.held and nowhere(media.endpoint.host)):
            continue
        matching = [peer[index] for peer in peers if index in peer]
        if matching and matching[0].endpoint is None and not any(map(_open, matching)):
            continue  # refused by the other side
        # Best-effort SRTP is offered as RTP/AVP with keys, and is SRTP only when the answer has keys too.
        encrypted = media.encrypted and all(peer.encrypted for peer in matching)
        found.append(Expectation(side, index, media, media.endpoint, encrypted))
    return found
