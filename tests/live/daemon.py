"""The recorder itself, run as users run it: the two commands, a configuration file, a spool."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from tests.live.process import Program, alive, until

_BIN = Path(sys.executable).parent
_TIMEOUT_S = 120

Json = Any


class Installation:
    """A configuration with keys and a spool in one folder, and the commands against it."""

    def __init__(
        self,
        folder: Path,
        *,
        sip_ports: Sequence[int],
        remote: bool = False,
        capture: Mapping[str, Json] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.sip_port = sip_ports[0]
        self.folder = folder
        self.config, self.spool, self.identity = folder / "config.yaml", folder / "spool", folder / "identity"
        self.control("keygen", "-o", str(self.identity), configured=False)
        document: dict[str, Any] = {
            "site": {"name": "test"},
            "capture": {"interfaces": ["lo"], "sip_ports": list(sip_ports)},
            "alerts": {"syslog": {"enabled": False}},
            "spool": {"path": str(self.spool)},
            "encryption": {"recipients": [f"{self.identity}.pub"]},
        }
        document["capture"] |= {"media_ring_mb": 8, "signalling_ring_mb": 4}
        document["capture"] |= capture or {}
        if remote:
            (folder / "remote").mkdir(exist_ok=True)
            remotes = [{"name": "second", "type": "file", "path": str(folder / "remote")}]
            document["sync"] = {"interval_s": 0.5, "remotes": remotes}
        self.config.write_text(json.dumps(document))  # JSON is YAML

    def control(self, *arguments: str, spool: Path | None = None, configured: bool = True) -> Json:
        """`recorderctl --json ARGUMENTS`; its answer. Fails where it fails."""
        which = ["--spool", str(spool)] if spool else ["-c", str(self.config)] if configured else []
        command = [str(_BIN / "recorderctl"), *which, "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        assert done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def recordings(self, *, spool: Path | None = None) -> list[Json]:
        """`recorderctl list --json`."""
        found = self.control("list", spool=spool or self.spool)
        assert isinstance(found, list)
        return found

    def recording(self, call_id: str) -> Json | None:
        """The newest recording of a call, or None; asks the index itself, to be quick."""
        if not (self.spool / "index.db").exists():
            return None
        with Index.open(Spool(self.spool)) as index:
            found = index.recordings(call_id=call_id)
        return found[-1] if found else None

    def until_sealed(self, call_id: str, seconds: float = 60) -> Json:
        """The call's recording, once it is sealed."""

        def sealed() -> bool:
            row = self.recording(call_id)
            return row is not None and row["state"] == "sealed"

        try:
            until(sealed, f"the recording of {call_id} sealed", seconds)
        except AssertionError as error:
            logs = "".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("daemon-*.log")))
            raise AssertionError(f"{error}: {self.recording(call_id)}; the daemon said: {logs}") from None
        return self.recording(call_id)

    def export_tracks(self, recording: str, name: str, *, spool: Path | None = None) -> dict[str, Path]:
        """Export a recording's tracks as WAV files; the files by label."""
        out = self.folder / f"{name}.wav"
        self.control(
            "export", recording, "-o", str(out), "--identity", str(self.identity), "--layout", "tracks",
            "--format", "wav", spool=spool or self.spool,
        )  # fmt: skip
        return {
            path.stem.removeprefix(f"{name}-"): path for path in sorted(self.folder.glob(f"{name}-*.wav"))
        }

    def replay(self, *captures: Path, spool: Path) -> str:
        """`recorderd replay`; what it printed."""
        files = [str(path) for path in captures]
        command = [str(_BIN / "recorderd"), "replay", *files, "-c", str(self.config), "--spool", str(spool)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        assert done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr


class Daemon:
    """`recorderd run` (or `capture`, the process with the tap alone), ready inside the block, stopped after
    it.
    """

    def __init__(self, installation: Installation, command: str = "run") -> None:
        self.installation = installation
        self._number = len(list(installation.folder.glob("daemon-*.log"))) + 1
        log = installation.folder / f"daemon-{self._number}.log"
        self.program = Program([str(_BIN / "recorderd"), command, "-c", str(installation.config)], log)
        self._ready = "recorderd: ready" if command == "run" else None

    def __enter__(self) -> Self:
        self.program.start()
        try:
            self.until_ready()
        except BaseException:
            self.program.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.program.stop()

    def until_ready(self, seconds: float = 60) -> None:
        """Wait until the control socket answers and, of `run`, both processes are there."""
        if self._ready:
            self.program.until_logged(self._ready, seconds)

        def answers() -> bool:
            assert self.program.running, self.program.log()
            return bool(self.status())

        until(answers, f"an answer on the control socket: {self.program.log()}", seconds)

    def status(self) -> Json:
        """What the control socket answers to ``status``; None while it does not."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            try:
                connection.connect(str(self.installation.spool / "control.sock"))
                connection.sendall(b'{"command": "status"}\n')
                with connection.makefile("rb") as answer:
                    return json.loads(answer.readline())
            except (OSError, ValueError):
                return None

    def status_from_now(self) -> Json:
        """A status that every process told after this was asked; that of :meth:`status` may be older."""
        return status_from_now(self.status)

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        self.program.kill()

    def kill_child(self, pid: int) -> None:
        """SIGKILL to one of its processes, and wait until it is dead; there may be another already."""
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid), "the end of the process", 30)


def status_from_now(ask: Callable[[], Json]) -> Json:
    """A status that every process told after this was called; what ``ask`` answers may be older."""
    now, found = time.time(), None

    def told() -> bool:
        nonlocal found
        found = ask()
        return bool(found) and all(each.get("time", 0) > now for each in found.get("workers", [found]))

    try:
        until(told, "a status from now on", 30)
    except AssertionError as error:
        raise AssertionError(f"{error}: {found}") from None
    return found


def missing_programs(*names: str) -> list[str]:
    """Which programs are not installed."""
    return [name for name in names if shutil.which(name) is None]
