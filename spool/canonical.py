"""JSON that has one spelling, to be hashed and signed (docs/format.md, "Conventions")."""

import json

_TO_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def canonical_json(value: object) -> bytes:
    """ASCII, sorted keys, no white space."""
    return _TO_JSON(value).encode("ascii")
