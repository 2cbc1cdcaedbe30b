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
from recorderd.spool.times import rfc3339
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
    lines += [(f"related by {other['how']}", other["recording"]) for other in facts.get("related") or []]
    lines += [("paused", _paused(pause)) for pause in facts.get("pauses") or []]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        if value:
            session.say(f"{name:{width}}  {value}")
    _tell_people(session, facts)
    _tell_tracks(session, facts["tracks"])
    if "inside" in facts:
        _tell_inside(session, facts["inside"])


def _paused(pause: dict[str, Any]) -> str:
    why = ": ".join(filter(None, (pause["by"], pause["reason"])))
    length = "to the end" if pause["length_s"] is None else f"for {pause['length_s']:.1f} s"
    return f"at {pause['at_s']:.1f} s {length} ({why})" if pause["at_s"] is not None else f"{length} ({why})"


def _became(call: dict[str, Any]) -> str:
    outcome = call["outcome"] or "in progress"
    return f"{outcome}: {call['reason']}" if call["reason"] else str(outcome)


def _tell_people(session: Session, facts: dict[str, Any]) -> None:
    """Of a conversation of several calls: who spoke when, and which call was made of which."""
    people, legs = facts.get("participants") or [], facts.get("legs") or []
    if people:
        session.say()
        columns = ("label", "user", "display", "from_s", "to_s", "call_id")
        heads = ["TRACK", "USER", "NAME", "FROM", "TO", "CALL ID"]
        session.table(heads, [[one.get(column) for column in columns] for one in people])
    if legs:
        session.say()
        keys = ("from", "to", "role", "joined_by", "answered_at", "ended_at", "call_id")
        rows = [
            [clock(leg.get(key)) if key.endswith("_at") else leg.get(key) for key in keys] for leg in legs
        ]
        session.table(["FROM", "TO", "ROLE", "JOINED BY", "ANSWERED", "ENDED", "CALL ID"], rows)


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
    for track in tracks:
        told = [*_clock(track), *_delivery(track)]
        if told:
            session.say(f"{track.get('label')}: {'; '.join(told)}")


def _clock(track: dict[str, Any]) -> list[str]:
    ppm = track.get("clock_ppm")
    return [f"its clock is {abs(ppm):.0f} ppm {'fast' if ppm > 0 else 'slow'}"] if ppm else []


def _delivery(track: dict[str, Any]) -> list[str]:
    """What the listener's end reported."""
    rtcp = track.get("rtcp")
    if not rtcp:
        return []
    told = [f"the listener lacked {rtcp['receiver_lost']} packets"]
    if rtcp["lost_behind"]:
        told.append(f"{rtcp['lost_behind']} of them lost behind the recorder")
    if rtcp["lost_here_alone"]:
        told.append(f"{rtcp['lost_here_alone']} lost here alone")
    if rtcp["receiver_jitter_ms"] is not None:
        told.append(f"jitter {rtcp['receiver_jitter_ms']} ms")
    if rtcp["round_trip_ms"] is not None:
        told.append(f"round trip {rtcp['round_trip_ms']} ms")
    return [", ".join(told)]


def _tell_inside(session: Session, inside: dict[str, Any]) -> None:
    session.say()
    session.say(f"inside: {inside['status']}, {inside['media_records']} media records")
    for problem in inside["problems"]:
        session.say(f"  {problem}")
    for event in inside["events"]:
        if event.get("event") == "call":
            # Here numbers are whole, where they are masked outside.
            session.say(f"call {event.get('call_id')}: {event.get('from')} to {event.get('to')}")
        elif event.get("event") in ("paused", "resumed"):
            why = f", {event['reason']}" if event.get("reason") else ""
            session.say(f"{event['event']} {clock(rfc3339(event['time_us']))}: {event.get('by')}{why}")
    kinds = Counter(str(event.get("event")) for event in inside["events"])
    session.say("events: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
