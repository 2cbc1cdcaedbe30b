"""`recorderctl review`: say that somebody has listened to recordings that were put forward for review.

Until then such a recording stays on the recorder's disk, however full that is.
"""

import argparse
import time

from recorderd.errors import UsageError
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter, ledger_of
from recorderd.spool.times import rfc3339
from recorderd.tools.command import Session, user


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("ids", nargs="+", metavar="ID", help="recording ids, or their first letters")
    parser.add_argument("--done", action="store_true", required=True, help="they were listened to")
    parser.add_argument("--note", metavar="TEXT", help="what was found")


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Close reviews; returns 0."""
    if arguments.note is not None and len(arguments.note) > 1000:
        raise UsageError("review: --note is at most 1000 characters")
    ids = [session.find(text) for text in arguments.ids]
    index, by, now = session.index_to_write, user(), time.time_ns() // 1000
    ledger = ledger_of(session.spool)
    done = []
    for recording_id in ids:
        review = index.recording(recording_id)["review"]
        if review["needed"]:
            fields = {"by": by, "note": arguments.note, "causes": review["causes"]}
            enter(ledger, index, [Entry("reviewed", now, recording_id, fields)])
            index.recording_reviewed(recording_id, by, rfc3339(now), arguments.note)
        done.append({"id": recording_id, "review": index.recording(recording_id)["review"]})
        if not session.json:
            session.say(f"{recording_id}  {'reviewed' if review['needed'] else 'no review was due'}")
    if session.json:
        session.emit(done)
    return 0
