"""Carries the ledger: its bundles, its newest checkpoint and the time stamps, under ``ledger/`` of each
remote (docs/ledger.md).

A checkpoint at a remote is what proves later that the ledger was set back, so none is ever replaced by one
that does not begin with it.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from recorderd.errors import RecorderError, RemoteError, SpoolCorrupt
from recorderd.spool.evidence import Damage, Witness
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import CHECKPOINT, FOLDER, Ledger, ledger_key
from recorderd.spool.ledger_bundles import WIDTH, bundle_name, pack
from recorderd.spool.ledger_keeping import add_alert
from recorderd.spool.merkle import leaf_hash, root
from recorderd.spool.note import Checkpoint, open_checkpoint, unsigned
from recorderd.spool.readback import small_object
from recorderd.spool.signing import HostPublic
from recorderd.spool.stores import RemoteOutage, Store
from recorderd.spool.sync_carry import deliver_small, local_hash

EVERY_S: Final = 300.0
"""New entries are carried so often; each time makes an object of the bundle that is not full yet."""

STAMPS: Final = "stamps"


class LedgerCarrier:
    """Carries to one remote."""

    def __init__(self, spool: Spool, remote: str, clock: Callable[[], int]) -> None:
        self._spool, self._remote, self._clock = spool, remote, clock
        self._path = spool.path / FOLDER
        self._carried_s: float | None = None
        self._told: str | None = None
        self._stamps: set[str] | None = None
        self._looked = False
        """Whether the remote's checkpoint was looked at since the start."""

    def carry(
        self, index: Index, store: Store, witness: Witness, force: bool, *, everything: bool = False
    ) -> str | None:
        """Bring what is new there, if it is time; returns what is wrong, None where nothing is.
        ``everything``: what is there already is read back, too. Raises RemoteOutage and what the index
        raises."""
        now = time.monotonic()
        if not force and self._carried_s is not None and now - self._carried_s < EVERY_S:
            return self._told
        if not (self._path / CHECKPOINT).exists():
            return None
        self._carried_s = now
        try:
            problem = self._carry(index, store, witness, everything)
        except RemoteOutage:
            self._carried_s = None
            raise
        except (RemoteError, SpoolCorrupt) as error:
            problem = f"the ledger: {error}"
        self._told = problem
        return problem

    def _carry(self, index: Index, store: Store, witness: Witness, everything: bool) -> str | None:
        ledger = Ledger(self._path)
        note = ledger.note()
        public = self._spool.host_public_path
        if note is None or not public.exists():
            return None
        newest = open_checkpoint(note, ledger_key(HostPublic.load(public)))
        sent = index.ledger_sent(self._remote)
        if everything:
            self._stamps = set()
        elif self._looked and sent is not None and sent["sent"] == note.decode():
            self._bring_stamps(store)
            return None
        problem, size = self._compare(index, store, ledger, newest, witness)
        if problem is not None:
            return self._alert(index, problem)
        self._bring_bundles(store, ledger, 0 if everything else size, newest, witness)
        self._bring_stamps(store)
        self._deliver(store, f"{FOLDER}/{CHECKPOINT}", note)
        index.set_ledger_sent(self._remote, newest.size, note.decode())
        self._looked = True
        return None

    def _compare(
        self, index: Index, store: Store, ledger: Ledger, newest: Checkpoint, witness: Witness
    ) -> tuple[str | None, int]:
        """What is wrong with the ledger there, or here, and how many entries are known to be there."""
        sent = index.ledger_sent(self._remote)
        if sent is not None and sent["sent"]:
            before = unsigned(sent["sent"].encode())
            if not _continues(ledger, before, newest):
                return _set_back(self._remote, before, newest), 0
        name = f"{FOLDER}/{CHECKPOINT}"
        if store.size(name) is None:
            if sent is None:
                return None, 0
            # It is sent again, but somebody should know.
            self._alert(index, f"{self._remote}: the checkpoint of {sent['size']} entries is gone")
            return None, 0
        data = small_object(store, name)
        try:
            there = open_checkpoint(data, ledger_key(HostPublic.load(self._spool.host_public_path)))
        except SpoolCorrupt as error:
            facts = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "error": str(error)}
            witness.note(Damage(name, "damaged", facts), FOLDER, self._clock())
            return None, 0
        if not _continues(ledger, there, newest):
            return _set_back(self._remote, there, newest), 0
        if sent is not None and there.size < sent["size"]:
            what = (
                f"{self._remote}: an older checkpoint ({there.size} entries) than was sent ({sent['size']})"
            )
            self._alert(index, what)
            return None, 0
        return None, min(there.size, sent["size"]) if sent is not None else 0

    def _alert(self, index: Index, problem: str) -> str:
        """Tell it, once as long as it lasts."""
        if problem != self._told:
            fields = {"remote": self._remote, "error": problem}
            add_alert(self._spool, index, {"kind": "ledger", "time_ns": self._clock(), "fields": fields})
            self._told = problem
        return problem

    def _bring_bundles(
        self, store: Store, ledger: Ledger, size: int, newest: Checkpoint, witness: Witness
    ) -> None:
        """The entries from number ``size`` on."""
        if ledger.tiles.root(newest.size) != newest.root:
            raise SpoolCorrupt(f"{self._path}: its tiles are damaged; see `recorderctl ledger verify`")
        for number in range(size // WIDTH, -(-newest.size // WIDTH)):
            first, end = number * WIDTH, min((number + 1) * WIDTH, newest.size)
            entries = list(ledger.entries(first, end))
            if end - first == WIDTH and root([leaf_hash(each) for each in entries]) != ledger.tiles(
                first, end
            ):
                # Never replace a good copy by a bad original.
                raise SpoolCorrupt(f"{self._path / bundle_name(number)}: not what was signed")
            data, name = pack(entries), f"{FOLDER}/{bundle_name(number, end - first)}"
            if store.size(name) is not None:
                found = small_object(store, name)
                if found == data:
                    continue
                digest = hashlib.sha256(found).hexdigest()
                facts = {"sha256": digest, "bytes": len(found), "expected_bytes": len(data)}
                witness.note(Damage(name, "damaged", facts), FOLDER, self._clock())
            self._deliver(store, name, data)

    def _bring_stamps(self, store: Store) -> None:
        """What was stamped, and its stamps."""
        folder = self._path / STAMPS
        if not folder.is_dir():
            return
        if self._stamps is None:
            start = f"{FOLDER}/{STAMPS}/"
            self._stamps = {f"{each.name}:{each.size}" for each in store.list(start)}
        for path in _files(folder):
            name = f"{FOLDER}/{STAMPS}/{path.name}"
            mark = f"{name}:{path.stat().st_size}"
            if mark not in self._stamps:
                deliver_small(store, name, path, local_hash(path))
                self._stamps.add(mark)

    def _deliver(self, store: Store, name: str, data: bytes) -> None:
        with NamedTemporaryFile(prefix="recorderd-") as file:
            file.write(data)
            file.flush()
            deliver_small(store, name, Path(file.name), hashlib.sha256(data).hexdigest())

    def forget(self) -> None:
        """Believe nothing of what was seen there."""
        self._carried_s = self._stamps = self._told = None
        self._looked = False


def _files(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from sorted(each for each in folder.iterdir() if not each.name.endswith(".tmp"))


def _continues(ledger: Ledger, before: Checkpoint, newest: Checkpoint) -> bool:
    """Whether the ledger that is here begins with what was stated before."""
    if before.size > newest.size or before.origin != newest.origin:
        return False
    if before.size == newest.size:
        return before.root == newest.root
    try:
        return ledger.tiles.root(before.size) == before.root
    except RecorderError:
        raise SpoolCorrupt(f"{ledger.path}: its tiles are damaged; see `recorderctl ledger verify`") from None


def _set_back(remote: str, before: Checkpoint, newest: Checkpoint) -> str:
    what = "set back" if before.size > newest.size else "forked"
    return (
        f"{remote}: the ledger was {what}: a checkpoint of {before.size} entries is not of the ledger that is"
        f" here ({newest.size} entries); nothing of it is sent; see `recorderctl ledger verify`"
    )
