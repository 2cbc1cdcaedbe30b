"""`recorderctl keys rewrap` and `keys import`: later generations of slot files, made where a private key is
and taken in where the recordings are."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from recorderd.errors import NoSuchRecording, RecorderError, SpoolCorrupt, UsageError, WrongKey
from recorderd.spool.index import Index
from recorderd.spool.keys import load_recipients
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter, ledger_of
from recorderd.spool.rewrap import Rewrapping, import_slots, rewrap_file, rewrap_in_spool, slot_files_in
from recorderd.spool.slots import SlotFile
from recorderd.tools.cli import error_json
from recorderd.tools.command import Session, as_owner
from recorderd.tools.identities import identities_of
from recorderd.tools.keys_listing import finished

T = TypeVar("T")
_BATCH = 100
# What one recording cannot have done to it keeps nobody from the others; a full disk does.
_ITS_OWN = (SpoolCorrupt, WrongKey, NoSuchRecording, UsageError)


@dataclass
class _Done:
    """What became of each."""

    changed: list[dict[str, Any]] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    refused: list[tuple[str, RecorderError]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "rewrapped": self.changed,
            "unchanged": self.unchanged,
            "refused": [{"id": name, "reason": str(error)} for name, error in self.refused],
        }
        if self.refused:
            answer["error"] = error_json(self.refused[0][1])
        return answer


class _Account:
    """Enters what was done in the ledger, and tells the index, so that the remotes get it; nothing where this
    is no spool of a recorder but a copy."""

    def __init__(self, session: Session, how: str) -> None:
        spool = session.spool
        copy = spool.is_remote_copy or (session.spool_path is not None and not spool.host_key_path.exists())
        self._ledger = None if copy else ledger_of(spool)
        self._index: Index | None = None
        if not copy:
            as_owner(spool)
        if not copy and spool.index_path.exists():
            self._index = session.index_to_write
        self._how = how
        self._waiting: list[Entry] = []

    def add(self, slots: SlotFile) -> None:
        if self._ledger is None:
            return
        fields = {
            "generation": slots.generation,
            "slots_sha256": slots.sha256,
            "recipients": list(slots.recipients),
            "how": self._how,
        }
        self._waiting.append(Entry("rewrapped", time.time_ns() // 1000, slots.recording, fields))
        if len(self._waiting) >= _BATCH:
            self.settle()

    def settle(self) -> None:
        if self._ledger is None or not self._waiting:
            return
        if self._index is not None:
            names = [entry.subject for entry in self._waiting]
            for row in self._index.query("SELECT name FROM remotes"):
                self._index.sync_again(row["name"], names)
        enter(self._ledger, self._index, self._waiting)
        self._waiting.clear()


def rewrap(session: Session, arguments: argparse.Namespace) -> int:
    """Wrap anew; returns 0, or the code of the first refusal."""
    if (bool(arguments.ids) + arguments.all + (arguments.folder is not None)) != 1:
        raise UsageError("keys rewrap: give recording ids, or --all, or --folder DIR")
    task = Rewrapping(identities_of(arguments), load_recipients(arguments.to), arguments.drop_old)
    if arguments.folder is not None:
        files = _files(arguments.folder)
        done = _each(session, files, lambda path: rewrap_file(path, task), None)
    else:
        spool = session.spool
        ids = finished(spool) if arguments.all else [session.find(text) for text in arguments.ids]
        account = _Account(session, "rewrap")
        done = _each(session, ids, lambda name: rewrap_in_spool(spool, name, task), account)
    return _tell(session, done, "wrapped anew")


def import_keys(session: Session, arguments: argparse.Namespace) -> int:
    """Take in; returns 0, or the code of the first refusal."""
    if session.spool.is_remote_copy:
        raise UsageError(f"keys import: {session.spool.path} is a copy of a remote")
    files = _files(arguments.folder)
    account = _Account(session, "import")
    done = _each(session, files, lambda path: import_slots(session.spool, path), account)
    return _tell(session, done, "taken in")


def _files(folder: Path) -> list[Path]:
    files = list(slot_files_in(folder)) if folder.is_dir() else []
    if not files:
        raise UsageError(f"{folder}: no slot files (*.key) here")
    return files


def _each(
    session: Session, things: Sequence[T], act: Callable[[T], SlotFile | None], account: _Account | None
) -> _Done:
    done = _Done()
    try:
        with session.progress("wrapping keys", total=len(things)) as advance:
            for count, item in enumerate(things):
                advance(count)
                try:
                    slots = act(item)
                except _ITS_OWN as error:
                    done.refused.append((str(item), error))
                    continue
                if slots is None:
                    done.unchanged.append(str(item))
                    continue
                facts = {"id": slots.recording, "generation": slots.generation, "sha256": slots.sha256}
                done.changed.append({**facts, "recipients": list(slots.recipients)})
                if account is not None:
                    account.add(slots)
    finally:
        if account is not None:
            account.settle()
    return done


def _tell(session: Session, done: _Done, word: str) -> int:
    if session.json:
        session.emit(done.as_json())
    else:
        session.warn([str(error) for _, error in done.refused])
        session.say(
            f"{len(done.changed)} {word}, {len(done.unchanged)} as before, {len(done.refused)} refused"
        )
    return done.refused[0][1].exit_code if done.refused else 0
