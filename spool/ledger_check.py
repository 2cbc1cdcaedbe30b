"""Checks a ledger offline: every entry against every checkpoint, also those that were copied away, and the
recordings against their entries (docs/ledger.md, "To verify"). Nothing is written.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from recorderd.errors import SpoolCorrupt
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import CHECKPOINT, ledger_key
from recorderd.spool.ledger_bundles import MAX_BUNDLE, WIDTH, bundle_name, unpack
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_history import History
from recorderd.spool.merkle import EMPTY, Frontier, leaf_hash
from recorderd.spool.note import Checkpoint, open_checkpoint
from recorderd.spool.signing import HostPublic

GONE: Final = frozenset({"evicted", "destroyed"})
"""Entries that say why there is no file."""

LEAST_APPROVALS: Final = 2
"""Of different keys, before anything is destroyed."""

BACK: Final = frozenset({"restored"})
MAX_PROBLEMS: Final = 1_000
_CHUNK: Final = 1 << 20

Progress = Callable[[int, int], None]


@dataclass
class LedgerVerdict:
    """What was found. ``problems`` each name the file; ``notes`` are no fault."""

    size: int = 0
    signed: int = 0
    """Entries that the newest checkpoint covers."""
    checkpoints: int = 0
    recordings: int = 0
    """Recordings that were compared with their entries."""
    stamps: int = 0
    """Time stamps that are right."""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    def problem(self, text: str) -> None:
        """Remember what is wrong; of very many the first ones."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text)


def check_ledger(
    path: Path,
    public: HostPublic,
    copies: Iterable[tuple[str, bytes]] = (),
    each: Callable[[int, Entry], None] | None = None,
    *,
    at_remote: bool = False,
) -> LedgerVerdict:
    """Check the ledger in a folder against its own checkpoints and against ``copies``: notes that were kept
    elsewhere, each with the name to tell it by. ``each`` is given every entry with its number. A copy
    ``at_remote`` has no history.
    """
    verdict = LedgerVerdict()
    stated: dict[int, dict[bytes, str]] = defaultdict(dict)
    for name, checkpoint in _stated(path, public, copies, verdict, at_remote):
        stated[checkpoint.size].setdefault(checkpoint.root, name)
        verdict.checkpoints += 1
    frontier = Frontier()
    roots = {0: EMPTY} if 0 in stated else {}
    for data in entries_in(path, verdict):
        frontier.add(leaf_hash(data))
        if frontier.size in stated:
            roots[frontier.size] = frontier.root()
        try:
            entry = Entry.from_bytes(data)
        except SpoolCorrupt:
            verdict.problem(f"{path}: entry {frontier.size - 1} is not readable")
        else:
            if each is not None:
                each(frontier.size - 1, entry)
    verdict.size = frontier.size
    for size in sorted(stated):
        for root, name in stated[size].items():
            if size > verdict.size:
                verdict.problem(f"{name}: states {size} entries, there are {verdict.size}: set back or cut")
            elif roots[size] != root:
                verdict.problem(f"{name}: the first {size} entries are not those that were signed")
    return verdict


