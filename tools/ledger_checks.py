"""What `recorderctl doctor` says of the ledger: whether it grows, is signed, stamped, and is at the remotes.

Nothing is verified here; that is `recorderctl ledger verify`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from recorderd.config.ledger import LedgerConfig
from recorderd.spool.database import NoIndex
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import FOLDER, Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_stamps import Stamps
from recorderd.tools.checks import OK, WARNING, Check

CARRIED_S: Final = 1800.0
"""An entry that a remote has not got after so long is late: the ledger is carried every five minutes."""
SPARE_S: Final = 60.0
_HINT: Final = 'see "The ledger" in docs/operations.md'


def ledger_checks(
    config: LedgerConfig, spool: Spool, remotes: Iterable[str], now_s: float
) -> Iterator[Check]:
    """Look; ``now_s`` is in seconds since 1970. Raises SpoolCorrupt, SpoolError, OSError."""
    ledger = Ledger(spool.path / FOLDER)
    if not config.enabled:
        yield Check("ledger", WARNING, "off: nothing shows what is changed later", "set ledger.enabled")
        return
    if not ledger.path.is_dir():
        yield Check("ledger", WARNING, f"{ledger.path}: not there yet", "the daemon begins it at its start")
        return
    size, stated = ledger.size, ledger.stated()
    if stated is None:
        yield Check("ledger", WARNING, f"{size} entries, none is signed", "is recorderd-capture running?")
        return
    signed_s = ledger.checkpoint_path.stat().st_mtime
    waiting_s = _age(ledger, stated.size, size, now_s)
    late = waiting_s > 2 * config.checkpoint_s + SPARE_S
    told = (
        f"{size} entries, {stated.size} of them signed; the last checkpoint is {_ago(now_s - signed_s)} old"
    )
    yield Check("ledger", WARNING if late else OK, told, "is recorderd-capture running?")
    try:
        with Index.read(spool) as index:
            for name in remotes:
                yield _at_remote(name, ledger, stated.size, index, now_s)
            yield from _stamps(config, ledger, index, now_s)
    except NoIndex:
        return  # nobody knows what the remotes have


def _at_remote(name: str, ledger: Ledger, signed: int, index: Index, now_s: float) -> Check:
    sent = index.ledger_sent(name)
    there = 0 if sent is None else min(int(sent["size"]), signed)
    if there >= signed:
        return Check(f"ledger at {name}", OK, f"all {signed} signed entries")
    age = _age(ledger, there, signed, now_s)
    told = f"{there} of {signed} signed entries; what it lacks is up to {_ago(age)} old"
    return Check(f"ledger at {name}", WARNING if age > CARRIED_S else OK, told, "recorderctl sync")


def _stamps(config: LedgerConfig, ledger: Ledger, index: Index, now_s: float) -> Iterator[Check]:
    stamps = Stamps(ledger.path)
    if config.timestamps:
        tokens = [each.token_path for each in stamps.stamped()]
        yield _stamped("time stamps", tokens, config.timestamps.every_s, ledger, index, now_s)
    if config.opentimestamps:
        proofs = list(stamps.folder.glob("*.checkpoint.ots"))
        yield _stamped("block chain", proofs, config.opentimestamps.every_s, ledger, index, now_s)


def _stamped(
    what: str, files: list[Path], every_s: float, ledger: Ledger, index: Index, now_s: float
) -> Check:
    newest = max((path.stat().st_mtime for path in files), default=None)
    told = "none yet" if newest is None else f"{len(files)}, the last one {_ago(now_s - newest)} ago"
    if newest is not None and now_s - newest <= 2 * every_s + SPARE_S:
        return Check(what, OK, told)
    # Beyond the time that one may take; or nothing was entered since, and the newest has its stamp.
    if newest is not None and ledger.checkpoint_path.stat().st_mtime <= newest:
        return Check(what, OK, f"{told}; nothing was signed since")
    alert = index.ledger_rows(kind="alert", subject="timestamp", limit=1)
    if alert and alert[0]["time_us"] / 1e6 > (newest or 0.0):
        (data,) = ledger.entries(alert[0]["leaf"], alert[0]["leaf"] + 1)
        told += f"; {Entry.from_bytes(data).fields.get('error')}"
    return Check(what, WARNING, f"{told}; due every {_ago(every_s)}", _HINT)


def _age(ledger: Ledger, first: int, end: int, now_s: float) -> float:
    """For how long the oldest entry from number ``first`` on waits, in seconds; 0 where there is none."""
    if first >= end:
        return 0.0
    (data,) = ledger.entries(first, first + 1)
    return max(0.0, now_s - Entry.from_bytes(data).time_us / 1e6)


def _ago(seconds: float) -> str:
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{max(0.0, seconds) / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
