"""`recorderctl calls`: every call that was seen, and what became of it."""

import argparse

from recorderd.tools.command import Session
from recorderd.tools.texts import add_filters, clock, page_for, since_until

OUTCOMES = ("complete", "partial", "excluded", "unanswered", "missing")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the filters."""
    add_filters(parser)
    parser.add_argument("--outcome", choices=OUTCOMES)


def run(session: Session, arguments: argparse.Namespace) -> int:
    """List; returns 0."""
    since, until = since_until(arguments)
    page = page_for(session, arguments)
    calls = session.index.calls(
        since=since,
        until=until,
        number=arguments.number,
        outcome=arguments.outcome,
        limit=page.limit,
    )
    if session.json:
        session.emit(calls)
    elif not calls:
        lost = not session.spool.index_path.exists() and session.index.recordings(limit=1)
        session.say("no calls: only index.db knows them, and there is none here" if lost else "no calls")
    else:
        columns = (
            "FIRST SEEN",
            "ANSWERED",
            "ENDED",
            "FROM",
            "TO",
            "OUTCOME",
            "REASON",
            "RECORDING",
            "CALL-ID",
        )
        session.table(
            columns,
            [
                [
                    clock(call["first_seen"]),
                    clock(call["answered_at"]),
                    clock(call["ended_at"]),
                    call["from"],
                    call["to"],
                    call["outcome"] or "in progress",
                    call["reason"],
                    call["recording"],
                    call["call_id"],
                ]
                for call in page.of(calls)
            ],
        )
    return 0
