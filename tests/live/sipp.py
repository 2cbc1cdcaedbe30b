"""Calls between two SIPp on the loopback interface, each playing a capture file to the other.

SIPp sends the packets of the file with its own addresses (the destination is the SDP's), with the SSRC,
sequence and times of the file: both ends playing one file send the same SSRC.
"""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.live.process import Program, listens, until
from tests.live.sbc.speakers import Speaker

SPOKEN = Path("/usr/share/sip-tester/g711a.pcap")  #: 236 packets of 30 ms, A-law, 7.05 s
SPOKEN_S = 7.1
HOST = "127.0.0.1"
_SCENARIOS = Path(__file__).parent / "scenarios"
_given: set[int] = set()
"""Ports that a test was told of: whoever is told later may use theirs sooner."""


@dataclass(frozen=True)
class SippCall:
    """A call in progress: who, where, and the two programs."""

    call_id: str
    caller: str
    callee: str
    caller_media: int
    callee_media: int
    uac: Program
    uas: Program
    own: int
    """The caller's port."""

    def hang_up(self) -> None:
        """Let the caller hang up; for a call that has no ``talk_s``.

        Only the caller gets this message: it does not touch the port that a recorder looks at.
        """
        lines = [f"INFO sip:{self.caller}@{HOST} SIP/2.0", f"Via: SIP/2.0/UDP {HOST}:9;branch=z9hG4bKend"]
        lines += [f"From: <sip:test@{HOST}>", f"To: <sip:{self.caller}@{HOST}>", f"Call-ID: {self.call_id}"]
        lines += ["CSeq: 1 INFO", "Content-Length: 0", "", ""]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.sendto("\r\n".join(lines).encode(), (HOST, self.own))

    def wait(self, seconds: float) -> None:
        """Wait for the call's end; both ends must be content with it."""
        assert self.uac.wait(seconds) == 0, self.uac.log()
        assert self.uas.wait(seconds) == 0, self.uas.log()


@contextmanager
def sipp_call(
    folder: Path,
    *,
    sip_port: int,
    name: str = "call",
    caller: str = "1001",
    callee: str = "2002",
    caller_plays: Path = SPOKEN,
    callee_plays: Path = SPOKEN,
    talk_s: float | None = SPOKEN_S + 0.4,
    transport: str = "u1",
) -> Iterator[SippCall]:
    """A call to ``127.0.0.1:sip_port``, in progress inside the block and stopped with it; ``wait()`` for its
    end.

    ``talk_s`` is the time from the ACK to the BYE, without it the call lasts until ``hang_up()``;
    ``transport`` as of SIPp's -t. Files and logs go to ``folder``, named after ``name``.
    """
    own, media = free_ports(1)[0], free_ports(2, step=4)
    pause = "<pause/>" if talk_s is not None else '<recv request="INFO" crlf="true"/>'
    call_id = f"{name}-{own}@sipp"
    common = ["-i", HOST, "-mi", HOST, "-m", "1", "-nostdin", "-timeout", "120s", "-timeout_error"]
    common += ["-t", transport, "-reconnect_close", "false"]
    common += ["-max_socket", "100"]  # with "tn" it will not start where it might open more than it may
    answering = ["sipp", "-sf", _scenario(folder, f"{name}-uas", "uas", callee_plays), "-p", str(sip_port)]
    scenario = _scenario(folder, f"{name}-uac", "uac", caller_plays, pause)
    calling = ["sipp", f"{HOST}:{sip_port}", "-sf", scenario]
    calling += ["-p", str(own), "-s", callee, "-key", "caller", caller, "-cid_str", call_id]
    calling += ["-d", str(round((talk_s or 0) * 1000)), "-mp", str(media[0])]
    uas = Program([*answering, "-mp", str(media[1]), *common], folder / f"{name}-uas.log")
    uac = Program([*calling, *common], folder / f"{name}-uac.log")
    with uas:
        protocol = "tcp" if transport.startswith("t") else "udp"
        until(lambda: listens(uas, sip_port, protocol), f"SIPp on port {sip_port}", 30)
        with uac:
            yield SippCall(call_id, caller, callee, media[0], media[1], uac, uas, own)


def tones(folder: Path, seconds: float) -> Path:
    """A capture file to play that lasts as long as a test may need: A-law, a packet every 20 ms."""
    return Speaker(0, round(seconds * 50)).write(folder)


def with_holes(source: Path, target: Path, frames: list[int]) -> Path:
    """A copy of a capture file without some of its frames (numbers from 1)."""
    command = ["editcap", "-F", "pcap", str(source), str(target), *map(str, frames)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return target


def free_ports(count: int, *, step: int = 2) -> list[int]:
    """UDP ports of 127.0.0.1 that nothing uses now, with ``step - 1`` unused ones behind each; each is given
    once.
    """
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1] // step * step
        block = range(port, port + step)
        if _given.isdisjoint(block) and not any(map(_taken, block)):
            ports.append(port)
            _given.update(block)
    return ports


def _taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _scenario(folder: Path, name: str, template: str, capture: Path, pause: str = "<pause/>") -> str:
    path = folder / f"{name}.xml"
    text = (_SCENARIOS / f"{template}.xml").read_text().replace("@CAPTURE@", str(capture))
    path.write_text(text.replace("<pause/>", pause))
    return str(path)
