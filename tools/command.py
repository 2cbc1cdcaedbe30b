"""What every command of recorderctl is given, and what it must have.

A command is a module ``tools/cmd_NAME.py`` with two functions::

    def add_arguments(parser: argparse.ArgumentParser) -> None: ...
    def run(session: Session, arguments: argparse.Namespace) -> int: ...

``run`` returns the exit code (0 for success). It raises a :class:`~recorderd.errors.RecorderError` for
anything that the user is to be told; the dispatcher prints it as one line, or as JSON, and exits with the
error's own code. With ``session.json`` a command writes exactly one JSON value, through
:meth:`Session.emit`; without it, text through :meth:`Session.say` and :meth:`Session.table`, which let no
control character of a peer reach the terminal.
"""

import argparse
import json
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from recorderd import libraries
from recorderd.errors import Evicted, NoSuchRecording, SpoolError, UsageError
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool, is_recording_id
from recorderd.spool.rebuild import open_for_reading, open_for_writing
from recorderd.wire.printable import printable

if TYPE_CHECKING:
    # Imported where used: most answers need neither a configuration nor a terminal's tables.
    from recorderd.config import Config
    from recorderd.tools.terminal import Advance, Terminal

DEFAULT_CONFIG = Path("/etc/recorderd/config.yaml")
LINE_LIMIT = 4000


class Command(Protocol):
    """The face of a ``cmd_NAME`` module."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's own options."""

    def run(self, session: "Session", arguments: argparse.Namespace) -> int:
        """Do it; return the exit code."""


@dataclass
class Session:
    """The options common to all commands, and what they lead to; opened only when asked for."""

    config_path: Path | None
    spool_path: Path | None
    json: bool
    stdout: TextIO
    stderr: TextIO

    @cached_property
    def config(self) -> "Config":
        """The configuration of ``-c`` (or the default path); raises ConfigError."""
        with libraries.loading():
            from recorderd.config import load_config

        return load_config(self.config_path or DEFAULT_CONFIG)

    @cached_property
    def spool(self) -> Spool:
        """The spool (or copy of a remote) of ``--spool``, or else of the configuration; raises SpoolError
        where there is none."""
        path = self.spool_path if self.spool_path is not None else Path(self.config.spool.path)
        return Spool.to_read(path)

    @cached_property
    def index(self) -> Index:
        """The spool's index for reading; where there is none, made from the manifests, in memory."""
        index, problems = open_for_reading(self.spool)
        self.warn(problems)
        return index

    @cached_property
    def index_to_write(self) -> Index:
        """The spool's index for the few commands that change it. Raises SpoolError for a copy of a remote,
        and as :func:`as_owner` does."""
        if self.spool.is_remote_copy:
            raise SpoolError(f"{self.spool.path}: a copy of a remote, which can only be looked at")
        as_owner(self.spool)
        index, problems = open_for_writing(self.spool)
        self.warn(problems)
        return index

    def close(self) -> None:
        """Let go of what was opened; what a command wrote to the index is in its file then."""
        for name in ("index", "index_to_write"):
            opened: Index | None = vars(self).pop(name, None)
            if opened is not None:
                opened.close()

    def warn(self, problems: Sequence[str]) -> None:
        """Lines on standard error about what does not stop the command; nothing with JSON."""
        for problem in [] if self.json else problems:
            self.stderr.write(f"recorderctl: {printable(problem, limit=LINE_LIMIT)}\n")

    def find(self, text: str) -> str:
        """The recording id that a user means by an id or the first letters of one. Raises NoSuchRecording."""
        if is_recording_id(text):
            return text
        found = self.index.ids_like(text) if text else []
        if len(found) != 1:
            many = (
                f"begins the ids of several recordings, {found[0]} and {found[1]} among them" if found else ""
            )
            raise NoSuchRecording(f"{text[:80]!r} {many or 'is no recording here'}")
        return found[0]

    def locate(self, recording_id: str) -> Path:
        """The recording's file. Raises Evicted where it is on the remotes alone, and NoSuchRecording."""
        try:
            return self.spool.locate(recording_id)
        except NoSuchRecording:
            if self.index.is_destroyed(recording_id):
                raise NoSuchRecording(f"{recording_id}: it was destroyed when its period was over") from None
            if not self.index.evicted([recording_id]):
                raise
            raise Evicted(f"{recording_id}: {away(self.index.recording(recording_id))}") from None

    @cached_property
    def terminal(self) -> "Terminal":
        """Standard output for people."""
        with libraries.loading():
            from recorderd.tools.terminal import Terminal

        return Terminal(self.stdout)

    def emit(self, value: object) -> None:
        """Write one JSON value to standard output. ASCII only, so that it is safe on a terminal too."""
        self.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")
        self.stdout.flush()

    def say(self, line: str = "", style: str = "") -> None:
        """Write one line for people."""
        self.terminal.say(line, style)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None
    ) -> None:
        """Write a table; numbers stand to the right, None is a dash."""
        self.terminal.table(columns, rows, title)

    @contextmanager
    def progress(
        self, description: str, *, total: float | None = None, unit_bytes: bool = False
    ) -> Iterator["Advance"]:
        """Show a progress bar on standard error while the work runs; nothing where that is no terminal or
        with JSON."""
        if self.json or not self.stderr.isatty():
            yield _no_advance
            return
        from recorderd.tools.terminal import Terminal

        with Terminal(self.stderr).progress(description, total, unit_bytes) as advance:
            yield advance


def _no_advance(done: float, total: float | None = None, description: str | None = None) -> None:
    """Where nobody watches."""


def away(recording: dict[str, Any]) -> str:
    """Where a recording is that is not here: of the list contract."""
    having = [state["remote"] for state in recording["sync"] if state["state"] in ("verified", "stored")]
    return f"evicted, on {', '.join(having)}" if having else "not here; no remote is known to have it"


def as_owner(spool: Spool) -> None:
    """See that what is written to the spool belongs to its owner. Raises UsageError for root: with what root
    writes the recorder could not go on."""
    if os.geteuid() != 0 or not spool.path.exists():
        return
    owner = spool.path.stat().st_uid
    if owner != 0:
        raise UsageError(f"run this as the owner of {spool.path}: sudo -u '#{owner}' recorderctl ...")


def user() -> str:
    """Who runs this process, as the ledger has it: whom the kernel says, not the environment."""
    try:
        return f"user {pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"user {os.getuid()}"
