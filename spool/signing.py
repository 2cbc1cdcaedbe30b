"""The host's signing key: Ed25519 (RFC 8032), made on first use, private half 0600, public half beside it
as PEM. It may be a credential of the service instead, which is never written."""

import contextlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from recorderd.errors import SpoolError
from recorderd.spool.durable import sync_folder, write_all, write_file
from recorderd.spool.keys import key_id
from recorderd.spool.layout import Spool

HOST_PUBLIC_NAME = "host.pub"


class HostPublic(NamedTuple):
    """What anybody needs to check a host's statements."""

    key: Ed25519PublicKey

    @property
    def id(self) -> bytes:
        """The 16-byte key id."""
        return key_id("ed25519", self.key.public_bytes_raw())

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the host signed this message."""
        try:
            self.key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    @classmethod
    def load(cls, path: Path) -> "HostPublic":
        """Read ``host.pub``; raises SpoolError."""
        try:
            key = load_pem_public_key(path.read_bytes())
        except OSError as error:
            raise SpoolError(f"{path}: {error.strerror}") from None
        except (ValueError, UnsupportedAlgorithm):
            raise SpoolError(f"{path}: not a public key in PEM") from None
        if not isinstance(key, Ed25519PublicKey):
            raise SpoolError(f"{path}: not an Ed25519 key")
        return cls(key)


def find_host_public(spool: Spool) -> HostPublic | None:
    """The host's public key of a spool, of a copy of a remote, or of one put into a folder ``recordings``.

    None where there is none. Raises SpoolError for one that is damaged.
    """
    for path in (spool.host_public_path, spool.recordings / HOST_PUBLIC_NAME):
        if path.exists():
            return HostPublic.load(path)
    return None


@dataclass(frozen=True, repr=False)
class HostKey:
    """Signs what this host states about its recordings."""

    key: Ed25519PrivateKey

    @property
    def public(self) -> HostPublic:
        """The half that may be known."""
        return HostPublic(self.key.public_key())

    @cached_property
    def id(self) -> bytes:
        """The 16-byte key id of the public half."""
        return self.public.id

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self.key.sign(message)

    @classmethod
    def load_or_create(cls, path: Path, public_path: Path | None = None) -> "HostKey":
        """The key at ``path``, made there on first use; unless it is a credential, which somebody else has
        to give. Raises SpoolError.

        Its public half is put at ``public_path`` (by default beside it as ``.pub``) where it is missing. One
        of another key stays, and is an error: what is signed from now on would not be verified with it.
        """
        public_path = path.with_suffix(".pub") if public_path is None else public_path
        try:
            if not path.exists():
                if is_credential(path):
                    raise SpoolError(
                        f"{path}: the credential is missing; see LoadCredential in the unit of the service"
                    )
                _create(path)
            key = load_pem_private_key(path.read_bytes(), password=None)
            if not isinstance(key, Ed25519PrivateKey):
                raise SpoolError(f"{path}: not an Ed25519 key")
            if not public_path.exists():
                pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
                write_file(public_path, pem, mode=0o644)
            elif HostPublic.load(public_path).key != key.public_key():
                raise SpoolError(
                    f"{public_path}: not the public half of {path}; keep it beside the recordings that it"
                    " verifies, and move it away to begin with another signing key"
                )
        except OSError as error:
            raise SpoolError(f"{error.filename or path}: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise SpoolError(f"{path}: not a private key in PEM") from None
        return cls(key)


def is_credential(path: Path) -> bool:
    """Whether systemd provides this file, for as long as the service runs (systemd.exec(5), Credentials)."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    folders = ([Path(given)] if given else []) + [Path("/run/credentials")]
    return any(path.is_relative_to(folder) for folder in folders)


def _create(path: Path) -> None:
    """Two processes may do this at once: the first link wins, and both read that one."""
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, pem)
        os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
        sync_folder(path.parent)
    finally:
        os.close(descriptor)
        temporary.unlink()
