"""The outbox's threads."""

import contextlib
import logging
import threading

from recorderd.errors import RemoteError
from recorderd.service.carrying import Carrying
from recorderd.spool.index import Index
from recorderd.spool.stores import Finding, MemoryStore
from recorderd.spool.sync_scrub import ScrubTerms
from recorderd.spool.sync_store import Remote
from tests.spool_builder import make_desk


class Weak(MemoryStore):
    """Enforces less than one would think; the first time it is asked, it fails."""

    def __init__(self):
        super().__init__()
        self.asked = 0
        self.told = threading.Event()

    def examine(self):
        self.asked += 1
        if self.asked == 1:
            raise RemoteError("503")
        if self.asked == 2:
            self.told.set()
        return (
            Finding("checksum", False, "wrong bytes are taken"),
            Finding("lock", None, "cannot be tried"),
            Finding("deletion", True, "refused"),
        )


def test_what_a_remote_does_not_enforce_is_told_once_at_the_start(tmp_path, caplog):
    desk, store = make_desk(tmp_path), Weak()
    with Index.open(desk.spool) as index:
        index.set_remotes(["nas"])
    caplog.set_level(logging.WARNING)
    never = threading.Event()
    terms = ScrubTerms(every_days=0)
    with contextlib.closing(
        Carrying(desk.spool, {"nas": Remote(store)}, terms, 0.01, never.is_set)
    ) as carrying:
        assert store.told.wait(30)
        carrying.check()
    assert [record.message for record in caplog.records] == ["nas: checksum: wrong bytes are taken"]
    assert store.asked == 2
