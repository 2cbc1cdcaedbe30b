"""Patterns for numbers, names and header values, as a configuration has them.

- ``2001``: just that;
- ``+4420*``: what begins so; ``*`` alone is anything at all;
- ``2xx``: digits, each ``x`` one of 0 to 9;
- ``200-299``: numbers of as many digits, both ends included;
- ``/[Ss]upport.*/``: a regular expression for the whole text.

The text comes from peers, and Python's expressions can take for ever on one that was made for it. So an
expression is written in a subset in which the ways to match are counted, and one with too many is refused.
"""

import re
from collections.abc import Callable
from typing import Final

MAX_TEXT: Final = 128
"""Characters of a text that are looked at; a longer one matches by its beginning only."""

MAX_WAYS: Final = 50_000
"""Ways to try an expression on a text of MAX_TEXT characters: those of two ``.*`` are, of three are not."""

# Compiled when first needed, which in most runs is never.
_RANGE = r"(\+?)([0-9]{1,18})-(\+?)([0-9]{1,18})"
_DIGITS = r"\+?[0-9xX]*[xX][0-9xX]*(\*?)"
_NUMBER = re.compile(r"\+?[0-9().\- ]{1,64}")
_SEPARATORS = str.maketrans("", "", "().- ")

Pattern = Callable[[str], bool]


def plain_number(text: str) -> str:
    """A number without what only helps to read it (RFC 3966 section 5.1.1); any other text as it is."""
    return text.translate(_SEPARATORS) if _NUMBER.fullmatch(text) else text


def pattern(written: str) -> Pattern:
    """Read a pattern. Raises ValueError for one that is empty, has a ``*`` elsewhere than at its end, or is
    an expression that is wrong or too dear.
    """
    if not written or len(written) > 256:
        raise ValueError("must have 1 to 256 characters")
    if len(written) > 1 and written.startswith("/") and written.endswith("/"):
        compiled = safe_expression(written[1:-1])
        return lambda text: compiled.fullmatch(text[:MAX_TEXT]) is not None
    if found := re.fullmatch(_RANGE, written):
        return _range(*found.groups())
    if re.fullmatch(_DIGITS, written):
        tail = ".*" if written.endswith("*") else ""
        digits = re.compile(re.escape(written.rstrip("*")).replace("x", "[0-9]").replace("X", "[0-9]") + tail)
        return lambda text: digits.fullmatch(text[:MAX_TEXT]) is not None
    if written.endswith("*"):
        beginning = _without_star(written[:-1], written)
        return lambda text: text.startswith(beginning)
    _without_star(written, written)
    return lambda text: text == written


def _without_star(part: str, written: str) -> str:
    if "*" in part:
        raise ValueError(
            f"{written!r} has a * that is not at its end: a pattern is a whole text (2001), a beginning"
            " (+4420*), digits (2xx), a range (200-299) or an expression (/.*222/; /\\*72/ for a * itself)"
        )
    return part


def _range(plus: str, first: str, plus_again: str, last: str) -> Pattern:
    if len(first) != len(last) or plus != plus_again or first > last:
        raise ValueError("a range has two numbers of as many digits, the smaller first")

    def within(text: str) -> bool:
        digits = text.removeprefix(plus) if text.startswith(plus) else ""
        return len(digits) == len(first) and digits.isascii() and digits.isdigit() and first <= digits <= last

    return within


def safe_expression(text: str) -> re.Pattern[str]:
    """Compile an expression of characters, ``.``, ``\\d \\w \\s`` and escaped marks, ``[...]``, groups with
    ``|``, and ``? * + {n} {n,m}`` behind one character or a group of fixed parts.

    Raises ValueError for any other, and for one that can be tried in more than MAX_WAYS ways.
    """
    try:
        compiled = re.compile(text, re.ASCII | re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"/{text}/ is no regular expression: {error}") from None
    counted = _Expression(text)
    if counted.ways() > MAX_WAYS:
        raise ValueError(
            f"/{text}/ can match in too many ways: at most two of * and +, better ends or classes"
        )
    return compiled


_QUANTITY = re.compile(r"\?|\*|\+|\{([0-9]{1,3})(,([0-9]{0,3}))?\}")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_PLAIN_ESCAPES = frozenset("dDwWsS")


class _Expression:
    """Reads an expression of the subset and counts in how many ways it can be tried."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def ways(self) -> int:
        """Of the whole. Raises ValueError where it is not of the subset."""
        found = self._branches(depth=0)
        if self._at != len(self._text):
            raise ValueError(f"/{self._text}/: a bracket is closed that was not opened")
        return found

    def _branches(self, depth: int) -> int:
        if depth > 8:
            raise ValueError(f"/{self._text}/: too many brackets within one another")
        total = self._sequence(depth)
        while self._text[self._at : self._at + 1] == "|":
            self._at += 1
            total += self._sequence(depth)
        return total

    def _sequence(self, depth: int) -> int:
        total = 1
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            ways = self._one(depth)
            times = _QUANTITY.match(self._text, self._at)
            if times:
                self._at = times.end()
                if ways != 1:
                    raise ValueError(f"/{self._text}/: what is repeated may not be repeated or chosen within")
                ways = _choices(times)
                if self._text[self._at : self._at + 1] in ("?", "+", "*", "{"):
                    raise ValueError(f"/{self._text}/: one quantity behind another")
            total = min(total * ways, MAX_WAYS + 1)
        return total

    def _one(self, depth: int) -> int:
        """One character, class or group; its ways."""
        text, at = self._text, self._at
        if text[at] == "{":
            raise ValueError(f"/{text}/: {{ needs a backslash where it is no quantity below 1000")
        if text[at] == "[":
            found = _CLASS.match(text, at)
            if found is None:
                raise ValueError(f"/{text}/: a class is not closed")
            self._at = found.end()
            return 1
        if text[at] == "\\":
            escaped = text[at + 1 : at + 2]
            if escaped.isalnum() and escaped not in _PLAIN_ESCAPES:
                raise ValueError(f"/{text}/: \\{escaped} is not taken here")
            self._at += 2
            return 1
        if text[at] == "(":
            self._at += 3 if text.startswith("(?:", at) else 1
            if text[self._at : self._at + 1] == "?":
                raise ValueError(f"/{text}/: of the groups with (? only (?: is taken here")
            ways = self._branches(depth + 1)
            self._at += 1  # the closing one: it compiles
            return ways
        self._at += 1
        return 1


def _choices(times: re.Match[str]) -> int:
    """How many different numbers of times a quantity allows on MAX_TEXT characters."""
    if times[0] == "?":
        return 2
    if times[0] in "*+":
        return MAX_TEXT + 1
    least = int(times[1])
    most = least if times[2] is None else int(times[3]) if times[3] else MAX_TEXT
    return max(1, min(most, MAX_TEXT) - least + 1)
