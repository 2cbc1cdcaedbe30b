"""The host keys that an SSH server may show: pinned beforehand, never learned from the server itself."""

import base64
import binascii
import hashlib
import itertools
import re
from dataclasses import dataclass

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
# The signatures that each kind of key may make. SHA-1 (the old `ssh-rsa`) is not among them (RFC 8332).
_SIGNATURES = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}


@dataclass(frozen=True, slots=True)
class HostKey:
    """A key that is trusted: its fingerprint as ``ssh-keygen -l`` shows it, and the signatures it can make
    (none where only the fingerprint is known)."""

    fingerprint: str
    signatures: tuple[str, ...] = ()


def fingerprint_of(blob: bytes) -> str:
    """The fingerprint of a public key in SSH's encoding (RFC 4253 section 6.6), as OpenSSH shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def parse_host_key(text: str) -> HostKey:
    """A fingerprint (``SHA256:...``), or a key line as in ``*.pub``, ``known_hosts`` and ``ssh-keyscan``.

    Raises ValueError for anything else; a CA's or a revoked key of ``known_hosts`` is not a host's key.
    """
    words = text.split()
    if len(words) == 1 and _FINGERPRINT.fullmatch(words[0]):
        return HostKey(words[0].rstrip("="))
    if not text.lstrip().startswith(("@", "#")):
        # A line of known_hosts has the host's name before the key.
        for kind, encoded in itertools.pairwise(words[:3]):
            if kind in _SIGNATURES:
                return HostKey(fingerprint_of(_blob(kind, encoded)), _SIGNATURES[kind])
    raise ValueError("must be a fingerprint (SHA256:...) or a key line (ssh-ed25519 AAAA...)")


def _blob(kind: str, encoded: str) -> bytes:
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        blob = b""
    # The encoding begins with the kind's name, so a line that was cut or put together wrongly is seen.
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()) or len(blob) < len(kind) + 36:
        raise ValueError(f"is no whole {kind} key")
    return blob
