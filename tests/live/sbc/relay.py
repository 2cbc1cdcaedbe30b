"""rtpengine between the two sides, in user space."""

import secrets
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.live.process import Program, until
from tests.network_namespaces import Between

NG_PORT = 2223  #: the control protocol
_LOOPBACK = "127.0.0.1"


class Relay:
    """rtpengine on the host, ready inside the block, stopped after it."""

    def __init__(self, folder: Path, network: Between) -> None:
        self._network = network
        command = [
            "rtpengine",
            "--config-file=none",
            "--foreground",
            "--log-stderr",
            "--log-level=5",
            "--table=-1",
        ]
        command += [f"--interface=left/{network.LEFT_HOST}", f"--interface=right/{network.RIGHT_HOST}"]
        command += [f"--listen-ng={_LOOPBACK}:{NG_PORT}"]
        command += ["--port-min=20000", "--port-max=24000", "--num-threads=2", "--delete-delay=0"]
        self.program = Program([*network.host.prefix, *command], folder / "rtpengine.log")

    def __enter__(self) -> Self:
        self.program.start()
        try:
            until(self._answers, f"a pong of rtpengine: {self.program.log()}", 30)
        except BaseException:
            self.program.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.program.stop()

    def _answers(self) -> bool:
        """``ping`` of the NG protocol: a cookie, then a bencoded dictionary."""
        assert self.program.running, self.program.log()
        cookie = secrets.token_hex(4).encode()
        with self._network.host.udp(_LOOPBACK, 0) as probe:
            probe.settimeout(0.2)
            try:
                probe.sendto(cookie + b" d7:command4:pinge", (_LOOPBACK, NG_PORT))
                return probe.recv(2048) == cookie + b" d6:result4:ponge"
            except (TimeoutError, ConnectionRefusedError):
                return False


def answers_options(network: Between, host: str, port: int) -> bool:
    """Whether a SIP server says anything to OPTIONS from the phones on the left."""
    source = network.LEFT_PHONES
    with network.left.udp(source, 0) as probe:
        own, word = probe.getsockname()[1], secrets.token_hex(4)
        lines = [
            f"OPTIONS sip:{host}:{port} SIP/2.0",
            f"Via: SIP/2.0/UDP {source}:{own};branch=z9hG4bK{word}",
            f"From: <sip:probe@{source}>;tag={word}",
            f"To: <sip:{host}:{port}>",
            f"Call-ID: {word}@probe",
            "CSeq: 1 OPTIONS",
            "Max-Forwards: 70",
            "Content-Length: 0",
        ]
        probe.settimeout(0.2)
        try:
            probe.sendto("".join(f"{line}\r\n" for line in [*lines, ""]).encode(), (host, port))
            return probe.recv(4096).startswith(b"SIP/2.0 ")
        except (TimeoutError, ConnectionRefusedError, socket.gaierror):
            return False
