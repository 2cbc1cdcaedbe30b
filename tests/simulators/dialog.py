"""Stages a script: its SIP messages with their times, and when and where each end sends media."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.simulators.encapsulation import Address
from tests.simulators.script import (
    SIDES,
    CallScript,
    Dtmf,
    Fax,
    Hold,
    Move,
    NewCodec,
    NewSource,
    Pause,
    Refresh,
    Request,
    SideName,
    other,
)
from tests.simulators.sip_text import DialogText, Party, Transaction, session

SECOND = 1_000_000_000
_HOP = 10_000_000  # ns from a message to its answer
_REPEAT = 500_000_000  # T1 of RFC 3261 section 17
_CHALLENGE = 'Proxy-Authenticate: Digest realm="pbx", nonce="5f2c9a", algorithm=MD5\r\n'
_CREDENTIALS = (
    'Proxy-Authorization: Digest username="1001", realm="pbx", nonce="5f2c9a", uri="sip:pbx",'
    ' response="8f6c0d3ee31ba1ba1f6a1f4a2fb40e21", algorithm=MD5\r\n'
)


@dataclass(frozen=True)
class SipPacket:
    """One SIP message on the wire."""

    time_ns: int
    source: Address
    destination: Address
    payload: bytes


@dataclass
class SideTimeline:
    """When and how one end sends media; times in ns since the epoch, lists in order of time."""

    start_ns: int
    end_ns: int
    flows: list[tuple[int, Address, Address]]
    silent: list[tuple[int, int]] = field(default_factory=list)
    new_sources: list[int] = field(default_factory=list)
    codecs: list[tuple[int, str]] = field(default_factory=list)
    digits: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Staged:
    """A script turned into messages and timelines. The times are None for what never happened."""

    messages: list[SipPacket]
    timelines: dict[SideName, SideTimeline]
    invited_ns: int
    answered_ns: int | None
    ended_ns: int | None
    holds: list[tuple[SideName, int, int]]


class Stage:
    """Plays one script; use :func:`stage`."""

    def __init__(self, script: CallScript, caller: Party, callee: Party, call_id: str, epoch_ns: int) -> None:
        self.script = script
        self.parties: dict[SideName, Party] = {"caller": caller, "callee": callee}
        self.text = DialogText(caller, callee, call_id)
        self.messages: list[SipPacket] = []
        self.flow_changes: list[tuple[int, SideName]] = []
        self.now = epoch_ns + round(script.start_s * SECOND)
        offered = ["pcmu", "pcma"] if script.codec != "opus" else ["pcmu"]
        self.codecs = (script.codec, *(name for name in offered if name != script.codec))
        extra = [h.codec for h in script.happenings if isinstance(h, NewCodec)]
        self.answer_codecs = (script.codec, *dict.fromkeys(name for name in extra if name != script.codec))

    def send(self, sender: Party, payload: bytes, *, after: int = _HOP) -> None:
        """The sender's message, ``after`` ns later than the last one."""
        self.now += after
        receiver = self.parties[other(sender.side)]
        self.messages.append(SipPacket(self.now, sender.sip, receiver.sip, payload))

    def sdp(
        self, side: SideName, direction: str = "sendrecv", *, answer: bool = False, zero: bool = False
    ) -> str:
        codecs = self.answer_codecs if answer else self.codecs
        party = self.parties[side]
        more = self.script.caller_sdp if side == "caller" else self.script.callee_sdp
        return session(party, codecs, direction=direction, ptime_ms=self.script.ptime_ms, zero=zero) + more

    def exchange(
        self,
        method: str,
        by: SideName,
        directions: tuple[str, str] = ("sendrecv", "sendrecv"),
        zero: bool = False,
        headers: str = "",
    ) -> int:
        """An offer and its answer in the dialog; returns when the answer was sent."""
        sender, receiver = self.parties[by], self.parties[other(by)]
        offer = self.sdp(by, directions[0], zero=zero)
        request = self.text.request(method, sender, sdp=offer, headers=headers)
        self.send(sender, request.text, after=0)
        self.send(
            receiver, self.text.response(200, request, sdp=self.sdp(other(by), directions[1], answer=True))
        )
        answered = self.now
        if method == "INVITE":
            self.send(sender, self.text.request("ACK", sender, of=request).text)
        return answered

    def invite(self) -> Transaction:
        """The INVITE, its challenge if there is one, and its 100."""
        script, caller, callee = self.script, self.parties["caller"], self.parties["callee"]
        offer = None if script.delayed_offer else self.sdp("caller")
        request = self.text.request("INVITE", caller, sdp=offer, headers=script.invite_headers)
        self.send(caller, request.text, after=0)
        if script.challenge:
            self.send(callee, self.text.response(407, request, headers=_CHALLENGE))
            self.send(caller, self.text.request("ACK", caller, of=request, new_branch=False).text)
            request = self.text.request(
                "INVITE", caller, sdp=offer, headers=_CREDENTIALS + script.invite_headers
            )
            self.send(caller, request.text)
        if script.retransmit:
            self.send(caller, request.text, after=_REPEAT)
        self.send(callee, self.text.response(100, request))
        return request

    def ring(self, request: Transaction) -> int | None:
        """180, or 183 with SDP when there is early media; returns when early media may flow."""
        script, caller, callee = self.script, self.parties["caller"], self.parties["callee"]
        if not script.early:
            self.send(callee, self.text.response(180, request))
            return None
        reliably = "Require: 100rel\r\nRSeq: 1\r\n" if script.reliable else ""
        progress = self.text.response(183, request, sdp=self.sdp("callee", answer=True), headers=reliably)
        self.send(callee, progress)
        early_ns = self.now
        if script.reliable:
            rack = f"RAck: 1 {request.cseq} INVITE\r\n"
            prack = self.text.request("PRACK", caller, headers=rack)
            self.send(caller, prack.text)
            self.send(callee, self.text.response(200, prack))
        return early_ns

    def answer(self, request: Transaction) -> int:
        """200 and ACK; returns when the 200 was sent."""
        script, caller, callee = self.script, self.parties["caller"], self.parties["callee"]
        self.text.established = True
        answer = self.sdp("callee", answer=not script.delayed_offer)
        accepted = self.text.response(200, request, sdp=answer)
        self.send(callee, accepted, after=0)
        answered = self.now
        if script.retransmit:
            self.send(callee, accepted, after=_REPEAT)
        late_answer = self.sdp("caller", answer=True) if script.delayed_offer else None
        ack = self.text.request("ACK", caller, of=request, sdp=late_answer)
        self.send(caller, ack.text)
        if script.retransmit:
            self.send(caller, ack.text, after=_REPEAT)
        return answered

    def refuse(self, request: Transaction) -> None:
        """The end of an INVITE that is not answered."""
        caller, callee = self.parties["caller"], self.parties["callee"]
        if self.script.ending == "cancel":
            cancel = self.text.request("CANCEL", caller, of=request, new_branch=False)
            self.send(caller, cancel.text, after=0)
            self.send(callee, self.text.response(200, cancel))
            self.send(callee, self.text.response(487, request))
        elif self.script.ending == "busy":
            self.send(callee, self.text.response(486, request), after=0)
        else:
            return
        self.send(caller, self.text.request("ACK", caller, of=request, new_branch=False).text)

    def hang_up(self) -> int:
        """BYE and its answer; returns when the BYE was sent."""
        sender = self.parties[self.script.hangup_by]
        bye = self.text.request("BYE", sender)
        self.send(sender, bye.text, after=0)
        ended = self.now
        if self.script.retransmit:
            self.send(sender, bye.text, after=_REPEAT)
        self.send(self.parties[other(sender.side)], self.text.response(200, bye))
        return ended


