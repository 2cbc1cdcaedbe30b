"""The section `policy`: which calls are recorded."""

import re
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from recorderd.calls.patterns import pattern
from recorderd.calls.policy import DEFAULT, Match, Network, Policy, Rule
from recorderd.config.hours import as_days, as_hours, day_text, hours_text, zone_of, zone_text
from recorderd.config.section import Part, Section

_HEADER = r"[A-Za-z0-9\-.!%*_+`'~]{1,64}"  # RFC 3261 section 25.1: token


def _one_is_a_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _pattern(value: str) -> str:
    pattern(value)
    return value


def _network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError as error:
        raise ValueError(f"must be an address or a network such as 10.0.0.0/8: {error}") from None


def _number_or_network(value: str) -> str:
    return _network(value) if "/" in value[1:-1] or ":" in value else _pattern(value)


def header_name(value: str) -> str:
    """A header's name in lower case. Raises ValueError for what is none."""
    if not re.fullmatch(_HEADER, value):
        raise ValueError(f"{value!r} cannot be the name of a header")
    return value.lower()


_List = BeforeValidator(_one_is_a_list)
Pattern = Annotated[str, AfterValidator(_pattern)]
Patterns = Annotated[tuple[Pattern, ...], Field(strict=False), _List]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Field(strict=False), _List]


class MatchConfig(Section):
    """What a call must be like: everything that is given, by one of its alternatives."""

    from_: Patterns = Field(
        default=(), alias="from", description="the caller's number or name: a pattern, or a list of them"
    )
    to: Patterns = Field(default=(), description="the number or name that was called")
    number: Patterns = Field(default=(), description="either of the two")
    direction: Annotated[
        tuple[Literal["inbound", "outbound", "internal", "transit"], ...], Field(strict=False), _List
    ] = Field(
        default=(),
        description="`inbound`, `outbound`, `internal` or `transit`, as `policy.internal` tells them apart",
    )
    address: Networks = Field(
        default=(), description="networks of the trunk or phone: where the first message came from or went to"
    )
    header: dict[Annotated[str, AfterValidator(header_name)], Patterns] = Field(
        default={}, description="headers of the INVITE and patterns of their values; `*`: any value"
    )
    percentage: Annotated[float, Field(ge=0.0, le=100.0)] | None = Field(
        default=None, description="so many of 100 calls, drawn by their Call-ID: always the same ones"
    )
    time: Annotated[tuple[Annotated[str, AfterValidator(hours_text)], ...], Field(strict=False), _List] = (
        Field(default=(), description="hours such as `08:00-18:30`; `22:00-06:00` goes on into the next day")
    )
    days: Annotated[tuple[Annotated[str, AfterValidator(day_text)], ...], Field(strict=False), _List] = Field(
        default=(), description="days such as `sat` or `mon-fri`"
    )

    def match(self) -> Match:
        """As the rules have it."""
        return Match(
            from_=tuple(map(pattern, self.from_)),
            to=tuple(map(pattern, self.to)),
            number=tuple(map(pattern, self.number)),
            direction=frozenset(self.direction),
            address=tuple(map(ip_network, self.address)),
            header={name: tuple(map(pattern, values)) for name, values in self.header.items()},
            percentage=self.percentage,
            hours=tuple(map(as_hours, self.time)),
            days=frozenset(day for days in self.days for day in as_days(days)),
        )


class RuleConfig(Section):
    """A rule."""

    name: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="what the account of a call says of why"
    )
    match: Part[MatchConfig] = Field(default_factory=MatchConfig.model_construct)
    action: Literal["record", "exclude"] = Field(description="`record` or `exclude`")


class OrphansConfig(Section):
    """What is done with media whose signalling was never seen."""

    action: Literal["ignore", "record"] = Field(
        default="ignore",
        description="RTP that no signalling explains: `ignore` it, counted, or `record` it by its addresses",
    )
    end_s: Annotated[float, Field(ge=5.0, le=3600.0)] = Field(
        default=30.0, description="without packets for so long, in seconds, such a recording ends"
    )
    most: Annotated[int, Field(ge=1, le=10_000)] = Field(default=100, description="such recordings at once")


def _named_once(rules: tuple[RuleConfig, ...]) -> tuple[RuleConfig, ...]:
    names = [rule.name for rule in rules]
    doubles = sorted({name for name in names if names.count(name) > 1 or name == DEFAULT})
    if doubles:
        raise ValueError(f"a rule's name must be its own: {', '.join(doubles)}")
    return rules


class PolicyConfig(Section):
    """Which calls are recorded."""

    default: Literal["record", "exclude"] = Field(
        default="record", description="what is done with a call that no rule fits: `record` or `exclude`"
    )
    rules: Annotated[tuple[RuleConfig, ...], Field(strict=False), AfterValidator(_named_once)] = Field(
        default=(), description="the first rule that fits a call decides"
    )
    internal: Annotated[
        tuple[Annotated[str, AfterValidator(_number_or_network)], ...], Field(strict=False), _List
    ] = Field(default=(), description="numbers (patterns) and networks of this site's own phones")
    timezone: Annotated[str, AfterValidator(zone_text)] = Field(
        default="UTC", description="the zone of `time` and `days`, such as `Europe/London`"
    )
    orphans: Part[OrphansConfig] = Field(default_factory=OrphansConfig.model_construct)
    media_timeout_s: Annotated[float, Field(ge=0.0, le=86_400.0)] = Field(
        default=300.0,
        description="an answered call that is not on hold and has no media for so long, in seconds, is over:"
        " its BYE was not seen; 0: never",
    )

    def policy(self) -> Policy:
        """The rules as the recorder applies them."""
        networks = [each for each in self.internal if "/" in each[1:-1]]
        return Policy(
            rules=tuple(Rule(rule.name, rule.match.match(), rule.action) for rule in self.rules),
            default=self.default,
            internal_numbers=tuple(pattern(each) for each in self.internal if each not in networks),
            internal_networks=tuple(_internal(networks)),
            zone=zone_of(self.timezone),
        )


def _internal(networks: list[str]) -> list[Network]:
    return [ip_network(each) for each in networks]
