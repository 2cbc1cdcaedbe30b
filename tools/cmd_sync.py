"""`recorderctl sync`: copy recordings to the remotes now, or show what each remote has.

Exit code 0 when every remote verifiably has every finished recording, 30 otherwise.
"""

import argparse
from typing import Any

from recorderd.errors import RemoteError, UsageError
from recorderd.spool.sync import RemoteReport, Step, Synchronizer, open_remotes
from recorderd.tools.cli import error_json
from recorderd.tools.command import Advance, Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--status", action="store_true", help="only show what each remote has")
    parser.add_argument(
        "--adopt", metavar="REMOTE", help="the remote's disk was replaced: take the one that is there now"
    )


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Carry; returns 0 or 30."""
    remotes = session.config.sync.remotes
    if not remotes:
        raise UsageError("sync: the configuration has no sync.remotes")
    synchronizer = Synchronizer(session.spool, session.index, open_remotes(remotes))
    if arguments.adopt is not None:
        if arguments.adopt not in synchronizer.remotes:
            raise UsageError(f"sync: no remote is named {arguments.adopt!r}")
        synchronizer.adopt(arguments.adopt)
    if arguments.status:
        reports = _status(session, [remote.name for remote in remotes])
    else:
        with session.progress("syncing", unit_bytes=True) as advance:
            reports = synchronizer.run(progress=_bar(advance), force=True)
    return _tell(session, reports, arguments.status)


def _status(session: Session, names: list[str]) -> list[RemoteReport]:
    reports = []
    for name in names:
        counts = session.index.sync_counts(name)
        pending = counts["pending"] + counts["failed"]
        report = RemoteReport(name, counts["verified"], counts["failed"], pending, error=counts["error"])
        reports.append(report)
    return reports


def _bar(advance: Advance) -> Any:
    def show(step: Step) -> None:
        text = f"{step.remote} {step.number}/{step.total} {step.recording}"
        advance(step.sent, total=step.size, description=text)

    return show


def _tell(session: Session, reports: list[RemoteReport], status_only: bool) -> int:
    bad = [report for report in reports if not report.ok]
    first = next((report.error for report in bad if report.error), None)
    pending = sum(report.pending for report in bad)
    failure = RemoteError(first or f"{pending} copies are still to be made and verified")
    if session.json:
        answer: dict[str, Any] = {"ok": not bad, "remotes": [report.as_json() for report in reports]}
        if bad:
            answer["error"] = error_json(failure)
        session.emit(answer)
    else:
        verified = "VERIFIED" if status_only else "NEWLY VERIFIED"
        rows = [[report.remote, report.verified, report.pending, report.error] for report in reports]
        session.table(("REMOTE", verified, "MISSING", "ERROR"), rows)
    return RemoteError.exit_code if bad else 0
