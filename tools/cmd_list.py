"""`recorderctl list`: the recordings in the spool."""

import argparse
from typing import Any

from recorderd.tools.command import Session
from recorderd.tools.texts import add_filters, clock, duration, page_for, since_until, sync_word


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the filters."""
    add_filters(parser)
    parser.add_argument("--call-id", metavar="ID", help="only those of this SIP Call-ID")
    parser.add_argument(
        "--state", choices=("recording", "sealed", "recovered", "damaged", "destroying", "destroyed")
    )
    parser.add_argument("--review", action="store_true", help="only those that somebody should listen to")


def run(session: Session, arguments: argparse.Namespace) -> int:
    """List; returns 0."""
    since, until = since_until(arguments)
    page = page_for(session, arguments)
    recordings = session.index.recordings(
        since=since,
        until=until,
        number=arguments.number,
        call_id=arguments.call_id,
        state=arguments.state,
        review=True if arguments.review else None,
        limit=page.limit,
    )
    if session.json:
        session.emit(recordings)
    elif not recordings:
        session.say("no recordings")
    else:
        columns = ("ID", "STATE", "STARTED", "LENGTH", "FROM", "TO", "TRACKS", "REVIEW", "SYNC")
        session.table(columns, [_row(recording) for recording in page.of(recordings)])
    return 0


def _state(recording: dict[str, Any]) -> str:
    state = str(recording["state"])
    if not recording["present"] and state in ("sealed", "recovered"):
        state += ", evicted"
    return f"{state}, held" if recording["held"] else state


def _row(recording: dict[str, Any]) -> list[object]:
    review = recording["review"]
    return [
        recording["id"],
        _state(recording),
        clock(recording["started_at"]),
        duration(recording["duration_s"]),
        recording["from"],
        recording["to"],
        ", ".join(str(track.get("label")) for track in recording["tracks"]) or None,
        "; ".join(map(str, review["causes"])) or "needed" if review["needed"] else None,
        sync_word(recording["sync"]),
    ]
