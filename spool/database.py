"""The SQLite file under the index: opened, shared by processes, with transactions, and its errors as ours.

Two processes use it at once (the capturing one and the one that carries recordings away): write-ahead log,
and writers wait for each other. How it is only read is in :mod:`recorderd.spool.database_reading`.
"""

import errno
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recorderd.errors import DiskFull, RecorderError, SpoolCorrupt, SpoolError
from recorderd.spool.database_reading import connect_reading
from recorderd.spool.durable import disk_error
from recorderd.spool.index_schema import SCHEMA_VERSION, create_schema
from recorderd.spool.layout import Spool

BUSY_MS = 15_000
_WAL_TRIES = 100
_MOST_ROWS = (1 << 63) - 1
_TOGETHER = 64
"""Rows of one statement; old versions of SQLite take 999 values."""

_CHECK = "`recorderctl verify --all` checks the recordings without it, `recorderctl reindex` makes it anew"

Json = dict[str, Any]


class NoIndex(SpoolError):
    """There is no index yet; it can be made from the manifests."""


class SpoolDatabase:
    """An open database; raises SpoolCorrupt, DiskFull or SpoolError where it cannot serve. One thread's
    own."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._depth = 0
        self._transaction = 0  # counts them

    @classmethod
    def open(cls, spool: Spool) -> Self:
        """The spool's index, made where there is none."""
        path = spool.index_path
        _create(path)
        try:
            # Autocommit: transactions are begun by name in `batch`, and IMMEDIATE, so that a writer waits for
            # another one instead of failing when it turns from reading to writing.
            connection = sqlite3.connect(
                path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
            )
            index = cls(path, connection)
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            _enable_wal(connection)
            # A power cut may undo the last transactions; the files tell what they were about.
            connection.execute("PRAGMA synchronous=NORMAL")
            index._prepare()
        except sqlite3.Error as error:
            raise _fault(error, path) from None
        return index

    @classmethod
    def read(cls, spool: Spool) -> Self:
        """The spool's index as it is, also on a disk that cannot be written to; whatever writes fails.

        Raises NoIndex where there is none, or nothing in it.
        """
        path = spool.index_path
        if not path.exists():
            raise NoIndex(f"{path}: there is no index")
        try:
            connection = connect_reading(path, BUSY_MS)
            index = cls(path, connection)
            version = index._version()
            if 0 < version < SCHEMA_VERSION:
                index = index._copied()
            index.refuse_writing()
        except sqlite3.Error as error:
            raise _fault(error, path) from None
        except OSError as error:
            raise disk_error(error, path) from None
        if not version:
            index.close()
            raise NoIndex(f"{path}: there is no index in it")
        return index

    @classmethod
    def in_memory(cls, spool: Spool) -> Self:
        """An empty index that is gone when it is closed."""
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        index = cls(spool.index_path, connection)
        index._prepare()
        return index

    def refuse_writing(self) -> None:
        """From now on whatever writes raises SpoolError."""
        self.execute("PRAGMA query_only=1")

    def trace(self, told: Callable[[str], object] | None) -> None:
        """Tell each statement, with its values in it, before it runs; None: no more."""
        self._connection.set_trace_callback(told)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

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
            self._transaction += 1
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

    def _version(self) -> int:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise SpoolError(f"{self._path}: made by a newer recorderd (index version {version})")
        return version

    def _prepare(self) -> None:
        if self._version() == SCHEMA_VERSION:
            return
        with self.batch():
            # Another process may have done it by now.
            version = self._version()
            if version < SCHEMA_VERSION:
                create_schema(self._connection, version)

    def _copied(self) -> Self:
        """An index of an earlier version, carried over in memory, since its file is not to be written to."""
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._connection.backup(memory)
        self.close()
        copy = type(self)(self._path, memory)
        copy._prepare()
        return copy

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        try:
            return self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise _fault(error, self._path) from None
        except OverflowError:
            raise SpoolCorrupt(f"{self._path}: a number is too large for the index") from None

    def insert(self, into: str, rows: Iterable[Sequence[object]], conflict: str = "") -> None:
        """Insert rows of one length, of 15 values at most; ``into`` stands before VALUES, ``conflict`` behind
        them.

        At each statement the threads of a process take turns several times, so one has many rows.
        """
        waiting = iter(rows)
        while some := list(islice(waiting, _TOGETHER)):
            while some:
                # SQLite keeps statements prepared: of many lengths it would keep too many.
                count = 1 << len(some).bit_length() - 1
                marks = ", ".join([f"({', '.join('?' * len(some[0]))})"] * count)
                values = [value for row in some[:count] for value in row]
                self.execute(f"{into} VALUES {marks} {conflict}", values)
                del some[:count]

    def undo_in_memory(self) -> None:
        """What undoes a statement of many rows is in no file of its own; for who makes small ones only."""
        self.execute("PRAGMA temp_store=MEMORY")

    def query(self, sql: str, values: Sequence[object] = ()) -> list[Json]:
        """All rows that a statement gives, each as a dict."""
        try:
            cursor = self._connection.execute(sql, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except sqlite3.Error as error:
            raise _fault(error, self._path) from None

    def load(self, text: object) -> Json:
        """The object in a column of JSON. Raises SpoolCorrupt."""
        try:
            value = json.loads(text) if isinstance(text, str) else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise SpoolCorrupt(f"{self._path}: an entry is not readable; {_CHECK}")
        return value


def _create(path: Path) -> None:
    """SQLite would let everybody read it; what it puts beside the file has the file's mode.

    One that is there is not opened: closing it would give up the locks of every connection that this process
    has to it (fcntl(2)), and another process would then take away the log under them.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            raise disk_error(error, path) from None
    except OSError as error:
        raise disk_error(error, path) from None


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Two processes may open a new index at once, and SQLite does not wait for the other one here."""
    for left in reversed(range(_WAL_TRIES)):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if not left:
                raise
            time.sleep(0.02)
        else:
            return


def database_text(value: str | None) -> str | None:
    """Text that SQLite takes: peers send bytes that are no UTF-8."""
    if value is None or value.isascii():
        return value
    return value.encode("utf-8", "replace").decode("utf-8")


# One encoder for all: json.dumps makes a new one at each call that asks for anything but its defaults.
json_text = json.JSONEncoder(separators=(",", ":")).encode
"""JSON for a column, ASCII only."""


def row_limit(limit: int | None) -> int:
    """The value for LIMIT; None is no limit."""
    return -1 if limit is None else min(limit, _MOST_ROWS)


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
    # The statements are ours and right: what they fail at is a missing table, or a column that is no JSON.
    damaged = primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
    if damaged or "decode to UTF-8" in str(error):
        return SpoolCorrupt(f"{path}: {error}; {_CHECK}")
    return SpoolError(f"{path}: {error}")
