"""`recorderctl show`: everything known about one recording, and with a key what is inside."""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from recorderd.errors import SpoolCorrupt
from recorderd.spool.header import Header
from recorderd.spool.keys import load_identities
from recorderd.spool.reader import RecordFile, Recording, check_name
from recorderd.spool.scan import read_header
from recorderd.tools.command import Session
from recorderd.tools.texts import clock, duration, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("id", metavar="ID", help="a recording id, or its first letters")
    parser.add_argument(
        "--identity",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a private key; shows the events inside, may be repeated",
    )


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Show; returns 0."""
    recording_id = session.find(arguments.id)
    facts = session.index.recording(recording_id)
    path = session.spool.locate(recording_id)
    header = _header(path)
    facts["path"] = str(path)
    facts["host"] = header.core.host
    facts["segment"] = header.core.segment
    facts["previous"] = header.core.previous_json
    facts["recipients"] = [slot.key_id.hex() for slot in header.slots]
    facts["calls"] = session.index.calls(recording=recording_id)
    if arguments.identity:
        facts["inside"] = _inside(path, arguments.identity)
    if session.json:
        session.emit(facts)
    else:
        _tell(session, facts)
    return 0


def _header(path: Path) -> Header:
    with RecordFile(path) as file:
        try:
            header = read_header(file.read)
            check_name(path, header)
            return header
        except SpoolCorrupt as error:
            raise SpoolCorrupt(f"{path}: {error}") from None


def _inside(path: Path, identities: list[Path]) -> dict[str, Any]:
    with Recording.open(path, load_identities(identities)) as recording:
        return {
            "status": recording.status,
            "problems": list(recording.problems),
            "media_records": recording.media_records,
            "streams": recording.streams,
            "events": recording.events,
            "summary": recording.summary,
        }


def _tell(session: Session, facts: dict[str, Any]) -> None:
    review = facts["review"]
    lines = [
        ("id", facts["id"]),
        ("state", facts["state"]),
        ("started", clock(facts["started_at"])),
        ("length", duration(facts["duration_s"])),
        ("from", facts["from"]),
        ("to", facts["to"]),
        ("call ids", ", ".join(map(str, facts["call_ids"]))),
        ("review", "; ".join(map(str, review["causes"])) if review["needed"] else "not needed"),
        ("file", facts["path"]),
        ("size", size(facts["bytes"])),
        ("sha256", facts["sha256"]),
        ("sealed to", ", ".join(facts["recipients"])),
        ("host", facts["host"]),
        ("goes on from", facts["previous"] and facts["previous"]["recording"]),
    ]
    lines += [
        (f"remote {state['remote']}", " ".join(filter(None, (state["state"], clock(state["verified_at"])))))
        for state in facts["sync"]
    ]
    lines += [(f"call {call['call_id']}", _became(call)) for call in facts["calls"]]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        if value:
            session.say(f"{name:{width}}  {value}")
    _tell_tracks(session, facts["tracks"])
    if "inside" in facts:
        _tell_inside(session, facts["inside"])


def _became(call: dict[str, Any]) -> str:
    outcome = call["outcome"] or "in progress"
    return f"{outcome}: {call['reason']}" if call["reason"] else str(outcome)


def _tell_tracks(session: Session, tracks: list[dict[str, Any]]) -> None:
    if not tracks:
        return
    columns = ("track", "codec", "sample_rate", "duration_s", "packets", "lost", "late", "duplicates")
    more = ("speech_level_dbov", "noise_dbov", "mos")
    session.say()
    heads = [column.upper().replace("_", " ") for column in (*columns, *more)] + ["GAPS"]
    rows = [
        [track.get("label"), *[track.get(key) for key in (*columns[1:], *more)], len(track.get("gaps") or [])]
        for track in tracks
    ]
    session.table(heads, rows)


def _tell_inside(session: Session, inside: dict[str, Any]) -> None:
    session.say()
    session.say(f"inside: {inside['status']}, {inside['media_records']} media records")
    for problem in inside["problems"]:
        session.say(f"  {problem}")
    kinds = Counter(str(event.get("event")) for event in inside["events"])
    session.say("events: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
