"""Keys of recipients: made, kept in text files, and used to wrap and unwrap a recording's data key
(docs/format.md, "Keys").

A recording host has recipients' public keys only. All cryptography is of the library ``cryptography``.
"""

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from recorderd.errors import ConfigError, KeysMissing, NotOverwritten, SpoolCorrupt, UsageError, WrongKey
from recorderd.spool.header import DATA_KEY_BYTES, Header, KeySlot, derive_keys
from recorderd.spool.locked_identity import LOCKED_TAG, NONCE_BYTES, SALT_BYTES, Locked, lock, unlock
from recorderd.spool.slots import SlotFile

DEFAULT_SUITE = "mlkem768-x25519"
IDENTITY_TAG = "recorderd-identity-1"
RECIPIENT_TAG = "recorderd-recipient-1"
KEYS_MISSING = "its key slots were destroyed or are missing: nobody can open it"
_MLKEM_PUBLIC = 1184


class Suite(NamedTuple):
    """A way of wrapping: its number in the HPKE registry, the library's suite, and how its keys are made of
    bytes."""

    kem: int
    hpke: hpke.Suite
    private_key: Callable[[bytes], Any]
    public_key: Callable[[bytes], Any]
    public_of: Callable[[bytes], bytes]


def _hpke(kem: hpke.KEM) -> hpke.Suite:
    return hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def _xwing_parts(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    """draft-connolly-cfrg-xwing-kem, expandDecapsulationKey: both keys from a seed of 32 bytes."""
    if len(seed) != 32:
        raise ValueError("a seed has 32 bytes")
    expanded = hashlib.shake_256(seed).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    return mlkem, X25519PrivateKey.from_private_bytes(expanded[64:])


def _xwing_private(seed: bytes) -> hpke.MLKEM768X25519PrivateKey:
    return hpke.MLKEM768X25519PrivateKey(*_xwing_parts(seed))


def _xwing_public(data: bytes) -> hpke.MLKEM768X25519PublicKey:
    return hpke.MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(data[:_MLKEM_PUBLIC]),
        X25519PublicKey.from_public_bytes(data[_MLKEM_PUBLIC:]),
    )


def _xwing_public_of(seed: bytes) -> bytes:
    mlkem, x25519 = _xwing_parts(seed)
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def _x25519_public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


SUITES = {
    "mlkem768-x25519": Suite(
        0x647A, _hpke(hpke.KEM.MLKEM768_X25519), _xwing_private, _xwing_public, _xwing_public_of
    ),
    "x25519": Suite(
        0x0020,
        _hpke(hpke.KEM.X25519),
        X25519PrivateKey.from_private_bytes,
        X25519PublicKey.from_public_bytes,
        _x25519_public_of,
    ),
}


def key_id(name: str, public: bytes) -> bytes:
    """The 16-byte id of a public key."""
    return hashlib.sha256(b"recorderd/1 key id" + name.encode() + b"\0" + public).digest()[:16]


@dataclass(frozen=True)
class Recipient:
    """A public key that recordings are sealed to."""

    suite: str
    public: bytes

    @cached_property
    def id(self) -> bytes:
        """The key id."""
        return key_id(self.suite, self.public)

    @cached_property
    def _key(self) -> Any:
        """The library's public key; made once, as that takes a quarter of the time of wrapping."""
        return SUITES[self.suite].public_key(self.public)

    def wrap(self, data_key: bytes, info: bytes) -> KeySlot:
        """The key slot for a data key."""
        suite = SUITES[self.suite]
        return KeySlot(self.id, suite.kem, suite.hpke.encrypt(data_key, self._key, info))

    def line(self) -> str:
        """The line of a recipient file."""
        return f"{RECIPIENT_TAG} {self.suite} {self.id.hex()} {base64.b64encode(self.public).decode()}"


@dataclass(frozen=True, repr=False)
class Identity:
    """A private key that opens recordings."""

    suite: str
    private: bytes

    def __repr__(self) -> str:
        return f"Identity({self.suite}, {self.recipient().id.hex()})"

    def recipient(self) -> Recipient:
        """Its public half."""
        return Recipient(self.suite, SUITES[self.suite].public_of(self.private))

    def unwrap(self, slot: KeySlot, info: bytes) -> bytes | None:
        """The data key; None when the slot is not for this key or was altered."""
        suite = SUITES[self.suite]
        try:
            data_key = suite.hpke.decrypt(slot.wrapped, suite.private_key(self.private), info)
        except (InvalidTag, ValueError):
            return None
        return data_key if len(data_key) == DATA_KEY_BYTES else None

    def line(self) -> str:
        """The line of an identity file."""
        ident = self.recipient().id.hex()
        return f"{IDENTITY_TAG} {self.suite} {ident} {base64.b64encode(self.private).decode()}"

    def locked_line(self, passphrase: bytes) -> str:
        """The same, of a file that only the passphrase opens."""
        salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
        return lock(self.suite, self.recipient().id.hex(), self.private, passphrase, salt, nonce)


def open_header(
    header: Header | SlotFile, identities: Iterable[Identity], more: Sequence[KeySlot] = ()
) -> bytes:
    """The data key of a recording, from a slot of its header or of ``more``: those of its slot file, which
    may also stand for the header.

    Raises KeysMissing where there is no slot at all, WrongKey when none of the identities is one of its
    recipients, and SpoolCorrupt when a slot of theirs does not open, or opens to a key other than the one
    committed to.
    """
    slots = (*header.slots, *more)
    if not slots:
        raise KeysMissing(f"{header.core.recording}: {KEYS_MISSING}")
    core, info = header.core.to_bytes(), header.wrap_info
    by_id = {identity.recipient().id: identity for identity in identities}
    damaged = ""
    for slot in slots:
        identity = by_id.get(slot.key_id)
        if identity is None or SUITES[identity.suite].kem != slot.kem:
            continue
        data_key = identity.unwrap(slot, info)
        if data_key is not None and derive_keys(data_key, header.salt, core).commitment == header.commitment:
            return data_key
        damaged = slot.key_id.hex()
    if damaged:
        raise SpoolCorrupt(f"{header.core.recording}: the key slot for {damaged} is damaged")
    wanted = ", ".join(dict.fromkeys(slot.key_id.hex() for slot in slots))
    raise WrongKey(f"{header.core.recording}: no identity opens it; it is sealed to {wanted}")


