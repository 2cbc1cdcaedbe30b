"""When two signallings name the same number, and which calls could be one for that."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

from recorderd.calls.call import Call

TAIL: Final = 7
"""Digits that tell a number whatever stands before them: +49 30 ..., 0049 30 ..., 030 ..."""

_NOBODY: Final = frozenset({"", "anonymous", "unknown", "unavailable", "restricted", "private", "invalid"})
_USUAL_LENGTH: Final = 64  # characters of a number or name that is worth to be remembered
_KEPT: Final = str.maketrans("", "", "+-.() ")


def tail(user: str) -> str | None:
    """What two spellings of a number have in common: its last `TAIL` digits, or all of a shorter one or of a
    name; None where it names nobody.
    """
    return _usual_tail(user) if len(user) <= _USUAL_LENGTH else _tail(user)


def _tail(user: str) -> str | None:
    plain = user.lower().translate(_KEPT)
    if plain in _NOBODY:
        return None
    return plain[-TAIL:] if plain.isdecimal() else plain


# Asked for several times as a call begins, and again when others begin that may be the same.
_usual_tail = lru_cache(maxsize=4096)(_tail)


class Numbers:
    """Calls in progress by what is looked for: hosts, roles and numbers."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, ...], dict[str, Call]] = {}
        self._keys: dict[str, list[tuple[str, ...]]] = {}

    def add(self, call: Call, keys: list[tuple[str, ...]]) -> None:
        """The call is to be found under these keys, from now on and until it is dropped."""
        for key in keys:
            self._calls.setdefault(key, {})[call.key] = call
        self._keys[call.key] = keys

    def drop(self, call: str) -> None:
        """The call is done with."""
        for key in self._keys.pop(call, ()):
            known = self._calls[key]
            known.pop(call, None)
            if not known:
                del self._calls[key]

    def any(self, *keys: tuple[str, ...]) -> bool:
        """Whether there are calls under any of these keys."""
        return not self._calls.keys().isdisjoint(keys)

    def all_of(self, most: int, *key: str) -> list[Call]:
        """The calls under a key, the newest first; none where there are more than ``most``."""
        known = self._calls.get(key)
        return list(reversed(known.values())) if known and len(known) <= most else []

    def newest(self, most: int, *key: str) -> Iterator[Call]:
        """So many of the calls under a key at most, the newest first."""
        return islice(reversed(self._calls.get(key, {}).values()), most)
