"""Writes the SIP messages of a call one by one and gives them to a call table."""

from dataclasses import dataclass, field

from recorderd.calls.events import CallEvent, Side
from recorderd.calls.table import Call, CallTable
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sip import SipMessage, parse_sip

MS = 1_000_000
SECOND = 1000 * MS
START = 1_795_000_000 * SECOND

ALICE, BOB = Endpoint("10.0.0.1", 5060), Endpoint("10.0.0.2", 5060)
PROXY = Endpoint("10.0.0.9", 5060)
REASONS = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    302: "Moved Temporarily",
    401: "Unauthorized",
    407: "Proxy Authentication Required",
    422: "Session Interval Too Small",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    491: "Request Pending",
    603: "Decline",
}


def sdp(
    host: str,
    port: int,
    direction: str = "sendrecv",
    *,
    formats: str = "0 8 101",
    protocol: str = "RTP/AVP",
    extra: str = "",
) -> str:
    """A session description of one audio stream."""
    family = "IP6" if ":" in host else "IP4"
    return (
        f"v=0\r\no=- 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\n"
        f"m=audio {port} {protocol} {formats}\r\n"
        f"a=rtpmap:101 telephone-event/8000\r\na={direction}\r\n{extra}"
    )


@dataclass
class Dialog:
    """One dialog between alice and bob; every method sends a message and returns the events it caused."""

    table: CallTable = field(default_factory=CallTable)
    call_id: str = "call@10.0.0.1"
    caller_tag: str = "alice-tag"
    callee_tag: str = "bob-tag"
    now: int = START
    events: list[CallEvent] = field(default_factory=list)
    cseq: dict[Side, int] = field(default_factory=lambda: {"caller": 1, "callee": 100})
    branches: int = 0
    last: SipMessage | None = None

    def deliver(self, text: str, path: tuple[Endpoint, Endpoint], *, after: int = 10 * MS) -> list[CallEvent]:
        """Give the table a message in wire form."""
        self.now += after
        message = parse_sip(text.encode())
        if message.method is not None:
            self.last = message
        events = self.table.message(message, *path, self.now)
        self.events += events
        return events

    def request(
        self,
        method: str,
        by: Side = "caller",
        *,
        body: str = "",
        cseq: int | None = None,
        branch: str | None = None,
        in_dialog: bool = True,
        fork: str | None = None,
        path: tuple[Endpoint, Endpoint] | None = None,
        vias: int = 1,
    ) -> list[CallEvent]:
        """A request. Without `cseq` the sender's next number is taken, without `branch` a new one.

        `vias` tells how many hops it has come.
        """
        callee_tag = self.callee_tag if fork is None else fork
        if cseq is None:
            self.cseq[by] += 1
            cseq = self.cseq[by]
        if branch is None:
            self.branches += 1
            branch = f"z9hG4bK-{self.caller_tag}-{self.branches}"
        alice = f'"Alice" <sip:alice@10.0.0.1>{_tag(self.caller_tag if by == "caller" or in_dialog else "")}'
        bob = f"<sip:bob@10.0.0.2>{_tag(callee_tag if by == 'callee' or in_dialog else '')}"
        from_, to = (alice, bob) if by == "caller" else (bob, alice)
        source, destination = path or ((ALICE, BOB) if by == "caller" else (BOB, ALICE))
        text = (
            f"{method} sip:x@{destination.host} SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch={branch}"
            f"{', SIP/2.0/UDP earlier;branch=z9hG4bKearlier' * (vias - 1)}\r\nFrom: {from_}\r\n"
            f"To: {to}\r\nCall-ID: {self.call_id}\r\nCSeq: {cseq} {method}\r\n{_body(body)}"
        )
        return self.deliver(text, (source, destination))

    def invite(self, body: str | None = None, **more: object) -> list[CallEvent]:
        """The INVITE that forms the dialog; without a body it offers 10.0.0.1:4000."""
        self.cseq["caller"] += 1
        offer = sdp("10.0.0.1", 4000) if body is None else body
        settings = {"cseq": self.cseq["caller"], "in_dialog": False, **more}
        return self.request("INVITE", body=offer, **settings)  # type: ignore[arg-type]

    def response(
        self,
        status: int,
        to: SipMessage | None = None,
        *,
        body: str = "",
        fork: str | None = None,
        path: tuple[Endpoint, Endpoint] | None = None,
    ) -> list[CallEvent]:
        """A response to a request, the last one if not told otherwise, on the way back that it came."""
        request = to or self.last
        assert request is not None
        assert request.method is not None
        backwards = request.from_.tag != self.caller_tag
        tag = request.to.tag or ("" if status == 100 else self.callee_tag if fork is None else fork)
        target = f"<{request.to.uri}>{_tag(tag)}"
        text = (
            f"SIP/2.0 {status} {REASONS.get(status, '')}\r\nVia: {request.header('via')}\r\n"
            f"From: {request.header('from')}\r\nTo: {target}\r\nCall-ID: {self.call_id}\r\n"
            f"CSeq: {request.cseq} {request.method}\r\n{_body(body)}"
        )
        return self.deliver(text, path or ((ALICE, BOB) if backwards else (BOB, ALICE)))

    def ack(
        self, of: SipMessage | None = None, *, body: str = "", refused: bool = False, **more: object
    ) -> list[CallEvent]:
        """The ACK of an INVITE: with the INVITE's branch if it was refused."""
        invite = of or self.last
        assert invite is not None
        by: Side = "caller" if invite.from_.tag == self.caller_tag else "callee"
        branch = invite.branch if refused else None
        return self.request("ACK", by, cseq=invite.cseq, branch=branch, body=body, **more)  # type: ignore[arg-type]

    def cancel(self, of: SipMessage | None = None) -> list[CallEvent]:
        """The CANCEL of an INVITE."""
        invite = of or self.last
        assert invite is not None
        return self.request("CANCEL", cseq=invite.cseq, branch=invite.branch, in_dialog=False)

    def establish(self, answer: str | None = None) -> None:
        """INVITE, 180, 200, ACK."""
        self.invite()
        invite = self.last
        self.response(180, invite)
        self.response(200, invite, body=sdp("10.0.0.2", 5000) if answer is None else answer)
        self.ack(invite)

    def hang_up(self, by: Side = "caller") -> list[CallEvent]:
        """BYE and its 200."""
        return [*self.request("BYE", by), *self.response(200)]

    def tick(self, seconds: float) -> list[CallEvent]:
        """Let time pass in one step."""
        self.now += round(seconds * SECOND)
        events = self.table.tick(self.now)
        self.events += events
        return events

    @property
    def call(self) -> Call:
        """The newest call that any event named."""
        return self.table.get(self.events[-1].call)

    def told(self, kind: type) -> list[CallEvent]:
        """The events of one kind, of all so far."""
        return [event for event in self.events if isinstance(event, kind)]


def _tag(tag: str) -> str:
    return f";tag={tag}" if tag else ""


def _body(body: str) -> str:
    kind = "Content-Type: application/sdp\r\n" if body else ""
    return f"{kind}Content-Length: {len(body.encode())}\r\n\r\n{body}"
