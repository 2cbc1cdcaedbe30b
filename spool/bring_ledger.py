"""Brings the ledger back from a remote, as far as its newest checkpoint there says, to where there is none.

It is brought to a folder beside, and takes its place when all of it is there and is what was signed.
"""

import re
import shutil
from pathlib import Path
from typing import Final

from recorderd.errors import RemoteError, SpoolCorrupt
from recorderd.spool.durable import disk_error, make_folder, sync_folder, write_file
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import CHECKPOINT, FOLDER, Ledger, ledger_key
from recorderd.spool.ledger_bundles import WIDTH, bundle_name, unpack
from recorderd.spool.ledger_stamps import Stamps
from recorderd.spool.ledger_tiles import HashTiles
from recorderd.spool.merkle import Frontier, leaf_hash
from recorderd.spool.note import Checkpoint, Key, open_checkpoint
from recorderd.spool.readback import small_object
from recorderd.spool.signing import HostPublic
from recorderd.spool.stores import Store

BESIDE: Final = FOLDER + ".new"
_NUMBER: Final = re.compile("[1-9][0-9]{0,17}")


def bring_ledger(store: Store, spool: Spool, public: HostPublic) -> int | None:
    """Put the remote's ledger in place where the spool has none; how many entries it has, None where there is
    none there, or one here.

    Raises RemoteError, SpoolCorrupt where what the remote has is not what the host signed, DiskFull and
    SpoolError.
    """
    target, beside = spool.path / FOLDER, spool.path / BESIDE
    if target.exists() or store.size(f"{FOLDER}/{CHECKPOINT}") is None:
        return None
    note = small_object(store, f"{FOLDER}/{CHECKPOINT}")
    stated = open_checkpoint(note, ledger_key(public))
    try:
        shutil.rmtree(beside, ignore_errors=True)
        make_folder(beside)
        _bring_bundles(store, beside, stated)
        _bring_stamps(store, beside, ledger_key(public), stated.size)
        Ledger(beside).history.append(note)
        write_file(beside / CHECKPOINT, note)
        beside.rename(target)
        sync_folder(spool.path)
    except OSError as error:
        raise disk_error(error, beside) from None
    return stated.size


def _bring_bundles(store: Store, folder: Path, stated: Checkpoint) -> None:
    tree, tiles = Frontier(), HashTiles(folder)
    for number in range(-(-stated.size // WIDTH)):
        width = min(WIDTH, stated.size - number * WIDTH)
        # It may have become full since the checkpoint.
        names = [f"{FOLDER}/{bundle_name(number, each)}" for each in dict.fromkeys((width, WIDTH))]
        name = next((each for each in names if store.size(each) is not None), None)
        if name is None:
            raise RemoteError(f"{names[0]}: gone")
        data = small_object(store, name)
        end, leaves = 0, []
        for entry in list(unpack(data))[:width]:
            leaves.append(leaf_hash(entry))
            tree.add(leaves[-1])
            end += 2 + len(entry)
        _put(folder, bundle_name(number), data[:end])
        tiles.add(number * WIDTH, leaves)
    if tree.root() != stated.root:
        raise SpoolCorrupt(f"the ledger of the remote is not what was signed (size {stated.size})")


def _bring_stamps(store: Store, folder: Path, key: Key, size: int) -> None:
    """Checkpoints that the host signed, and the stamps of these. What else a remote has there, and however
    much of it, stays there."""
    stamps = Stamps(folder)
    for stored in store.list(f"{FOLDER}/stamps/"):
        number = stored.name.removeprefix(f"{FOLDER}/stamps/").removesuffix(".checkpoint")
        if not _NUMBER.fullmatch(number) or f"{number}.checkpoint" != stored.name.rpartition("/")[2]:
            continue
        stamped = stamps.of(int(number))
        note = small_object(store, stored.name)
        try:
            known = open_checkpoint(note, key).size == stamped.size <= size
        except SpoolCorrupt:
            known = False
        if not known:
            continue
        stamps.put(stamped.note_path, note)
        for path in (stamped.token_path, stamped.ots_path):
            name = f"{FOLDER}/stamps/{path.name}"
            if store.size(name) is not None:
                stamps.put(path, small_object(store, name))


def _put(folder: Path, name: str, data: bytes) -> None:
    path = folder
    for part in Path(name).parent.parts:
        path /= part
        make_folder(path)
    write_file(folder / name, data)
