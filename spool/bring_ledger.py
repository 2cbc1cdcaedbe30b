"""Brings the ledger back from a remote, as far as its newest checkpoint there says, to where there is none.

It is brought to a folder beside, and takes its place when all of it is there and is what was signed.
"""

import shutil
from pathlib import Path
from typing import Final

from recorderd.errors import RemoteError, SpoolCorrupt
from recorderd.spool.durable import disk_error, make_folder, sync_folder, write_file
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import CHECKPOINT, FOLDER, Ledger, ledger_key
from recorderd.spool.ledger_bundles import WIDTH, bundle_name, unpack
from recorderd.spool.ledger_tiles import HashTiles
from recorderd.spool.merkle import Frontier, leaf_hash
from recorderd.spool.note import Checkpoint, open_checkpoint
from recorderd.spool.readback import small_object
from recorderd.spool.signing import HostPublic
from recorderd.spool.stores import Store

BESIDE: Final = FOLDER + ".new"


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
        _bring_stamps(store, beside)
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


def _bring_stamps(store: Store, folder: Path) -> None:
    for stored in store.list(f"{FOLDER}/stamps/"):
        name = stored.name.removeprefix(f"{FOLDER}/")
        if name.count("/") == 1:
            _put(folder, name, small_object(store, stored.name))


def _put(folder: Path, name: str, data: bytes) -> None:
    path = folder
    for part in Path(name).parent.parts:
        path /= part
        make_folder(path)
    write_file(folder / name, data)
