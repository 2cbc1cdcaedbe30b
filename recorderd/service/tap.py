"""The live tap: the kernel's rings, drained into the engine for as long as the daemon runs."""

import logging
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from recorderd.capture.ring import Ring
from recorderd.config import Config
from recorderd.errors import CaptureError
from recorderd.service.engine import Engine

log = logging.getLogger(__name__)

SETTLE_NS: Final = 20_000_000
"""A packet is stamped before it stands in the ring; windows close this much later than the clock says."""

BATCH_S: Final = 0.02
"""Under load, packets are let gather for this long: one large batch costs less than many small ones."""

IDLE_S: Final = 0.2
TAKE: Final = 16_384


def interfaces(config: Config) -> list[str]:
    """The interfaces to tap. Raises CaptureError where ``auto`` finds none."""
    if config.capture.interfaces != "auto":
        return list(config.capture.interfaces)
    found = sorted(link.name for link in Path("/sys/class/net").iterdir() if _is_up(link))
    if not found:
        raise CaptureError("no interface is up")
    return found


def _is_up(link: Path) -> bool:
    try:
        return bool(int((link / "flags").read_text(), 16) & 1)  # IFF_UP, netdevice(7)
    except (OSError, ValueError):
        return False


class Tap:
    """All rings of a daemon."""

    def __init__(self, config: Config) -> None:
        """Open the rings. Raises CaptureError for an interface that cannot be tapped."""
        capture = config.capture
        ports = frozenset(capture.sip_ports)
        self.rings: list[Ring] = []
        try:
            for name in interfaces(config):
                for kind, frame_bytes, ring_mb in (
                    ("signalling", capture.signalling_frame_bytes, capture.signalling_ring_mb),
                    ("media", capture.media_frame_bytes, capture.media_ring_mb),
                ):
                    ring = Ring(name, kind, sip_ports=ports, frame_bytes=frame_bytes, ring_mb=ring_mb)
                    self.rings.append(ring)
        except CaptureError:
            self.close()
            raise
        self._drops = [0] * len(self.rings)

    def close(self) -> None:
        """Give the rings back to the kernel."""
        for ring in self.rings:
            ring.close()

    def run(self, engine: Engine, stopping: Callable[[], bool], each_round: Callable[[], None]) -> None:
        """Feed the engine until ``stopping()``; ``each_round`` is called a few times a second at least."""
        poll = select.poll()
        for ring in self.rings:
            poll.register(ring.fileno(), select.POLLIN)
        while not stopping():
            now = time.time_ns()
            busy = self._drain(engine)
            engine.advance(now - SETTLE_NS)
            each_round()
            if busy:
                time.sleep(BATCH_S)
            else:
                poll.poll(IDLE_S * 1000)
        self._drain(engine)

    def _drain(self, engine: Engine) -> bool:
        busy = False
        for position, ring in enumerate(self.rings):
            while (frames := ring.take(TAKE)) is not None:
                busy = True
                engine.feed(frames)
            _, drops = ring.statistics()
            if drops > self._drops[position]:
                engine.dropped(drops - self._drops[position])
                log.warning(
                    "%s: the kernel dropped %d packets", ring.interface, drops - self._drops[position]
                )
                self._drops[position] = drops
        return busy

    def status(self) -> list[dict[str, Any]]:
        """Packets and drops of each ring, for the control socket."""
        out = []
        for ring in self.rings:
            packets, drops = ring.statistics()
            out.append({"interface": ring.interface, "kind": ring.kind, "packets": packets, "drops": drops})
        return out
