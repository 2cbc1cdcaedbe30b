"""By which rules dialogs are joined into conversations, the surest first."""

from dataclasses import dataclass
from typing import Final, Literal

Rule = Literal["header", "session-id", "call-id", "tags", "transfer", "conference", "numbers", "media"]
RULES: Final[tuple[Rule, ...]] = (
    "header", "session-id", "call-id", "tags", "transfer", "conference", "numbers", "media"
)  # fmt: skip

HEADERS: Final = (
    "x-cid", "x-call-id", "x-original-call-id", "x-orig-callid", "x-inbound-call-id", "x-correlation-id",
    "p-charging-vector", "cisco-guid", "x-cisco-guid"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class JoinSettings:
    """Which rules are used. `window_s` is how long after the caller's INVITE, or the answer to it, a call is
    taken for what became of it; `hosts` are groups of addresses that are one machine.
    """

    rules: frozenset[str] = frozenset(RULES)
    headers: frozenset[str] = frozenset(HEADERS)
    window_s: float = 10.0
    hosts: tuple[frozenset[str], ...] = ()
