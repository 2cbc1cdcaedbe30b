"""How fast copies are made: put and read back through each kind of remote, against the disk and the loopback.

    python -m tests.bench.remotes [--mb 200] [--folder DIR]

One JSON line for each: bytes a second of wall time, and seconds of this process's processor a GB. The servers
are real (OpenSSH, nginx) and run on the same processors, so they share what there is.
"""

import argparse
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from recorderd.spool.stores import CHUNK, LocalStore, Store, open_store, stored_hash
from tests.live.ssh_server import SshServer
from tests.live.web_server import WebServer

NAME = "2026-11-21/20261121T200501Z-0123456789.rec"


def measured(what: str, size: int, work: Callable[[], object]) -> None:
    """Do it, and say how fast it was."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    line = {"what": what, "mb_s": round(size / wall / 1e6, 1), "cpu_s_gb": round(processor / size * 1e9, 2)}
    print(json.dumps(line), flush=True)


def loopback(size: int) -> None:
    """Bytes over TCP to a thread that drops them: no disk, no encryption."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drain() -> None:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(CHUNK):
                    pass

        thread = threading.Thread(target=drain)
        thread.start()
        with socket.create_connection(listener.getsockname()) as sender:
            block = bytes(CHUNK)
            for _ in range(size // CHUNK):
                sender.sendall(block)
        thread.join()


def carried(kind: str, store: Store, source: Path) -> None:
    """Put, and read back as verifying does."""
    size = source.stat().st_size
    measured(f"{kind} put", size, lambda: store.put(NAME, source))
    measured(f"{kind} read back", size, lambda: stored_hash(store, NAME))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        folder = Path(made)
        source = folder / "source"
        with source.open("wb") as file:
            for _ in range(arguments.mb * 1_000_000 // CHUNK):
                file.write(os.urandom(CHUNK))
        measured("loopback", source.stat().st_size, lambda: loopback(source.stat().st_size))
        carried("folder", LocalStore.create(folder / "local"), source)
        with SshServer(folder / "ssh") as server:
            carried("sftp", open_store(server.remote()), source)
        with WebServer(folder / "web") as web:
            carried("webdav", open_store(web.remote()), source)


if __name__ == "__main__":
    main()
