"""What a worker has in hand: the calls that it accounts for, and their recordings, in a file of its own.

When one worker of several dies, only what was its own must be settled, while the others go on with theirs:
that is what the file tells. A line is written before a recording's file is made, so none is missed; and a
call that is over stays for a while, so that also what the index had not been told yet is found. The file is
for the death of a process, not for a power cut: then everything is recovered anyway.
"""

import contextlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

KEPT_NS: Final = 600_000_000_000
"""How long a call stays after its end: sealed, and in the index, it is within seconds."""

GROWN: Final = 10_000
"""Lines beyond twice the calls in hand after which the file is written anew."""

Row = dict[str, Any]


@dataclass(slots=True)
class _Entry:
    row: Row
    over_ns: int | None = None


class Docket:
    """The file of one worker; to be closed. Raises OSError where it cannot be made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(mode=0o750, exist_ok=True)
        self._file = path.open("wb", buffering=0)
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._lines = 0
        self._lock = threading.Lock()

    def note(self, row: Row) -> None:
        """Take a call in hand, or say more of it: a row as the index has it. From any thread."""
        with self._lock:
            known = self._entries.get(_key(row))
            if known is not None and known.row.get("recording"):
                row = {**row, "recording": row.get("recording") or known.row["recording"]}
            self._entries[_key(row)] = _Entry(row)
            self._write({"call": row})

    def leave(self, row: Row) -> None:
        """Another worker has the call from now on."""
        if self._entries.pop(_key(row), None) is not None:
            self._write({"left": _key(row)})

    def over(self, row: Row, now_ns: int) -> None:
        """The call has its outcome; it stays for a while."""
        entry = self._entries.get(_key(row))
        if entry is not None:
            entry.over_ns = now_ns
        if self._lines > 2 * len(self._entries) + GROWN:
            with self._lock:
                self._compact(now_ns)

    def close(self) -> None:
        """Everything is settled: the file goes."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _compact(self, now_ns: int) -> None:
        self._entries = {
            key: entry
            for key, entry in self._entries.items()
            if entry.over_ns is None or now_ns - entry.over_ns < KEPT_NS
        }
        fresh = self.path.with_suffix(".new")
        text = b"".join(_line({"call": entry.row}) for entry in self._entries.values())
        try:
            file = fresh.open("wb", buffering=0)
            file.write(text)
            fresh.rename(self.path)
        except OSError:
            return  # a full disk: the old one goes on
        self._file.close()
        self._file, self._lines = file, len(self._entries)

    def _write(self, entry: dict[str, Any]) -> None:
        self._lines += 1
        with contextlib.suppress(OSError):  # a full disk stops no recording
            self._file.write(_line(entry))


def read_docket(path: Path) -> list[Row]:
    """The calls that a worker had in hand when it died; none where there is no file."""
    found: dict[tuple[str, str], Row] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the last one, torn
        if "call" in entry:
            found[_key(entry["call"])] = entry["call"]
        else:
            found.pop(tuple(entry["left"]), None)
    return list(found.values())


def _key(row: Row) -> tuple[str, str]:
    return row["first_seen"], row["call_id"]


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"
