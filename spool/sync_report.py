"""What the passes of the outbox tell: how far they are, and what they did."""

from dataclasses import dataclass, field
from typing import Any

from recorderd.spool.stores import RemoteOutage, Store


@dataclass(frozen=True, slots=True)
class Step:
    """How far a pass is: the ``number``-th of ``total`` copies to make, ``sent`` of its ``size`` bytes are
    there."""

    remote: str
    recording: str
    number: int
    total: int
    sent: int
    size: int


@dataclass
class RemoteReport:
    """What a pass did on one remote. ``error`` is why it stopped or what failed last, None when all is
    well."""

    remote: str
    verified: int = 0
    failed: int = 0
    pending: int = 0
    outage: bool = False
    error: str | None = None
    stored: int = 0
    """Sent and of the right size, and by the remote's terms not read back."""
    pending_bytes: int = 0
    busy: bool = False
    """Another process carries to it just now."""
    closed: bool = False
    """It is not used at this time of the day."""
    rechecked: int = 0
    damaged: list[str] = field(default_factory=list)
    """What was found damaged or gone when the copies were read again."""

    @property
    def ok(self) -> bool:
        """Everything is there, verified."""
        return self.error is None and self.pending == 0

    def as_json(self) -> dict[str, Any]:
        """For ``sync --json``."""
        return {
            "remote": self.remote,
            "ok": self.ok,
            "verified": self.verified,
            "failed": self.failed,
            "pending": self.pending,
            "outage": self.outage,
            "error": self.error,
            "stored": self.stored,
            "pending_bytes": self.pending_bytes,
            "busy": self.busy,
            "closed": self.closed,
            "rechecked": self.rechecked,
            "damaged": list(self.damaged),
        }


def probe_known(name: str, store: Store, known: str | None) -> str | None:
    """The identity of a store, which is ``known`` where it was used before. Raises RemoteOutage when it is
    away, or another one stands in its place."""
    found = store.probe()
    if known not in (None, found):
        raise RemoteOutage(
            f"{name}: this is not the store that was used before; is the disk mounted?"
            f" (if it was replaced: recorderctl sync --adopt {name})"
        )
    return found
