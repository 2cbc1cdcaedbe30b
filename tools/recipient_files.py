"""The lines of recipient files, retired ones included: those are comments to everybody else::

# retired 2026-11-22: recorderd-recipient-1 mlkem768-x25519 dd28... BASE64
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from recorderd.errors import ConfigError, UsageError
from recorderd.spool.durable import write_file
from recorderd.spool.keys import RECIPIENT_TAG, Recipient

_RETIRED = re.compile(r"# retired (\d{4}-\d{2}-\d{2}): ")


@dataclass(frozen=True, slots=True)
class RecipientLine:
    """A recipient as it stands in a file. ``id`` is in hex, ``retired`` the day, None of one in use."""

    path: Path
    id: str
    suite: str
    retired: str | None


def recipient_lines(path: Path) -> list[RecipientLine]:
    """The recipients in a file. Raises ConfigError where it cannot be read; the keys are not checked."""
    found = (_parse(path, line) for line in _text(path).split("\n"))
    return [line for line in found if line is not None]


def change(path: Path, *, retire: set[str], on: str, add: Recipient | None) -> bool:
    """Make comments of the lines with these ids, and put a new recipient behind them; whether anything
    changed. ``on`` is the day, like 2026-11-22. Raises ConfigError and UsageError."""
    before = _text(path)
    lines = before.rstrip("\n").split("\n")
    for number, line in enumerate(lines):
        known = _parse(path, line)
        if known is not None and known.retired is None and known.id in retire:
            lines[number] = f"# retired {on}: {line.strip()}"
    if add is not None:
        lines.append(add.line())
    after = "\n".join(lines) + "\n"
    if after == before:
        return False
    try:
        owner = path.stat()
        write_file(path, after.encode(), mode=owner.st_mode & 0o777)
        os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return True


def _parse(path: Path, line: str) -> RecipientLine | None:
    retired = _RETIRED.match(line.strip())
    fields = line.strip()[retired.end() if retired else 0 :].split()
    if len(fields) != 4 or fields[0] != RECIPIENT_TAG:
        return None
    return RecipientLine(path, fields[2], fields[1], retired[1] if retired else None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'not a key file'}") from None
