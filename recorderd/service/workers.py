"""`recorderd capture` with several workers: the process that holds the spool, starts the workers, restarts
one that dies, settles what it left behind, and speaks for all of them.
"""

import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from recorderd.calls.ownership import Blindness
from recorderd.config import Config
from recorderd.errors import RecorderError
from recorderd.service.control import Asked, ControlSocket
from recorderd.service.daemon import Service, die_with_parent
from recorderd.service.docket import read_docket
from recorderd.service.exchange import make_exchange
from recorderd.service.hep_listener import WORKERS, listening
from recorderd.service.inquiries import Inquiries
from recorderd.service.opening import Opened, open_spool, recipients_of, settled
from recorderd.service.worker_status import merged
from recorderd.spool.recovery import recover_some

log = logging.getLogger(__name__)

ROUND_S: Final = 0.2
RESTART_S: Final = 0.5
SILENT_S: Final = 6.0
"""A worker that says nothing for so long hangs, and is killed: before the watchdog takes all of them."""
START_S: Final = 60.0
STOP_S: Final = 25.0
MAX_REPORT: Final = 1 << 18
HEP_WAIT_S: Final = 0.05
"""How long signalling by HEP waits for a worker to read what it has."""
MAX_PERIODS: Final = 64


@dataclass(slots=True)
class _Worker:
    """One worker, in one life after the other."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    link: socket.socket | None = None
    docket: Path = Path()
    heard: float = 0.0
    status: dict[str, Any] | None = None
    """What it last reported in this life."""
    restart_at: float | None = None
    lives: int = 0
    answers: list[dict[str, Any]] = field(default_factory=list)
    """To commands that were passed on."""

    def read(self) -> bool:
        """Take in its reports; True for the first one of a life."""
        assert self.link is not None
        before = self.status
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while report := self.link.recv(MAX_REPORT):
                told, self.heard = json.loads(report), time.monotonic()
                if "answer" in told:
                    self.answers.append(told)
                else:
                    self.status = told
        return before is None and self.status is not None


class Crew:
    """All workers. A context manager: they are stopped with it."""

    def __init__(self, opened: Opened, count: int, arguments: list[str]) -> None:
        """``count`` workers on a spool; each reads the configuration that ``arguments`` name."""
        self._opened, self._count, self._arguments = opened, count, arguments
        self._memory = make_exchange(count)
        self._folder = opened.spool.path / "workers"
        self._blind: list[Blindness] = []
        self._aftermath = ThreadPoolExecutor(1, "aftermath")
        self._settling: list[Future[None]] = []
        self.inquiries = Inquiries()
        self.restarts = 0
        self.workers = [_Worker(number) for number in range(count)]
        for left in self._folder.glob("*"):
            left.unlink()  # of an earlier daemon: all of its recordings are recovered
        for worker in self.workers:
            self._start(worker)

    @property
    def ready(self) -> bool:
        """Whether every worker records."""
        return all(worker.status is not None for worker in self.workers)

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """What each worker last said, in their order; of one that is dead, that it is."""
        return [worker.status or {"state": "starting"} for worker in self.workers]

    def _start(self, worker: _Worker) -> None:
        worker.restart_at, worker.status = None, None
        worker.lives += 1
        worker.docket = self._folder / f"{worker.number + 1}-{worker.lives}.jsonl"
        worker.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        worker.link.setblocking(False)
        command = [sys.executable, "-P", "-m", "recorderd.service.capture_worker", *self._arguments]
        settings = {"number": worker.number, "count": self._count, "memory": self._memory}
        settings |= {"link": theirs.fileno()}
        command += [f"--{name}={value}" for name, value in settings.items()]
        environment = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
        with theirs:
            # A group of its own: Ctrl-C reaches the supervisor, which stops all. Should that one die, they do
            # at once: the next one is to find the spool without them.
            worker.process = subprocess.Popen(
                [*command, f"--docket={worker.docket}"],
                env=environment,
                process_group=0,
                preexec_fn=partial(die_with_parent, signal.SIGKILL),
                pass_fds=(self._memory, theirs.fileno(), self._opened.lock.fileno()),
            )
        worker.heard = time.monotonic() + START_S
        self._tell(worker)

    def listen(self, seconds: float) -> None:
        """Wait for reports, ``seconds`` at most."""
        links = {worker.link.fileno(): worker for worker in self.workers if worker.link is not None}
        readable, _, _ = select.select(list(links), [], [], seconds)
        for descriptor in readable:
            worker = links[descriptor]
            first = worker.read()
            self.inquiries.heard(worker.answers)
            if first and worker.lives > 1 and worker.status is not None:
                self._sees_again(worker.number, worker.status["worker"]["sees_from"])

    def check(self) -> int | None:
        """Look after the workers: the exit code where one could not even start, else None."""
        now = time.monotonic()
        for worker in self.workers:
            if worker.process is None:
                if worker.restart_at is not None and worker.restart_at <= now:
                    self._start(worker)
                continue
            code = worker.process.poll()
            if code is None:
                if now - worker.heard > SILENT_S:
                    log.error("worker %d hangs; killing it", worker.number + 1)
                    worker.process.kill()
                continue
            worker.read()
            if worker.lives == 1 and worker.status is None:
                return code if code > 0 else 1
            log.error("worker %d ended with %d; starting it again", worker.number + 1, code)
            self._died(worker)
        self._collect()
        return None

    def _died(self, worker: _Worker) -> None:
        """One is dead: its calls are settled, the others learn of it, and soon there is another."""
        assert worker.link is not None
        worker.link.close()
        if worker.status is not None:
            closed = min(worker.status["worker"]["closed_ns"], time.time_ns())
            self._blind = [*self._blind[1 - MAX_PERIODS :], Blindness(worker.number, closed)]
        worker.process, worker.link, worker.status = None, None, None
        worker.restart_at = time.monotonic() + RESTART_S
        self.restarts += 1
        self._settling.append(self._aftermath.submit(settle, self._opened, worker.docket))
        self._tell(*self.workers)

    def _sees_again(self, number: int, since_ns: int) -> None:
        self._blind = [
            Blindness(number, period.from_ns, since_ns)
            if period.worker == number and period.until_ns is None
            else period
            for period in self._blind
        ]
        self._tell(*self.workers)

    def _tell(self, *workers: _Worker) -> None:
        message = json.dumps({"blind": [[p.worker, p.from_ns, p.until_ns] for p in self._blind]}).encode()
        for worker in workers:
            if worker.link is not None:
                with contextlib.suppress(OSError):  # it is dead, or hangs: check() sees to it
                    worker.link.send(message)

    def pass_on(self, asked: Asked) -> None:
        """Pass a command on to every worker; what the one says that has the call is the answer."""
        running = [worker for worker in self.workers if worker.status is not None]
        number = self.inquiries.begin(asked, len(running))
        message = json.dumps({"asked": asked.request, "number": number}).encode()
        for worker in running:
            if worker.link is not None:
                with contextlib.suppress(OSError):
                    worker.link.send(message)

    def hear_hep(self, arrived_ns: int, packet: bytes) -> bool:
        """Give a HEP packet to every worker; False where one has no room. For the listening thread."""
        message = WORKERS + arrived_ns.to_bytes(8, "big") + packet
        heard = True
        for link in [worker.link for worker in self.workers]:
            if link is None:
                continue  # it is being started again, and sees what comes then
            try:
                select.select([], [link], [], HEP_WAIT_S)
                link.send(message)
            except (OSError, ValueError):
                heard = False
        return heard

    def _collect(self) -> None:
        """What could not be settled now is when the service next starts."""
        for future in [future for future in self._settling if future.done()]:
            self._settling.remove(future)
            error = future.exception()
            if isinstance(error, RecorderError):
                log.error("what a worker left behind is not settled: %s", error)
            elif error is not None:
                raise error

    def stop(self) -> None:
        """Let all workers seal what they have, at the same time."""
        running = [worker.process for worker in self.workers if worker.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + STOP_S
        for process in running:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("a worker did not stop within %.0f s; killing it", STOP_S)
                process.kill()
                process.wait()
        self._aftermath.shutdown()
        for worker in self.workers:
            if worker.link is not None:
                worker.link.close()
        os.close(self._memory)


def settle(opened: Opened, docket: Path) -> None:
    """Recover what a dead worker was recording, and account for its calls. Raises SpoolError, DiskFull."""
    rows = read_docket(docket)
    recordings = [row["recording"] for row in rows if row.get("recording")]
    for found in recover_some(opened.spool, recordings, opened.index, opened.host_key):
        log.warning("%s", found)
    with opened.index.batch():
        for row in rows:
            opened.index.call_noted(row)
    keys = {(row["first_seen"], row["call_id"]) for row in rows}
    alerts = settled(opened.index, keys)
    if opened.notary is not None:
        opened.notary.ask(alerts)
    docket.unlink(missing_ok=True)


def supervise(config: Config, count: int, arguments: list[str]) -> int:
    """Record with several workers until told to stop."""
    service = Service("recorderd capture")
    recipients_of(config)  # wrong: told here once, not by each worker
    if config.conversations.join:
        log.warning("with several workers each call is a recording of its own: calls are not joined")
    code: int | None = None
    told_ready = False
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_spool(config))
        control = stack.enter_context(contextlib.closing(ControlSocket(config.control_socket)))
        crew = Crew(opened, count, arguments)
        stack.callback(crew.stop)
        hep = stack.enter_context(listening(config, crew.hear_hep))
        while not service.stopping() and code is None:
            crew.listen(ROUND_S)
            if crew.ready and not told_ready:
                told_ready = True
                service.ready(f"recording calls with {count} workers")
            if told_ready:
                status = merged(crew.statuses, crew.restarts)
                control.publish(
                    status | {"counters": status.get("counters", {}) | (hep.counters if hep else {})}
                )
            for asked in control.asked():
                crew.pass_on(asked)
            if hep:
                hep.check()
            service.notifier.alive()
            code = crew.check()
        service.notifier.stopping("sealing the calls in progress")
    return code or 0
