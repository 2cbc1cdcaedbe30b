"""JSON that has one spelling, to be hashed and signed (docs/format.md, "Conventions")."""

import json

# What is hashed and signed never contains itself.
_TO_JSON = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, check_circular=False
).encode


def canonical_json(value: object) -> bytes:
    """ASCII, sorted keys, no white space."""
    return _TO_JSON(value).encode("ascii")
