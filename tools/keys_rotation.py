"""`recorderctl keys rotate`: a new recipient in the configuration's files, and old ones retired."""

import argparse
from datetime import UTC, datetime

from recorderd.errors import UsageError
from recorderd.spool.keys import load_recipients
from recorderd.tools.command import Session
from recorderd.tools.keys_listing import Openers, known_lines, openers, retire_ids
from recorderd.tools.recipient_files import change

RESTART = "systemctl restart recorderd-capture"


def rotate(session: Session, arguments: argparse.Namespace) -> int:
    """Change the files of ``encryption.recipients``; returns 0.

    A retired key stays in its file, as a comment: recordings are sealed to it, and `keys list` knows it.
    """
    config = session.config
    new = load_recipients([arguments.to], suite=config.encryption.suite)
    if len(new) != 1:
        raise UsageError(f"keys rotate: {arguments.to} holds {len(new)} keys; rotate to one")
    (recipient,) = new
    lines = known_lines(session)
    retire = retire_ids(arguments.retire, lines)
    if recipient.id.hex() in retire:
        raise UsageError("keys rotate: the new key is the one to retire")
    known = any(line.id == recipient.id.hex() and line.retired is None for line in lines)
    paths = list(dict.fromkeys(config.encryption.recipients))
    homes = [line.path for line in lines if line.id in retire]
    home = homes[0] if homes else paths[-1]
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    # The file with the new key first: should this end half-way, somebody can open what is recorded.
    changed = [
        path
        for path in sorted(paths, key=lambda path: path != home)
        if change(path, retire=retire, on=today, add=None if known or path != home else recipient)
    ]
    active = {line.id for line in known_lines(session) if line.retired is None}
    found = openers(session.spool) if session.spool.recordings.is_dir() else None
    _tell(session, recipient.id.hex(), sorted(retire), [str(path) for path in changed], found, active)
    return 0


def _tell(
    session: Session,
    new: str,
    retired: list[str],
    files: list[str],
    found: Openers | None,
    active: set[str],
) -> None:
    lacking = 0 if found is None else sum(found.sets.values()) - found.of(new)
    old_only = 0 if found is None else found.outside(active)
    if session.json:
        session.emit(
            {
                "new": new,
                "retired": retired,
                "files": files,
                "not_opened_by_new": lacking,
                "old_only": old_only,
                "restart": RESTART if files else None,
            }
        )
        return
    for path in files:
        session.say(f"{path}: changed")
    session.say(f"new recipient {new}" if files else f"{new} is a recipient already; nothing was changed")
    for key in retired:
        session.say(f"retired       {key}")
    if lacking:
        session.say(f"{lacking} recordings are not opened by the new key, {old_only} only by retired ones:")
        session.say("  `recorderctl keys rewrap` lets the new key open them (docs/operations.md, Keys)")
    if files:
        session.say(
            "The running recorder seals to the keys that it started with. When few calls are running:"
        )
        session.say(f"  {RESTART}")
