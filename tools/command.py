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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from recorderd.config import Config, load_config
from recorderd.errors import NoSuchRecording, SpoolError
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool, is_recording_id
from recorderd.spool.rebuild import open_for_reading, open_for_writing
from recorderd.wire.printable import printable

DEFAULT_CONFIG = Path("/etc/recorderd/config.yaml")
CELL_LIMIT = 200
LINE_LIMIT = 4000
# Output that goes to a file or a pipe is not cut to a terminal's width.
PIPE_WIDTH = 250


class Command(Protocol):
    """The face of a ``cmd_NAME`` module."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's own options."""

    def run(self, session: "Session", arguments: argparse.Namespace) -> int:
        """Do it; return the exit code."""


class Advance(Protocol):
    """Tells a progress bar how far the work is."""

    def __call__(self, done: float, total: float | None = None, description: str | None = None) -> None:
        """``done`` and ``total`` are in the bar's unit since the start of the work."""


@dataclass
class Session:
    """The options common to all commands, and what they lead to; opened only when asked for."""

    config_path: Path | None
    spool_path: Path | None
    json: bool
    stdout: TextIO
    stderr: TextIO

    @cached_property
    def config(self) -> Config:
        """The configuration of ``-c`` (or the default path); raises ConfigError."""
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
        """The spool's index for the few commands that change it. Raises SpoolError for a copy of a remote."""
        if self.spool.is_remote_copy:
            raise SpoolError(f"{self.spool.path}: a copy of a remote, which can only be looked at")
        index, problems = open_for_writing(self.spool)
        self.warn(problems)
        return index

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

    @cached_property
    def console(self) -> Console:
        """Standard output for people."""
        return _console(self.stdout)

    def emit(self, value: object) -> None:
        """Write one JSON value to standard output. ASCII only, so that it is safe on a terminal too."""
        self.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")
        self.stdout.flush()

    def say(self, line: str = "", style: str = "") -> None:
        """Write one line for people."""
        self.console.print(Text(printable(line, limit=LINE_LIMIT), style=style))

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None
    ) -> None:
        """Write a table; numbers stand to the right, None is a dash."""
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for place, column in enumerate(columns):
            numeric = bool(rows) and all(isinstance(row[place], int | float | None) for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*[Text(cell_text(cell)) for cell in row])
        self.console.print(table)

    @contextmanager
    def progress(
        self, description: str, *, total: float | None = None, unit_bytes: bool = False
    ) -> Iterator[Advance]:
        """Show a progress bar on standard error while the work runs; nothing where that is no terminal or
        with JSON."""
        if self.json or not self.stderr.isatty():
            yield _no_advance
            return
        columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
        if unit_bytes:
            columns.insert(2, DownloadColumn())
        with Progress(*columns, console=_console(self.stderr), transient=True) as bars:
            task = bars.add_task(printable(description, limit=CELL_LIMIT), total=total)

            def advance(done: float, total: float | None = None, description: str | None = None) -> None:
                text = None if description is None else printable(description, limit=CELL_LIMIT)
                bars.update(task, completed=done, total=total, description=text)

            yield advance


def cell_text(value: object) -> str:
    """One table cell: None is a dash, floats have one decimal, text has no control characters."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return printable(str(value), limit=CELL_LIMIT)


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() else PIPE_WIDTH
    return _Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """The dispatcher knows what to do, and with which exit code; rich would leave with another."""
        raise BrokenPipeError


def _no_advance(done: float, total: float | None = None, description: str | None = None) -> None:
    """Where nobody watches."""
