"""`recorderd capture`: the process that taps, records and seals.

It reaches no network and holds no private key of the recordings.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from recorderd.capture.bpf import Share
from recorderd.config import Config
from recorderd.service.archive import SpoolArchive
from recorderd.service.colleagues import Colleagues
from recorderd.service.control import Asked, ControlSocket
from recorderd.service.daemon import Service
from recorderd.service.engine import Engine
from recorderd.service.hearing import Hearing
from recorderd.service.hep_listener import HepInbox, listening
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

        record(config, service, archive, publish, asked=control.asked)
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
    asked: Callable[[], Sequence[Asked]] = tuple,
) -> None:
    """Tap and record until told to stop; ``publish`` gets the status now and then, ``asked`` gives the
    commands that came.
    """
    with contextlib.ExitStack() as stack:
        hearing = Hearing(threaded=True)
        stack.callback(hearing.stop)
        engine = Engine(
            archive, engine_settings(config, live=True), hearing, team.colleagues if team else None
        )
        tap = stack.enter_context(contextlib.closing(Tap(config, team.share if team else None)))
        inbox = HepInbox()
        # With several workers their supervisor listens, and gives to each of them.
        hep = stack.enter_context(listening(config, inbox.put)) if team is None else None
        published = 0.0
        if team:
            team.opened()

        def each_round() -> None:
            nonlocal published
            if team:
                team.exchange(engine)
            if hep:
                hep.check()
                engine.hear_hep(inbox.take())
            for command in asked():
                command.reply(engine.pausing.command(command.request, time.time_ns() // 1000))
            if (now := time.monotonic()) - published >= STATUS_S:
                published = now
                publish(_status(config, engine, tap, archive, hep.counters if hep else {}))

        each_round()
        service.ready(f"recording calls on {', '.join(tap.interfaces)}")
        tap.run(engine, service.stopping, each_round)
        service.notifier.stopping("sealing the calls in progress")
        if team:
            team.exchange(engine)
        engine.hear_hep(inbox.take())
        engine.finish("recorder stopped")


def _status(
    config: Config, engine: Engine, tap: Tap, archive: SpoolArchive, hep: Mapping[str, int]
) -> dict[str, Any]:
    now = time.time()  # before all else: nothing that is told is older
    status = engine.status()
    return {
        "state": "running",
        "site": config.site.name,
        "spool": str(config.spool.path),
        "time": now,
        "rings": tap.status(),
        "ring_fullest": round(tap.fullest, 3),
        "memory": memory(),
        "commits": {
            "done": archive.commit.commits,
            "failed": archive.commit.failures,
            "longest_s": round(archive.commit.longest_s, 3),
        },
        "index_waiting": len(archive.journal),
        "ledger_waiting": archive.journal.unentered,
        "room": archive.reserve.status(),
        **status,
        "counters": {**status["counters"], **hep},
    }