def stage(script: CallScript, caller: Party, callee: Party, call_id: str, epoch_ns: int) -> Staged:
    """Play a script from its INVITE to its end."""
    play = Stage(script, caller, callee, call_id, epoch_ns)
    invited = play.now
    request = play.invite()
    early_ns = play.ring(request)
    play.now = max(play.now, invited + round(script.ring_s * SECOND))
    if script.ending in ("cancel", "busy", "unanswered"):
        play.refuse(request)
        ended = play.now if script.ending != "unanswered" else None
        timelines = _timelines(play, early_ns, None, play.now)
        return Staged(play.messages, timelines, invited, None, ended, [])
    answered = play.answer(request)
    hang_up_ns = answered + round(script.talk_s * SECOND)
    timelines = _timelines(play, early_ns, answered, hang_up_ns)
    holds = _happenings(play, timelines, answered)
    play.now = max(play.now + _HOP, hang_up_ns)
    ended = play.hang_up() if script.ending == "bye" else None
    return Staged(play.messages, timelines, invited, answered, ended, holds)


def _timelines(
    play: Stage, early_ns: int | None, answered: int | None, end_ns: int
) -> dict[SideName, SideTimeline]:
    """When each end starts and stops sending; an end that never sends has no timeline."""
    script, timelines = play.script, {}
    for side in SIDES:
        ready = early_ns if side in script.early and early_ns is not None else answered
        if ready is None or not script.sends(side):
            continue
        start = ready + round(script.media_delay_of(side) * SECOND)
        source, destination = play.parties[side].media, play.parties[other(side)].media
        timelines[side] = SideTimeline(start, end_ns, [(start, source, destination)])
    return timelines


