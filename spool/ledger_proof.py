"""One file with what a third party needs to believe a recording's entries (docs/ledger.md, "Proof
bundles")."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from recorderd.errors import LedgerCorrupt
from recorderd.spool.ledger import Ledger, ledger_key
from recorderd.spool.ledger_stamps import Stamps
from recorderd.spool.merkle import (
    consistency_path,
    inclusion_path,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from recorderd.spool.note import Checkpoint, open_checkpoint
from recorderd.spool.signing import HostPublic

VERSION: Final = 1


def prove(
    ledger: Ledger, public: HostPublic, recording: str, leaves: Sequence[int], manifest: Path
) -> dict[str, Any]:
    """The proof bundle of the entries with these numbers.

    Against the first stamped checkpoint that has all of them, or else the newest. Each proof was checked.
    Raises SpoolCorrupt where the ledger is damaged, or has not signed them yet.
    """
    note, checkpoint, stamps = _statement(ledger, public, max(leaves) + 1)
    entries = []
    for leaf in leaves:
        (data,) = ledger.entries(leaf, leaf + 1)
        path = inclusion_path(leaf, checkpoint.size, ledger.tiles)
        if not verify_inclusion(leaf_hash(data), leaf, checkpoint.size, path, checkpoint.root):
            raise LedgerCorrupt(f"{ledger.path}: entry {leaf} is not what was signed; see `ledger verify`")
        entries.append({"leaf": leaf, "entry": data.decode("ascii"), "path": [each.hex() for each in path]})
    try:
        text: str | None = manifest.read_text("ascii")
    except (OSError, ValueError):
        text = None
    return {
        "proof": VERSION,
        "recording": recording,
        "checkpoint": note.decode(),
        "entries": entries,
        "manifest": text,
        "stamps": [base64.b64encode(stamp).decode() for stamp in stamps],
    }


def prove_since(ledger: Ledger, public: HostPublic, old_note: bytes) -> dict[str, Any]:
    """The proof that the newest checkpoint's ledger begins with that of an earlier one; it was checked.

    Raises SpoolCorrupt where it does not, and where one of the checkpoints is not of this host.
    """
    key = ledger_key(public)
    old, note = open_checkpoint(old_note, key), ledger.note()
    if note is None:
        raise LedgerCorrupt(f"{ledger.path}: nothing is signed yet")
    new = open_checkpoint(note, key)
    if old.size <= new.size:
        path = consistency_path(old.size, new.size, ledger.tiles)
        if verify_consistency(old.size, new.size, old.root, new.root, path):
            hashes = [each.hex() for each in path]
            return {"old": old_note.decode(), "new": note.decode(), "path": hashes}
    raise LedgerCorrupt(f"{ledger.path}: does not begin with what was signed then ({old.size} entries)")


def _statement(ledger: Ledger, public: HostPublic, size: int) -> tuple[bytes, Checkpoint, list[bytes]]:
    """The checkpoint to prove against, as its note and what that says, and its stamps."""
    key = ledger_key(public)
    for stamped in Stamps(ledger.path).stamped():
        if stamped.size >= size and stamped.size <= ledger.size:
            note = stamped.note_path.read_bytes()
            return note, open_checkpoint(note, key), [stamped.token_path.read_bytes()]
    newest = ledger.note()
    if newest is None or (checkpoint := open_checkpoint(newest, key)).size < size:
        raise LedgerCorrupt(f"{ledger.path}: the entry is not signed yet; see `ledger checkpoint`")
    return newest, checkpoint, []
