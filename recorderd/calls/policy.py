"""Which calls are recorded: rules, the first that fits decides, and a default.

The decision is made when a call's first message is seen, from that message alone, so nothing of an excluded
call is ever on its way to the disk. It depends on nothing but the rules and the message: a replay decides
alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from recorderd.calls.patterns import Pattern, plain_number

Action = Literal["record", "exclude"]
Direction = Literal["inbound", "outbound", "internal", "transit"]
Network = IPv4Network | IPv6Network

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DEFAULT: Final = "default"
"""Stands for a rule's name where none fitted."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class CallFacts(NamedTuple):
    """What a call's first message says.

    Attributes:
        call_id: of the conversation's first call, so that all its calls are decided alike.
        from_user: who calls, `to_user` who is called. None where it is not known any more.
        source: the address that the caller's message came from, `destination` where it went.
        headers: values by lower-case long name. None, like an empty address, where it is not known any more.
        time_ns: when it was captured, since the epoch.
        direction: known otherwise; None: to be told from the ends.
    """

    call_id: str
    from_user: str | None
    to_user: str | None
    source: str
    destination: str
    headers: Mapping[str, Sequence[str]] | None
    time_ns: int
    direction: Direction | None = None


class Decision(NamedTuple):
    """What becomes of a call, and the rule that says so."""

    action: Action
    rule: str

    @property
    def excluded(self) -> bool:
        """Whether nothing of it is recorded."""
        return self.action == "exclude"

    @property
    def reason(self) -> str:
        """For the account of the call."""
        return "policy: default" if self.rule == DEFAULT else f"policy: rule {self.rule}"


class Hours(NamedTuple):
    """A stretch of the day, in minutes from midnight; it may go on into the next day."""

    first: int
    last: int

    def covers(self, minute: int) -> bool:
        """Whether a minute of the day it began on is within; that of the next day is ``minute + 1440``."""
        return self.first <= minute < self.last + 1440 * (self.last <= self.first)


class Match(NamedTuple):
    """What a call must be like; what is empty or None asks for nothing. All that asks must be met, by one of
    its alternatives.
    """

    from_: tuple[Pattern, ...] = ()
    to: tuple[Pattern, ...] = ()
    number: tuple[Pattern, ...] = ()
    direction: frozenset[Direction] = frozenset()
    address: tuple[Network, ...] = ()
    header: Mapping[str, tuple[Pattern, ...]] = MappingProxyType({})
    percentage: float | None = None
    hours: tuple[Hours, ...] = ()
    days: frozenset[int] = frozenset()


class Rule(NamedTuple):
    """A name, what fits it, and what is done then."""

    name: str
    match: Match
    action: Action


class Policy(NamedTuple):
    """All rules, in order, and what holds where none fits.

    ``internal_numbers`` and ``internal_networks`` tell the direction of a call; ``zone`` is that of hours
    and days.
    """

    rules: tuple[Rule, ...] = ()
    default: Action = "record"
    internal_numbers: tuple[Pattern, ...] = ()
    internal_networks: tuple[Network, ...] = ()
    zone: tzinfo = UTC

    @property
    def trivial(self) -> bool:
        """Whether every call is recorded."""
        return self.default == "record" and all(rule.action == "record" for rule in self.rules)

    def decide(self, facts: CallFacts) -> Decision:
        """The first rule that fits, or the default."""
        return self.possible(facts)[0]

    def possible(self, facts: CallFacts) -> list[Decision]:
        """All decisions that there may have been, where some of the facts are not known any more: what needs
        them may have fitted or not. One where all is known.
        """
        found: list[Decision] = []
        for rule in self.rules:
            fits = self._fits(rule, facts)
            if fits is not False:
                found.append(Decision(rule.action, rule.name))
            if fits:
                return found
        return [*found, Decision(self.default, DEFAULT)]

    def direction(self, facts: CallFacts) -> Direction | None:
        """Where a call comes from and goes to; None where that cannot be told any more.

        The caller is internal by number or by the address its message came from. The callee is so by number;
        the address counts only where no numbers are named, because a call to the world goes through the
        PBX's own address, too.
        """
        if facts.direction is not None:
            return facts.direction
        numbers = self.internal_numbers
        caller = _one_of(_any(numbers, facts.from_user), _within(self.internal_networks, facts.source))
        if numbers:
            callee: bool | None = _any(numbers, facts.to_user)
        else:
            callee = _within(self.internal_networks, facts.destination)
        return None if caller is None or callee is None else _DIRECTIONS[caller, callee]

    def _fits(self, rule: Rule, facts: CallFacts) -> bool | None:
        """Whether a rule fits; None where that takes what is not known."""
        fits: list[bool | None] = list(self._conditions(rule, facts))
        return False if False in fits else None if None in fits else True

    def _conditions(self, rule: Rule, facts: CallFacts) -> Iterator[bool | None]:
        match = rule.match
        if match.from_:
            yield _any(match.from_, facts.from_user)
        if match.to:
            yield _any(match.to, facts.to_user)
        if match.number:
            yield _one_of(*(_any(match.number, each) for each in (facts.from_user, facts.to_user)))
        if match.address:
            yield _one_of(*(_within(match.address, each) for each in (facts.source, facts.destination)))
        for name, wanted in match.header.items():
            yield None if facts.headers is None else _header(facts.headers, name, wanted)
        if match.direction:
            direction = self.direction(facts)
            yield None if direction is None else direction in match.direction
        if match.hours or match.days:
            yield self._now(match, facts.time_ns)
        if match.percentage is not None:
            yield share(facts.call_id, rule.name) < match.percentage

    def _now(self, match: Match, time_ns: int) -> bool:
        moment = (_EPOCH + timedelta(microseconds=time_ns // 1000)).astimezone(self.zone)
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        if not match.hours:
            return day in match.days
        # A night's hours belong to the day on which they began.
        begun = ((minute, day), (minute + 1440, (day - 1) % 7))
        return any(
            hours.covers(at) and (not match.days or on in match.days)
            for hours in match.hours
            for at, on in begun
        )


_DIRECTIONS: Final[dict[tuple[bool, bool], Direction]] = {
    (True, True): "internal",
    (True, False): "outbound",
    (False, True): "inbound",
    (False, False): "transit",
}


def share(call_id: str, rule: str) -> float:
    """Where a call stands in a draw, 0 to below 100: as often below 30 as 30 in 100, always the same for it.

    Each rule draws anew.
    """
    drawn = blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=8, person=_person(rule)).digest()
    return int.from_bytes(drawn, "big") / 2**64 * 100


def _person(rule: str) -> bytes:
    return blake2b(rule.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _one_of(*fits: bool | None) -> bool | None:
    """Whether one of them is so; None where that is not known."""
    return True if True in fits else None if None in fits else False


def _any(patterns: Sequence[Pattern], text: str | None) -> bool | None:
    """Whether one of the patterns fits; None where the text is not known and one may."""
    if text is None:
        return None if patterns else False
    plain = plain_number(text)
    return any(matches(plain) or (plain != text and matches(text)) for matches in patterns)


def _header(headers: Mapping[str, Sequence[str]], name: str, wanted: Sequence[Pattern]) -> bool:
    return any(matches(value) for value in headers.get(name, ()) for matches in wanted)


def _within(networks: Sequence[Network], host: str) -> bool | None:
    """Whether an address is in one of the networks; None where it is not known and may be."""
    if not networks:
        return False
    if not host:
        return None
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in networks)
