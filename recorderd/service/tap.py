"""The live tap: the kernel's rings, drained into the engine for as long as the daemon runs."""

import logging
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from recorderd.capture.bpf import Share
from recorderd.capture.packet_socket import Condition
from recorderd.capture.ring import HEADROOM, Ring
from recorderd.config import Config
from recorderd.errors import CaptureError
from recorderd.service.engine import Engine
from recorderd.service.overload import Overload
from recorderd.wire.frames import Frames

log = logging.getLogger(__name__)

Kind = Literal["media", "signalling"]
KINDS: Final[tuple[Kind, Kind]] = ("signalling", "media")

SETTLE_NS: Final = 20_000_000
"""A packet is stamped before it stands in the ring; windows close this much later than the clock says."""

BATCH_S: Final = 0.02
"""Under load, packets are let gather for this long: one large batch costs less than many small ones."""

DRAIN_S: Final = 0.25
"""A flood must not keep windows from closing: a ring is left after this long, full or not."""

IDLE_S: Final = 0.2
LOOK_S: Final = 1.0
"""How often the interfaces are looked after."""

TAKE: Final = 16_384

RELIEF_FILL: Final = 0.05
"""A ring less full than this is left alone while the engine is at work."""
MOST_TAKEN: Final = 64


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


@dataclass(slots=True)
class _Opened:
    """One ring, and what is known of its interface."""

    interface: str
    kind: Kind
    ring: Ring | None
    condition: Condition = Condition.UP
    packets: int = 0
    drops: int = 0
    read_ns: int = 0
    """When the drops were last read."""


class Tap:
    """All rings of a daemon."""

    def __init__(self, config: Config, share: Share | None = None) -> None:
        """Open the rings, of all media or of a share of it.

        Raises CaptureError for an interface that cannot be tapped.
        """
        self._config, self._share = config.capture, share
        self._taps: list[_Opened] = []
        self._looked = 0.0
        self.overload = Overload()
        self.fullest = 0.0
        """How full a ring ever was, 0 to 1."""
        self._fill = 0.0
        self._taken: list[Frames] = []
        try:
            for name in interfaces(config):
                for kind in KINDS:
                    self._taps.append(_Opened(name, kind, self._open(name, kind)))
        except CaptureError:
            self.close()
            raise

    def _open(self, interface: str, kind: Kind) -> Ring:
        capture = self._config
        signalling = kind == "signalling"
        return Ring(
            interface,
            kind,
            sip_ports=frozenset(capture.sip_ports),
            frame_bytes=capture.signalling_frame_bytes if signalling else capture.media_frame_bytes,
            ring_mb=capture.signalling_ring_mb if signalling else capture.media_ring_mb,
            media_bytes=capture.media_frame_bytes - HEADROOM,
            share=self._share,
        )

    @property
    def interfaces(self) -> list[str]:
        """The interfaces that are tapped."""
        return list(dict.fromkeys(tap.interface for tap in self._taps))

    def close(self) -> None:
        """Give the rings back to the kernel."""
        for tap in self._taps:
            if tap.ring is not None:
                tap.ring.close()

    def run(self, engine: Engine, stopping: Callable[[], bool], each_round: Callable[[], None]) -> None:
        """Feed the engine until ``stopping()``; ``each_round`` is called a few times a second at least."""
        engine.handout.relief = lambda: self._relieve(engine)
        while not stopping():
            now = time.time_ns()
            busy = self._drain(engine)
            engine.advance(now - SETTLE_NS)
            self._shed(engine)
            each_round()
            self._look_after()
            if busy:
                time.sleep(BATCH_S)
            else:
                self._wait()
        self._drain(engine)

    def _wait(self) -> None:
        """Until a packet arrives. Interfaces that are not up report errors without end: they are left out."""
        poll = select.poll()
        for tap in self._taps:
            if tap.ring is not None and tap.condition is Condition.UP:
                poll.register(tap.ring.fileno(), select.POLLIN)
        poll.poll(IDLE_S * 1000)

    def _drain(self, engine: Engine) -> bool:
        busy = bool(self._taken)
        taken, self._taken = self._taken, []
        for earlier in taken:
            engine.feed(earlier)
        for tap in self._taps:
            if tap.ring is None:
                continue
            self._fill = max(self._fill, tap.ring.fill())
            until = time.monotonic() + DRAIN_S
            while time.monotonic() < until and (frames := self._take(tap.ring, engine)) is not None:
                busy = True
                engine.feed(frames)
            tap.packets, drops = tap.ring.statistics()
            before, tap.read_ns = tap.read_ns, time.time_ns()
            if drops > tap.drops:
                engine.dropped(drops - tap.drops, before, tap.read_ns)
                log.warning("%s: the kernel dropped %d packets", tap.interface, drops - tap.drops)
                tap.drops = drops
        return busy

    def _relieve(self, engine: Engine) -> None:
        """Empty the rings while the engine is at work; it gets the packets afterwards."""
        for tap in self._taps:
            if tap.ring is None:
                continue
            fill = tap.ring.fill()
            self._fill = max(self._fill, fill)
            if fill < RELIEF_FILL:
                continue
            while (frames := self._take(tap.ring, engine)) is not None:
                self._taken.append(frames)
                if len(self._taken) >= MOST_TAKEN:
                    return

    @staticmethod
    def _take(ring: Ring, engine: Engine) -> Frames | None:
        with engine.stages["capture"]:
            return ring.take(TAKE)

    def _shed(self, engine: Engine) -> None:
        """Do without what can be spared while the rings fill faster than they are emptied."""
        overload, before, recordings = self.overload, self.overload.level, engine.recordings
        count = overload.look(self._fill, len(recordings), time.monotonic())
        self.fullest = max(self.fullest, self._fill)
        self._fill = 0.0
        recordings.level, recordings.budget = overload.level, overload.budget
        if overload.level != before:
            log.warning("overload: %s", overload.level.told)
        if count and (count := engine.give_up(count)):
            log.error("overload: %d calls in progress given up, %d left", count, len(recordings))

    def _look_after(self) -> None:
        """Notice interfaces that went down, came up, or were removed and made anew."""
        if (now := time.monotonic()) - self._looked < LOOK_S:
            return
        self._looked = now
        for tap in self._taps:
            before = tap.condition
            if tap.ring is not None:
                tap.condition = tap.ring.condition()
                if tap.condition is Condition.GONE:
                    tap.ring.close()
                    tap.ring = None
            elif (Path("/sys/class/net") / tap.interface).exists():
                try:
                    tap.ring, tap.condition, tap.drops = self._open(tap.interface, tap.kind), Condition.UP, 0
                except CaptureError as error:
                    log.warning("%s", error)
            if tap.condition is not before:
                log.warning("%s: interface is %s", tap.interface, tap.condition.value)

    def status(self) -> list[dict[str, Any]]:
        """Packets and drops of each ring, for the control socket."""
        return [
            {
                "interface": tap.interface,
                "kind": tap.kind,
                "state": tap.condition.value,
                "packets": tap.packets,
                "drops": tap.drops,
            }
            for tap in self._taps
        ]
