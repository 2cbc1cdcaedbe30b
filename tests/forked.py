"""A forked process that does something and dies as a killed one does."""

import os
import signal
import socket
from collections.abc import Callable


def forked(run: Callable[[Callable[[bytes], object]], object]) -> tuple[int, socket.socket]:
    """Call ``run(tell)`` in a child, which is killed after it at the latest; its pid, and where it tells."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            run(theirs.sendall)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    theirs.close()
    return pid, ours


def told_by(pid: int, socket_of: socket.socket) -> list[bytes]:
    """The words that a child told until it died."""
    with socket_of, socket_of.makefile("rb") as stream:
        words = stream.read().split()
    os.waitpid(pid, 0)
    return words
