"""`recorderctl retention due` and `retention check-certificate`."""

import argparse
import hashlib
import time
from typing import Any

from recorderd.spool.certificate import as_text, check
from recorderd.spool.signing import HostPublic
from recorderd.spool.times import rfc3339
from recorderd.spool.verify import host_public
from recorderd.tools.command import Session
from recorderd.tools.retention_files import read, rules_of
from recorderd.tools.texts import clock, size


def due(session: Session, arguments: argparse.Namespace) -> int:
    """List what has expired; returns 0."""
    rows = due_rows(session, time.time_ns() // 1000)
    if session.json:
        session.emit(rows)
        return 0
    if not rows:
        session.say("nothing has expired")
        return 0
    columns = ("ID", "CLASS", "STARTED", "EXPIRED", "SIZE", "HELD FOR", "REVIEW")
    session.table(columns, [_row(row) for row in rows])
    free = sum(not row["held"] for row in rows)
    session.say(f"{len(rows)} expired, {len(rows) - free} of them held")
    return 0


def due_rows(session: Session, now_us: int) -> list[dict[str, Any]]:
    """What has expired, held or not: ``id, class, started_at, expires_at, sha256, bytes, held, holds,
    review``."""
    index, schedule = session.index, session.config.retention.schedule(session.config.site.name)
    matters: dict[str, list[str]] = {}
    for hold in index.holds():
        matters.setdefault(hold["recording"], []).append(hold["matter"])
    found = []
    for row in index.due(rfc3339(now_us)):
        kept = schedule.named(row["retention"])
        columns = ("id", "started_at", "expires_at", "sha256", "bytes")
        facts = {name: row[name] for name in columns}
        held = {"held": bool(row["held"]), "holds": matters.get(row["id"], [])}
        review = {"review": kept is None or kept.review}
        found.append({**facts, "class": row["retention"], **held, **review})
    return found


def _row(row: dict[str, Any]) -> list[object]:
    times = clock(row["started_at"]), clock(row["expires_at"])
    held = ", ".join(row["holds"]) or ("yes" if row["held"] else None)
    return [row["id"], row["class"], *times, size(row["bytes"]), held, "needed" if row["review"] else None]


def check_certificate(session: Session, arguments: argparse.Namespace) -> int:
    """Check with public keys only, and show; returns 0."""
    data = read(arguments.file)
    host = HostPublic.load(arguments.host_key) if arguments.host_key else host_public(session.spool)
    if arguments.approver:
        approvers, needed = [HostPublic.load(path) for path in arguments.approver], 2
    else:
        rules = rules_of(session, host)
        approvers, needed = list(rules.approvers), rules.needed
    value = check(data, host, approvers, needed)
    sha256 = hashlib.sha256(data).hexdigest()
    if session.json:
        session.emit({"ok": True, "sha256": sha256, "certificate": value})
    else:
        for line in as_text(value, sha256).splitlines():
            session.say(line)
        session.say("The certificate holds: signatures, approvals and the list of recordings agree.")
    return 0
