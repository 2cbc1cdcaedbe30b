"""What a destruction has done so far, in a file: begun before anything is touched, and gone on with after a
crash. The folder of a destruction also keeps what was proposed and approved, and the certificate.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from recorderd.errors import SpoolCorrupt, SpoolError
from recorderd.spool.durable import disk_error, make_folder, sync_folder, write_all, write_file
from recorderd.spool.layout import Spool
from recorderd.spool.proposals import Proposal

FOLDER: Final = "destruction"
_APPENDING: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
Part = Literal["slots", "recording", "manifest"]
Outcome = Literal["gone", "locked", "refused"]


@dataclass(frozen=True, slots=True)
class Copy:
    """What became of one part of a recording at one place, which is ``local`` or a remote's name."""

    where: str
    part: Part
    outcome: Outcome
    until: str | None = None
    versions: tuple[str, ...] = ()


@dataclass(slots=True)
class Work:
    """One recording's destruction. ``detached``: its keys were in a file of their own."""

    detached: bool
    facts: dict[str, Any] = field(default_factory=dict)
    copies: dict[tuple[str, Part], Copy] = field(default_factory=dict)
    done_at: str | None = None

    @property
    def readable_until(self) -> str | None:
        """Until when somebody with an identity can read it at a place that keeps it under a lock: the empty
        text where nobody knows, None where nobody can read it any more."""
        recordings, slots = (
            [each for each in self.copies.values() if each.part == part and each.outcome != "gone"]
            for part in ("recording", "slots")
        )
        if not recordings or (self.detached and not slots):
            return None
        ends = [_latest(recordings)]
        if self.detached:
            ends.append(_latest(slots))
        return "" if "" in ends else min(ends)

    def note(self, copy: Copy) -> None:
        """A part is gone, or is not. What was removed at the first try is not forgotten at the next."""
        known = self.copies.get((copy.where, copy.part))
        if known is None or not (known.outcome == copy.outcome == "gone" and known.versions):
            self.copies[copy.where, copy.part] = copy


def _latest(copies: Iterable[Copy]) -> str:
    ends = [each.until or "" for each in copies]
    return "" if "" in ends else max(ends)


def half_destroyed(spool: Spool) -> Iterator[str]:
    """Recordings of which something is gone and something may be left, by what is in the spool's folder; for
    an index that is made anew. Raises SpoolError and SpoolCorrupt."""
    for path in sorted((spool.path / FOLDER).glob("*/proposal.json")):
        try:
            works = Progress(spool, Proposal.from_bytes(path.read_bytes())).works
        except OSError as error:
            raise disk_error(error, path) from None
        for name, work in works.items():
            # Between what was begun and the first note the keys went.
            touched = work.copies or (work.detached and not spool.slot_path(name).exists())
            if touched and work.done_at is None:
                yield name


class Progress:
    """The folder of one proposal's destruction. Raises SpoolError and DiskFull."""

    def __init__(self, spool: Spool, proposal: Proposal) -> None:
        self.folder = spool.path / FOLDER / proposal.sha256[:32]
        self._path = self.folder / "progress"
        try:
            make_folder(self.folder.parent)
            make_folder(self.folder)
            if not (self.folder / "proposal.json").exists():
                write_file(self.folder / "proposal.json", proposal.raw)
        except OSError as error:
            raise disk_error(error, self.folder) from None
        self.works: dict[str, Work] = {}
        self._load()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else destroys by the same proposal meanwhile. Raises SpoolError where somebody does."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise SpoolError(f"{self.folder}: this proposal is being carried out already") from None
        finally:
            os.close(descriptor)

    def begin(self, works: Mapping[str, Work]) -> None:
        """These are destroyed from now on."""
        self.works.update(works)
        self._append(
            {"id": name, "begun": work.facts, "detached": work.detached} for name, work in works.items()
        )

    def note(self, copies: Iterable[tuple[str, Copy]]) -> None:
        """What became of parts of them."""
        lines = []
        for name, copy in copies:
            self.works[name].note(copy)
            line: dict[str, Any] = {
                "id": name,
                "where": copy.where,
                "part": copy.part,
                "outcome": copy.outcome,
            }
            lines.append({**line, "until": copy.until, "versions": list(copy.versions)})
        self._append(lines)

    def done(self, ids: Iterable[str], at: str) -> None:
        """Nothing is left to do for these."""
        ids = list(ids)
        for name in ids:
            self.works[name].done_at = at
        self._append({"id": name, "done": at} for name in ids)

    def _append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        if not data:
            return
        new = not self._path.exists()
        try:
            descriptor = os.open(self._path, _APPENDING, 0o640)
            try:
                write_all(descriptor, data)
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                sync_folder(self.folder)
        except OSError as error:
            raise disk_error(error, self._path) from None

    def _load(self) -> None:
        try:
            with open(os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_error(error, self._path) from None
        whole, _, torn = data.rpartition(b"\n")
        if torn:
            # What a crash tore off: without its end a later line would be torn, too.
            os.truncate(self._path, len(data) - len(torn))  # a file, as the opening has seen
        try:
            for line in whole.split(b"\n") if whole else ():
                self._take(json.loads(line))
        except (ValueError, KeyError, TypeError):
            raise SpoolCorrupt(f"{self._path}: not readable") from None

    def _take(self, line: dict[str, Any]) -> None:
        name = line["id"]
        if "begun" in line:
            self.works.setdefault(name, Work(line["detached"], line["begun"]))
        elif "done" in line:
            self.works[name].done_at = line["done"]
        else:
            versions = tuple(line["versions"])
            copy = Copy(line["where"], line["part"], line["outcome"], line["until"], versions)
            self.works[name].note(copy)
