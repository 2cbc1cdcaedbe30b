"""`recorderd outbox`: the process that carries sealed recordings to the remotes and alerts to syslog. It sees
ciphertext and alerts only."""

import contextlib
import logging

from recorderd.alerts.syslog import Syslog
from recorderd.config import Config
from recorderd.errors import DiskFull, SpoolError
from recorderd.service.carrying import Carrying
from recorderd.service.daemon import Service
from recorderd.service.room import RoomKeeper
from recorderd.service.stamping import stamping
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.reindex import outbox_lock

log = logging.getLogger(__name__)

LATEST_S = 5.0
"""The watchdog hears of us at least this often."""


class AlertSender:
    """Sends the alerts that wait in the index; what cannot be sent waits on."""

    def __init__(self, config: Config, index: Index) -> None:
        syslog = config.alerts.syslog
        self._index, self._masks = index, config.privacy.mask_numbers.masks()
        self._syslog = (
            Syslog(syslog.address, syslog.facility, host=config.site.name) if syslog.enabled else None
        )
        self._failing = False

    def send(self) -> int:
        """Send what waits; returns how many were sent."""
        if self._syslog is None:
            return 0
        sent = 0
        for alert in self._index.alerts_pending():
            try:
                self._syslog.send(alert["kind"], self._masks.told(alert["fields"]), time_ns=alert["time_ns"])
            except OSError as error:
                if not self._failing:
                    log.warning("syslog: %s; alerts wait in the index", error.strerror or error)
                self._failing = True
                return sent
            self._failing = False
            self._index.alert_delivered(alert["id"])
            sent += 1
        return sent


def outbox(config: Config) -> int:
    """Carry and tell, until told to stop."""
    service = Service("recorderd outbox")
    spool = Spool(config.spool.path)
    while not spool.index_path.exists():
        # The capture process makes the spool; on a new host it may be a moment behind.
        service.notifier.alive()
        if service.wait(0.2):
            return 0
    with outbox_lock(spool), contextlib.closing(Index.open(spool)) as index:
        index.set_remotes([remote.name for remote in config.sync.remotes])
        alerts = AlertSender(config, index)
        room = RoomKeeper.of(config, spool, index)
        with (
            stamping(config, spool),
            contextlib.closing(Carrying.of(config, spool, service.stopping)) as carrying,
        ):
            service.ready(f"{len(config.sync.remotes)} remotes")
            while not service.stopping():
                try:
                    alerts.send()
                    room.keep(service.stopping, service.notifier.alive)
                except (DiskFull, SpoolError) as error:
                    log.error("%s", error)
                carrying.check()
                service.notifier.alive()
                service.wait(min(config.sync.interval_s, LATEST_S))
            service.notifier.stopping()
    return 0
