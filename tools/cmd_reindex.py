"""`recorderctl reindex`: make the index anew from manifests and ledger.

For an index that is damaged, or was put back from an old backup. The daemon must not run.
"""

import argparse

from recorderd.errors import SpoolError
from recorderd.spool.reindex import outbox_lock, reindex
from recorderd.spool.signing import find_host_public
from recorderd.tools.command import Session, as_owner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Make it; returns 0."""
    spool = session.spool
    if spool.is_remote_copy:
        raise SpoolError(f"{spool.path}: a copy of a remote, which can only be looked at")
    as_owner(spool)
    with spool.lock(), outbox_lock(spool), session.progress("reading") as advance:
        done = reindex(spool, find_host_public(spool), lambda what: advance(0, description=what))
    session.warn(done.problems)
    if session.json:
        session.emit(done.as_json())
    else:
        away = f", {done.away} of them not here" if done.away else ""
        held = f"; {done.held} held" if done.held else ""
        session.say(f"{done.recordings} recordings{away}, {done.calls} calls{held}")
    return 0
