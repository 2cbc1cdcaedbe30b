"""Reads a remote's copy of a recording back again, and notes what was found: for those who ask
(`sync --recheck`) and for the scrubbing that the outbox does."""

from dataclasses import dataclass

from recorderd.errors import RemoteError
from recorderd.spool.database import Json
from recorderd.spool.evidence import Damage, Witness
from recorderd.spool.index import Index
from recorderd.spool.index_sync import Noted
from recorderd.spool.layout import Spool
from recorderd.spool.readback import copy_damage
from recorderd.spool.signing import HostPublic
from recorderd.spool.stores import RemoteOutage, Store
from recorderd.spool.times import rfc3339


@dataclass
class Checker:
    """Checks the copies of one remote; ``index`` and ``store`` are of the thread that does."""

    remote: str
    spool: Spool
    index: Index
    store: Store
    public: HostPublic | None

    def __post_init__(self) -> None:
        self.witness = Witness(self.spool, self.index, self.remote)

    def check(self, row: Json, now_ns: int) -> Damage | None:
        """Read one back, a row of :meth:`SyncRows.sync_verified`. What is damaged or gone is failed from then
        on, with its evidence, and the next pass sends it again. Raises RemoteOutage."""
        recording = row["id"]
        try:
            damage = copy_damage(
                self.store, self.spool, recording, row["sha256"], self.public, row["slots_sha256"]
            )
        except RemoteOutage:
            raise
        except RemoteError as error:
            damage = Damage(recording, str(error), {})
        if damage is None:
            self.index.sync_checked(self.remote, [recording], rfc3339(now_ns // 1000))
            return None
        self.witness.note(damage, recording, now_ns)
        self.index.sync_noted(self.remote, [Noted(recording, "failed", error=str(damage))])
        return damage
