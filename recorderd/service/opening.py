"""Opens what recording needs: the spool, its index and keys, with what a crash left behind settled."""

import contextlib
import logging
import os
import resource
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from recorderd.calls.outcomes import RESTARTED
from recorderd.config import Config
from recorderd.config.privacy import PrivacyConfig
from recorderd.errors import ConfigError
from recorderd.quality.review import Thresholds
from recorderd.service.addresses import own_addresses
from recorderd.service.admission import AdmissionSettings
from recorderd.service.archive import SpoolArchive
from recorderd.service.engine_settings import Bounds, EngineSettings
from recorderd.service.memory import memory_there
from recorderd.service.notary import Notary, notary
from recorderd.service.orphans import OrphanSettings
from recorderd.service.pausing import PrivacySettings
from recorderd.spool.durable import disk_error
from recorderd.spool.index import Index
from recorderd.spool.index_calls import recovered_alert
from recorderd.spool.keys import Recipient, load_recipients
from recorderd.spool.layout import Spool, SpoolLock
from recorderd.spool.rebuild import open_for_writing
from recorderd.spool.recovery import recover
from recorderd.spool.signing import HostKey

log = logging.getLogger(__name__)


def engine_settings(config: Config, *, live: bool) -> EngineSettings:
    """The engine's part of the configuration, for packets of interfaces or of files."""
    capture, there = config.capture, memory_there() // worker_count(config)
    return EngineSettings(
        frozenset(capture.sip_ports),
        capture.grace_ms,
        capture.pending_s,
        bounds=Bounds.within(there),
        memory=there,
        ws_ports=frozenset(capture.ws_ports),
        hep_ports=frozenset(capture.hep_ports),
        hep_password=capture.hep.password,
        tunnels=capture.tunnels_opened(live=live),
        joining=config.conversations.settings(own_addresses() if live else frozenset()),
        admission=AdmissionSettings(
            policy := config.policy.policy(),
            config.privacy.pause.header,
            config.retention.policy(policy, config.site.name),
        ),
        privacy=privacy_settings(config.privacy),
        media_timeout_s=config.policy.media_timeout_s,
        orphans=OrphanSettings(
            config.policy.orphans.action == "record", config.policy.orphans.end_s, config.policy.orphans.most
        ),
    )


def worker_count(config: Config) -> int:
    """How many processes record."""
    if config.capture.workers != "auto":
        return config.capture.workers
    return max(1, len(os.sched_getaffinity(0)) - 1)


def privacy_settings(privacy: PrivacyConfig) -> PrivacySettings:
    """What is paused and withheld."""
    pause = privacy.pause
    return PrivacySettings(
        pause.header, pause.pause_keys, pause.resume_keys, pause.max_s, privacy.dtmf, privacy.dtmf_tones
    )


def recipients_of(config: Config) -> list[Recipient]:
    """The public keys of the configuration. Raises ConfigError with the file, line and key of every wrong
    one.
    """
    found: dict[bytes, Recipient] = {}
    wrong: list[str] = []
    for number, path in enumerate(config.encryption.recipients):
        try:
            found.update((key.id, key) for key in load_recipients([path], suite=config.encryption.suite))
        except ConfigError as error:
            wrong.append(f"{config.where('encryption', 'recipients', number)}: {error}")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return list(found.values())


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A spool, ready to be written to."""

    spool: Spool
    lock: SpoolLock
    index: Index
    host_key: HostKey
    notary: Notary | None


@contextlib.contextmanager
def open_spool(config: Config) -> Iterator[Opened]:
    """Take the spool for as long as the block runs, with what a crash left behind settled.

    Raises SpoolError (also where another daemon has it), DiskFull, ConfigError.
    """
    allow_many_files()
    spool = Spool(config.spool.path).prepare()
    with spool.lock() as lock:
        with _told_as_disk_error(spool):
            host_key = HostKey.load_or_create(config.signing_key, spool.host_public_path)
            index, problems = open_for_writing(spool, host_key.public)
        with index:
            for problem in problems:
                log.error("%s", problem)
            with _told_as_disk_error(spool):
                for found in recover(spool, index, host_key):
                    log.warning("%s", found)
                alerts = settled(index)
            with notary(config, spool, host_key, alerts) as keeper:
                yield Opened(spool, lock, index, host_key, keeper)


@contextlib.contextmanager
def _told_as_disk_error(spool: Spool) -> Iterator[None]:
    """Also where no folder can be listed (no descriptors, a broken disk) people are told so in a line."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, spool.path) from error


def settled(index: Index, only: Collection[tuple[str, str]] | None = None) -> list[dict[str, Any]]:
    """Give the calls that a crash interrupted an outcome, ``only`` these where not everything crashed; the
    alerts that the index has of them now."""
    now, alerts = time.time_ns(), []
    for call in index.calls_interrupted(RESTARTED, now_ns=now, only=only):
        log.warning("call %s: %s, %s", call["call_id"], call["outcome"], call["reason"])
        if call["recording"] and (call["outcome"], call["reason"]) == ("partial", RESTARTED):
            alerts.append(recovered_alert(call, now))
    return alerts


def allow_many_files() -> None:
    """A ring or a recording is a descriptor each; the usual 1024 would end at call 1000."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def open_archive(config: Config) -> Iterator[SpoolArchive]:
    """Take the spool for as long as the block runs; what is over by its end is sealed.

    Raises SpoolError (also where another daemon has it), DiskFull, ConfigError.
    """
    recipients = recipients_of(config)
    with open_spool(config) as opened:
        archive = SpoolArchive(
            opened.spool, opened.index, recipients, opened.host_key, **archive_settings(config)
        )
        with archive:
            yield archive


def archive_settings(config: Config) -> dict[str, Any]:
    """The archive's part of the configuration."""
    return {
        "host": config.site.name,
        "thresholds": Thresholds(**dict(config.quality)),
        "masks": config.privacy.mask_numbers.masks(),
        "detached_slots": config.encryption.slots == "detached",
        "ledger": config.ledger.enabled,
        "ledger_numbers": config.ledger.numbers,
        "limits": config.spool.budget.limits,
        "retention": config.retention.schedule(config.site.name),
    }
