"""Two real SIP user agents on the loopback interface, for test calls: baresip, with speech from files.

Everything stays on 127.0.0.1, and each agent has a configuration folder of its own that is removed again.
"""

import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from recorderd.errors import RecorderError
from recorderd.tools.ctrl_tcp import ControlConnection
from recorderd.tools.speech import fit_wav

Codec = Literal["pcmu", "pcma", "opus"]

HOST: Final = "127.0.0.1"
START_S: Final = 10.0
STOP_S: Final = 5.0
TICK_S: Final = 0.25
# baresip asks a file for the samples that its codec takes: clock rate and channels.
AUDIO_OF: Final[dict[str, tuple[int, int]]] = {"pcmu": (8000, 1), "pcma": (8000, 1), "opus": (48000, 1)}
ACCOUNT_CODEC: Final = {"pcmu": "PCMU/8000/1", "pcma": "PCMA/8000/1", "opus": "opus/48000/1"}


class AgentError(RecorderError):
    """A user agent is missing, does not start, or the call between the two fails."""

    exit_code = 3
    hint = "`apt-get install baresip`; something else may listen on the SIP port: `ss -lunp`"


@dataclass(frozen=True)
class CallReport:
    """How a test call went; ``seconds`` is how long it was up, ``log`` what both agents printed."""

    call_id: str | None
    answered: bool
    seconds: float
    log: str


class Agent:
    """One baresip process; a context manager that starts it, waits until it answers, and stops it."""

    def __init__(
        self, user: str, sip_port: int, wav: Path, codec: Codec, folder: Path, *, encryption: str = ""
    ) -> None:
        """``wav`` is played to the other end; it must have the rate and channels of :data:`AUDIO_OF`.

        ``encryption`` is baresip's word for that of the media (`srtp-mand`, `dtls_srtp`), empty for none.
        """
        self.user, self.sip_port, self.codec, self.encryption = user, sip_port, codec, encryption
        self.folder = folder
        self.control_port = free_port(socket.SOCK_STREAM)
        self.connection: ControlConnection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        (folder / "config").write_text(self._config(wav))
        (folder / "accounts").write_text(
            f"<sip:{user}@{HOST}:{sip_port}>;regint=0;answermode=auto;audio_codecs={ACCOUNT_CODEC[codec]}"
            f"{f';mediaenc={encryption}' if encryption else ''}\n"
        )
        (folder / "contacts").write_text("")

    def _config(self, wav: Path) -> str:
        settings = {
            "poll_method": "epoll", "sip_listen": f"{HOST}:{self.sip_port}", "net_interface": HOST,
            "module_path": "/usr/lib/baresip/modules", "ctrl_tcp_listen": f"{HOST}:{self.control_port}",
            "call_max_calls": "1", "audio_source": f"aufile,{wav}", "audio_alert": "aufile,/nonexistent",
            "audio_player": f"aufile,{self.folder / 'heard.wav'}", "jitter_buffer_delay": "2-10",
            "rtp_timeout": "20", "opus_stereo": "no", "opus_sprop_stereo": "no",
        }  # fmt: skip
        modules = ["g711.so", "opus.so", "aufile.so"]
        if self.encryption:
            modules.append("dtls_srtp.so" if self.encryption.startswith("dtls") else "srtp.so")
        lines = [f"{key}\t{value}" for key, value in settings.items()]
        lines += [f"module\t{name}" for name in modules]
        lines += ["module_tmp\taccount.so", "module_app\tmenu.so", "module_app\tctrl_tcp.so"]
        return "\n".join(lines) + "\n"

    def __enter__(self) -> Self:
        program = shutil.which("baresip")
        if program is None:
            raise AgentError("baresip is not installed")
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-4", "-f", str(self.folder)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while self.connection is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = self.log()
                self._stop()
                raise AgentError(f"baresip does not start as {self.user}: {_reason(log_text)}")
            try:
                self.connection = ControlConnection(self.control_port)
            except OSError:
                time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.connection is not None:
            self.connection.close()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """What the agent has printed, without colours and without the running bit rate."""
        text = re.sub(r"\x1b?\[[0-9;]*m", "", (self.folder / "log").read_text(errors="replace"))
        lines = [line for line in text.splitlines() if line.strip() and "(bit/s)" not in line]
        return "".join(f"{line}\n" for line in lines)

    def command(self, command: str, params: str = "") -> None:
        """Give the running agent a command."""
        assert self.connection is not None
        self.connection.send(command, params)

    def events(self, timeout: float) -> list[dict[str, Any]]:
        """What the agent tells within ``timeout`` seconds."""
        assert self.connection is not None
        return self.connection.receive(timeout)