def _happenings(
    play: Stage, timelines: dict[SideName, SideTimeline], answered: int
) -> list[tuple[SideName, int, int]]:
    """Play what happens in the call, in order of time; returns the holds (by whom, from, to)."""
    holds: list[tuple[SideName, int, int]] = []
    steps: list[tuple[int, Callable[[], object]]] = []
    for happening in play.script.happenings:
        at = answered + round(happening.at_s * SECOND)
        match happening:
            case Hold():
                steps += _hold(play, timelines, happening, at, holds)
            case Move():
                steps.append((at, partial(_move, play, timelines, happening)))
            case Refresh():
                steps.append((at, partial(play.exchange, happening.method, happening.side)))
            case Fax():
                steps += _fax(play, timelines, happening, at)
            case Request():
                steps.append((at, partial(_request, play, happening)))
            case Pause() if happening.side in timelines:
                pause_end = at + round(happening.length_s * SECOND)
                timelines[happening.side].silent.append((at, pause_end))
            case NewSource() if happening.side in timelines:
                timelines[happening.side].new_sources.append(at)
            case NewCodec() if happening.side in timelines:
                timelines[happening.side].codecs.append((at, happening.codec))
            case Dtmf() if happening.side in timelines:
                for place, digit in enumerate(happening.digits):
                    timelines[happening.side].digits.append((at + place * SECOND // 5, digit))
            case _:
                pass
    for at, step in sorted(steps, key=lambda pair: pair[0]):
        play.now = max(play.now + _HOP, at)
        step()
    return holds


def _fax(
    play: Stage, timelines: dict[SideName, SideTimeline], fax: Fax, at: int
) -> list[tuple[int, Callable[[], object]]]:
    """The two exchanges of a fax; nobody speaks between them."""
    begun: list[int] = []

    def image(side: SideName) -> str:
        audio, _, _ = play.sdp(side).partition("m=audio")
        port = play.parties[side].announced.port
        return f"{audio}m=audio 0 RTP/AVP 0\r\nm=image {port} udptl t38\r\na=T38FaxVersion:0\r\n"

    def begin() -> None:
        sender, receiver = play.parties[fax.by], play.parties[other(fax.by)]
        request = play.text.request("INVITE", sender, sdp=image(fax.by))
        play.send(sender, request.text, after=0)
        play.send(receiver, play.text.response(200, request, sdp=image(other(fax.by))))
        begun.append(play.now)
        play.send(sender, play.text.request("ACK", sender, of=request).text)

    def end() -> None:
        back = play.exchange("INVITE", fax.by)
        for timeline in timelines.values():
            timeline.silent.append((begun[0], back))

    return [(at, begin), (at + round(fax.length_s * SECOND), end)]


def _request(play: Stage, asked: Request) -> None:
    if asked.method != "INFO":
        play.exchange(asked.method, asked.side, headers=asked.headers)
        return
    sender, receiver = play.parties[asked.side], play.parties[other(asked.side)]
    request = play.text.request(
        "INFO", sender, headers=asked.headers, body=asked.body, content_type=asked.content_type
    )
    for number in range(asked.times):
        play.send(sender, request.text, after=0 if not number else _HOP)
    play.send(receiver, play.text.response(200, request))


def _hold(
    play: Stage,
    timelines: dict[SideName, SideTimeline],
    hold: Hold,
    at: int,
    holds: list[tuple[SideName, int, int]],
) -> list[tuple[int, Callable[[], object]]]:
    """The two exchanges of a hold; the media stops when the first is answered and comes back with the
    second."""
    held_at: list[int] = []
    quiet: list[SideName] = {"sendonly": [other(hold.by)], "recvonly": [hold.by]}.get(hold.style, list(SIDES))

    def begin() -> None:
        offer, answer = {
            "sendonly": ("sendonly", "recvonly"),
            "inactive": ("inactive", "inactive"),
            "recvonly": ("recvonly", "sendonly"),
            "zero": ("sendonly", "recvonly"),
        }[hold.style]
        held_at.append(play.exchange(hold.method, hold.by, (offer, answer), zero=hold.style == "zero"))

    def end() -> None:
        back = play.exchange(hold.method, hold.by)
        holds.append((hold.by, held_at[0], back))
        for side in quiet:
            if side in timelines:
                timelines[side].silent.append((held_at[0], back))

    return [(at, begin), (at + round(hold.length_s * SECOND), end)]


def _move(play: Stage, timelines: dict[SideName, SideTimeline], move: Move) -> None:
    """Both flows change when the offer with the new port is answered."""
    mover = play.parties[move.side]
    mover.media = Address(move.host or mover.media.host, mover.media.port + 4)
    mover.announced = Address(move.host or mover.announced.host, mover.announced.port + 4)
    if move.codec is not None:
        play.codecs = play.answer_codecs = (move.codec,)
    answered = play.exchange(move.method, move.side)
    if move.codec is not None:
        for timeline in timelines.values():
            timeline.codecs.append((answered, move.codec))
    for side in SIDES:
        if side in timelines:
            source, destination = play.parties[side].media, play.parties[other(side)].media
            timelines[side].flows.append((answered, source, destination))