def copied_checkpoints(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The notes in the files below a folder, by what they look like: checkpoints and histories. Raises
    OSError."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        with path.open("rb") as file:
            start = file.read(4096)
        if start.startswith(b"recorderd.ledger/"):
            for number, note in enumerate(History(path).notes()):
                yield f"{path}" + (f", note {number}" if number else ""), note


def _stated(
    path: Path,
    public: HostPublic,
    copies: Iterable[tuple[str, bytes]],
    verdict: LedgerVerdict,
    at_remote: bool,
) -> Iterator[tuple[str, Checkpoint]]:
    """Every checkpoint that the host has signed; what is wrong with the others is in the verdict."""
    key = ledger_key(public)

    def opened(name: str, note: bytes) -> Checkpoint | None:
        try:
            return open_checkpoint(note, key)
        except SpoolCorrupt as error:
            verdict.problem(f"{name}: {error}")
            return None

    newest = None
    try:
        note = (path / CHECKPOINT).read_bytes()
    except OSError as error:
        verdict.problem(f"{path / CHECKPOINT}: {error.strerror}; nothing says what was signed")
    else:
        newest = opened(str(path / CHECKPOINT), note)
    if newest is not None:
        verdict.signed = newest.size
        yield str(path / CHECKPOINT), newest
    history = History(path / "history")
    last, before, number = -1, -1, 0
    for number, note in enumerate(_notes(history, verdict), 1):
        checkpoint = opened(f"{history.path}, note {number - 1}", note)
        if checkpoint is None:
            continue
        if checkpoint.size <= last:
            verdict.problem(f"{history.path}, note {number - 1}: {checkpoint.size} entries, {last} before")
        before, last = last, max(last, checkpoint.size)
        yield f"{history.path}, note {number - 1}", checkpoint
    if newest is not None and newest.size not in (last, before) and not (at_remote and not number):
        verdict.problem(f"{path / CHECKPOINT}: not the last one of the history")
    for name, note in copies:
        copied = opened(name, note)
        if copied is not None:
            yield name, copied


def _notes(history: History, verdict: LedgerVerdict) -> Iterator[bytes]:
    try:
        yield from history.notes()
    except OSError as error:
        verdict.problem(f"{history.path}: {error.strerror}")


def entries_in(path: Path, verdict: LedgerVerdict) -> Iterator[bytes]:
    """All entries of the ledger in a folder in order, also of a copy, up to the first damage that leaves
    their numbers in doubt."""
    number = 0
    while (bundle := _bundle(path, number)).exists():
        count = 0
        try:
            with bundle.open("rb") as file:
                data = file.read(MAX_BUNDLE + 1)
            for entry in unpack(data):
                count += 1
                yield entry
        except SpoolCorrupt as error:
            verdict.notes.append(f"{bundle}: {error}")
        except OSError as error:
            verdict.problem(f"{bundle}: {error.strerror}")
        number += 1
        if count < WIDTH:
            if (path / bundle_name(number)).exists():
                verdict.problem(f"{bundle}: {count} entries, and others follow")
            break
    if (path / bundle_name(number + 1)).exists():
        verdict.problem(f"{path / bundle_name(number)}: missing")


def _bundle(path: Path, number: int) -> Path:
    """A bundle; of one that only a copy of less than 256 entries was made of, the longest of these."""
    bundle = path / bundle_name(number)
    copies = bundle.with_name(bundle.name + ".p")
    if bundle.exists() or not copies.is_dir():
        return bundle
    widths = [int(each.name) for each in copies.iterdir() if each.name.isdecimal()]
    return path / bundle_name(number, max(widths)) if widths else bundle


class RecordingsCheck:
    """Compares recordings with their entries: given every entry, then asked."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._entered: dict[str, dict[str, Any]] = {}
        self._gone: set[str] = set()
        self._approved: dict[str, set[str]] = defaultdict(set)
        self._destroyed: dict[str, int] = {}
        self._twice: list[str] = []

    def entry(self, leaf: int, entry: Entry) -> None:
        """Take in an entry; for :func:`check_ledger`."""
        if entry.kind == "approved":
            self._approved[entry.subject].add(str(entry.fields.get("key")))
        elif entry.kind == "destroyed":
            self._destroyed[entry.subject] = len(self._approved[str(entry.fields.get("proposal"))])
        if entry.kind in GONE:
            self._gone.add(entry.subject)
        elif entry.kind in BACK and "into" not in entry.fields:  # what was brought elsewhere is not here
            self._gone.discard(entry.subject)
        elif entry.kind == "recording" and entry.fields.get("state") != "damaged":
            before = self._entered.setdefault(entry.subject, dict(entry.fields))
            if any(before.get(name) != entry.fields.get(name) for name in ("sha256", "manifest_sha256")):
                self._twice.append(f"entry {leaf}: another recording than before as {entry.subject}")

    def check(self, verdict: LedgerVerdict, progress: Progress | None = None) -> None:
        """Put into the verdict what disagrees: other bytes, no file, no entry."""
        for problem in self._twice:
            verdict.problem(problem)
        for done, (recording, fields) in enumerate(sorted(self._entered.items())):
            if progress is not None:
                progress(done, len(self._entered))
            verdict.recordings += 1
            for problem in self._differs(recording, fields):
                verdict.problem(problem)
        for recording in self._spool.records():
            if recording not in self._entered:
                verdict.problem(f"{self._spool.record_path(recording)}: has no entry in the ledger")
            elif recording in self._destroyed and not self._spool.is_remote_copy:
                verdict.problem(f"{self._spool.record_path(recording)}: was destroyed, and is here again")
        for recording, approvals in sorted(self._destroyed.items()):
            if approvals < LEAST_APPROVALS:
                verdict.problem(
                    f"{recording}: destroyed, and {approvals} approvals of it were entered before"
                )

    def _differs(self, recording: str, fields: dict[str, Any]) -> Iterator[str]:
        try:
            files = (
                (self._spool.record_path(recording), "sha256"),
                (
                    self._spool.manifest_path(recording),
                    "manifest_sha256",
                ),
            )
        except SpoolCorrupt as error:
            yield str(error)
            return
        for path, name in files:
            try:
                found = _sha256(path)
            except FileNotFoundError:
                if recording not in self._gone:
                    yield f"{path}: gone, and no entry says why"
            except OSError as error:
                yield f"{path}: {error.strerror}"
            else:
                if found != fields.get(name):
                    yield f"{path}: not the file that was entered"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
