"""A call whose signalling nobody can read on the wire, and the PBX passes on as HEP: recorded live."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.capture_builder import rtp
from tests.live.daemon import Daemon, Installation
from tests.live.sipp import HOST, free_ports
from tests.simulators.encapsulation import Address
from tests.simulators.hep import hep3
from tests.simulators.sip_text import DialogText, Party, session

pytestmark = pytest.mark.live

PACKETS = 100
KEY = "a secret"


class Sender:
    """The PBX: tells the recorder each message, over UDP or TCP."""

    def __init__(self, kind: str, port: int, key: str) -> None:
        self._kind = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        self._socket = socket.socket(socket.AF_INET, self._kind)
        self._socket.connect((HOST, port))
        self._key = key.encode()

    def tell(self, text: bytes, sender: Party, receiver: Party) -> None:
        self._socket.sendall(hep3(text, sender.sip, receiver.sip, time.time_ns(), key=self._key))

    def close(self) -> None:
        self._socket.close()


def call(sender: Sender, call_id: str) -> None:
    """A call of two seconds over the loopback interface; both ends speak."""
    media = free_ports(2, step=4)
    sip = Address("192.0.2.1", 5061), Address("192.0.2.2", 41234)  # TLS, somewhere
    ends = [
        Party(side, user, at, Address(HOST, port), Address(HOST, port), f"tag{port}")
        for side, user, at, port in (
            ("caller", "1001", sip[0], media[0]),
            ("callee", "2002", sip[1], media[1]),
        )
    ]
    caller, callee = ends
    text = DialogText(caller, callee, call_id)
    invite = text.request("INVITE", caller, sdp=session(caller, ("pcmu",)))
    sender.tell(invite.text, caller, callee)
    sender.tell(text.response(180, invite), callee, caller)
    text.established = True
    sender.tell(text.response(200, invite, sdp=session(callee, ("pcmu",))), callee, caller)
    sender.tell(text.request("ACK", caller, of=invite).text, caller, callee)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in ends]
        for own, end in zip(sockets, ends, strict=True):
            own.bind(end.media)
        begin = time.monotonic()
        for number in range(PACKETS):
            time.sleep(max(0.0, begin + 0.02 * number - time.monotonic()))  # this is how voice comes
            for own, end, other in zip(sockets, ends, ends[::-1], strict=True):
                own.sendto(rtp(number, 160 * number, end.media.port, bytes([number]) * 160), other.media)
    bye = text.request("BYE", caller)
    sender.tell(bye.text, caller, callee)
    sender.tell(text.response(200, bye), callee, caller)


@pytest.mark.parametrize("way", ["udp", "tcp", "passing by", "udp, two workers"])
def test_signalling_by_hep(tmp_path: Path, way: str) -> None:
    sip_port, hep_port = free_ports(2)
    kind, _, workers = way.partition(", ")
    capture: dict[str, Any] = {"hep": {"password": KEY}, "workers": 2 if workers else 1}
    if kind == "passing by":
        kind, capture["hep_ports"] = "udp", [hep_port]
    else:
        capture["hep"]["listen"] = [f"{kind}:{HOST}:{hep_port}"]
    installation = Installation(tmp_path / "recorder", sip_ports=[sip_port], capture=capture)
    with Daemon(installation) as daemon, ExitStack() as stack:
        if way == "passing by":
            collector = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            collector.bind((HOST, hep_port))
        for key, call_id in (("wrong", "refused@hep"), (KEY, "told@hep")):
            sender = Sender(kind, hep_port, key)
            call(sender, call_id)
            sender.close()
        row = installation.until_sealed("told@hep")
        counters = daemon.status_from_now()["counters"]
    (told,) = installation.control("calls", spool=installation.spool)
    assert (told["call_id"], told["outcome"]) == ("told@hep", "complete")
    assert [track["packets"] for track in row["tracks"]] == [PACKETS, PACKETS]
    prefix = "frames_" if way == "passing by" else ""
    assert (counters[f"{prefix}hep_messages"], counters[f"{prefix}hep_refused"]) == (6, 6)
