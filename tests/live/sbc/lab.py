"""The whole laboratory: network, relay, border and recorder, started in this order."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recorderd.service.control import ask
from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity, load_identities
from recorderd.spool.layout import Spool
from tests.live.daemon import status_from_now
from tests.live.process import Program, until
from tests.live.sbc.hosts import HEP_PORT, Border
from tests.live.sbc.relay import Relay
from tests.network_namespaces import Between
from tests.recorder import Recorded

_BIN = Path(sys.executable).parent
_TIMEOUT_S = 60


class Recorder:
    """`recorderd capture` on both interfaces of the host, ready inside the block, stopped after it."""

    def __init__(self, folder: Path, network: Between, *, hep: bool = False) -> None:
        """``hep``: it also listens for what the border tells."""
        folder.mkdir()
        self.identity, self.spool = folder / "listener", Spool(folder / "spool")
        self.config = folder / "config.yaml"
        generate_identity(self.identity)
        capture: dict[str, Any] = {"interfaces": ["left0", "right0"], "sip_ports": [5060, 5070]}
        capture |= {"media_ring_mb": 32, "signalling_ring_mb": 8}
        if hep:
            capture["hep"] = {"listen": [f"udp:127.0.0.1:{HEP_PORT}"]}
        document = {
            "site": {"name": "border"},
            "capture": capture,
            "alerts": {"syslog": {"enabled": False}},
            "spool": {"path": str(self.spool.path)},
            "encryption": {"recipients": [f"{self.identity}.pub"]},
        }
        self.config.write_text(json.dumps(document))  # JSON is YAML
        command = [*network.host.prefix, str(_BIN / "recorderd"), "capture", "-c", str(self.config)]
        self.program = Program(command, folder / "recorder.log")

    def __enter__(self) -> Self:
        self.program.start()
        try:
            self.program.until_logged("recorderd capture: recording", 60)
            until(lambda: bool(self.status()), "a status", 30)
        except BaseException:
            self.program.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.program.stop()

    def status(self) -> dict[str, Any]:
        return ask(self.spool.path / "control.sock") or {}

    def until_done(self, calls: int, seconds: float = 60) -> dict[str, Any]:
        """Wait until ``calls`` dialogs or more were seen and all are over and sealed; the status then."""
        found: dict[str, Any] = {}

        def done() -> bool:
            assert self.program.running, self.program.log()
            found.update(self.status())
            if found.get("counters", {}).get("calls", 0) < calls or found["calls"]:
                return False
            with Index.open(self.spool) as index:
                sealed = all(row["state"] == "sealed" for row in index.recordings())
                return sealed and all(row["outcome"] for row in index.calls())

        try:
            until(done, "the end of all calls", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {found}; {self.program.log()[-2000:]}") from None
        found = status_from_now(self.status)
        return found

    def ask(self, command: str, *arguments: str) -> Any:
        """`recorderctl --json COMMAND`; its answer."""
        words = [str(_BIN / "recorderctl"), "--spool", str(self.spool.path), "--json", command, *arguments]
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        assert done.returncode == 0, f"{words}: {done.returncode}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def recorded(self) -> Recorded:
        """What was recorded, opened with the listener's key."""
        engine: Any = None  # it lived in another process
        return Recorded(self.spool, load_identities([self.identity]), engine)


@contextmanager
def witness(network: Between, path: Path) -> Iterator[None]:
    """tcpdump on both interfaces of the host; one file of both, in order of time, after the block."""
    parts = [path.with_suffix(f".{interface}.pcap") for interface in ("left0", "right0")]
    with ExitStack() as stack:
        for part in parts:
            command = ["tcpdump", "-i", part.suffixes[-2][1:], "-n", "-U", "--immediate-mode", "-B", "16384"]
            command += ["--time-stamp-precision=nano", "-Z", "root", "-w", str(part), "udp or tcp"]
            program = Program([*network.host.prefix, *command], part.with_suffix(".log"))
            stack.enter_context(program)
            program.until_logged("listening on", 30)
        yield
    merge = ["mergecap", "-F", "nsecpcap", "-w", str(path), *map(str, parts)]
    subprocess.run(merge, check=True, capture_output=True, timeout=_TIMEOUT_S)


@contextmanager
def laboratory(folder: Path, border: type[Border]) -> Iterator[tuple[Between, Border, Recorder]]:
    """Everything but the phones, each part ready."""
    with ExitStack() as stack:
        network = Between()
        stack.callback(network.remove)
        if border.relayed:
            stack.enter_context(Relay(folder, network))
        server = stack.enter_context(border(folder / "border", network))
        recorder = stack.enter_context(Recorder(folder / "recorder", network, hep=border.tells))
        yield network, server, recorder
