"""What the ledger has entries of, and their bytes (docs/ledger.md, "Entries"). Pure."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from recorderd.errors import SpoolCorrupt
from recorderd.spool.canonical import canonical_json

KINDS: Final = frozenset(
    {
        "recording",
        "call",
        "alert",
        "hold",
        "release",
        "export",
        "reviewed",
        "rewrapped",
        "evicted",
        "restored",
        "proposed",
        "approved",
        "destroyed",
        "retention",
        "remote-damage",
        "started",
        "stopped",
    }
)

MAX_ENTRY: Final = 16_384
"""Bytes of one entry."""

MAX_SUBJECT: Final = 512
MAX_TEXT: Final = 2_000
MAX_ITEMS: Final = 200
_DEEPEST: Final = 6
_NAMES: Final = ("fields", "kind", "subject", "time_us")


class Entry(NamedTuple):
    """One thing that happened.

    ``time_us`` is when (microseconds since 1970), ``subject`` what it happened to: the id of a recording,
    :func:`call_subject` of a call, the kind of an alert, a host's name.
    """

    kind: str
    time_us: int
    subject: str
    fields: Mapping[str, Any] = MappingProxyType({})

    def to_bytes(self) -> bytes:
        """Canonical JSON. What peers sent is bounded: long texts are cut, and an entry that is still too long
        says of its fields only their SHA-256. Raises ValueError for an unknown kind."""
        if self.kind not in KINDS:
            raise ValueError(f"the ledger has no entries of kind {self.kind!r}")
        subject, time_us = self.subject[:MAX_SUBJECT], int(self.time_us)
        fields = self.fields if _is_plain(self.fields) else _bounded(self.fields, 0)
        said = {"fields": fields, "kind": self.kind, "subject": subject, "time_us": time_us}
        data = canonical_json(said)
        if len(data) > MAX_ENTRY:
            digest = hashlib.sha256(canonical_json(fields)).hexdigest()
            data = canonical_json({**said, "fields": {"left_out_sha256": digest}})
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> "Entry":
        """Raises SpoolCorrupt for what :meth:`to_bytes` cannot have written; kinds may be of a later
        version."""
        try:
            value = json.loads(data)
            right = (
                isinstance(value, dict)
                and tuple(sorted(value)) == _NAMES
                and type(value["kind"]) is str
                and type(value["subject"]) is str
                and type(value["time_us"]) is int
                and type(value["fields"]) is dict
                and len(data) <= MAX_ENTRY
                and canonical_json(value) == data
            )
        except (ValueError, RecursionError):
            right = False
        if not right:
            raise SpoolCorrupt("an entry of the ledger is not readable")
        return cls(value["kind"], value["time_us"], value["subject"], value["fields"])


def call_subject(first_seen: str, call_id: str) -> str:
    """What stands for a call: a Call-ID may have been used before. As in the index's tables."""
    return f"{first_seen}/{call_id}"[:MAX_SUBJECT]


_SCALARS: Final = frozenset({type(None), bool, int})


def _is_plain(fields: Mapping[str, Any]) -> bool:
    """Whether fields can stand as they are: most do, and are looked at for each call."""
    if type(fields) is not dict or len(fields) > MAX_ITEMS:
        return False
    for value in fields.values():
        kind = type(value)
        if kind is str:
            if len(value) > MAX_TEXT:
                return False
        elif kind not in _SCALARS:
            return False
    return True


def _bounded(value: Any, depth: int) -> Any:
    """The same, of a bounded size and without floating-point numbers, which have more than one spelling."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "..."
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            items = list(value.items())[:MAX_ITEMS]
            return {str(key)[:MAX_TEXT]: _bounded(each, depth + 1) for key, each in items}
        if isinstance(value, list | tuple):
            return [_bounded(each, depth + 1) for each in value[:MAX_ITEMS]]
    return str(value)[:MAX_TEXT]
