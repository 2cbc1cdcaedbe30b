"""The outbox's carrying in a process of its own, by a clock in a file, until it is killed::

python -m tests.faults.carrier CONFIG CLOCK PUTS

CLOCK holds ns since 1970, 8 bytes; each put that ended is a line in PUTS.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from recorderd.config import load_config
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.stores import Store
from recorderd.spool.sync import Synchronizer, configured_remotes

LOOKS_S = 0.02


class Clock:
    """A clock that somebody else sets."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> int:
        return int.from_bytes(self.path.read_bytes()[:8], "big")

    def set(self, now_ns: int) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(descriptor, now_ns.to_bytes(8, "big"), 0)
        os.close(descriptor)


class Counted:
    """A store that writes down what was put."""

    def __init__(self, store: Store, remote: str, puts: int) -> None:
        self._store, self._remote, self._puts = store, remote, puts

    def put(self, name: str, *more: Any) -> None:
        self._store.put(name, *more)
        os.write(self._puts, f"{self._remote} {name}\n".encode())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def main(config_file: str, clock_file: str, puts_file: str) -> None:
    config = load_config(Path(config_file))
    spool = Spool(config.spool.path)
    puts = os.open(puts_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    remotes = {
        name: replace(remote, store=Counted(remote.store, name, puts))
        for name, remote in configured_remotes(config.sync.remotes).items()
    }
    with Index.open(spool) as index:
        synchronizer = Synchronizer(spool, index, remotes, Clock(Path(clock_file)))
        while True:
            synchronizer.run()
            time.sleep(LOOKS_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
