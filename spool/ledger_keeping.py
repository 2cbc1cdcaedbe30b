"""What of the index belongs into the ledger, and how both are brought into line: entries that were made while
nobody told the index, and recordings and calls that a crash kept from being entered.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from recorderd.errors import RecorderError
from recorderd.spool.index import Index
from recorderd.spool.index_calls import CALL_KEYS
from recorderd.spool.layout import MANIFEST_SUFFIX, RECORD_SUFFIX, Spool
from recorderd.spool.ledger import FOLDER, Ledger
from recorderd.spool.ledger_entries import Entry, call_subject
from recorderd.spool.times import rfc3339

_NUMBERS: Final = ("from", "to")
_NO_NUMBERS: Final = tuple(name for name in CALL_KEYS if name not in _NUMBERS)
_BATCH: Final = 500
_DAY_US: Final = 86_400_000_000


def ledger_of(spool: Spool) -> Ledger:
    """The ledger of a spool."""
    return Ledger(spool.path / FOLDER)


def call_entry(row: Mapping[str, Any], time_us: int, *, numbers: bool = True) -> Entry:
    """What became of a call: a row as ``calls --json`` has it, its ``numbers`` left out where they must not
    be kept for ever."""
    fields = {name: row.get(name) for name in (CALL_KEYS if numbers else _NO_NUMBERS)}
    return Entry("call", time_us, call_subject(row["first_seen"], row["call_id"]), fields)


def recording_entry(
    recording: str,
    state: str,
    path: Path | str,
    sha256: str | None,
    size: int | None,
    time_us: int,
    manifest_sha256: str | None = None,
) -> Entry:
    """A finished recording: its file, and the hash of its manifest; unless that is known, of the one that
    stands beside it now."""
    digest = _manifest_sha256(path) if manifest_sha256 is None else manifest_sha256
    fields = {"state": state, "sha256": sha256, "bytes": size, "manifest_sha256": digest}
    return Entry("recording", time_us, recording, fields)


def _manifest_sha256(recording: Path | str) -> str | None:
    path = Path(os.fspath(recording).removesuffix(RECORD_SUFFIX) + MANIFEST_SUFFIX)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def alert_entry(alert: Mapping[str, Any], time_us: int, *, numbers: bool = True) -> Entry:
    """An alert: its kind, when what it tells of happened, and its fields; ``numbers`` as of a call."""
    told = {name: value for name, value in alert["fields"].items() if numbers or name not in _NUMBERS}
    fields = {**told, "happened_us": alert["time_ns"] // 1000}
    return Entry("alert", time_us, alert["kind"], fields)


def enter(ledger: Ledger, index: Index | None, entries: Sequence[Entry]) -> range:
    """Append entries, and tell the index. Raises as :meth:`Ledger.append`, and what the index raises: the
    entries are in the ledger then, and the index learns of them later."""
    leaves = ledger.append(entries)
    if index is not None:
        with index.batch():
            index.ledger_entered(leaves.start, entries)
    return leaves


def may_enter(spool: Spool) -> bool:
    """Whether the spool has a ledger, and it is this user's: what another one wrote, root included, the
    recorder could not go on with."""
    try:
        return (spool.path / FOLDER).stat().st_uid == os.geteuid()
    except OSError:
        return False


def add_alert(spool: Spool, index: Index, alert: Mapping[str, Any]) -> None:
    """Keep an alert that is about no call, and enter it where the spool has a ledger; what is wrong with that
    is told by others. Raises what the index raises."""
    if may_enter(spool):
        with contextlib.suppress(RecorderError):
            enter(ledger_of(spool), index, [alert_entry(alert, time.time_ns() // 1000)])
    index.alert_added(dict(alert))


def learn(ledger: Ledger, index: Index) -> int:
    """Tell the index of the entries that it does not know; returns how many it knew that the ledger has not:
    more than 0 where somebody set the ledger back. Raises SpoolCorrupt, SpoolError, DiskFull."""
    size = ledger.size
    gone = index.ledger_forget(size)
    first = index.ledger_known()
    while first < size:
        end = min(first + _BATCH, size)
        entries = [Entry.from_bytes(data) for data in ledger.entries(first, end)]
        with index.batch():
            index.ledger_entered(first, entries)
        first = end
    return gone


def reconcile(
    spool: Spool,
    ledger: Ledger,
    index: Index,
    *,
    since_us: int | None = None,
    until_us: int | None = None,
    numbers: bool = True,
) -> int:
    """Enter the finished recordings and the calls with an outcome that the ledger has no entry of; returns
    how many. Those of before ``until_us`` only, where others enter the later ones; ``numbers`` as of
    :func:`call_entry`.

    ``since_us`` is when one looked at all there was: what is a day older than that is not looked at again.
    Raises as :meth:`Ledger.append`.
    """
    since = None if since_us is None else rfc3339(max(0, since_us - _DAY_US))
    until = None if until_us is None else rfc3339(until_us)
    entered, after = 0, None
    while rows := index.ledger_lacks_recordings(since, until, _BATCH, after):
        now, after = time.time_ns() // 1000, rows[-1]["id"]
        enter(
            ledger,
            index,
            [
                recording_entry(
                    row["id"], row["state"], spool.record_path(row["id"]), row["sha256"], row["bytes"], now
                )
                for row in rows
            ],
        )
        entered += len(rows)
    last: tuple[str, str] | None = None
    while rows := index.ledger_lacks_calls(since, until, _BATCH, last):
        last = rows[-1]["first_seen"], rows[-1]["call_id"]
        enter(ledger, index, [call_entry(row, time.time_ns() // 1000, numbers=numbers) for row in rows])
        entered += len(rows)
    return entered
