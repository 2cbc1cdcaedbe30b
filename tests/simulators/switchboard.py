"""Several dialogs and streams of one conversation, as a tap on the host in the middle sees them.

    board = Switchboard()
    alice, bob = board.phone("1001"), board.phone("2002")
    call = board.bridged(alice, bob, at_s=1.0, until_s=9.0)   # alice -> PBX -> bob, and so the media
    board.write(tmp_path / "call.pcap")
    alice.voice.said(1.5, 9.0)                                   # what she said then

A voice says at each moment of the scene what only it says then, so whoever is heard, and when, can be told.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.simulators import g711
from tests.simulators.capture_file import CaptureWriter
from tests.simulators.encapsulation import ETHERNET, Address, Encapsulation, Flow
from tests.simulators.pbx import EPOCH_NS
from tests.simulators.script import SideName
from tests.simulators.signals import Noise
from tests.simulators.sip_text import DialogText, Party, Transaction, session

SECOND = 1_000_000_000
RELAY_S = 0.003  #: what the host in the middle takes to pass a packet on
PBX = "10.0.0.1"


@dataclass(frozen=True)
class Voice:
    """A sound that never repeats; ``seed`` tells whose."""

    seed: int

    def coded(self, number: int) -> bytes:
        """The packet of the 20 ms from ``number`` / 50 s of the scene on, mu-law."""
        spoken = Noise(self.seed).window(np.array([number * 160], np.int64), 160, 8000)
        return g711.encode("pcmu", spoken).tobytes()

    def said(self, from_s: float, to_s: float) -> NDArray[np.int16]:
        """What a perfect decoder makes of a stretch."""
        coded = b"".join(self.coded(n) for n in range(round(from_s * 50), round(to_s * 50)))
        return g711.decode("pcmu", np.frombuffer(coded, np.uint8))


@dataclass
class Phone:
    """Somebody's telephone."""

    user: str
    host: str
    voice: Voice
    port: int = 4000
    sip_port: int = 5060

    @property
    def media(self) -> Address:
        return Address(self.host, self.port)


@dataclass
class Dialog:
    """One call between two hosts; every method sends at a moment of the scene, in seconds."""

    board: Switchboard
    text: DialogText
    invitation: Transaction | None = None

    @property
    def call_id(self) -> str:
        return self.text.call_id

    def party(self, side: SideName) -> Party:
        return self.text.caller if side == "caller" else self.text.callee

    def _send(self, at_s: float, by: SideName, payload: bytes) -> None:
        sender = self.party(by)
        receiver = self.party("callee" if by == "caller" else "caller")
        self.board.sip(at_s, sender.sip, receiver.sip, payload)

    def invite(self, at_s: float, *, headers: str = "") -> None:
        offer = session(self.text.caller, ("pcmu",))
        self.invitation = self.text.request("INVITE", self.text.caller, sdp=offer, headers=headers)
        self._send(at_s, "caller", self.invitation.text)

    def ring(self, at_s: float, *, early: bool = False) -> None:
        assert self.invitation is not None
        answer = session(self.text.callee, ("pcmu",)) if early else None
        self._send(at_s, "callee", self.text.response(183 if early else 180, self.invitation, sdp=answer))

    def answer(self, at_s: float, *, headers: str = "") -> None:
        assert self.invitation is not None
        self.text.established = True
        answer = session(self.text.callee, ("pcmu",))
        self._send(at_s, "callee", self.text.response(200, self.invitation, sdp=answer, headers=headers))
        ack = self.text.request("ACK", self.text.caller, of=self.invitation)
        self._send(at_s + 0.01, "caller", ack.text)

    def cancel(self, at_s: float) -> None:
        assert self.invitation is not None
        cancel = self.text.request("CANCEL", self.text.caller, of=self.invitation, new_branch=False)
        self._send(at_s, "caller", cancel.text)
        self._send(at_s + 0.005, "callee", self.text.response(200, cancel))
        self._send(at_s + 0.01, "callee", self.text.response(487, self.invitation))

    def refer(self, at_s: float, by: SideName, to: str) -> None:
        refer = self.text.request("REFER", self.party(by), headers=f"Refer-To: {to}\r\n")
        self._send(at_s, by, refer.text)

    def bye(self, at_s: float, by: SideName = "caller") -> None:
        bye = self.text.request("BYE", self.party(by))
        self._send(at_s, by, bye.text)
        self._send(at_s + 0.01, "callee" if by == "caller" else "caller", self.text.response(200, bye))


@dataclass
class Bridged:
    """A call through a B2BUA: the caller's dialog and the one that was made of it."""

    upstream: Dialog
    downstream: Dialog


