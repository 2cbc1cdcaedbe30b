"""Private identities that only a passphrase opens (docs/format.md, "Keys"): scrypt (RFC 7914), AES-256-GCM.

Pure: the random parts are arguments.
"""

import base64
import binascii

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

LOCKED_TAG = "recorderd-identity-scrypt-1"
LOG2_N = 17
"""128 MiB and some tenths of a second for each guess."""
SALT_BYTES = 16
NONCE_BYTES = 12
# What a file may demand of the machine that opens it: 16 MiB to 1 GiB.
_LOG2_N_RANGE = range(14, 21)
_PRIVATE_BYTES = 32
_TAG_BYTES = 16


class Locked(ValueError):
    """Why a line does not open; the text says it."""


def lock(
    suite: str,
    key_id: str,
    private: bytes,
    passphrase: bytes,
    salt: bytes,
    nonce: bytes,
    log2_n: int = LOG2_N,
) -> str:
    """The line of an identity file. ``key_id`` is in hex, ``salt`` has 16 bytes, ``nonce`` 12."""
    secret = AESGCM(_stretched(passphrase, salt, log2_n))
    sealed = secret.encrypt(nonce, private, _additional(suite, key_id, log2_n))
    text = base64.b64encode(salt + nonce + sealed).decode()
    return f"{LOCKED_TAG} {suite} {key_id} {log2_n} {text}"


def unlock(fields: list[str], passphrase: bytes) -> bytes:
    """The private key in the fields of such a line. Raises Locked."""
    if len(fields) != 5 or fields[0] != LOCKED_TAG:
        raise Locked(f"not a line `{LOCKED_TAG} NAME KEY-ID LOG2N BASE64`")
    _, suite, key_id, number, text = fields
    try:
        log2_n = int(number) if number.isascii() and number.isdigit() and len(number) < 3 else 0
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Locked("the key is not base64") from None
    if log2_n not in _LOG2_N_RANGE:
        raise Locked(f"LOG2N is not {_LOG2_N_RANGE[0]} to {_LOG2_N_RANGE[-1]}")
    if len(data) != SALT_BYTES + NONCE_BYTES + _PRIVATE_BYTES + _TAG_BYTES:
        raise Locked("the key is cut short")
    salt, nonce = data[:SALT_BYTES], data[SALT_BYTES : SALT_BYTES + NONCE_BYTES]
    try:
        return AESGCM(_stretched(passphrase, salt, log2_n)).decrypt(
            nonce, data[SALT_BYTES + NONCE_BYTES :], _additional(suite, key_id, log2_n)
        )
    except InvalidTag:
        raise Locked("the passphrase is wrong, or the file is damaged") from None
    except MemoryError:
        raise Locked(f"opening it takes {1 << log2_n >> 10} MiB of memory, which is not there") from None


def _stretched(passphrase: bytes, salt: bytes, log2_n: int) -> bytes:
    return Scrypt(salt, length=32, n=1 << log2_n, r=8, p=1).derive(passphrase)


def _additional(suite: str, key_id: str, log2_n: int) -> bytes:
    return f"recorderd/1 identity {suite} {key_id} {log2_n}".encode()
