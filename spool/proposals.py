"""What is proposed for destruction, or for a shorter period: a file that approvers sign (docs/retention.md).

A proposal names every single recording; nothing else is touched by it. It is canonical JSON and one line
feed, and is known by the SHA-256 of its bytes. Pure.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from recorderd.errors import SpoolCorrupt
from recorderd.spool.canonical import canonical_json
from recorderd.spool.layout import is_recording_id
from recorderd.spool.statements import read_canonical
from recorderd.spool.times import microseconds, rfc3339

Action = Literal["destroy", "shorten"]
VERSION: Final = 1
_NAMES: Final = ("action", "as_of", "clock", "host", "items", "reason", "version")
_ITEM: Final = {
    "destroy": ("bytes", "class", "expires_at", "id", "sha256"),
    "shorten": ("bytes", "class", "expires_at", "id", "new_class", "new_expires_at", "sha256"),
}


@dataclass(frozen=True)
class Proposal:
    """``items`` are in order of their ids; ``as_of`` is when it was made, ``clock`` what the machine's clocks
    said then."""

    action: Action
    host: str
    as_of: str
    reason: str
    clock: Mapping[str, Any]
    items: tuple[dict[str, Any], ...]
    raw: bytes = field(repr=False, default=b"")

    @classmethod
    def new(
        cls,
        action: Action,
        host: str,
        reason: str,
        clock: Mapping[str, Any],
        items: Sequence[Mapping[str, Any]],
    ) -> "Proposal":
        """A proposal of what these items say; each has the keys that its action wants."""
        ordered = sorted(items, key=lambda item: item["id"])
        chosen = tuple({name: item[name] for name in _ITEM[action]} for item in ordered)
        values = (action, clock["at"], dict(clock), host, list(chosen), reason, VERSION)
        raw = canonical_json(dict(zip(_NAMES, values, strict=True))) + b"\n"
        return cls(action, host, clock["at"], reason, dict(clock), chosen, raw)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Proposal":
        """Raises SpoolCorrupt for what :meth:`new` cannot have made."""
        value = read_canonical(data[:-1], "the proposal") if data.endswith(b"\n") else {}
        try:
            right = tuple(sorted(value)) == _NAMES and value["version"] == VERSION and _checked(value)
        except (KeyError, TypeError, ValueError):
            right = False
        if not right:
            raise SpoolCorrupt("the proposal is not readable, or was altered")
        facts = {name: value[name] for name in ("action", "host", "as_of", "reason", "clock")}
        return cls(**facts, items=tuple(value["items"]), raw=data)

    @cached_property
    def sha256(self) -> str:
        """What it is known by, in hex."""
        return hashlib.sha256(self.raw).hexdigest()


def _checked(value: dict[str, Any]) -> bool:
    wanted, ids = _ITEM[value["action"]], [item["id"] for item in value["items"]]
    clock = value["clock"]
    texts = (value["host"], value["reason"], clock["at"], clock["boot_id"], *ids)
    times = [value["as_of"], *(item["expires_at"] for item in value["items"])]
    return (
        all(type(text) is str for text in texts)
        and type(clock["boot_us"]) is int
        and clock["at"] == value["as_of"]
        and all(rfc3339(microseconds(time)) == time for time in times if time is not None)
        and all(tuple(sorted(item)) == wanted for item in value["items"])
        and all(map(is_recording_id, ids))
        and ids == sorted(set(ids))
    )
