"""Signed statements in files: approvals and certificates. As with manifests, the signature is over the very
bytes of the file::

    {"KIND":BODY,"signature":{"ed25519":"HEX","key":"HEX"}}\\n

BODY is canonical JSON, and the message that is signed is ``recorderd/1 KIND``, LF, BODY. Pure.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recorderd.errors import SpoolCorrupt
from recorderd.spool.canonical import canonical_json
from recorderd.spool.signing import HostKey, HostPublic

MAX_BYTES = 256 * 1024 * 1024
_SUFFIX = re.compile(rb',"signature":\{"ed25519":"([0-9a-f]{128})","key":"([0-9a-f]{32})"\}\}\n')
_SUFFIX_BYTES = len(b',"signature":{"ed25519":"","key":""}}\n') + 128 + 32


@dataclass(frozen=True, slots=True)
class Statement:
    """What a file states, not yet checked. ``signer`` is a key id in hex."""

    kind: str
    body: bytes
    value: dict[str, Any]
    signature: bytes
    signer: str

    def signed_by(self, public: HostPublic) -> bool:
        """Whether this key signed exactly this."""
        return public.id.hex() == self.signer and public.verifies(
            self.signature, _message(self.kind, self.body)
        )


def sign_statement(kind: str, value: Mapping[str, Any], key: HostKey) -> bytes:
    """The bytes of the file."""
    body = canonical_json(dict(value))
    signature = key.sign(_message(kind, body)).hex()
    tail = f',"signature":{{"ed25519":"{signature}","key":"{key.id.hex()}"}}}}\n'
    return f'{{"{kind}":'.encode() + body + tail.encode()


def open_statement(kind: str, data: bytes) -> Statement:
    """Read a statement; the signature is the caller's to check. Raises SpoolCorrupt."""
    prefix = f'{{"{kind}":'.encode()
    body, tail = data[len(prefix) : -_SUFFIX_BYTES], data[-_SUFFIX_BYTES:]
    found = _SUFFIX.fullmatch(tail)
    if not data.startswith(prefix) or found is None or len(data) > MAX_BYTES:
        raise SpoolCorrupt(f"not a signed {kind}, or it was altered")
    value = read_canonical(body, f"the {kind}")
    return Statement(kind, body, value, bytes.fromhex(found[1].decode()), found[2].decode())


def read_canonical(data: bytes, what: str) -> dict[str, Any]:
    """An object in its one spelling. Raises SpoolCorrupt for any other bytes."""
    try:
        value = json.loads(data)
        right = isinstance(value, dict) and canonical_json(value) == data
    except (ValueError, RecursionError):
        right = False
    if not right:
        raise SpoolCorrupt(f"{what} is not readable, or was altered")
    return dict(value)


def _message(kind: str, body: bytes) -> bytes:
    return f"recorderd/1 {kind}\n".encode() + body
