"""Some calls in a capture file, the recorder that replays it under faults, and what must be left then."""

import contextlib
import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from recorderd.config import load_config
from recorderd.service.archive import SpoolArchive
from recorderd.service.cli import main
from recorderd.service.opening import open_spool
from recorderd.spool.index import Index
from recorderd.spool.keys import Identity, load_identities
from recorderd.spool.layout import Spool
from recorderd.spool.reader import Recording
from recorderd.spool.signing import find_host_public
from recorderd.spool.verify import verify
from tests.faults.strace import Act, Strace, acts_of
from tests.live.daemon import Installation
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Dtmf

SIP_PORT = 5060
TIMEOUT_S = 60.0

for _module in ("replay", "segments"):
    importlib.import_module(f"recorderd.service.{_module}")  # here, and not where descriptors are refused

Packets = dict[tuple[str, str, int, int], bytes]
"""Payloads by Call-ID, track, SSRC and sequence number."""

ACTS = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "syncfs", "rename", "renameat", "ftruncate",
    "unlink", "mkdir", "close",
)  # fmt: skip
"""What changes the disk, and what may tell of a failure on it."""


@dataclass
class Run:
    """One run of the recorder, and what is left of it."""

    spool: Spool
    code: int
    """Its exit code; negative where a signal killed it."""
    log: str
    acts: list[Act]
    told_sealed: set[str]
    """What the index called sealed when the recorder was gone."""
    identities: tuple[Identity, ...]
    calls: list[dict[str, Any]] = field(default_factory=list)
    recordings: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def packets(self) -> Packets:
        """All that can be opened; every recording is verified."""
        return packets_in(self.spool, self.identities)

    def outcomes(self) -> dict[str, tuple[str, str]]:
        """Outcome and reason by Call-ID."""
        return {call["call_id"]: (call["outcome"], call["reason"]) for call in self.calls}


