"""A recorder in a process of its own that tells what it did, and is stopped at a random moment.

Its capture clock runs ten times as fast as the wall's, and it commits ten times a second: what is lost is
told in the capture's seconds.
"""

import faulthandler
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recorderd.capture.files import open_capture
from recorderd.config import load_config
from recorderd.service.archive import SpoolArchive
from recorderd.service.commit import EVERY_S, Ended
from recorderd.service.engine import Engine
from recorderd.service.opening import archive_settings, engine_settings, open_spool, recipients_of
from recorderd.spool.layout import Spool
from recorderd.spool.reader import Recording
from recorderd.spool.writer import Sealed
from recorderd.wire.frames import Frames
from tests.faults.scene import Scene, packets_in

FASTER = 10
STEP_NS = 100_000_000


@dataclass
class Told:
    """What the recorder had told before it was stopped."""

    reached_ns: int = 0
    """How far it was in the capture."""
    sealed: set[str] = field(default_factory=set)


def record(scene: Scene, spool: Path, tell: Callable[[bytes], object]) -> None:
    """Record the scene's calls at ten times their pace, telling how far it is, and what is sealed."""

    class Telling(SpoolArchive):
        def sealed(self, ended: Ended, sealed: Sealed) -> None:
            super().sealed(ended, sealed)
            tell(f"sealed {sealed.recording}\n".encode())

    config = load_config(scene.installation.config).with_spool(spool)
    with open_spool(config) as opened:
        archive = Telling(
            opened.spool,
            opened.index,
            recipients_of(config),
            opened.host_key,
            commit_s=EVERY_S / FASTER,
            **archive_settings(config),
        )
        engine = Engine(archive, engine_settings(config, live=False))
        (frames,) = open_capture(scene.capture)
        start, began = int(frames.time_ns.min()), time.monotonic()
        for moment in range(start, int(frames.time_ns.max()) + STEP_NS, STEP_NS):
            time.sleep(max(0.0, began + (moment - start) / 1e9 / FASTER - time.monotonic()))
            now = (frames.time_ns >= moment - STEP_NS) & (frames.time_ns < moment)
            engine.feed(_some(frames, now))
            engine.advance(moment)
            tell(f"reached {moment}\n".encode())
        engine.finish("capture ended")
        archive.close()


def _some(frames: Frames, which: NDArray[np.bool_]) -> Frames:
    columns = ("time_ns", "data", "caplen", "wirelen")
    return replace(frames, **{name: getattr(frames, name)[which] for name in columns})


def stopped(scene: Scene, spool: Path, after_s: float, stop: Callable[[], object] = int) -> Told:
    """Record, and stop so long after the first 0.1 s of the capture: by ``stop``, and SIGKILL behind it."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            faulthandler.disable()  # a file system without power is no memory to read an index from
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 2)
            record(scene, spool, theirs.sendall)
        finally:
            os._exit(1)
    theirs.close()
    told = Told()
    with ours, ours.makefile("rb") as stream:
        first = stream.readline()
        time.sleep(after_s)
        stop()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for line in [first, *stream]:
            what, value = line.decode().split()
            if what == "sealed":
                told.sealed.add(value)
            else:
                told.reached_ns = int(value)
    return told


def tails(scene: Scene, spool: Spool, told: Told) -> list[float]:
    """Check what is left after the next start; how many seconds of the capture each call in progress lost."""
    config = load_config(scene.installation.config).with_spool(spool.path)
    with open_spool(config) as opened:
        rows = opened.index.recordings()
    states = {row["id"]: row["state"] for row in rows}
    assert all(states.get(name) == "sealed" for name in told.sealed), (told.sealed, states)
    packets = packets_in(spool, scene.identities)
    assert all(scene.whole.packets[key] == payload for key, payload in packets.items())
    ends: dict[str, float] = {}
    for name in spool.records():
        with Recording.open(spool.record_path(name), scene.identities) as recording:
            times = [record.base_time_us + int(record.rows["time"].max()) for record in recording.media()]
            begun = [event["call_id"] for event in recording.events if event["event"] == "call"]
            if not begun:
                continue  # killed between the header and the first record
            call_id = begun[0]
            if recording.status == "complete" and name in told.sealed:
                ends[call_id] = float("inf")
            elif times:
                ends[call_id] = max(times) / 1e6
    found = []
    for call in scene.whole.calls:
        began, ended = (datetime.fromisoformat(call[key]).timestamp() for key in ("answered_at", "ended_at"))
        reached = min(told.reached_ns / 1e9, ended)
        if began < reached:
            found.append(max(0.0, reached - max(ends.get(call["call_id"], began), began)))
    return found
