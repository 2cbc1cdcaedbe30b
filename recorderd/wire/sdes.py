"""The `a=crypto` attributes of session descriptions: SRTP keys in signalling (SDES, RFC 4568).

What one end announces opens what that end *sends*. Keys are secrets: they are held in `Secret`, which shows
itself nowhere, and lines that cannot be used say why without quoting the peer's key.
"""

import binascii
import re
from typing import Final, NamedTuple

from recorderd.wire.ascii_int import ascii_int

MAX_CRYPTO: Final = 16  #: attributes read of one m-line
MAX_KEYS: Final = 4  #: master keys read of one attribute
_MAX_MKI: Final = 128  # bytes, RFC 4568 section 6.1
_MAX_LINE: Final = 2048

#: Crypto suites that can be opened: bytes of the master key and of the master salt (RFC 4568 section 6.2, RFC
#: 6188 section 4, RFC 7714 section 12).
SUITES: Final = {
    "AES_CM_128_HMAC_SHA1_80": (16, 14),
    "AES_CM_128_HMAC_SHA1_32": (16, 14),
    "AES_192_CM_HMAC_SHA1_80": (24, 14),
    "AES_192_CM_HMAC_SHA1_32": (24, 14),
    "AES_256_CM_HMAC_SHA1_80": (32, 14),
    "AES_256_CM_HMAC_SHA1_32": (32, 14),
    "AEAD_AES_128_GCM": (16, 12),
    "AEAD_AES_256_GCM": (32, 12),
}
#: As some stacks wrote the suites of RFC 6188 before it was one (its drafts; libre still reads them).
_OLD_NAMES: Final = {
    f"AES_CM_{bits}_HMAC_SHA1_{tag}": f"AES_{bits}_CM_HMAC_SHA1_{tag}"
    for bits in (192, 256)
    for tag in (80, 32)
}
_SUITE = re.compile(r"[A-Za-z0-9_]{1,40}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{1,128}={0,2}")

NO_KEY: Final = "a key that cannot be read"


class Secret:
    """Bytes that no log, event or traceback shows."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes, for whoever computes with them."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret is not written down")


class MasterKey(NamedTuple):
    """One master key with its salt behind it, and the MKI that its packets carry (often none)."""

    secret: Secret
    mki: bytes = b""


class Crypto(NamedTuple):
    """One `a=crypto` attribute.

    Attributes:
        tag: the answer takes an offered attribute by repeating its tag.
        suite: one of `SUITES`, or the unknown name as it was written.
        keys: empty where `refusal` says why the attribute cannot be used.
        encrypted: false with UNENCRYPTED_SRTP: the packets are authenticated only.
        refusal: why the media cannot be opened with it; empty where it can.
    """

    tag: int
    suite: str
    keys: tuple[MasterKey, ...] = ()
    encrypted: bool = True
    refusal: str = ""


def parse_crypto(content: str) -> Crypto:
    """Read the value of an `a=crypto` attribute (RFC 4568 section 9.1), whatever it is."""
    tag_text, suite, params, *session = [*content[:_MAX_LINE].split(), "", "", ""]
    tag = ascii_int(tag_text, 999_999_999)
    if tag is None or not _SUITE.fullmatch(suite):
        return Crypto(tag or 0, "", refusal=NO_KEY)
    suite = _OLD_NAMES.get(suite.upper(), suite.upper())
    if suite not in SUITES:
        return Crypto(tag, suite, refusal=f"{suite} is not supported")
    session = [param.upper() for param in session if param]
    for param in session:
        # WSH, a hint for replay windows, and UNENCRYPTED_SRTCP change nothing here; a parameter that is not
        # known, and not optional, would (RFC 4568 section 6.3.7).
        name, _, value = param.partition("=")
        if name in ("WSH", "UNENCRYPTED_SRTCP", "UNENCRYPTED_SRTP") or (name, value) == ("KDR", "0"):
            continue
        if name == "UNAUTHENTICATED_SRTP" or name.startswith(("KDR", "FEC_")):
            return Crypto(tag, suite, refusal=f"{name} is not supported")
        if not param.startswith("-"):
            return Crypto(tag, suite, refusal="an unknown session parameter")
    keys = [_key(param, sum(SUITES[suite])) for param in params.split(";")[:MAX_KEYS]]
    read = tuple(key for key in keys if key is not None)
    return Crypto(tag, suite, read, "UNENCRYPTED_SRTP" not in session, "" if read else NO_KEY)


def _key(param: str, length: int) -> MasterKey | None:
    """`inline:KEY|LIFETIME|MKI:LENGTH`, the last two optional (RFC 4568 section 6.1)."""
    method, _, info = param.partition(":")
    text, *rest = info.split("|")
    if method.lower() != "inline" or not _BASE64.fullmatch(text):
        return None
    try:
        # Some stacks leave the padding out.
        raw = binascii.a2b_base64(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except binascii.Error:
        return None
    mki = b""
    for item in rest:
        value_text, colon, length_text = item.partition(":")
        value, size = _number(value_text), ascii_int(length_text, _MAX_MKI)
        if colon and (value is None or not size or value >> 8 * size):
            return None
        if colon and value is not None and size:
            mki = value.to_bytes(size, "big")
    return MasterKey(Secret(raw), mki) if len(raw) == length else None


def _number(text: str) -> int | None:
    """A decimal number as long as an MKI may be."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 3 * _MAX_MKI else None


def usable(cryptos: tuple[Crypto, ...]) -> bool:
    """Whether any attribute opens media."""
    return any(crypto.keys for crypto in cryptos)
