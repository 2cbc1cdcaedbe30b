"""The tables of the index. A change gets a new version and a step that carries the old one over."""

from sqlite_utils import Database

SCHEMA_VERSION = 1


def create_schema(database: Database) -> None:
    """Make the tables that are missing; called inside a transaction."""
    connection = database.conn
    for statement in _STATEMENTS:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


# `summary` and `call` hold what is shown; the other columns are there to be searched.
_STATEMENTS = (
    """CREATE TABLE IF NOT EXISTS recordings (
        id TEXT PRIMARY KEY, state TEXT NOT NULL, started_at TEXT, caller TEXT, callee TEXT,
        call_ids TEXT NOT NULL, review INTEGER NOT NULL, path TEXT, sha256 TEXT, bytes INTEGER,
        summary TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE INDEX IF NOT EXISTS recordings_by_start
        ON recordings (started_at, caller, callee, call_ids, id)""",
    "CREATE INDEX IF NOT EXISTS recordings_by_state ON recordings (state, id)",
    """CREATE TABLE IF NOT EXISTS calls (
        call_id TEXT NOT NULL, first_seen TEXT NOT NULL, caller TEXT, callee TEXT, outcome TEXT,
        recording TEXT, call TEXT NOT NULL, PRIMARY KEY (call_id, first_seen)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS calls_by_time ON calls (first_seen, call_id)",
    "CREATE INDEX IF NOT EXISTS calls_by_recording ON calls (recording)",
    """CREATE TABLE IF NOT EXISTS alerts (
        id INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL, delivered_ns INTEGER)""",
    "CREATE INDEX IF NOT EXISTS alerts_pending ON alerts (id) WHERE delivered_ns IS NULL",
    """CREATE TABLE IF NOT EXISTS remotes (
        name TEXT PRIMARY KEY, identity TEXT, active INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS sync (
        recording TEXT NOT NULL, remote TEXT NOT NULL, state TEXT NOT NULL, sha256 TEXT, verified_at TEXT,
        error TEXT, attempts INTEGER NOT NULL, next_ns INTEGER NOT NULL,
        PRIMARY KEY (recording, remote)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS sync_by_remote ON sync (remote, state)",
)