def spoken_files(
    folder: Path, caller_wav: Path, callee_wav: Path, codec: Codec, seconds: float
) -> dict[str, Path]:
    """What the two agents say, at the codec's rate and long enough for the call, by speaker."""
    rate, channels = AUDIO_OF[codec]
    spoken = {"caller": folder / "caller.wav", "callee": folder / "callee.wav"}
    for source, target in zip((caller_wav, callee_wav), spoken.values(), strict=True):
        fit_wav(source, target, rate=rate, channels=channels, seconds=seconds + 3)
    return spoken


def place_call(
    seconds: float,
    caller_wav: Path,
    callee_wav: Path,
    codec: Codec = "pcmu",
    *,
    sip_port: int = 5060,
    caller: str = "alice",
    callee: str = "bob",
    timeout: float = 15.0,
    while_talking: Callable[[str | None, float], None] | None = None,
    encryption: str = "",
) -> CallReport:
    """Let one agent call another on ``127.0.0.1:sip_port``, talk for ``seconds``, and hang up.

    The wav files, of any rate, are looped to the call's length. ``while_talking(call_id, seconds_so_far)`` is
    called several times a second. ``timeout`` bounds the set-up. Raises AgentError where an agent does not
    start; a call that is refused is reported as not answered. ``encryption``: see :class:`Agent`.
    """
    with tempfile.TemporaryDirectory(prefix="test-call-") as scratch:
        folder = Path(scratch)
        spoken = spoken_files(folder, caller_wav, callee_wav, codec, seconds)
        with (
            Agent(
                callee, sip_port, spoken["callee"], codec, folder / "b", encryption=encryption
            ) as answering,
            Agent(
                caller,
                free_port(socket.SOCK_DGRAM),
                spoken["caller"],
                codec,
                folder / "a",
                encryption=encryption,
            ) as calling,
        ):
            calling.command("dial", f"sip:{callee}@{HOST}:{sip_port}")
            call_id, answered = _until_established(calling, timeout)
            talked = _talk(calling, call_id, seconds, while_talking) if answered else 0.0
            calling.command("hangup")
            _until_closed(calling)
            log = f"--- {caller}\n{calling.log()}--- {callee}\n{answering.log()}"
    return CallReport(call_id, answered, talked, log)


def _until_established(agent: Agent, timeout: float) -> tuple[str | None, bool]:
    call_id = None
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        for event in agent.events(left):
            call_id = event.get("id", call_id)
            if event.get("type") == "CALL_ESTABLISHED":
                return call_id, True
            if event.get("type") == "CALL_CLOSED":
                return call_id, False
    return call_id, False


def _talk(
    agent: Agent, call_id: str | None, seconds: float, tell: Callable[[str | None, float], None] | None
) -> float:
    """Wait until the time is over or the call is closed; returns how long it was up."""
    began = time.monotonic()
    while (spent := time.monotonic() - began) < seconds:
        if tell is not None:
            tell(call_id, spent)
        if any(event.get("type") == "CALL_CLOSED" for event in agent.events(min(TICK_S, seconds - spent))):
            break
    return time.monotonic() - began


def _until_closed(agent: Agent) -> None:
    deadline = time.monotonic() + STOP_S
    while (left := deadline - time.monotonic()) > 0:
        if any(event.get("type") == "CALL_CLOSED" for event in agent.events(left)):
            return


def free_port(kind: socket.SocketKind) -> int:
    """A port of 127.0.0.1 that nothing uses now, with the next one free too (baresip takes it for TLS)."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port < 65535 and is_free(port + 1, socket.SOCK_STREAM):
            return port
    raise AgentError("no free port on 127.0.0.1")


def is_free(port: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> bool:
    """Whether a port of 127.0.0.1 can be listened on."""
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _reason(log: str) -> str:
    """The last line that is not about stopping."""
    lines = [line for line in log.splitlines() if not line.startswith("ua: stop")]
    return lines[-1] if lines else "it printed nothing"
