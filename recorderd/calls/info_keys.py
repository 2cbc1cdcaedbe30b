"""Keys pressed that are told by SIP INFO (RFC 6086 section 1 has them as a legacy use, with no standard of
their own). What the makers do:

- `application/dtmf-relay` (Cisco): `Signal=5` and `Duration=160` in milliseconds, 10 and 11 for `*` and `#`;
- `application/dtmf`: the key alone, or as above;
- `application/vnd.nortelnetworks.digits`: `d=1234`, several keys at once.
"""

import re
from typing import Final, NamedTuple

from recorderd.wire.ascii_int import ascii_int
from recorderd.wire.sip import SipMessage

MAX_BODY: Final = 1024  #: bytes of a body that is looked into
MAX_KEYS: Final = 64  #: of one message
MAX_MS: Final = 600_000

# Compiled when the first such message comes.
_LINES: Final = re.MULTILINE | re.IGNORECASE
_SIGNAL: Final = rb"^[ \t]*Signal[ \t]*=[ \t]*([0-9A-D*#]|1[0-5])[ \t\r]*$"
_DURATION: Final = rb"^[ \t]*Duration[ \t]*=[ \t]*(\d{1,9})[ \t\r]*$"
_BARE: Final = rb"\s*([0-9A-Da-d*#]|1[0-5])\s*"
_DIGITS: Final = rb"^[ \t]*d[ \t]*=[ \t]*([0-9A-Da-d*#]{1,64})[ \t\r]*$"
_KEYS: Final = "0123456789*#ABCD"


class InfoKeys(NamedTuple):
    """The keys in their order, and for how long each was pressed, in milliseconds; None where not said."""

    digits: str
    duration_ms: int | None


def info_keys(message: SipMessage) -> InfoKeys | None:
    """The keys that an INFO tells of; None for any other message."""
    if message.method != "INFO" or len(message.body) > MAX_BODY:
        return None
    if message.content_type == "application/vnd.nortelnetworks.digits":
        listed = re.search(_DIGITS, message.body, re.MULTILINE)
        return InfoKeys(listed[1].decode().upper()[:MAX_KEYS], None) if listed else None
    if message.content_type not in ("application/dtmf-relay", "application/dtmf"):
        return None
    found = re.search(_SIGNAL, message.body, _LINES) or re.fullmatch(_BARE, message.body)
    if found is None:
        return None
    told = found[1].decode().upper()
    duration = re.search(_DURATION, message.body, _LINES)
    lasted = ascii_int(duration[1].decode(), MAX_MS) if duration else None
    return InfoKeys(_KEYS[int(told)] if len(told) > 1 else told, lasted)