@dataclass
class Switchboard:
    """Dialogs, streams and the capture of them. The PBX has a port of its own for every leg."""

    _frames: list[tuple[int, bytes]] = field(default_factory=list)
    _count: int = 0
    _ports: int = 20000

    def phone(self, user: str, host: str | None = None, port: int = 4000) -> Phone:
        self._count += 1
        host = host or f"10.1.{self._count // 250}.{self._count % 250 + 1}"
        return Phone(user, host, Voice(self._count), port)

    def port(self) -> Address:
        """A new one of the PBX, for media."""
        self._ports += 2
        return Address(PBX, self._ports)

    def sip(self, at_s: float, source: Address, destination: Address, payload: bytes) -> None:
        self._frame(at_s, source, destination, payload)

    def _frame(self, at_s: float, source: Address, destination: Address, payload: bytes) -> None:
        frame = Flow(source, destination, Encapsulation(ETHERNET, ())).frame(payload)
        self._frames.append((EPOCH_NS + round(at_s * SECOND), frame))

    def dialog(
        self,
        caller: Address,
        callee: Address,
        caller_media: Address,
        callee_media: Address,
        from_user: str,
        to_user: str,
        *,
        call_id: str | None = None,
    ) -> Dialog:
        """A dialog between two addresses of SIP, with its ends' media."""
        self._count += 1
        name = hashlib.sha256(f"dialog {self._count}".encode()).hexdigest()
        parties = (
            Party("caller", from_user, caller, caller_media, caller_media, name[:10]),
            Party("callee", to_user, callee, callee_media, callee_media, name[10:20]),
        )
        return Dialog(self, DialogText(*parties, call_id or f"{name[20:36]}@board"))

    def to_pbx(self, phone: Phone, to_user: str, *, call_id: str | None = None) -> Dialog:
        """A phone calls the PBX."""
        pbx = Address(PBX, 5060)
        media = Address(phone.host, phone.port)
        ends = Address(phone.host, phone.sip_port), pbx, media, self.port()
        return self.dialog(*ends, phone.user, to_user, call_id=call_id)

    def from_pbx(
        self, phone: Phone, from_user: str, *, call_id: str | None = None, host: str = PBX
    ) -> Dialog:
        """The PBX calls a phone."""
        ends = Address(host, 5060), Address(phone.host, phone.sip_port), self.port(), phone.media
        return self.dialog(*ends, from_user, phone.user, call_id=call_id)

    def say(self, from_s: float, to_s: float, voice: Voice, source: Address, destination: Address,
            *, delay_s: float = 0.0) -> None:  # fmt: skip
        """A stream of its own, with a new SSRC."""
        self._count += 1
        ssrc = 0x10000000 + self._count
        for number in range(round(from_s * 50), round(to_s * 50)):
            head = struct.pack(">BBHII", 0x80, 0, number & 0xFFFF, number * 160, ssrc)
            at_s = number / 50 + delay_s
            self._frame(at_s, source, destination, head + voice.coded(number))

    def speak(self, from_s: float, to_s: float, dialog: Dialog, by: SideName, voice: Voice) -> None:
        """One end of a dialog sends."""
        source, destination = dialog.party(by), dialog.party("callee" if by == "caller" else "caller")
        copied = source.media.host == PBX
        self.say(from_s, to_s, voice, source.media, destination.media, delay_s=RELAY_S if copied else 0.0)

    def talk(self, from_s: float, to_s: float, *legs: tuple[Dialog, SideName, Voice]) -> None:
        """Everybody at the given ends speaks, and the PBX sends each of two the other's voice."""
        for dialog, side, voice in legs:
            self.speak(from_s, to_s, dialog, side, voice)
        if len(legs) == 2:
            for (dialog, side, _), (_, _, heard) in zip(legs, legs[::-1], strict=True):
                self.speak(from_s, to_s, dialog, "callee" if side == "caller" else "caller", heard)

    def bridged(
        self,
        caller: Phone,
        callee: Phone,
        at_s: float,
        until_s: float,
        *,
        up_headers: str = "",
        down_headers: str = "",
        same_call_id: bool = False,
        from_user: str | None = None,
        to_user: str | None = None,
        hangup: bool = True,
    ) -> Bridged:
        """The whole of a call through the B2BUA: it rings for half a second, both talk from the answer on."""
        up = self.to_pbx(caller, to_user or callee.user)
        down = self.from_pbx(callee, from_user or caller.user, call_id=up.call_id if same_call_id else None)
        up.invite(at_s, headers=up_headers)
        down.invite(at_s + 0.02, headers=down_headers)
        down.ring(at_s + 0.05)
        up.ring(at_s + 0.06)
        down.answer(at_s + 0.5)
        up.answer(at_s + 0.52)
        self.talk(at_s + 0.6, until_s, (up, "caller", caller.voice), (down, "callee", callee.voice))
        if hangup:
            up.bye(until_s)
            down.bye(until_s + 0.02)
        return Bridged(up, down)

    def write(self, path: Path) -> Path:
        """Write all frames in order of time."""
        frames = sorted(self._frames, key=lambda one: one[0])
        lengths = np.array([len(frame) for _, frame in frames], np.int64)
        with CaptureWriter(path, ETHERNET) as writer:
            buffer, starts = writer.place(lengths)
            for (_, frame), start in zip(frames, starts.tolist(), strict=True):
                buffer[start : start + len(frame)] = np.frombuffer(frame, np.uint8)
            writer.write(buffer, starts, np.array([time for time, _ in frames], np.int64), lengths)
        return path
