"""The two ends that a SIP message names in From and To (RFC 3261 sections 19.1, 20.10, 20.20 and 20.39)."""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from recorderd.wire.endpoint import canonical_host

_QUOTED = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)  # possessive: no way back, linear
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TAG = re.compile(r';[ \t]*tag[ \t]*=[ \t]*([^\s;,"<>]+)', re.IGNORECASE)
_USUAL = re.compile(
    r'(?:"([^"\\]*)"[ \t]*)?<(sips?:([0-9A-Za-z+*#_.-]+)@([0-9a-z.-]*[0-9a-z])(?::[0-9]+)?)>'
    r'(?:;tag=([^\s;,"<>]+))?'
)
_USUAL_LENGTH = 256  # characters of a value that is worth to be remembered
_MAX_DISPLAY = 4096  # characters of a display name, escapes included
_NUMBER = re.compile(r"\+?[0-9*#(][0-9A-Fa-f*#().-]*")  # RFC 3966: what stands before a number's parameters


class Party(NamedTuple):
    """One end of a message, as From or To describes it.

    All of it is the peer's text, unfiltered: `printable` it before it is shown.

    Attributes:
        display: the display name without quotes and escapes.
        uri: the URI without angle brackets.
        user: its user part, unescaped, without password and without a telephone number's parameters; the
            number of a `tel:` URI.
        host: its host, canonical (see `canonical_host`); empty for `tel:` and unknown schemes.
        tag: the tag parameter, empty when there is none.
    """

    display: str = ""
    uri: str = ""
    user: str = ""
    host: str = ""
    tag: str = ""


def parse_party(value: str) -> tuple[Party, bool]:
    """Read a From or To value; the second result is False when something in it was wrong and guessed at.

    Never raises: what cannot be found stays empty.
    """
    # All messages of a dialog name the same two parties.
    return _known(value) if len(value) <= _USUAL_LENGTH else _parse(value)


def _parse(value: str) -> tuple[Party, bool]:
    usual = _USUAL.fullmatch(value)
    if usual:
        display, uri, user, host, tag = usual.groups("")  # such a host is canonical
        return Party(display[:_MAX_DISPLAY], uri, user, host, tag), True
    return _parse_any(value)


def _parse_any(value: str) -> tuple[Party, bool]:
    display, sound, rest = _display(value)
    before, bracket, after = rest.partition("<")
    if bracket:
        display = display or " ".join(before.split())
        uri, closed, params = after.partition(">")
        if not closed:
            uri, semicolon, params = after.partition(";")
            params, sound = semicolon + params, False
    else:
        # Without brackets, what follows the first semicolon belongs to the header (RFC 3261 section 20.10).
        uri, semicolon, params = rest.partition(";")
        params = semicolon + params
    uri = uri.strip()
    user, host = _user_and_host(uri)
    tag = _TAG.search(_QUOTED.sub("", params) if '"' in params else params)
    sound = sound and bool(uri) and not any(space in uri for space in " \t")
    return Party(display, uri, user, host, tag[1] if tag else ""), sound


_known = lru_cache(maxsize=4096)(_parse)


def _display(value: str) -> tuple[str, bool, str]:
    """(display name in quotes, whether the quotes are balanced, the rest)."""
    if not value.startswith('"'):
        return "", True, value
    quoted = _QUOTED.match(value)
    if quoted is None:
        # RFC 4475 section 3.1.2.6: the closing quote is missing. The address is still in its brackets.
        return "", False, value[1:]
    return _ESCAPED.sub(r"\1", quoted[1][:_MAX_DISPLAY]), True, value[quoted.end() :]


def _user_and_host(uri: str) -> tuple[str, str]:
    scheme, _, rest = uri.partition(":")
    match scheme.lower():
        case "tel":
            return unquote(rest.partition(";")[0]), ""
        case "sip" | "sips":
            userinfo, at, hostport = rest.partition("@")
            if not at:
                userinfo, hostport = "", rest
            return _user(userinfo.partition(":")[0]), _host(hostport)
        case _:
            return "", ""


def _user(escaped: str) -> str:
    number, semicolon, _ = escaped.partition(";")
    if semicolon and _NUMBER.fullmatch(number):
        return unquote(number)  # sip:+12025550123;npdi=yes@gw: the parameters are routing, not the number
    return unquote(escaped)


def _host(hostport: str) -> str:
    host = re.split(r"[;?>]", hostport, maxsplit=1)[0].strip()
    if host.startswith("["):
        return canonical_host(host.partition("]")[0] + "]")
    return canonical_host(host.partition(":")[0])
