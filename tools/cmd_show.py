"""`recorderctl show`: everything known about one recording, and with a key what is inside."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recorderd.errors import SpoolCorrupt
from recorderd.spool.destruction_progress import FOLDER
from recorderd.spool.header import Header
from recorderd.spool.index_retention import DESTROYED
from recorderd.spool.keys import Identity
from recorderd.spool.manifest import load_manifest
from recorderd.spool.reader import RecordFile, Recording, check_name
from recorderd.spool.scan import read_header
from recorderd.spool.slot_files import read_slots, slots_beside
from recorderd.spool.times import rfc3339
from recorderd.spool.verify import slots_state
from recorderd.tools.command import Session, away
from recorderd.tools.identities import add_identity_options, identities_of
from recorderd.tools.texts import clock, duration, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("id", metavar="ID", help="a recording id, or its first letters")
    add_identity_options(parser, "a private key; shows the events inside, may be repeated")


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Show; returns 0."""
    recording_id = session.find(arguments.id)
    facts = session.index.recording(recording_id)
    if facts["state"] == DESTROYED:
        return _show_destroyed(session, facts)
    if session.index.evicted([recording_id]) and not arguments.identity:
        facts.update(_stated(session, recording_id))
    else:
        path = session.locate(recording_id)
        header = _header(path)
        facts["path"] = str(path)
        facts["host"] = header.core.host
        facts["segment"] = header.core.segment
        facts["previous"] = header.core.previous_json
        facts.update(_slots(path, header))
    facts["calls"] = session.index.calls(recording=recording_id)
    if arguments.identity:
        facts["inside"] = _inside(path, identities_of(arguments))
    if session.json:
        session.emit(facts)
    else:
        _tell(session, facts)
    return 0


def _show_destroyed(session: Session, facts: dict[str, Any]) -> int:
    """What is left of it: when it was, how long it was to be kept, and who let it go."""
    rows = session.index.ledger_rows(kind=DESTROYED, subject=facts["id"], limit=1)
    at = rfc3339(rows[0]["time_us"]) if rows else None
    facts["destroyed"] = {**(facts["retention"] or {}), "at": at, "leaf": rows[0]["leaf"] if rows else None}
    if session.json:
        session.emit(facts)
        return 0
    kept = facts["destroyed"]
    session.say(f"{facts['id']}: destroyed {clock(at) or ''}")
    session.say(f"it began {clock(facts['started_at'])} and was {duration(facts['duration_s'])} long")
    session.say(
        f"class {kept.get('class')}, expired {clock(kept.get('expires_at'))}; sha256 {facts['sha256']}"
    )
    session.say(f"entry {kept['leaf']} of the ledger; the certificate is in {session.spool.path / FOLDER}")
    return 0


def _stated(session: Session, recording_id: str) -> dict[str, Any]:
    """What the manifest says of a recording that is not here."""
    manifest = load_manifest(session.spool.manifest_path(recording_id), None)
    try:
        slots = read_slots(session.spool.slot_path(recording_id))
        place = "detached" if slots else "header" if manifest.slots_sha256 is None else "missing"
    except SpoolCorrupt as error:
        slots, place = None, f"damaged: {error}"
    return {
        "path": None,
        "host": manifest.host,
        "segment": manifest.segment,
        "previous": manifest.previous,
        "recipients": list(manifest.recipients if slots is None else slots.recipients),
        "slots": place,
    }


def _header(path: Path) -> Header:
    with RecordFile(path) as file:
        try:
            header = read_header(file.read)
            check_name(path, header)
            return header
        except SpoolCorrupt as error:
            raise SpoolCorrupt(f"{path}: {error}") from None


def _slots(path: Path, header: Header) -> dict[str, Any]:
    """Who can open it: ``recipients``, of the header and the slot file, and where the key slots are."""
    try:
        slots = slots_beside(path, header)
    except SpoolCorrupt as error:
        return {"recipients": [slot.key_id.hex() for slot in header.slots], "slots": f"damaged: {error}"}
    found = (*header.slots, *(() if slots is None else slots.slots))
    recipients = list(dict.fromkeys(slot.key_id.hex() for slot in found))
    return {"recipients": recipients, "slots": slots_state(header, slots)}


def _inside(path: Path, identities: Sequence[Identity]) -> dict[str, Any]:
    with Recording.open(path, identities) as recording:
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
        ("review", _review(review)),
        ("kept", _kept(facts)),
        ("file", facts["path"] or f"{away(facts)}; `recorderctl restore {facts['id']}` brings it back"),
        ("size", size(facts["bytes"])),
        ("sha256", facts["sha256"]),
        ("sealed to", ", ".join(facts["recipients"])),
        ("key slots", facts["slots"]),
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


def _review(review: dict[str, Any]) -> str:
    if review["needed"]:
        return "; ".join(map(str, review["causes"]))
    if (done := review.get("reviewed")) is None:
        return "not needed"
    return ", ".join(filter(None, (f"done {clock(done['at'])} by {done['by']}", done["note"])))


def _kept(facts: dict[str, Any]) -> str | None:
    kept, held = facts["retention"], "held; " if facts["held"] else ""
    if kept is None:
        return f"{held}for ever"
    until = clock(kept["expires_at"])
    return f"{held}class {kept['class']}, {f'until {until}' if until else 'for ever'}"


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
        told = [*_unwritten(track), *_clock(track), *_delivery(track)]
        if told:
            session.say(f"{track.get('label')}: {'; '.join(told)}")


def _unwritten(track: dict[str, Any]) -> list[str]:
    count = track.get("unwritten")
    lost_s = sum(gap["length_s"] for gap in track.get("gaps") or [] if gap["cause"] == "disk")
    return [f"{count} packets ({lost_s:.2f} s) could not be written to the disk"] if count else []


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
