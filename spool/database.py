"""The SQLite file under the index: opened, shared by processes, with transactions, and its errors as ours.

Two processes use it at once (the capturing one and the one that carries recordings away): write-ahead log,
and writers wait for each other.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlite_utils import Database

from recorderd.errors import DiskFull, RecorderError, SpoolCorrupt, SpoolError
from recorderd.spool.index_schema import SCHEMA_VERSION, create_schema
from recorderd.spool.layout import Spool

BUSY_MS = 15_000
_WAL_TRIES = 100

Json = dict[str, Any]


class SpoolDatabase:
    """An open database; raises SpoolCorrupt, DiskFull or SpoolError where it cannot serve. One thread's
    own."""

    def __init__(self, path: Path, database: Database) -> None:
        self._path = path
        self._database = database
        self._connection = database.conn
        self._depth = 0

    @classmethod
    def open(cls, spool: Spool) -> Self:
        """The spool's index, made where there is none."""
        path = spool.index_path
        try:
            # Autocommit: transactions are begun by name in `batch`, and IMMEDIATE, so that a writer waits for
            # another one instead of failing when it turns from reading to writing.
            connection = sqlite3.connect(
                path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
            )
            database = Database(connection)
            index = cls(path, database)
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            _enable_wal(database)
            # A power cut may undo the last transactions; the files tell what they were about.
            connection.execute("PRAGMA synchronous=NORMAL")
            index._prepare()
        except sqlite3.Error as error:
            raise _fault(error, path) from None
        return index

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Everything inside is one transaction: all of it or nothing, and one write to the disk."""
        if self._depth == 0:
            self.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0 and self._connection.in_transaction:
                self._connection.rollback()
            raise
        self._depth -= 1
        if self._depth == 0:
            try:
                self.execute("COMMIT")
            except RecorderError:
                if self._connection.in_transaction:
                    self._connection.rollback()
                raise

    def _prepare(self) -> None:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise SpoolError(f"{self._path}: made by a newer recorderd (index version {version})")
        if version < SCHEMA_VERSION:
            with self.batch():
                create_schema(self._database)

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        try:
            return self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise _fault(error, self._path) from None

    def query(self, sql: str, values: Sequence[object] = ()) -> list[Json]:
        """All rows that a statement gives, each as a dict."""
        try:
            cursor = self._connection.execute(sql, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except sqlite3.Error as error:
            raise _fault(error, self._path) from None


def _enable_wal(database: Database) -> None:
    """Two processes may open a new index at once, and SQLite does not wait for the other one here."""
    for left in reversed(range(_WAL_TRIES)):
        try:
            database.enable_wal()
        except sqlite3.OperationalError:
            if not left:
                raise
            time.sleep(0.02)
        else:
            return


def database_text(value: str | None) -> str | None:
    """Text that SQLite takes: peers send bytes that are no UTF-8."""
    return None if value is None else value.encode("utf-8", "replace").decode("utf-8")


def filters(*clauses: tuple[str, object]) -> tuple[str, list[object]]:
    """The condition of those clauses whose value is not None, and the values for their question marks."""
    used = [(clause, value) for clause, value in clauses if value is not None]
    values = []
    for clause, value in used:
        values += [database_text(value) if isinstance(value, str) else value] * clause.count("?")
    return " AND ".join(clause for clause, _ in used) or "1", values


def _fault(error: sqlite3.Error, path: Path) -> RecorderError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return DiskFull(f"{path}: {error}")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return SpoolCorrupt(f"{path}: {error}; `recorderctl verify --all` checks the recordings without it")
    return SpoolError(f"{path}: {error}")
