"""What is hidden of a call's numbers, and how its ends ask for a pause of the recording."""

import re
from typing import Any, Final, Literal, NamedTuple

from recorderd.wire.sip import SipMessage

Wish = Literal["pause", "resume", "off"]
"""`off` is a pause that nothing ends."""

NOT_UNDERSTOOD: Final = "not understood"
"""Stands for what is no wish."""

LEAST_HIDDEN: Final = 3
"""Characters hidden between the two ends of a number."""

WISHES: Final[dict[str, Wish]] = {"pause": "pause", "resume": "resume", "off": "off"}

_ASKING: Final = frozenset({"INVITE", "UPDATE", "INFO"})
_NUMBERS: Final = ("from", "to", "user", "display")
# Compiled when first needed, which in most runs is never.
_MASKED: Final = r"([^*]*)(\*+)([^*]*)"
_STATUS: Final = r"(?:rejected|redirected) [0-9]{3} ?"
_DIALLED: Final = r"(?<![*0-9])\+?[0-9](?:[().\- ]{0,2}[0-9]){2,}(?![*0-9])"
"""Digits enough for an extension, as people write them; not what is left of a masked number."""


class Masks(NamedTuple):
    """Where numbers are shown without their middle: in manifests and the index, in alerts."""

    manifest: bool = False
    syslog: bool = False
    keep_first: int = 3
    keep_last: int = 4

    def number(self, text: str) -> str:
        """``13812345678`` as ``138****5678``; of a short one the last half at most."""
        first, last = self.keep_first, self.keep_last
        if len(text) - first - last < LEAST_HIDDEN:
            # Too short for both ends: what is left must not tell who it is.
            first, last = 0, min(last, len(text) // 2)
        return text[:first] + "*" * (len(text) - first - last) + text[len(text) - last :]

    def _uri(self, text: str) -> str:
        scheme, colon, rest = text.partition(":")
        user, at, host = rest.partition("@")
        # Without an @ it is a host alone, or a number (RFC 3966).
        return f"{scheme}{colon}{self.number(user) if at or scheme == 'tel' else user}{at}{host}"

    def phrase(self, text: str, *known: str) -> str:
        """Why a call was not answered: what a peer said of it may name somebody, by a ``known`` number or
        name, or by another number.
        """
        status = re.match(_STATUS, text)
        begin = status.end() if status else 0
        said = text[begin:]
        for name in known:
            if len(name) >= LEAST_HIDDEN and not is_masked(name):
                said = said.replace(name, self.number(name))
        return text[:begin] + re.sub(_DIALLED, lambda found: self.number(found[0]), said)

    def shown(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Facts of a call or a recording (`from`, `to`, and of its parts) as the index may have them."""
        return self._hidden(facts) if self.manifest else facts

    def told(self, facts: dict[str, Any]) -> dict[str, Any]:
        """The fields of an alert."""
        return self._hidden(facts) if self.syslog else facts

    def _hidden(self, facts: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in facts.items():
            if key in _NUMBERS and isinstance(value, str):
                out[key] = self.number(value)
            elif key == "uri" and isinstance(value, str):
                out[key] = self._uri(value)
            elif key == "reason" and facts.get("outcome") == "unanswered" and isinstance(value, str):
                # All other reasons are the recorder's own words.
                known = (facts.get(name) for name in ("from", "to"))
                out[key] = self.phrase(value, *(name for name in known if isinstance(name, str)))
            elif key in ("participants", "legs") and isinstance(value, list):
                out[key] = [self._hidden(each) for each in value]
            else:
                out[key] = value
        return out


def wish(message: SipMessage, header: str) -> Wish | Literal["not understood"] | None:
    """What a request asks for in a header (given in lower case), in quotes or not; None without it."""
    if message.method not in _ASKING:
        return None
    value = message.header(header)
    if value is None:
        return None
    return WISHES.get(value.partition(";")[0].strip().strip('"').strip().lower(), NOT_UNDERSTOOD)


def is_masked(text: str) -> bool:
    """Whether a number has no middle any more: none that was dialled has so many ``*`` on end, a short one
    aside that is half of them.
    """
    found = re.fullmatch(_MASKED, text)
    if found is None:
        return False
    first, stars, last = found.groups()
    return len(stars) >= LEAST_HIDDEN or (not first and len(stars) >= len(last))
