"""One of several recording processes of `recorderd capture`; :mod:`recorderd.service.workers` starts it.

It gets all signalling and its share of the media, records the calls that are its own, and gives to the others
what belongs to theirs. It inherits the memory of the mailboxes, a socket to its supervisor, and the lock of
the spool, which so is held for as long as any worker lives.
"""

import argparse
import contextlib
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from recorderd import libraries
from recorderd.calls.ownership import Blindness
from recorderd.capture.bpf import Share
from recorderd.config import Config, load_config
from recorderd.service.capture import record
from recorderd.service.colleagues import Colleagues
from recorderd.service.daemon import Service, guarded, set_up_logging
from recorderd.service.docket import Docket
from recorderd.service.engine import Engine
from recorderd.service.exchange import Exchange
from recorderd.service.handover import Handed
from recorderd.service.hep_listener import WORKERS
from recorderd.service.opening import allow_many_files, archive_settings, recipients_of
from recorderd.service.worker_archive import WorkerArchive
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.signing import HostKey

FLUSH_S: Final = 0.1
"""Packets for another worker gather for this long; it waits longer for late ones (``capture.grace_ms``)."""

MAX_MESSAGE: Final = 1 << 18


class Member:
    """A worker among the others."""

    def __init__(self, number: int, count: int, memory: int, link: socket.socket) -> None:
        """``memory`` is the descriptor of the mailboxes, ``link`` the socket to the supervisor."""
        self.colleagues, self.share = Colleagues(number, count), Share(number, count)
        self._exchange = Exchange(memory, number, count)
        self._link = link
        self._link.setblocking(False)
        self._sees_from = 0
        self._flushed = 0.0
        self._closed_ns = 0

    def opened(self) -> None:
        """From now on this process sees all signalling."""
        self._sees_from = time.time_ns()

    def exchange(self, engine: Engine) -> None:
        """Give to the others what is theirs, take what is ours, and hear who has died."""
        self._listen(engine)
        for mailbox in self._exchange.incoming.values():
            for message in mailbox.take():
                engine.take_over(Handed.decode(message))
        if (now := time.monotonic()) - self._flushed >= FLUSH_S:
            self._flushed = now
            self.colleagues.flush(lambda worker, message: self._exchange.outgoing[worker].put(message))
        self._closed_ns = engine.closed_ns or time.time_ns()

    def _listen(self, engine: Engine) -> None:
        with contextlib.suppress(BlockingIOError):
            while message := self._link.recv(MAX_MESSAGE):
                if message.startswith(WORKERS):
                    engine.hear_hep([(int.from_bytes(message[1:9], "big"), message[9:])])
                    continue
                told = json.loads(message)
                if "asked" in told:
                    answer = engine.pausing.command(told["asked"], time.time_ns() // 1000)
                    self._link.send(json.dumps({"answer": answer, "number": told["number"]}).encode())
                    continue
                periods = [Blindness(*period) for period in told["blind"]]
                engine.workers_blind(tuple(map(self._as_seen_here, periods)))

    def _as_seen_here(self, period: Blindness) -> Blindness:
        """Of an earlier life of this worker only this one knows when it ended."""
        mine = period.worker == self.share.number and period.until_ns is None
        return Blindness(period.worker, period.from_ns, self._sees_from) if mine else period

    def report(self, status: dict[str, Any]) -> None:
        """Tell the supervisor that this worker lives, and what it does."""
        counters = {**status["counters"], **self.colleagues.counters}
        told = {"sees_from": self._sees_from, "closed_ns": self._closed_ns}
        with contextlib.suppress(OSError):
            self._link.send(json.dumps({**status, "counters": counters, "worker": told}).encode())


def work(config: Config, number: int, count: int, memory: int, link: int, docket: Path) -> int:
    """Record until told to stop."""
    service = Service(f"recorderd capture, worker {number + 1}")
    recipients = recipients_of(config)
    allow_many_files()
    spool = Spool(config.spool.path)
    host_key = HostKey.load_or_create(config.signing_key, spool.host_public_path)
    with socket.socket(fileno=link) as connection, contextlib.closing(Docket(docket)) as in_hand:
        member = Member(number, count, memory, connection)
        with Index.open(spool) as index:
            archive = WorkerArchive(
                spool,
                index,
                recipients,
                host_key,
                docket=in_hand,
                colleagues=member.colleagues,
                **archive_settings(config),
            )
            with archive:
                record(config, service, archive, member.report, member)
    return 0


def main() -> int:
    """Run a worker; the arguments are the supervisor's."""
    libraries.prepare()
    libraries.recording()
    parser = argparse.ArgumentParser()
    for name in ("--number", "--count", "--memory", "--link"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--docket", "--config", "--spool"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    set_up_logging()

    def run() -> int:
        config = load_config(given.config)
        config = config.with_spool(given.spool) if given.spool else config
        return work(config, given.number, given.count, given.memory, given.link, given.docket)

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
