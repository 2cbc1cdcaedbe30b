"""`recorderd capture`: the process that taps, records and seals.

It reaches no network and holds no private key of the recordings.
"""

import contextlib
import resource
import time
from typing import Any, Final

from recorderd.config import Config
from recorderd.service.commit import GroupCommit
from recorderd.service.control import ControlSocket
from recorderd.service.daemon import Service
from recorderd.service.engine import Engine
from recorderd.service.opening import engine_settings, open_archive
from recorderd.service.tap import Tap

STATUS_S: Final = 0.5
"""How often the status is published and the watchdog fed, in seconds."""


def capture(config: Config) -> int:
    """Tap the host's calls until told to stop."""
    service = Service("recorderd capture")
    # A ring or a recording is a descriptor each; the usual 1024 would end at call 1000.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(open_archive(config))
        engine = Engine(archive, engine_settings(config))
        commit = stack.enter_context(contextlib.closing(GroupCommit(archive.spool)))
        tap = stack.enter_context(contextlib.closing(Tap(config)))
        control = stack.enter_context(contextlib.closing(ControlSocket(config.control_socket)))
        published = 0.0

        def each_round() -> None:
            nonlocal published
            if (now := time.monotonic()) - published >= STATUS_S:
                published = now
                control.publish(_status(config, engine, tap, commit))
                service.notifier.alive()

        each_round()
        service.ready(f"recording calls on {', '.join(tap.interfaces)}")
        tap.run(engine, service.stopping, each_round)
        service.notifier.stopping("sealing the calls in progress")
        engine.finish("recorder stopped")
    return 0


def _status(config: Config, engine: Engine, tap: Tap, commit: GroupCommit) -> dict[str, Any]:
    return {
        "state": "running",
        "site": config.site.name,
        "spool": str(config.spool.path),
        "time": time.time(),
        "rings": tap.status(),
        "commits": {"done": commit.commits, "failed": commit.failures},
        **engine.status(),
    }
