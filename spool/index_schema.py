"""The tables of the index. A change gets a new version and a step that carries the old one over.

Everything that is written for each call goes to the end of its table or index, or near it: recordings and
calls are kept in the order of time. What a peer chose (a Call-ID) would land anywhere, so only the small
`call_recordings` is ordered by it.
"""

import sqlite3

SCHEMA_VERSION = 3


def create_schema(connection: sqlite3.Connection, version: int) -> None:
    """Make the tables where there are none (``version`` 0), or of those of an earlier version the present
    ones; called inside a transaction. Raises sqlite3.Error."""
    if version == 0:
        for statement in (*_RECORDINGS, *_CALLS, *_REST):
            connection.execute(statement)
    if version == 1:
        _carry_over_1(connection)
    if version == 2:
        for column in _RECORDINGS_SINCE_3:
            connection.execute(f"ALTER TABLE recordings ADD COLUMN {column}")
    if version in (1, 2):
        for column in _SYNC_SINCE_3:
            connection.execute(f"ALTER TABLE sync ADD COLUMN {column}")
        connection.execute(f"ALTER TABLE remotes ADD COLUMN {_REMOTES_SINCE_3}")
    for statement in _SINCE_3:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


# `summary` and `call` hold what is shown; the other columns are there to be searched. `carried` is 1 where
# nothing is to be carried to any active remote. Filters by number walk `recordings_by_start` alone,
# without the rows; what is rare has an index of its own, of the few rows only.
_RECORDINGS = (
    """CREATE TABLE recordings (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, started_at TEXT,
        caller TEXT, callee TEXT, call_ids TEXT NOT NULL, review INTEGER NOT NULL, path TEXT, sha256 TEXT,
        bytes INTEGER, carried INTEGER NOT NULL DEFAULT 0, summary TEXT NOT NULL,
        present INTEGER NOT NULL DEFAULT 1, held INTEGER NOT NULL DEFAULT 0, retention TEXT,
        expires_at TEXT)""",
    "CREATE INDEX recordings_by_start ON recordings (started_at, caller, callee)",
    "CREATE INDEX recordings_not_sealed ON recordings (state, id) WHERE state != 'sealed'",
    "CREATE INDEX recordings_to_review ON recordings (started_at, caller, callee) WHERE review = 1",
    """CREATE INDEX recordings_to_carry ON recordings (id)
        WHERE carried = 0 AND state IN ('sealed', 'recovered')""",
    """CREATE TABLE call_recordings (
        call_id TEXT NOT NULL, recording TEXT NOT NULL, PRIMARY KEY (call_id, recording)) WITHOUT ROWID""",
)
_CALLS = (
    """CREATE TABLE calls (
        first_seen TEXT NOT NULL, call_id TEXT NOT NULL, caller TEXT, callee TEXT, outcome TEXT,
        recording TEXT, call TEXT NOT NULL, PRIMARY KEY (first_seen, call_id)) WITHOUT ROWID""",
    "CREATE INDEX calls_by_recording ON calls (recording) WHERE recording IS NOT NULL",
)
_SYNC_FAILED = "CREATE INDEX sync_failed ON sync (remote, next_ns) WHERE error IS NOT NULL"
_REST = (
    "CREATE TABLE alerts (id INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL, delivered_ns INTEGER)",
    "CREATE INDEX alerts_pending ON alerts (id) WHERE delivered_ns IS NULL",
    "CREATE TABLE remotes (name TEXT PRIMARY KEY, identity TEXT, active INTEGER NOT NULL,"
    " state TEXT) WITHOUT ROWID",
    """CREATE TABLE sync (
        recording TEXT NOT NULL, remote TEXT NOT NULL, state TEXT NOT NULL, sha256 TEXT, verified_at TEXT,
        error TEXT, attempts INTEGER NOT NULL, next_ns INTEGER NOT NULL,
        versions TEXT, slots_sha256 TEXT, checked_at TEXT,
        PRIMARY KEY (recording, remote)) WITHOUT ROWID""",
    _SYNC_FAILED,
)

