"""Checkpoints: signed statements of a tree's size and root, in the form of C2SP signed-note and
tlog-checkpoint, so that the programs of transparency logs read them, too.

Pure: keys are arguments. ::

    recorderd.ledger/b87739c92fa2a01f56427a733e030660
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — recorderd.ledger/b87739c92fa2a01f56427a733e030660 Az3grlgtzPICa5OS8npVmf1Myq/5IZ...
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

from recorderd.errors import LedgerCorrupt
from recorderd.spool.merkle import HASH_BYTES

ED25519: Final = b"\x01"
"""The signature type of Ed25519 in signed-note."""

MAX_NOTE: Final = 65_536
MAX_SIZE: Final = 1 << 62
_SIGNATURE: Final = 64
_DASH: Final = "\u2014 "

Sign = Callable[[bytes], bytes]
Verifies = Callable[[bytes, bytes], bool]
"""Whether a signature (first argument) is that of a message (second)."""


class Checkpoint(NamedTuple):
    """What is stated: whose tree, its number of leaves, and its root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


class Key(NamedTuple):
    """A public Ed25519 key under the name it signs by. ``public`` has 32 bytes."""

    name: str
    public: bytes
    verifies: Verifies

    @property
    def hash(self) -> bytes:
        """The 4-byte key id of signed-note."""
        return key_hash(self.name, self.public)

    def verifier_key(self) -> str:
        """The key in the text form that programs of transparency logs take (``vkey``)."""
        return f"{self.name}+{self.hash.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"


def key_hash(name: str, public: bytes) -> bytes:
    """The 4-byte key id of signed-note for an Ed25519 key."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


def sign_checkpoint(checkpoint: Checkpoint, public: bytes, sign: Sign) -> bytes:
    """The signed note of a checkpoint, under its origin as the key's name."""
    text = checkpoint.text()
    signed = key_hash(checkpoint.origin, public) + sign(text.encode())
    return f"{text}\n{_DASH}{checkpoint.origin} {base64.b64encode(signed).decode()}\n".encode()


def open_checkpoint(note: bytes, key: Key) -> Checkpoint:
    """What a note states that this key has signed.

    Raises SpoolCorrupt for everything else: another form, another origin, no signature of this key, or one
    that is wrong. Signatures of other keys are passed over, as witnesses may have added theirs.
    """
    text, signatures = _parts(note)
    checkpoint = _parse(text)
    if checkpoint.origin != key.name:
        raise LedgerCorrupt(f"the checkpoint is of another ledger ({checkpoint.origin[:100]!r})")
    found = False
    for name, signature in signatures:
        if name != key.name or signature[:4] != key.hash:
            continue
        if not key.verifies(signature[4:], text.encode()):
            raise LedgerCorrupt("the checkpoint's signature is wrong")
        found = True
    if not found:
        raise LedgerCorrupt("the checkpoint is not signed by this host's key")
    return checkpoint


def unsigned(note: bytes) -> Checkpoint:
    """What a note states, whoever signed it. Raises SpoolCorrupt for what has not its form."""
    return _parse(_parts(note)[0])


def _parts(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """The text of a note, and its signatures by name. Raises SpoolCorrupt."""
    if len(note) > MAX_NOTE:
        raise LedgerCorrupt("not a checkpoint: too long")
    try:
        whole = note.decode()
    except UnicodeDecodeError:
        raise LedgerCorrupt("not a checkpoint: no UTF-8") from None
    # What is 0x7f and above is allowed in notes, but not to us: one statement has one spelling.
    text, blank, signed = whole.rpartition("\n\n")
    if not blank or not signed.endswith("\n") or any(c < " " and c != "\n" for c in whole):
        raise LedgerCorrupt("not a checkpoint")
    signatures = []
    for line in signed[:-1].split("\n"):
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space or not name:
            raise LedgerCorrupt("not a checkpoint: a signature line is not readable")
        signatures.append((name, _base64(encoded)))
        if name == text.partition("\n")[0] and len(signatures[-1][1]) != 4 + _SIGNATURE:
            raise LedgerCorrupt("not a checkpoint: a signature has another length")
    return text + "\n", signatures


def _parse(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or not all(lines[:3]):
        raise LedgerCorrupt("not a checkpoint: not of three lines")
    origin, size, hashed = lines[:3]
    if not (size.isascii() and size.isdecimal()) or len(size) > 20 or (size[0] == "0" and size != "0"):
        raise LedgerCorrupt("not a checkpoint: the size is no number")
    checkpoint = Checkpoint(origin, int(size), _base64(hashed))
    if len(checkpoint.root) != HASH_BYTES or checkpoint.size > MAX_SIZE:
        raise LedgerCorrupt("not a checkpoint: the root has another length")
    return checkpoint


def _base64(text: str) -> bytes:
    """Base64 of RFC 4648 section 4 in its one spelling: bits that mean nothing are zero."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise LedgerCorrupt("not a checkpoint: no base64") from None
    if base64.b64encode(data).decode() != text:
        raise LedgerCorrupt("not a checkpoint: base64 with another spelling")
    return data
