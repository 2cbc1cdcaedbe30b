"""Plays a capture file onto an interface, each packet at its own time."""

import socket
import time
from pathlib import Path

from recorderd.capture.files import open_capture


def play(capture: Path, wire: socket.socket) -> float:
    """Send every frame when its time has come; returns how late, in seconds, the latest one left."""
    latest = 0.0
    for frames in open_capture(capture):
        lengths = frames.caplen.tolist()
        for row, (time_ns, length) in enumerate(zip(frames.time_ns.tolist(), lengths, strict=True)):
            ahead = (time_ns - time.time_ns()) / 1e9
            if ahead > 0:
                time.sleep(ahead)
            else:
                latest = max(latest, -ahead)
            wire.send(frames.data[row, :length].tobytes())
    return latest