class Scene:
    """A capture file of some calls, a configuration, and keys; each run has a spool of its own."""

    def __init__(self, folder: Path, calls: int = 3, talk_s: float = 3.0) -> None:
        self.folder = folder
        self.installation = Installation(folder / "installation", sip_ports=[SIP_PORT])
        simulator = PbxSimulator(seed=2026)
        for number in range(calls):
            script = CallScript(start_s=0.7 * number, talk_s=talk_s, happenings=(Dtmf(0.5, "4711"),))
            simulator.add(script)
        self.truths = simulator.calls
        self.capture = folder / "calls.pcap"
        simulator.write(self.capture)
        self.identities = load_identities([self.installation.identity])
        self._runs = 0

    @cached_property
    def whole(self) -> Run:
        """A run that nothing disturbs."""
        run = self.run(["trace=" + ",".join(ACTS)])
        assert run.code == 0, run.log
        self.settle(run)
        assert {name for name, _ in run.outcomes().values()} == {"complete"}
        assert len(run.packets) > 100 * len(self.truths)
        return run

    def run(
        self,
        expressions: Sequence[str] = (),
        *,
        late: bool = False,
        spool: Path | None = None,
        before: Callable[[], object] = int,
    ) -> Run:
        """Replay the calls in a process of its own, under strace with these expressions, if any.

        Strace counts in each thread from when it was there: before anything is done, or (``late``) at the end
        of the first window. ``before`` is called in that process.
        """
        self._runs += 1
        folder = self.folder / f"run-{self._runs}"
        folder.mkdir()
        spool = spool or folder / "spool"
        output, trace = folder / "output", folder / "trace"
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._replay(spool, output, theirs, before, late)
        theirs.close()
        ours.recv(1)
        tracer = Strace(pid, trace, list(expressions)) if expressions else None
        if tracer is not None:
            tracer.until_attached()
        with ours:
            ours.send(b"x")
            code = _wait(pid)
        if tracer is not None:
            tracer.close()
        acts = acts_of(trace) if tracer is not None else []
        return Run(Spool(spool), code, output.read_text(), acts, _sealed(spool), self.identities)

    def _replay(
        self, spool: Path, output: Path, wake: socket.socket, before: Callable[[], object], late: bool
    ) -> None:
        """The recorder's process, in which nothing of the test's goes on."""
        code = 70
        try:
            log = os.open(output, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            if not late:
                be_watched(wake)
            commit_each_window(wake if late else None)
            before()
            code = main(
                ["replay", str(self.capture), "-c", str(self.installation.config), "--spool", str(spool)]
            )
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def settle(self, run: Run) -> None:
        """Do what the next start does; what was finished before stays as it is."""
        spool = run.spool
        finished = {name: _content(spool, name) for name in spool.records()}
        config = load_config(self.installation.config).with_spool(spool.path)
        with open_spool(config) as opened:
            run.calls = opened.index.calls()
            run.recordings = opened.index.recordings()
            run.alerts = opened.index.alerts_pending()
        for name, content in finished.items():
            assert _content(spool, name) == content, f"{name} was finished, and is changed"
        states = {row["id"]: row["state"] for row in run.recordings}
        assert all(states.get(name) == "sealed" for name in run.told_sealed), (run.told_sealed, states)
        whole = self.whole.packets if "whole" in self.__dict__ else {}
        for key, payload in run.packets.items():
            assert whole.get(key, payload) == payload
        for call in run.calls:
            assert call["outcome"], call
            assert call["outcome"] == "complete" or call["reason"], call

    def missing(self, run: Run, call_id: str) -> int:
        """How many packets of a call a run has not."""
        return sum(key not in run.packets for key in self.whole.packets if key[0] == call_id)


def be_watched(wake: socket.socket) -> None:
    """Wait until strace is at work."""
    wake.send(b"r")
    wake.recv(1)


def commit_each_window(wake: socket.socket | None = None) -> None:
    """Let the recorder of this process wait for a commit after each window: a wire gives one a second, and a
    file a hundred. The first waits for strace, where that is told by ``wake``.
    """
    closed, waiting = SpoolArchive.window_closed, [wake] if wake is not None else []

    def and_commit(archive: SpoolArchive, end_ns: int) -> None:
        if waiting:
            be_watched(waiting.pop())
        closed(archive, end_ns)
        archive.commit.settle()
        archive.journal.settle()

    SpoolArchive.window_closed = and_commit  # type: ignore[method-assign]


def packets_in(spool: Spool, identities: Sequence[Identity]) -> Packets:
    """Every packet of every recording of a spool; each is verified, and is what it is said to be."""
    found: Packets = {}
    public = find_host_public(spool)
    assert not list(spool.parts())
    for name in spool.records():
        verdict = verify(spool, name, public, identities)
        assert verdict.ok, (name, verdict.problems)
        with Recording.open(spool.record_path(name), identities) as recording:
            media = list(recording.media())
            assert recording.status == "complete" or verdict.state != "sealed"
            streams = {e["stream"]: e for e in recording.events if e["event"] == "stream"}
            calls = [e["call_id"] for e in recording.events if e["event"] == "call"]
        for record in media:
            at = 0
            for row in record.rows:
                stream, end = streams[int(row["stream"])], at + int(row["size"])
                key = calls[0], stream["track"], stream["ssrc"], int(row["seq"])
                payload = record.payload[at:end].tobytes()
                assert found.get(key, payload) == payload, f"{key} is not what it was"
                found[key], at = payload, end
    return found


def _content(spool: Spool, name: str) -> tuple[bytes, bytes]:
    manifest = spool.manifest_path(name)
    return spool.record_path(name).read_bytes(), manifest.read_bytes() if manifest.exists() else b""


def _sealed(spool: Path) -> set[str]:
    """What the index calls sealed, without leaving a trace in it."""
    if not (spool / "index.db").exists():
        return set()
    with contextlib.suppress(Exception), Index.read(Spool(spool)) as index:
        return {row["id"] for row in index.recordings(state="sealed")}
    return set()


def _wait(pid: int) -> int:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"the recorder hung for {TIMEOUT_S:.0f} s")
