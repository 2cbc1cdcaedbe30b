"""What people see in a terminal: lines, tables and progress bars, by rich. The one module that imports it.

No control character of a peer gets through.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

from recorderd.wire.printable import printable

CELL_LIMIT = 200
LINE_LIMIT = 4000
# Output that goes to a file or a pipe is not cut to a terminal's width.
PIPE_WIDTH = 250
# On a terminal of fewer columns there is one space between those of a table.
NARROW = 100


class Advance(Protocol):
    """Tells a progress bar how far the work is."""

    def __call__(self, done: float, total: float | None = None, description: str | None = None) -> None:
        """``done`` and ``total`` are in the bar's unit since the start of the work."""


class Terminal(Console):
    """A stream of text for people."""

    def __init__(self, stream: TextIO) -> None:
        width = None if stream.isatty() else PIPE_WIDTH
        super().__init__(
            file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False
        )

    def on_broken_pipe(self) -> None:
        """The dispatcher knows what to do, and with which exit code; rich would leave with another."""
        raise BrokenPipeError

    def say(self, line: str, style: str) -> None:
        """Write one line."""
        self.print(Text(printable(line, limit=LINE_LIMIT), style=style))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None) -> None:
        """Write a table; numbers stand to the right, None is a dash."""
        table = Table(
            title=title, title_justify="left", box=None, pad_edge=False, header_style="bold",
            collapse_padding=self.width < NARROW,
        )  # fmt: skip
        for place, column in enumerate(columns):
            numeric = bool(rows) and all(isinstance(row[place], int | float | None) for row in rows)
            # An id in two pieces cannot be copied; other columns give way first.
            table.add_column(
                column, justify="right" if numeric else "left", overflow="fold", no_wrap=column == "ID"
            )
        for row in rows:
            table.add_row(*[Text(cell_text(cell)) for cell in row])
        self.print(table)

    @contextmanager
    def progress(self, description: str, total: float | None, unit_bytes: bool) -> Iterator[Advance]:
        """Show a progress bar while the work runs."""
        columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
        if unit_bytes:
            columns.insert(2, DownloadColumn())
        with Progress(*columns, console=self, transient=True) as bars:
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
