"""Dialogs written message by message, for scenes that no script has, with media beside them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.recorder import Recorded, samples
from tests.simulators.encapsulation import Address
from tests.simulators.pbx import EPOCH_NS, PbxSimulator
from tests.simulators.signals import Speech

PHONE, PBX = Address("10.5.0.1", 5060), Address("10.5.0.9", 5060)


def sdp(media: Address, codec: int = 0, extra: str = "") -> str:
    """A description of one G.711 stream."""
    return (
        f"v=0\r\no=- 1 1 IN IP4 {media.host}\r\ns=-\r\nc=IN IP4 {media.host}\r\nt=0 0\r\n"
        f"m=audio {media.port} RTP/AVP {codec}\r\na=sendrecv\r\n{extra}"
    )


@dataclass
class RawDialog:
    """One caller's dialog; what it says is put into a simulated capture at the given times."""

    simulator: PbxSimulator
    call_id: str = "raw@10.5.0.1"
    caller_tag: str = "caller-tag"
    callee: str = "2002"
    said: list[tuple[str, NDArray[np.int16], float]] = field(default_factory=list)

    def request(
        self,
        at_s: float,
        method: str,
        cseq: int,
        *,
        branch: str = "",
        to_tag: str = "",
        body: str = "",
        headers: str = "",
        backwards: bool = False,
    ) -> None:
        """A request of the caller, or ``backwards`` of the callee."""
        start, branch = f"{method} sip:{self.callee}@10.5.0.9 SIP/2.0", branch or f"z9hG4bK{cseq}"
        how = {"backwards": backwards, "by_callee": backwards}
        self._say(at_s, start, f"{cseq} {method}", branch, to_tag, body, headers, **how)

    def response(
        self,
        at_s: float,
        status: str,
        cseq: str,
        *,
        branch: str = "",
        to_tag: str = "",
        body: str = "",
        headers: str = "",
    ) -> None:
        """A response to a request of the caller; ``cseq`` has its method."""
        number = cseq.partition(" ")[0]
        start, branch = f"SIP/2.0 {status}", branch or f"z9hG4bK{number}"
        self._say(at_s, start, cseq, branch, to_tag, body, headers, backwards=True, by_callee=False)

    def _say(
        self,
        at_s: float,
        start: str,
        cseq: str,
        branch: str,
        to_tag: str,
        body: str,
        headers: str,
        *,
        backwards: bool,
        by_callee: bool,
    ) -> None:
        caller = f"<sip:1001@10.5.0.1>;tag={self.caller_tag}"
        callee = f"<sip:{self.callee}@10.5.0.9>" + (f";tag={to_tag}" if to_tag else "")
        from_, to = (callee, caller) if by_callee else (caller, callee)
        kind = "Content-Type: application/sdp\r\n" if body else ""
        text = (
            f"{start}\r\nVia: SIP/2.0/UDP {PHONE.host};branch={branch}-{self.call_id}\r\nFrom: {from_}\r\n"
            f"To: {to}\r\nCall-ID: {self.call_id}\r\nCSeq: {cseq}\r\n{headers}{kind}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        ends = (PBX, PHONE) if backwards else (PHONE, PBX)
        self.simulator.say(EPOCH_NS + round(at_s * 1e9), *ends, text.encode())

    def speak(
        self, label: str, at_s: float, length_s: float, source: Address, destination: Address, **how: Any
    ) -> None:
        """Somebody speaks, in G.711."""
        number = len(self.said) + sum(map(ord, self.call_id))
        spoken = self.simulator.send(at_s, length_s, source, destination, Speech(700 + number), **how)
        self.said.append((label, spoken, at_s))

    def row(self, recorded: Recorded) -> dict[str, Any]:
        """The call's own row of `list`."""
        (row,) = [row for row in recorded.rows if self.call_id in row["call_ids"]]
        return row

    def call(self, recorded: Recorded) -> dict[str, Any]:
        """The newest row of `calls`."""
        return [call for call in recorded.calls if call["call_id"] == self.call_id][-1]

    def assert_exact(self, recorded: Recorded, row: dict[str, Any] | None = None) -> None:
        """Everything that was said is on its track, in its place, and nothing else sounds there."""
        row = self.row(recorded) if row is None else row
        heard, _ = recorded.heard(row)
        assert sorted(heard.tracks) == sorted({label for label, *_ in self.said})
        for label in heard.tracks:
            got = samples(heard, label)
            left = got.copy()
            for spoken in [spoken for spoken in self.said if spoken[0] == label]:
                at = round((EPOCH_NS / 1000 + spoken[2] * 1e6 - heard.start_us) * 8000 / 1e6)
                sound = np.trim_zeros(spoken[1])
                at += int(np.flatnonzero(spoken[1])[0])
                begin = next(
                    (
                        place
                        for place in range(max(0, at - 160), at + 161)
                        if np.array_equal(got[place : place + len(sound)], sound)
                    ),
                    None,
                )
                assert begin is not None, (label, spoken[2])
                left[begin : begin + len(sound)] = 0
            assert not left.any(), label
