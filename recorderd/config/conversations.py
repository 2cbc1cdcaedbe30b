"""How calls are joined to conversations."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from recorderd.calls.join_settings import HEADERS, RULES, JoinSettings, Rule
from recorderd.config.section import Section


def _header(value: str) -> str:
    name = value.strip().lower()
    if not name or not all(letter.isalnum() or letter in "-.!%*_+`'~" for letter in name):
        raise ValueError(f"{value!r} cannot be the name of a header")
    return name


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as error:
        raise ValueError(f"must be an address: {error}") from None


class ConversationsConfig(Section):
    """Which calls are one conversation."""

    join: Annotated[tuple[Rule, ...], Field(strict=False)] = Field(
        default=RULES,
        description="the rules by which a call joins another one; none: each is recorded by itself",
    )
    headers: Annotated[tuple[Annotated[str, AfterValidator(_header)], ...], Field(strict=False)] = Field(
        default=HEADERS, description="the headers that `header` compares, or that name the other's Call-ID"
    )
    window_s: Annotated[float, Field(gt=0.0, le=600.0)] = Field(
        default=10.0,
        description="how long after a call was answered another may be what became of it, in seconds",
    )
    hosts: Annotated[
        tuple[
            Annotated[
                tuple[Annotated[str, AfterValidator(_address)], ...], Field(strict=False, min_length=2)
            ],
            ...,
        ],
        Field(strict=False),
    ] = Field(default=(), description="lists of addresses that are of one machine each")

    def settings(self, own: frozenset[str] = frozenset()) -> JoinSettings:
        """As the calls take them; ``own`` are the addresses of the tapped host, where that is this one."""
        groups = tuple(frozenset(group) for group in self.hosts)
        if len(own) > 1 and not any(own & group for group in groups):
            groups = (*groups, own)
        return JoinSettings(frozenset(self.join), frozenset(self.headers), self.window_s, groups)
