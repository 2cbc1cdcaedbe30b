"""Has the ledger's checkpoints stamped with the time, in a thread of its own: an authority may be slow."""

import contextlib
from collections.abc import Iterator
from typing import Final

from recorderd.config import Config
from recorderd.service.worker import Worker
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.open_timestamps import Anchorer
from recorderd.spool.timestamps import Stamper

EVERY_S: Final = 5.0
"""How often it is looked whether a stamp is due."""


@contextlib.contextmanager
def stamping(config: Config, spool: Spool) -> Iterator[None]:
    """Stamp for as long as the block runs, where the configuration names an authority. Raises ConfigError for
    a certificate that cannot be read, and at the end what killed the thread."""
    ledger = config.ledger
    if not ledger.enabled or (ledger.timestamps is None and ledger.opentimestamps is None):
        yield
        return
    with Index.open(spool) as index:
        stamper = Stamper(spool, ledger.timestamps, index) if ledger.timestamps else None
        anchorer = Anchorer(spool, ledger.opentimestamps, index) if ledger.opentimestamps else None

        def look() -> None:
            if stamper:
                stamper.stamp_due()
            if anchorer:
                anchorer.anchor_due()

        with contextlib.closing(Worker("stamping", look, EVERY_S)):
            yield
