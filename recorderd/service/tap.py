"""The live tap: the kernel's rings, drained into the engine for as long as the daemon runs."""

import logging
import select
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from recorderd.capture.bpf import Share
from recorderd.capture.packet_socket import Condition
from recorderd.capture.ring import HEADROOM, Ring
from recorderd.config import Config
from recorderd.errors import CaptureError
from recorderd.service.clock_watch import ClockWatch
from recorderd.service.engine import Engine
from recorderd.service.overload import Overload, shortage
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
MOST_TAKEN_NS: Final = 2_000_000_000
"""What was taken out for relief is bounded in batches, and in time: a long queue would hide for too long that
the recorder does not keep up.
"""


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
    taken: deque[Frames] = field(default_factory=deque)
    """What was taken out while the engine was at work, and it has yet to get."""
    reached_ns: int | None = None
    """When what the engine got last was captured; None where it got all that there is."""

    @property
    def has_room(self) -> bool:
        """Whether more may be taken before the engine gets it."""
        taken = self.taken
        long = bool(taken) and int(taken[-1].time_ns[-1] - taken[0].time_ns[0]) >= MOST_TAKEN_NS
        return len(taken) < MOST_TAKEN and not long


class Tap:
    """All rings of a daemon."""

    def __init__(self, config: Config, share: Share | None = None) -> None:
        """Open the rings, of all media or of a share of it.

        Raises CaptureError for an interface that cannot be tapped.
        """
        self._config, self._share = config.capture, share
        self._taps: list[_Opened] = []
        self._looked = 0.0
        self._clock = ClockWatch()
        self.overload = Overload()
        self.fullest = 0.0
        """How full a ring ever was, 0 to 1."""
        self._fill = 0.0
        self._closed_ns, self._shed_s = 0, 0.0
        """The end of the last window, and when that was closed."""
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
            # One filter for all signalling; what is what, the dissector tells.
            sip_ports=frozenset((*capture.sip_ports, *capture.ws_ports, *capture.hep_ports)),
            frame_bytes=capture.signalling_frame_bytes if signalling else capture.media_frame_bytes,
            ring_mb=capture.signalling_ring_mb if signalling else capture.media_ring_mb,
            media_bytes=capture.media_frame_bytes - HEADROOM,
            share=self._share,
            tunnels=capture.tunnels_opened(live=True),
            promiscuous=capture.promiscuous,
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
            if leap := self._clock.leap(now, time.monotonic_ns()):
                log.warning("the host's clock was set by %+.1f s", leap / 1e9)
                if leap > 0:
                    engine.clock_leapt(leap)
            busy = self._drain(engine)
            behind_ns = self._behind_ns(now)
            # A window is not over before the engine has got what was captured in it, however late that is.
            engine.advance(now - behind_ns - SETTLE_NS)
            self._shed(engine, behind_ns)
            each_round()
            self._look_after()
            if not busy:
                self._wait()
            elif not behind_ns:
                time.sleep(BATCH_S)
        now = time.time_ns()
        while self._drain(engine) and self._behind_ns(now):
            engine.advance(now - self._behind_ns(now) - SETTLE_NS)
            each_round()

    def _behind_ns(self, now_ns: int) -> int:
        """How long ago what the engine got last was captured; 0 where it got all there was at a time."""
        reached = min((tap.reached_ns for tap in self._taps if tap.reached_ns is not None), default=now_ns)
        return max(0, now_ns - reached)

    def _wait(self) -> None:
        """Until a packet arrives. Interfaces that are not up report errors without end: they are left out."""
        poll = select.poll()
        for tap in self._taps:
            if tap.ring is not None and tap.condition is Condition.UP:
                poll.register(tap.ring.fileno(), select.POLLIN)
        poll.poll(IDLE_S * 1000)

    def _drain(self, engine: Engine) -> bool:
        busy = False
        for tap in self._taps:
            self._look_at(tap)
            tap.reached_ns, until = None, time.monotonic() + DRAIN_S
            while (frames := self._next(tap, engine)) is not None:
                busy = True
                engine.feed(frames)
                if time.monotonic() >= until:
                    tap.reached_ns = int(frames.time_ns[-1])
                    break
            self._book_drops(tap, engine)
        return busy

    def _look_at(self, tap: _Opened) -> float:
        """How full a ring is. Media tells of overload: a burst of SIP fills the other ring in no time."""
        fill = tap.ring.fill() if tap.ring is not None else 0.0
        if tap.kind == "media":
            self._fill = max(self._fill, fill)
        return fill

    def _next(self, tap: _Opened, engine: Engine) -> Frames | None:
        if tap.taken:
            return tap.taken.popleft()
        return self._take(tap.ring, engine) if tap.ring is not None else None

    @staticmethod
    def _book_drops(tap: _Opened, engine: Engine) -> None:
        if tap.ring is None:
            return
        before, now = tap.read_ns, time.time_ns()
        tap.packets, drops = tap.ring.statistics()
        tap.read_ns = now
        if drops > tap.drops:
            engine.dropped(drops - tap.drops, before, time.time_ns())
            log.warning("%s: the kernel dropped %d packets", tap.interface, drops - tap.drops)
            tap.drops = drops

    def _relieve(self, engine: Engine) -> None:
        """Empty the rings while the engine is at work; it gets the packets afterwards."""
        for tap in self._taps:
            if tap.ring is None:
                continue
            fill = self._look_at(tap)
            self._book_drops(tap, engine)
            if fill < RELIEF_FILL:
                continue
            while tap.has_room and (frames := self._take(tap.ring, engine)) is not None:
                tap.taken.append(frames)

    @staticmethod
    def _take(ring: Ring, engine: Engine) -> Frames | None:
        with engine.stages["capture"]:
            return ring.take(TAKE)

    def _shed(self, engine: Engine, behind_ns: int) -> None:
        """Do without what can be spared while the rings fill faster than they are emptied."""
        closed_ns, now, pace = engine.closed_ns or 0, time.monotonic(), None
        if closed_ns != self._closed_ns:
            # Only then: most of the work is done at the end of a window.
            pace = (closed_ns - self._closed_ns) / 1e9 / max(now - self._shed_s, 1e-3)
            self._closed_ns, self._shed_s = closed_ns, now
        overload, before, recordings = self.overload, self.overload.level, engine.recordings
        count = overload.look(shortage(self._fill, behind_ns / 1e9), len(recordings), now, pace)
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