# `present` is 0 where the local file was evicted, `held` where a hold keeps the recording; `retention` is its
# class, `expires_at` when it may be destroyed (null: not by time).
_RECORDINGS_SINCE_3 = (
    "present INTEGER NOT NULL DEFAULT 1",
    "held INTEGER NOT NULL DEFAULT 0",
    "retention TEXT",
    "expires_at TEXT",
)
# `versions` are the remote's (JSON), `slots_sha256` is of the key slots that it has, `checked_at` when the
# copy was last read back. A remote's `state` (JSON) is how the carrying to it goes.
_REMOTES_SINCE_3 = "state TEXT"
_SYNC_SINCE_3 = ("versions TEXT", "slots_sha256 TEXT", "checked_at TEXT")
_SINCE_3 = (
    "CREATE INDEX recordings_to_expire ON recordings (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE INDEX sync_checked ON sync (remote, checked_at) WHERE state = 'verified'",
    "CREATE INDEX sync_stored ON sync (remote) WHERE state = 'stored'",
    """CREATE TABLE ledger_entries (
        leaf INTEGER PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, time_us INTEGER NOT NULL)""",
    "CREATE INDEX ledger_by_subject ON ledger_entries (subject, kind)",
    "CREATE TABLE ledger_sync (remote TEXT PRIMARY KEY, size INTEGER NOT NULL, sent TEXT) WITHOUT ROWID",
    """CREATE TABLE holds (
        id INTEGER PRIMARY KEY AUTOINCREMENT, recording TEXT NOT NULL, matter TEXT NOT NULL,
        reason TEXT NOT NULL, by TEXT NOT NULL, placed_at TEXT NOT NULL, released_at TEXT, released_by TEXT,
        release_reason TEXT)""",
    "CREATE INDEX holds_by_recording ON holds (recording)",
    # What is here is summed up every few seconds; what may go is looked for oldest first.
    "CREATE INDEX recordings_here ON recordings (number, bytes, present) WHERE present = 1",
    """CREATE INDEX recordings_to_evict ON recordings (id)
        WHERE present = 1 AND carried = 1 AND held = 0 AND review = 0""",
    "CREATE INDEX recordings_away ON recordings (id) WHERE present = 0",
)

# Of all recordings anew; ` AND id = ?` may follow. What is `stored` needs no carrying either, but it was not
# read back: nothing may be destroyed or evicted for it.
SET_CARRIED = """UPDATE recordings SET carried = NOT EXISTS (
    SELECT 1 FROM remotes WHERE active AND NOT EXISTS (SELECT 1 FROM sync
        WHERE recording = recordings.id AND remote = remotes.name
        AND state IN ('verified', 'stored'))) WHERE 1"""


def _carry_over_1(connection: sqlite3.Connection) -> None:
    """Version 1 kept recordings by id and calls by Call-ID, with their texts in the keys' tree."""
    for table, indexes in (
        ("recordings", ("recordings_by_start", "recordings_by_state")),
        ("calls", ("calls_by_time", "calls_by_recording")),
    ):
        for index in indexes:
            connection.execute(f"DROP INDEX IF EXISTS {index}")
        connection.execute(f"ALTER TABLE {table} RENAME TO {table}_1")
    connection.execute("DROP INDEX IF EXISTS sync_by_remote")
    for statement in (*_RECORDINGS, *_CALLS, _SYNC_FAILED):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO recordings"
        " (id, state, started_at, caller, callee, call_ids, review, path, sha256, bytes, summary)"
        " SELECT id, state, started_at, caller, callee, call_ids, review, path, sha256, bytes, summary"
        " FROM recordings_1 ORDER BY id"
    )
    connection.execute(
        "INSERT OR IGNORE INTO call_recordings SELECT value, recordings_1.id FROM recordings_1,"
        " json_each(CASE WHEN json_valid(call_ids) THEN call_ids ELSE '[]' END) WHERE typeof(value) = 'text'"
    )
    connection.execute(
        "INSERT INTO calls SELECT first_seen, call_id, caller, callee, outcome, recording, call FROM calls_1"
        " ORDER BY first_seen, call_id"
    )
    connection.execute(SET_CARRIED)
    connection.execute("DROP TABLE recordings_1")
    connection.execute("DROP TABLE calls_1")
