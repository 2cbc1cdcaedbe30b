"""A database opened for reading alone: on a live spool, on a copy, and on a disk that cannot be written to.

SQLite wants to write beside a database with a write-ahead log even when it only reads (the `-shm` file).
Where it may not, nobody else writes there either, and the file is read as it is.
"""

import errno
import os
import sqlite3
from pathlib import Path

_REFUSALS = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR)


def connect_reading(path: Path, busy_ms: int) -> sqlite3.Connection:
    """A connection that reads. Raises sqlite3.Error and OSError."""
    # Permission denied is better told by the system than by SQLite. But not by opening the file: closing it
    # would give up the locks of this process's other connections to it (fcntl(2)).
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    try:
        return _connect(path, "mode=ro", busy_ms)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _REFUSALS:
            raise
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        return _with_log(path, log)
    return _connect(path, "mode=ro&immutable=1", busy_ms)


def _connect(path: Path, options: str, busy_ms: int) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=busy_ms / 1000,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        # The file is looked at only now.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _with_log(path: Path, log: Path) -> sqlite3.Connection:
    """The newest entries are in the log alone, which takes writing to read: done in a copy of both."""
    import shutil
    import tempfile

    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        with tempfile.TemporaryDirectory(prefix="recorderd-index-") as folder:
            for each in (path, log):
                shutil.copyfile(each, Path(folder) / each.name)
            source = sqlite3.connect(Path(folder) / path.name)
            try:
                source.backup(memory)
            finally:
                source.close()
    except BaseException:
        memory.close()
        raise
    return memory
