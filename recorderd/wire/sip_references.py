"""What a SIP message says of other dialogs: Refer-To, Replaces, Join, Target-Dialog, Session-ID and others.

All of it is the peer's text, unfiltered. Nothing here raises: what cannot be read is None or empty.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import unquote

from recorderd.wire.sip import SipMessage
from recorderd.wire.sip_party import Party, parse_party

MAX_VALUE: Final = 2048
"""Characters of a value that is looked at; longer ones say nothing."""

_PARAMETER = re.compile(r";[ \t]*([A-Za-z-]{1,32})[ \t]*=[ \t]*\"?([^;\s,\"]{1,255})")
_UUID = re.compile(r"[0-9a-f]{32}")
_ICID = re.compile(r"icid-value[ \t]*=[ \t]*\"?([^;,\s\"]{1,255})", re.IGNORECASE)


class DialogName(NamedTuple):
    """A dialog as another message names it: its Call-ID, and the tags of the end that is addressed and of the
    other one.
    """

    call_id: str
    addressed: str
    opposite: str


class ReferTo(NamedTuple):
    """Where a REFER sends its receiver (RFC 3515 section 2.1)."""

    party: Party
    method: str
    replaces: DialogName | None


def dialog_named(message: SipMessage, header: str) -> DialogName | None:
    """The dialog that a header of a request names: `replaces` (RFC 3891), `join` (RFC 3911) or
    `target-dialog` (RFC 4538), whose local tag is the one of the request's sender.
    """
    value = message.header(header)
    return _dialog(value) if value else None


def _dialog(value: str) -> DialogName | None:
    call_id, semicolon, _ = value.partition(";")
    if len(value) > MAX_VALUE or not semicolon or not call_id.strip():
        return None
    told = {name.lower(): tag for name, tag in _PARAMETER.findall(value)}
    addressed = told.get("to-tag") or told.get("remote-tag") or ""
    opposite = told.get("from-tag") or told.get("local-tag") or ""
    return DialogName(call_id.strip(), addressed, opposite)


def refer_to(message: SipMessage) -> ReferTo | None:
    """Where a REFER points, with the dialog that is to be replaced there (RFC 3891 section 4)."""
    value = message.header("refer-to")
    if not value or len(value) > MAX_VALUE:
        return None
    bracket = value.find("<")
    uri = value[bracket + 1 :].partition(">")[0] if bracket >= 0 else value.partition(";")[0]
    target, _, headers = uri.partition("?")
    party, _ = parse_party(f"<{target}>")
    method = re.search(r";method=([A-Za-z]{1,32})", target)
    replaces = None
    for header in headers.split("&"):
        name, _, coded = header.partition("=")
        if name.lower() == "replaces":
            replaces = _dialog(unquote(coded))
    return ReferTo(party, method[1].upper() if method else "INVITE", replaces)


def session_ids(message: SipMessage) -> tuple[str, ...]:
    """The UUIDs of a Session-ID: the sender's, then the receiver's as far as known (RFC 7989 section 5)."""
    value = (message.header("session-id") or "")[:MAX_VALUE].lower()
    found = _UUID.findall(value)[:2]
    return tuple(uuid for uuid in found if uuid.strip("0"))  # the null UUID means: not known yet


def header_marks(message: SipMessage, names: frozenset[str]) -> list[str]:
    """The values of the headers called so (lower case); of P-Charging-Vector the ICID (RFC 7315 section
    5.6).
    """
    found = []
    for name, value in message.headers:
        if name in names and value and len(value) <= MAX_VALUE:
            if name == "p-charging-vector":
                icid = _ICID.search(value)
                value = icid[1] if icid else ""
            if value.strip():
                found.append(value.strip())
    return found


def is_focus(message: SipMessage) -> Party | None:
    """The conference whose focus sent the message: its Contact, where that says `isfocus` (RFC 4579)."""
    for value in message.all("contact"):
        if "isfocus" in value.lower():
            return parse_party(value)[0]
    return None
