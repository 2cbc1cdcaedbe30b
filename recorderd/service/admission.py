"""Which calls are let in: the policy is asked when a call begins, and the streams of an excluded one are left
out before anything of them is written.
"""

from typing import NamedTuple

from recorderd.calls.call import Call
from recorderd.calls.policy import DEFAULT, CallFacts, Policy
from recorderd.calls.privacy import wish
from recorderd.media.streams import EXCLUDED, StreamTable
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sip import SipMessage


class AdmissionSettings(NamedTuple):
    """The rules, a SIP header (lower case) whose ``off`` excludes a call, too, and rules whose names are the
    classes by which recordings are kept."""

    policy: Policy = Policy()
    header: str | None = None
    retention: Policy | None = None


class Admission:
    """Decides on calls and keeps the streams of those that are not to be recorded out."""

    def __init__(self, settings: AdmissionSettings, streams: StreamTable) -> None:
        self._policy, self._header, self._streams = settings.policy, settings.header, streams
        self._retention = settings.retention
        asked = not settings.policy.trivial or settings.retention is not None
        self._asks = asked or settings.header is not None
        self._rows: dict[str, list[int]] = {}
        self.streams_left_out = 0
        """Streams of excluded calls: their packets are dropped as they come."""

    def began(self, call: Call, said: SipMessage | None, source: Endpoint, destination: Endpoint) -> None:
        """A call began with a message from ``source``; what is decided is noted in the call."""
        if not self._asks:
            return
        if said is not None and self._header and wish(said, self._header) == "off":
            call.excluded = f"{self._header}: off"
            return
        request = said is None or said.method is not None
        facts = CallFacts(
            call.call_id,
            call.from_user,
            call.to_user,
            (source if request else destination).host,
            (destination if request else source).host,
            _headers(said) if said is not None and request else {},
            call.first_seen,
        )
        decision = self._policy.decide(facts)
        call.excluded = decision.reason if decision.excluded else ""
        if self._retention is not None and not decision.excluded:
            rule = self._retention.decide(facts).rule
            call.retention = "" if rule == DEFAULT else rule

    @staticmethod
    def joined(call: Call, first: Call) -> None:
        """A call joined a conversation: its first call decides for all."""
        call.excluded = first.excluded

    def leave_out(self, row: int, call: str) -> None:
        """A stream turned out to be an excluded call's."""
        self._streams.owner[row] = EXCLUDED
        self._rows.setdefault(call, []).append(row)
        self.streams_left_out += 1

    def over(self, call: str) -> list[int]:
        """A call was accounted for; the streams that were left out for it."""
        rows = self._rows.pop(call, [])
        self.streams_left_out -= len(rows)
        return rows


def _headers(said: SipMessage) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in said.headers:
        found.setdefault(name, []).append(value)
    return found
