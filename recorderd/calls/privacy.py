"""What is hidden of a call's numbers, and how its ends ask for a pause of the recording."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from recorderd.wire.sip import SipMessage

Wish = Literal["pause", "resume", "off"]
"""`off` is a pause that nothing ends."""

LEAST_HIDDEN: Final = 3
"""Characters hidden between the two ends of a number."""

WISHES: Final[dict[str, Wish]] = {"pause": "pause", "resume": "resume", "off": "off"}

_ASKING: Final = frozenset({"INVITE", "UPDATE", "INFO"})
_NUMBERS: Final = ("from", "to", "user", "display")


@dataclass(frozen=True, slots=True)
class Masks:
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
            elif key in ("participants", "legs") and isinstance(value, list):
                out[key] = [self._hidden(each) for each in value]
            else:
                out[key] = value
        return out


def wish(message: SipMessage, header: str) -> Wish | None:
    """What a request asks for in a header (given in lower case)."""
    if message.method not in _ASKING:
        return None
    value = message.header(header)
    return None if value is None else WISHES.get(value.partition(";")[0].strip().lower())
