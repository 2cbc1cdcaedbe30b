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

from tests.live.process import Program, until

SPOKEN = Path("/usr/share/sip-tester/g711a.pcap")  #: 236 packets of 30 ms, A-law, 7.05 s
SPOKEN_S = 7.1
HOST = "127.0.0.1"
_SCENARIOS = Path(__file__).parent / "scenarios"


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
    talk_s: float = SPOKEN_S + 0.4,
    transport: str = "u1",
) -> Iterator[SippCall]:
    """A call to ``127.0.0.1:sip_port``, in progress inside the block and stopped with it; ``wait()`` for its
    end.

    ``talk_s`` is the time from the ACK to the BYE; ``transport`` as of SIPp's -t. Files and logs go to
    ``folder``, named after ``name``.
    """
    own, media = free_ports(1)[0], free_ports(2, step=4)
    call_id = f"{name}-{own}@sipp"
    common = ["-i", HOST, "-mi", HOST, "-m", "1", "-nostdin", "-timeout", "120s", "-timeout_error"]
    common += ["-t", transport, "-reconnect_close", "false"]
    common += ["-max_socket", "100"]  # with "tn" it will not start where it might open more than it may
    answering = ["sipp", "-sf", _scenario(folder, f"{name}-uas", "uas", callee_plays), "-p", str(sip_port)]
    calling = ["sipp", f"{HOST}:{sip_port}", "-sf", _scenario(folder, f"{name}-uac", "uac", caller_plays)]
    calling += ["-p", str(own), "-s", callee, "-key", "caller", caller, "-cid_str", call_id]
    calling += ["-d", str(round(talk_s * 1000)), "-mp", str(media[0])]
    uas = Program([*answering, "-mp", str(media[1]), *common], folder / f"{name}-uas.log")
    uac = Program([*calling, *common], folder / f"{name}-uac.log")
    with uas:
        until(lambda: _listens(sip_port, transport), f"SIPp on port {sip_port}: {uas.log()}", 10)
        with uac:
            yield SippCall(call_id, caller, callee, media[0], media[1], uac, uas)


def with_holes(source: Path, target: Path, frames: list[int]) -> Path:
    """A copy of a capture file without some of its frames (numbers from 1)."""
    command = ["editcap", "-F", "pcap", str(source), str(target), *map(str, frames)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return target


def free_ports(count: int, *, step: int = 2) -> list[int]:
    """UDP ports of 127.0.0.1 that nothing uses now, with ``step - 1`` unused ones behind each."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1] // step * step
        if port not in ports and not any(_listens(port + offset) for offset in range(step)):
            ports.append(port)
    return ports


def _listens(port: int, transport: str = "u1") -> bool:
    kind = socket.SOCK_STREAM if transport.startswith("t") else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _scenario(folder: Path, name: str, template: str, capture: Path) -> str:
    path = folder / f"{name}.xml"
    path.write_text((_SCENARIOS / f"{template}.xml").read_text().replace("@CAPTURE@", str(capture)))
    return str(path)
