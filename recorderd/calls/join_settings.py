"""By which rules dialogs are joined into conversations, the surest first, and what bounds them."""

from typing import Final, Literal, NamedTuple

Rule = Literal["header", "session-id", "call-id", "tags", "transfer", "conference", "numbers", "media"]
RULES: Final[tuple[Rule, ...]] = (
    "header", "session-id", "call-id", "tags", "transfer", "conference", "numbers", "media"
)  # fmt: skip

HEADERS: Final = (
    "x-cid", "x-call-id", "x-original-call-id", "x-orig-callid", "x-inbound-call-id", "x-correlation-id",
    "p-charging-vector", "cisco-guid", "x-cisco-guid"
)  # fmt: skip

MAX_SHARED: Final = 4096
"""Marks remembered that several calls have which are not one."""

MAX_QUESTIONS: Final = 256
MAX_CANDIDATES: Final = 256

HERE: Final = 512
ELSEWHERE: Final = 128
"""Calls with the same number, at one host and anywhere: of more than so many none is told from the others."""

MISORDER_NS: Final = 50_000_000
"""A mirror may show what is passed on before what it was made from, by at most this much."""


class JoinSettings(NamedTuple):
    """Which rules are used. `window_s` is how long after the caller's INVITE, or the answer to it, a call is
    taken for what became of it; `hosts` are groups of addresses that are one machine.
    """

    rules: frozenset[str] = frozenset(RULES)
    headers: frozenset[str] = frozenset(HEADERS)
    window_s: float = 10.0
    hosts: tuple[frozenset[str], ...] = ()
