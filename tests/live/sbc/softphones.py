"""baresip on both sides of the border: user agents that speak TLS, send RTCP, and have RTP of their own."""

import contextlib
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recorderd.tools.ctrl_tcp import ControlConnection
from tests.live.process import Program, until
from tests.live.sbc.hosts import TLS_PORT, write_certificate
from tests.network_namespaces import Between, Namespace

_CONTROL_PORT = 4444


class Softphone:
    """One baresip that says what is in a WAV file (8000 Hz, mono) and answers whoever calls: a context
    manager.
    """

    def __init__(self, folder: Path, namespace: Namespace, address: str, user: str, wav: Path) -> None:
        self.namespace, self.folder = namespace, folder
        folder.mkdir()
        write_certificate(folder / "certificate.pem")
        settings = {
            "poll_method": "epoll", "sip_listen": f"{address}:5060", "net_interface": "phone0",
            "sip_certificate": str(folder / "certificate.pem"), "module_path": "/usr/lib/baresip/modules",
            "ctrl_tcp_listen": f"127.0.0.1:{_CONTROL_PORT}", "call_max_calls": "1",
            "audio_source": f"aufile,{wav}", "audio_player": f"aufile,{folder / 'heard.wav'}",
            "audio_alert": "aufile,/nonexistent", "jitter_buffer_delay": "2-10", "rtp_timeout": "20",
        }  # fmt: skip
        lines = [f"{key}\t{value}" for key, value in settings.items()]
        lines += [f"module\t{name}.so" for name in ("g711", "aufile")]
        lines += ["module_tmp\taccount.so", "module_app\tmenu.so", "module_app\tctrl_tcp.so"]
        (folder / "config").write_text("\n".join(lines) + "\n")
        account = f"<sip:{user}@{address}:{TLS_PORT};transport=tls>;regint=0;answermode=auto"
        account += ";audio_codecs=PCMA/8000/1"
        (folder / "accounts").write_text(f"{account}\n")
        (folder / "contacts").write_text("")
        self.program = Program([*namespace.prefix, "baresip", "-4", "-f", str(folder)], folder / "log")
        self._control: ControlConnection | None = None

    def __enter__(self) -> Self:
        self.program.start()
        try:
            until(self._connected, f"the control socket of baresip: {self.program.log()}", 30)
        except BaseException:
            self.program.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._control is not None:
            self._control.close()
        self.program.stop()

    def _connected(self) -> bool:
        assert self.program.running, self.program.log()
        with contextlib.suppress(OSError), self.namespace.entered():
            self._control = ControlConnection(_CONTROL_PORT)
        return self._control is not None

    def dial(self, address: str) -> None:
        assert self._control is not None
        self._control.send("dial", address)

    def hang_up(self) -> None:
        assert self._control is not None
        self._control.send("hangup", "")

    def event(self, kind: str, seconds: float) -> dict[str, Any]:
        """The next event of a kind; empty where there is none within ``seconds``."""
        assert self._control is not None
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for event in self._control.receive(left):
                if event.get("type") == kind:
                    return event
        return {}

    def until_event(self, kind: str, seconds: float) -> str:
        """Wait for an event; the Call-ID that it names."""
        event = self.event(kind, seconds)
        assert event, f"no {kind} of {self.folder.name}: {self.program.log()[-3000:]}"
        return str(event.get("id", ""))


def secure_call(folder: Path, network: Between, wavs: tuple[Path, Path], seconds: float) -> str:
    """Place a call by TLS through the host, from alice to bob, and hang up after ``seconds``; its Call-ID."""
    calling, answering = (
        Softphone(folder / user, namespace, address, user, wav)
        for user, namespace, address, wav in (
            ("alice", network.left, Between.LEFT_PHONES, wavs[0]),
            ("bob", network.right, Between.RIGHT_PHONES, wavs[1]),
        )
    )
    with answering, calling:
        calling.dial(f"sip:bob@{Between.LEFT_HOST}:{TLS_PORT}")  # baresip adds its account's transport
        call_id = calling.until_event("CALL_ESTABLISHED", 30)
        assert not calling.event("CALL_CLOSED", seconds), calling.program.log()[-3000:]
        calling.hang_up()
        calling.until_event("CALL_CLOSED", 30)
        return call_id
