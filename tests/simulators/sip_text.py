"""The SIP and SDP that the simulated ends send (RFC 3261, RFC 4566, RFC 3264)."""

from dataclasses import dataclass

from tests.simulators.encapsulation import Address
from tests.simulators.script import SideName

_REASONS = {
    100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 407: "Proxy Authentication Required",
    486: "Busy Here", 487: "Request Terminated",
}  # fmt: skip
_RTPMAPS = {
    "pcmu": (0, "PCMU/8000"),
    "pcma": (8, "PCMA/8000"),
    "opus": (111, "opus/48000/2"),
    "gsm": (3, "GSM/8000"),
    "g723": (4, "G723/8000"),
    "g722": (9, "G722/8000"),
    "g729": (18, "G729/8000"),
    "amr": (96, "AMR/8000"),
    "amr-wb": (97, "AMR-WB/16000"),
    "g726-32": (98, "G726-32/8000"),
    "ilbc": (99, "iLBC/8000"),
    "speex": (100, "speex/16000"),
    "l16": (102, "L16/16000"),
    "evs": (103, "EVS/16000"),
    "red": (121, "red/8000"),
}
_FMTPS = {"amr": "octet-align=1", "amr-wb": "mode-change-capability=2", "ilbc": "mode=20", "red": "0/0/0"}
CLOCK_RATES = {name: int(rtpmap.split("/")[1]) for name, (_, rtpmap) in _RTPMAPS.items()}
EVENT_PAYLOAD_TYPE = 101
PAYLOAD_TYPES = {name: number for name, (number, _) in _RTPMAPS.items()}


@dataclass
class Party:
    """One end: who it is, where it is, and where it stands in the dialog."""

    side: SideName
    user: str
    sip: Address
    media: Address  #: where its media really is
    announced: Address  #: where its SDP says that it is
    tag: str
    cseq: int = 0
    sdp_version: int = 0

    @property
    def uri(self) -> str:
        host = f"[{self.sip.host}]" if ":" in self.sip.host else self.sip.host
        return f"sip:{self.user}@{host}:{self.sip.port}"


@dataclass(frozen=True)
class Transaction:
    """A request, to answer, repeat or cancel."""

    method: str
    sender: Party
    cseq: int
    branch: str
    text: bytes


class DialogText:
    """Writes the messages of one dialog; the caller is the one that sent the INVITE, whoever speaks."""

    def __init__(self, caller: Party, callee: Party, call_id: str) -> None:
        self.caller, self.callee, self.call_id = caller, callee, call_id
        self.hop = ""  #: in the branches: the hops of one dialog differ in nothing else
        self._branches = 0
        self.established = False

    def _parties(self, sender: Party, to_tag: bool) -> str:
        receiver = self.callee if sender is self.caller else self.caller
        tag = f";tag={receiver.tag}" if to_tag else ""
        return f'From: "{sender.user}" <{sender.uri}>;tag={sender.tag}\r\nTo: <{receiver.uri}>{tag}\r\n'

    def request(
        self,
        method: str,
        sender: Party,
        *,
        sdp: str | None = None,
        headers: str = "",
        of: Transaction | None = None,
        new_branch: bool = True,
        body: str | None = None,
        content_type: str = "application/sdp",
    ) -> Transaction:
        """A request; ``of`` is the INVITE that an ACK or CANCEL belongs to, ``body`` what is no SDP."""
        receiver = self.callee if sender is self.caller else self.caller
        if of is None:
            sender.cseq += 1
        cseq = sender.cseq if of is None else of.cseq
        if of is None or new_branch:
            self._branches += 1
            branch = f"z9hG4bK-{self.call_id}{self.hop}-{sender.side}-{self._branches}"
        else:
            branch = of.branch
        in_dialog = self.established or method == "PRACK"
        head = (
            f"{method} {receiver.uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {_host(sender.sip)}:{sender.sip.port};branch={branch};rport\r\n"
            f"Max-Forwards: 70\r\n"
            f"{self._parties(sender, in_dialog)}"
            f"Call-ID: {self.call_id}\r\n"
            f"CSeq: {cseq} {method}\r\n"
            f"Contact: <{sender.uri}>\r\n"
            f"User-Agent: PbxSimulator\r\n{headers}"
        )
        text = _with_body(head, body if body is not None else sdp, content_type)
        return Transaction(method, sender, cseq, branch, text)

    def response(self, status: int, to: Transaction, *, sdp: str | None = None, headers: str = "") -> bytes:
        """An answer to a request."""
        answerer = self.callee if to.sender is self.caller else self.caller
        head = (
            f"SIP/2.0 {status} {_REASONS[status]}\r\n"
            f"Via: SIP/2.0/UDP {_host(to.sender.sip)}:{to.sender.sip.port};branch={to.branch};rport\r\n"
            f"{self._parties(to.sender, status > 100)}"
            f"Call-ID: {self.call_id}\r\n"
            f"CSeq: {to.cseq} {to.method}\r\n"
            f"Contact: <{answerer.uri}>\r\n{headers}"
        )
        return _with_body(head, sdp)


def session(
    party: Party,
    codecs: tuple[str, ...],
    *,
    direction: str = "sendrecv",
    ptime_ms: int = 20,
    zero: bool = False,
) -> str:
    """An SDP of one audio stream; each is a new version of its origin. ``zero`` is the old way to hold."""
    party.sdp_version += 1
    family = "IP6" if ":" in party.announced.host else "IP4"
    host = party.announced.host
    numbers = " ".join(str(_RTPMAPS[name][0]) for name in codecs)
    maps = "".join(f"a=rtpmap:{_RTPMAPS[name][0]} {_RTPMAPS[name][1]}\r\n" for name in codecs)
    maps += "".join(f"a=fmtp:{_RTPMAPS[name][0]} {_FMTPS[name]}\r\n" for name in codecs if name in _FMTPS)
    clock = 48000 if codecs[0] == "opus" else 8000
    connection = ("::" if family == "IP6" else "0.0.0.0") if zero else host
    return (
        f"v=0\r\no=- 3900000000 {party.sdp_version} IN {family} {host}\r\n"
        f"s=-\r\nc=IN {family} {connection}\r\nt=0 0\r\n"
        f"m=audio {party.announced.port} RTP/AVP {numbers} {EVENT_PAYLOAD_TYPE}\r\n{maps}"
        f"a=rtpmap:{EVENT_PAYLOAD_TYPE} telephone-event/{clock}\r\na=fmtp:{EVENT_PAYLOAD_TYPE} 0-15\r\n"
        f"a=ptime:{ptime_ms}\r\na={direction}\r\n"
    )


def _host(address: Address) -> str:
    return f"[{address.host}]" if ":" in address.host else address.host


def _with_body(head: str, body: str | None, content_type: str = "application/sdp") -> bytes:
    if body is None:
        return f"{head}Content-Length: 0\r\n\r\n".encode()
    length = len(body.encode())
    return f"{head}Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}".encode()
