"""`recorderd capture`: the process that taps, records and seals.

It reaches no network and holds no private key of the recordings.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from recorderd.capture.bpf import Share
from recorderd.config import Config
from recorderd.service.archive import SpoolArchive
from recorderd.service.colleagues import Colleagues
from recorderd.service.control import ControlSocket
from recorderd.service.daemon import Service
from recorderd.service.engine import Engine
from recorderd.service.hearing import Hearing
from recorderd.service.memory import memory
from recorderd.service.opening import engine_settings, open_archive
from recorderd.service.tap import Tap

STATUS_S: Final = 0.5
"""How often the status is published and the watchdog fed, in seconds."""


def capture(config: Config) -> int:
    """Tap the host's calls until told to stop."""
    service = Service("recorderd capture")
    with (
        open_archive(config) as archive,
        contextlib.closing(ControlSocket(config.control_socket)) as control,
    ):

        def publish(status: dict[str, Any]) -> None:
            control.publish(status)
            service.notifier.alive()

        record(config, service, archive, publish)
    return 0


class Team(Protocol):
    """What a recording process does because it is one of several; see
    :mod:`recorderd.service.capture_worker`.
    """

    colleagues: Colleagues
    share: Share

    def opened(self) -> None:
        """From now on this process sees all signalling."""

    def exchange(self, engine: Engine) -> None:
        """Give to the others what is theirs, and take what is ours; a few times a second at least."""


def record(
    config: Config,
    service: Service,
    archive: SpoolArchive,
    publish: Callable[[dict[str, Any]], None],
    team: Team | None = None,
) -> None:
    """Tap and record until told to stop; ``publish`` gets the status now and then."""
    with contextlib.ExitStack() as stack:
        hearing = Hearing(threaded=True)
        stack.callback(hearing.stop)
        engine = Engine(archive, engine_settings(config), hearing, team.colleagues if team else None)
        tap = stack.enter_context(contextlib.closing(Tap(config, team.share if team else None)))
        published = 0.0
        if team:
            team.opened()

        def each_round() -> None:
            nonlocal published
            if team:
                team.exchange(engine)
            if (now := time.monotonic()) - published >= STATUS_S:
                published = now
                publish(_status(config, engine, tap, archive))

        each_round()
        service.ready(f"recording calls on {', '.join(tap.interfaces)}")
        tap.run(engine, service.stopping, each_round)
        service.notifier.stopping("sealing the calls in progress")
        if team:
            team.exchange(engine)
        engine.finish("recorder stopped")


def _status(config: Config, engine: Engine, tap: Tap, archive: SpoolArchive) -> dict[str, Any]:
    return {
        "state": "running",
        "site": config.site.name,
        "spool": str(config.spool.path),
        "time": time.time(),
        "rings": tap.status(),
        "ring_fullest": round(tap.fullest, 3),
        "memory": memory(),
        "commits": {
            "done": archive.commit.commits,
            "failed": archive.commit.failures,
            "longest_s": round(archive.commit.longest_s, 3),
        },
        "index_waiting": len(archive.journal),
        **engine.status(),
    }
