"""`recorderctl sync`: copy recordings to the remotes now, show what each remote has, or read it all again.

Exit code 0 when every remote verifiably has every finished recording, 30 otherwise.
"""

import argparse
import time
from typing import Any

from recorderd.errors import RemoteError, UsageError
from recorderd.spool.stores import RemoteOutage
from recorderd.spool.sync import (
    Remote,
    RemoteReport,
    Step,
    Synchronizer,
    configured_remotes,
    probe_known,
)
from recorderd.spool.sync_status import RemoteStatus, remote_status
from recorderd.tools.cli import error_json
from recorderd.tools.command import Session
from recorderd.tools.terminal import Advance
from recorderd.tools.texts import duration, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--status", action="store_true", help="only show what each remote has")
    parser.add_argument(
        "--adopt",
        metavar="REMOTE",
        help="the remote's disk was replaced: take the one that is there now, and believe nothing about it",
    )
    parser.add_argument(
        "--recheck",
        nargs="?",
        const="",
        metavar="REMOTE",
        help="read every copy back again, of this remote or of all; what is damaged or gone is sent again",
    )


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Carry; returns 0 or 30."""
    remotes = session.config.sync.remotes
    if not remotes:
        raise UsageError("sync: the configuration has no sync.remotes")
    known = configured_remotes(remotes)
    for name in (arguments.adopt, arguments.recheck):
        if name and name not in known:
            raise UsageError(f"sync: no remote is named {name!r}")
    if arguments.status:
        if arguments.adopt is not None or arguments.recheck is not None:
            raise UsageError("sync: --status only looks; --adopt and --recheck do not go with it")
        return _tell_status(session, [_status(session, name, remote) for name, remote in known.items()])
    synchronizer = Synchronizer(session.spool, session.index_to_write, known)
    if arguments.adopt is not None:
        synchronizer.adopt(arguments.adopt)
    rechecked: list[RemoteReport] = []
    if arguments.recheck is not None:
        with session.progress("reading back", unit_bytes=True) as advance:
            rechecked = [
                synchronizer.recheck(name, progress=_bar(advance))
                for name in known
                if arguments.recheck in ("", name)
            ]
    missing = sum(session.index_to_write.sync_backlog(name)["bytes"] for name in known)
    with session.progress("syncing", unit_bytes=True) as advance:
        reports = synchronizer.run(progress=_Whole(advance, missing), force=True)
    _merge(reports, rechecked)
    return _tell(session, reports)


def _status(session: Session, name: str, remote: Remote) -> RemoteStatus:
    """What a remote had when it was last read, how the carrying goes, and whether it is there now."""
    status = remote_status(session.index, name, remote.terms, time.time_ns())
    try:
        probe_known(name, remote.store, session.index.remote_identity(name))
    except RemoteOutage as error:
        status.report.outage, status.report.error = True, str(error)
    else:
        if status.since is not None:
            when = f"; it is tried again at {status.again}" if status.again else ""
            status.report.error = f"it answers now{when}; before: {status.report.error}"
    return status


def _merge(reports: list[RemoteReport], rechecked: list[RemoteReport]) -> None:
    """Into the reports of the pass goes what was found before it."""
    found = {report.remote: report for report in rechecked}
    for report in reports:
        if (before := found.get(report.remote)) is not None:
            report.rechecked, report.damaged = before.rechecked, before.damaged
            report.error = report.error or before.error


def _again(report: RemoteReport) -> str:
    if not report.damaged:
        return ""
    return "; not all of them could be sent again" if report.pending else "; sent again"


class _Whole:
    """A bar over all that is missing, whichever recordings are under way at once."""

    def __init__(self, advance: Advance, total: int) -> None:
        self._advance, self._total, self._done = advance, total, 0
        self._under_way: dict[tuple[str, str], int] = {}

    def __call__(self, step: Step) -> None:
        """One recording is so far."""
        key = step.remote, step.recording
        self._done += step.sent - self._under_way.pop(key, 0)
        if 0 < step.sent < step.size:
            self._under_way[key] = step.sent
        text = f"{step.remote} {step.number}/{step.total} {step.recording}"
        self._advance(self._done, total=max(self._total, self._done), description=text)


def _bar(advance: Advance) -> Any:
    def show(step: Step) -> None:
        text = f"{step.remote} {step.number}/{step.total} {step.recording}"
        advance(step.sent, total=step.size, description=text)

    return show


def _tell(session: Session, reports: list[RemoteReport]) -> int:
    answer, code = _answer(reports)
    if session.json:
        session.emit({**answer, "remotes": [report.as_json() for report in reports]})
        return code
    rows = [[report.remote, report.verified, report.pending, report.error] for report in reports]
    session.table(("REMOTE", "NEWLY VERIFIED", "MISSING", "ERROR"), rows)
    for report in reports:
        if report.stored:
            session.say(f"{report.remote}: {report.stored} more are stored, and were not read back")
        if report.rechecked:
            found = f"{report.rechecked} copies read back, {len(report.damaged)} damaged or gone"
            session.say(f"{report.remote}: {found}{_again(report)}")
        for damage in report.damaged:
            session.say(f"  {damage}")
    return code


def _tell_status(session: Session, statuses: list[RemoteStatus]) -> int:
    answer, code = _answer([status.report for status in statuses])
    if session.json:
        session.emit({**answer, "remotes": [status.as_json() for status in statuses]})
        return code
    rows = [
        [
            status.report.remote,
            status.report.verified,
            status.report.stored,
            status.report.pending,
            size(status.report.pending_bytes) if status.report.pending else None,
            f"{size(round(status.bytes_s))}/s" if status.bytes_s else None,
            None if status.eta_s is None else duration(status.eta_s),
            status.report.error or status.waits,
        ]
        for status in statuses
    ]
    session.table(("REMOTE", "VERIFIED", "STORED", "MISSING", "BYTES", "RATE", "LEFT", "ERROR"), rows)
    return code


def _answer(reports: list[RemoteReport]) -> tuple[dict[str, Any], int]:
    """What JSON begins with, and the exit code."""
    bad = [report for report in reports if not report.ok]
    if not bad:
        return {"ok": True}, 0
    first = next((report.error for report in bad if report.error), None)
    pending = sum(report.pending for report in bad)
    failure = RemoteError(first or f"{pending} copies are still to be made and verified")
    return {"ok": False, "error": error_json(failure)}, RemoteError.exit_code