def generate_identity(path: Path, suite: str = DEFAULT_SUITE, passphrase: bytes | None = None) -> Recipient:
    """Write a new private identity to ``path`` (mode 0600) and its recipient to ``path`` + ``.pub``.

    With a ``passphrase`` the file opens nothing without it. Raises UsageError when one of the files exists or
    cannot be written: a key is never overwritten.
    """
    if suite not in SUITES:
        raise UsageError(f"unknown suite {suite!r}; there are {', '.join(SUITES)}")
    if not path.name:
        raise UsageError(f"{str(path)!r} is a folder; name a file for the private identity")
    identity = Identity(suite, secrets.token_bytes(32))
    recipient = identity.recipient()
    public_path = path.with_name(path.name + ".pub")
    for each in (path, public_path):
        if each.exists():
            raise NotOverwritten(f"{each} exists; keys are never overwritten")
    comment = (
        f"# recorderd identity {recipient.id.hex()}: opens recordings. Keep it off the recording host.\n"
    )
    line = identity.line() if passphrase is None else identity.locked_line(passphrase)
    _write_new(path, comment + line + "\n", 0o600)
    _write_new(public_path, recipient.line() + "\n", 0o644)
    return recipient


def load_recipients(paths: Iterable[Path], suite: str | None = None) -> tuple[Recipient, ...]:
    """All recipients of the files, doubles once. Raises ConfigError with file and line.

    With ``suite`` every one of them must be of that kind: one weak recipient would make the others'
    strength useless.
    """
    wanted = suite
    found: dict[bytes, Recipient] = {}
    for path in paths:
        for number, fields in _key_lines(path, ConfigError):
            where = f"{path}:{number}"
            if fields[0] in (IDENTITY_TAG, LOCKED_TAG):
                raise ConfigError(f"{where}: a private identity; a recording host needs its .pub file only")
            suite, ident, key = _parse_line(fields, RECIPIENT_TAG, where, ConfigError)
            if wanted not in (None, suite):
                raise ConfigError(f"{where}: a key of {suite}, where encryption.suite wants {wanted}")
            try:
                SUITES[suite].public_key(key)
            except ValueError:
                raise ConfigError(f"{where}: not a public key of {suite}") from None
            recipient = Recipient(suite, key)
            if recipient.id.hex() != ident:
                raise ConfigError(f"{where}: the key is damaged (its id does not fit)")
            found[recipient.id] = recipient
    return tuple(found.values())


# Asked for the passphrase of the identity file at a path.
AskPassphrase = Callable[[Path], bytes]


def load_identities(paths: Iterable[Path], ask: AskPassphrase | None = None) -> tuple[Identity, ...]:
    """All identities of the files; ``ask`` is asked once for each file that a passphrase protects. Raises
    WrongKey with file and line."""
    found: dict[str, Identity] = {}
    for path in paths:
        passphrase: bytes | None = None
        for number, fields in _key_lines(path, WrongKey):
            where = f"{path}:{number}"
            if fields[0] == RECIPIENT_TAG:
                raise WrongKey(f"{where}: a public recipient; opening needs the private identity")
            if fields[0] == LOCKED_TAG:
                if ask is None:
                    raise WrongKey(f"{where}: a passphrase protects this identity, and none was given")
                passphrase = ask(path) if passphrase is None else passphrase
                suite, ident, key = _unlock(fields, passphrase, where)
            else:
                suite, ident, key = _parse_line(fields, IDENTITY_TAG, where, WrongKey)
            identity = Identity(suite, key)
            try:
                fits = identity.recipient().id.hex() == ident
            except ValueError:
                fits = False
            if not fits:
                raise WrongKey(f"{where}: the key is damaged (its id does not fit)")
            found[ident] = identity
    return tuple(found.values())


def _unlock(fields: list[str], passphrase: bytes, where: str) -> tuple[str, str, bytes]:
    if len(fields) > 1 and fields[1] not in SUITES:
        raise WrongKey(f"{where}: unknown suite {fields[1][:40]!r}")
    try:
        key = unlock(fields, passphrase)
    except Locked as error:
        raise WrongKey(f"{where}: {error}") from None
    return fields[1], fields[2], key


_KeyFileError = type[ConfigError] | type[WrongKey]


def _key_lines(path: Path, fault: _KeyFileError) -> list[tuple[int, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise fault(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise fault(f"{path}: not a key file") from None
    # Only LF ends a line here; str.splitlines knows too many others.
    lines = [(number, line.split()) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, fields) for number, fields in lines if fields and not fields[0].startswith("#")]
    if not lines:
        raise fault(f"{path}: holds no key")
    return lines


def _parse_line(fields: list[str], tag: str, where: str, fault: _KeyFileError) -> tuple[str, str, bytes]:
    if fields[0] != tag or len(fields) != 4:
        raise fault(f"{where}: not a line `{tag} NAME KEY-ID BASE64`")
    _, suite, ident, text = fields
    if suite not in SUITES:
        raise fault(f"{where}: unknown suite {suite[:40]!r}")
    try:
        return suite, ident, base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise fault(f"{where}: the key is not base64") from None


def _write_new(path: Path, text: str, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
