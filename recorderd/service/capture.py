"""`recorderd capture`: the process that taps, records and seals. It reaches no network and holds no private
key of the recordings."""

import contextlib
import logging
import resource
import time
from collections.abc import Iterator
from typing import Any

from recorderd.calls.outcomes import RESTARTED
from recorderd.config import Config
from recorderd.quality.review import Thresholds
from recorderd.service.archive import SpoolArchive
from recorderd.service.control import ControlSocket
from recorderd.service.daemon import Service
from recorderd.service.engine import Engine, EngineSettings
from recorderd.service.tap import Tap
from recorderd.spool.index import Index
from recorderd.spool.keys import load_recipients
from recorderd.spool.layout import Spool
from recorderd.spool.recovery import recover
from recorderd.spool.signing import HostKey

log = logging.getLogger(__name__)

STATUS_S = 0.5


def settings(config: Config) -> EngineSettings:
    """The engine's part of the configuration."""
    capture = config.capture
    return EngineSettings(frozenset(capture.sip_ports), capture.grace_ms, capture.pending_s)


@contextlib.contextmanager
def open_archive(config: Config) -> Iterator[SpoolArchive]:
    """Take the spool: lock it, finish what a crash left behind, and make it ready for new recordings.

    Raises SpoolError, DiskFull, ConfigError.
    """
    recipients = load_recipients(config.encryption.recipients, suite=config.encryption.suite)
    spool = Spool(config.spool.path).prepare()
    with spool.lock():
        host_key = HostKey.load_or_create(config.signing_key)
        with Index.open(spool) as index:
            for found in recover(spool, index, host_key, host=config.site.name):
                log.warning("%s", found)
            index.calls_interrupted(RESTARTED)
            quality = config.quality
            thresholds = Thresholds(
                silent_dbov=quality.silent_dbov,
                low_dbov=quality.low_dbov,
                noise_dbov=quality.noise_dbov,
                gap_s=quality.gap_s,
                loss_ratio=quality.loss_ratio,
            )
            yield SpoolArchive(
                spool, index, recipients, host_key, host=config.site.name, thresholds=thresholds
            )


def capture(config: Config) -> int:
    """Tap the host's calls until told to stop."""
    service = Service("recorderd capture")
    # A ring or a recording is a descriptor each; the usual 1024 would end at call 1000.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(open_archive(config))
        engine = Engine(archive, settings(config))
        tap = stack.enter_context(contextlib.closing(Tap(config)))
        control = stack.enter_context(contextlib.closing(ControlSocket(config.control_socket)))
        published = 0.0

        def each_round() -> None:
            nonlocal published
            if (now := time.monotonic()) - published >= STATUS_S:
                published = now
                control.publish(_status(config, engine, tap))
                service.notifier.alive()

        each_round()
        names = dict.fromkeys(ring.interface for ring in tap.rings)
        service.ready(f"recording calls on {', '.join(names)}")
        tap.run(engine, service.stopping, each_round)
        service.notifier.stopping("sealing the calls in progress")
        engine.finish("recorder stopped")
    return 0


def _status(config: Config, engine: Engine, tap: Tap) -> dict[str, Any]:
    return {
        "state": "running",
        "site": config.site.name,
        "spool": str(config.spool.path),
        "time": time.time(),
        "rings": tap.status(),
        **engine.status(),
    }
