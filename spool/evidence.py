"""What a remote gave back instead of what it was given, kept: a file in ``evidence/``, an alert, and an entry
of the ledger.

Only what tells the bytes apart is kept, not the bytes: their hash and size, and some of them where they begin
to differ.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorderd.errors import RecorderError
from recorderd.spool.durable import make_folder, write_file
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import FOLDER
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import alert_entry, enter, ledger_of
from recorderd.spool.times import microseconds, rfc3339

EVIDENCE = "evidence"
HERE = "_here"
"""Stands for a remote's name in the evidence of local damage; no remote is named so."""

NEW = ".new"
MOST_FILES = 1_000
MOST_ALERTS = 20
"""Alerts of one kind in one pass; what is above is told as a number."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a copy.

    ``what`` is ``gone``, ``damaged`` (other bytes than were verified before), ``not kept`` (other bytes than
    were just sent) or ``foreign`` (other bytes than ours, which we did not send). ``facts`` are the hashes
    (hex), sizes, versions, and where the bytes differ, as far as they are known.
    """

    name: str
    what: str
    facts: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def keep(spool: Spool, remote: str, recording: str, damage: Damage, time_ns: int) -> Path | None:
    """Have it on the disk before anything is done about it; in any thread.

    Returns the file, whose name ends in ``.new`` until it was told; None where the disk does not take it. The
    same finding on the same day is one.
    """
    record = {
        "remote": remote,
        "recording": recording,
        "name": damage.name,
        "found": damage.what,
        **damage.facts,
        "time": rfc3339(time_ns // 1000),
    }
    # What the check found damaged is foreign to the pass that then sends it again: these bytes are told once.
    what = "damaged" if damage.what == "foreign" else damage.what
    same = (remote, damage.name, what, damage.facts.get("sha256"), record["time"][:10])
    digest = hashlib.sha256(json.dumps(same).encode()).hexdigest()[:16]
    folder = spool.path / EVIDENCE
    told = folder / f"{remote}-{digest}.json"
    path = told.with_name(told.name + NEW)
    try:
        make_folder(folder)
        if told.exists():
            return told
        if not path.exists():
            write_file(path, json.dumps(record, indent=1, sort_keys=True).encode() + b"\n")
    except OSError:
        return None
    return path


class Witness:
    """Tells what was kept of one remote: an alert, and an entry of the ledger. One thread's own, as its index
    is."""

    def __init__(self, spool: Spool, index: Index, remote: str) -> None:
        self._spool, self._index, self._remote = spool, index, remote
        self._alerts = 0
        self._untold = 0

    def resume(self) -> None:
        """Tell what was kept, and not told when a crash came."""
        with contextlib.suppress(OSError):
            for path in sorted((self._spool.path / EVIDENCE).glob(f"{self._remote}-*.json{NEW}")):
                record = json.loads(path.read_bytes())
                time_ns = microseconds(record["time"]) * 1000
                self._tell("remote-damage", record, path, time_ns, {})

    def note(
        self, damage: Damage, recording: str, time_ns: int, kind: str = "remote-damage", **told: object
    ) -> None:
        """Keep it, and tell it unless it was told on the same day. ``told`` are further fields of the alert,
        which is of this ``kind``."""
        path = keep(self._spool, self._remote, recording, damage, time_ns)
        if path is not None and not path.name.endswith(NEW):
            return
        record = {"recording": recording, "name": damage.name, "found": damage.what, **damage.facts}
        self._tell(kind, record, path, time_ns, told)

    def end(self, time_ns: int) -> None:
        """The pass is over: tell how many more there were, and let the oldest files of all go."""
        if self._untold:
            self._alert("remote-damage", {"remote": self._remote, "more": self._untold}, time_ns)
            self._untold = 0
        self._trim()

    def _trim(self) -> None:
        with contextlib.suppress(OSError):
            files = sorted(
                (self._spool.path / EVIDENCE).glob("*.json"), key=lambda each: each.stat().st_mtime_ns
            )
            for oldest in files[: max(0, len(files) - MOST_FILES)]:
                oldest.unlink(missing_ok=True)

    def _tell(
        self, kind: str, record: dict[str, Any], path: Path | None, time_ns: int, told: dict[str, object]
    ) -> None:
        name = None if path is None else f"{EVIDENCE}/{path.name.removesuffix(NEW)}"
        if kind == "remote-damage":
            fields = {**record, "remote": self._remote, "evidence": name}
            self._enter(Entry(kind, time_ns // 1000, str(record["recording"]), fields))
        if self._alerts < MOST_ALERTS:
            self._alerts += 1
            facts = {key: record[key] for key in ("recording", "name", "found")}
            self._alert(kind, {"remote": self._remote, **facts, **told, "evidence": name}, time_ns)
        else:
            self._untold += 1
            if self._untold % 100 == 0:
                self._trim()
        if path is not None:
            with contextlib.suppress(OSError):
                path.rename(path.with_name(path.name.removesuffix(NEW)))

    def _alert(self, kind: str, fields: dict[str, Any], time_ns: int) -> None:
        alert = {"kind": kind, "time_ns": time_ns, "fields": fields}
        self._enter(alert_entry(alert, time_ns // 1000))
        self._index.alert_added(alert)

    def _enter(self, entry: Entry) -> None:
        """Into the ledger, where there is one; what is wrong with it is told by others."""
        with contextlib.suppress(RecorderError):
            if (self._spool.path / FOLDER).is_dir():
                enter(ledger_of(self._spool), self._index, [entry])
