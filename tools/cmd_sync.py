"""`recorderctl sync`: copy recordings to the remotes now, show what each remote has, or read it all again.

Exit code 0 when every remote verifiably has every finished recording, 30 otherwise.
"""

import argparse
from typing import Any

from recorderd.errors import RemoteError, UsageError
from recorderd.spool.index import Index
from recorderd.spool.stores import RemoteOutage, Store
from recorderd.spool.sync import RemoteReport, Step, Synchronizer, open_remotes, probe_known
from recorderd.tools.cli import error_json
from recorderd.tools.command import Session
from recorderd.tools.terminal import Advance


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
    stores = open_remotes(remotes)
    for name in (arguments.adopt, arguments.recheck):
        if name and name not in stores:
            raise UsageError(f"sync: no remote is named {name!r}")
    if arguments.status:
        if arguments.adopt is not None or arguments.recheck is not None:
            raise UsageError("sync: --status only looks; --adopt and --recheck do not go with it")
        return _tell(session, [_status(session.index, name, store) for name, store in stores.items()], True)
    synchronizer = Synchronizer(session.spool, session.index_to_write, stores)
    if arguments.adopt is not None:
        synchronizer.adopt(arguments.adopt)
    rechecked: list[RemoteReport] = []
    if arguments.recheck is not None:
        with session.progress("reading back", unit_bytes=True) as advance:
            rechecked = [
                synchronizer.recheck(name, progress=_bar(advance))
                for name in stores
                if arguments.recheck in ("", name)
            ]
    with session.progress("syncing", unit_bytes=True) as advance:
        reports = synchronizer.run(progress=_bar(advance), force=True)
    _merge(reports, rechecked)
    return _tell(session, reports, False)


def _status(index: Index, name: str, store: Store) -> RemoteReport:
    """What a remote had when it was last read, and whether it is there now."""
    counts = index.sync_counts(name)
    pending = counts["pending"] + counts["failed"]
    report = RemoteReport(name, counts["verified"], counts["failed"], pending, error=counts["error"])
    try:
        probe_known(name, store, index.remote_identity(name))
    except RemoteOutage as error:
        report.outage, report.error = True, str(error)
    return report


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
        for report in reports:
            if report.rechecked:
                found = f"{report.rechecked} copies read back, {len(report.damaged)} damaged or gone"
                session.say(f"{report.remote}: {found}{_again(report)}")
            for damage in report.damaged:
                session.say(f"  {damage}")
    return RemoteError.exit_code if bad else 0
