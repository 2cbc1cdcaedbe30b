"""Plays a capture file onto an interface, each packet at its own time."""

import socket
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path

from recorderd.capture.files import open_capture


def play(
    capture: Path, wire: socket.socket, *, at_ns: int | None = None, then: Callable[[], None] | None = None
) -> float:
    """Send every frame when its time has come; returns how late, in seconds, the latest one left.

    ``then`` is called at ``at_ns``, after all frames before and before all others, which are put off for as
    long as it takes.
    """
    latest, put_off = 0.0, 0
    for time_ns, frame in _in_order(capture):
        if then is not None and at_ns is not None and time_ns >= at_ns:
            time.sleep(max(0.0, (at_ns - time.time_ns()) / 1e9))
            then()
            then, put_off = None, max(0, time.time_ns() - at_ns)
        ahead = (time_ns + put_off - time.time_ns()) / 1e9
        if ahead > 0:
            time.sleep(ahead)
        else:
            latest = max(latest, -ahead)
        wire.send(frame)
    return latest


def _in_order(capture: Path) -> Iterator[tuple[int, bytes]]:
    """The frames with their times; those of a batch that came apart are put in their places again."""
    waiting: list[tuple[int, bytes]] = []
    for frames in open_capture(capture):
        columns = frames.time_ns.tolist(), frames.caplen.tolist(), frames.data
        waiting += [(time_ns, row[:length].tobytes()) for time_ns, length, row in zip(*columns, strict=True)]
        if not frames.unfinished:
            yield from sorted(waiting, key=itemgetter(0))
            waiting.clear()
