"""`recorderctl ledger`: what happened to recordings and calls, and the proof that nothing of it was changed.

Exit code 0 when nothing is wrong, 20 when something is.
"""

import argparse
import collections
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recorderd.errors import (
    ConfigError,
    NoSuchRecording,
    RemoteError,
    SpoolCorrupt,
    SpoolError,
    UsageError,
)
from recorderd.spool.durable import write_file
from recorderd.spool.ledger import FOLDER, Ledger
from recorderd.spool.ledger_check import LedgerVerdict, RecordingsCheck, check_ledger, copied_checkpoints
from recorderd.spool.ledger_entries import KINDS, Entry, call_subject
from recorderd.spool.ledger_proof import prove, prove_since
from recorderd.spool.ledger_stamps import Stamps
from recorderd.spool.note import unsigned
from recorderd.spool.signing import HostKey
from recorderd.spool.times import rfc3339
from recorderd.spool.verify import host_public
from recorderd.tools.cli import error_json
from recorderd.tools.command import Session, as_owner
from recorderd.wire.printable import printable

ACTIONS = {
    "list": "the newest entries, or those about one recording, call or alert",
    "verify": "check everything, against the checkpoints and the recordings",
    "checkpoint": "sign what was entered; needs the host's key",
    "prove": "write what a third party needs to believe a recording",
    "stamp": "have the newest checkpoint stamped with the time",
    "anchor": "have the newest checkpoint anchored in the Bitcoin block chain, and complete earlier proofs",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    what = "; ".join(f"{name}: {purpose}" for name, purpose in ACTIONS.items())
    parser.add_argument("what", choices=list(ACTIONS), help=what)
    parser.add_argument("subject", nargs="?", metavar="ID", help="for list and prove")
    parser.add_argument("--kind", choices=sorted(KINDS), help="list: entries of this kind only")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="list: so many of them (50)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="prove: where the proof goes")
    parser.add_argument(
        "--since",
        type=Path,
        metavar="CHECKPOINT",
        help="prove: that the ledger of now begins with that of an earlier checkpoint, kept in this file",
    )
    parser.add_argument(
        "--against",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="verify: checkpoints that were copied elsewhere, such as to a remote; may be repeated",
    )
    parser.add_argument(
        "--host-key", type=Path, metavar="FILE", help="the recorder's host.pub from a place to be trusted"
    )
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="verify: the time-stamp authority's certificate"
    )
    parser.add_argument("--no-recordings", action="store_true", help="verify: the ledger alone")


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Do what is asked; returns 0 or 20."""
    if arguments.subject and arguments.what not in ("list", "prove"):
        raise UsageError(f"ledger {arguments.what}: takes no ID")
    return int(_RUN[arguments.what](session, arguments, Ledger(session.spool.path / FOLDER)))


def _list(session: Session, arguments: argparse.Namespace, ledger: Ledger) -> int:
    if arguments.limit < 1:
        raise UsageError("ledger list: --limit takes a number from 1 on")
    everything = arguments.subject is None and arguments.kind is None
    first = max(0, ledger.size - arguments.limit) if everything else 0
    found = _entries(ledger, arguments.subject, arguments.kind, first)
    rows = list(collections.deque(found, arguments.limit))
    if session.json:
        session.emit(
            [
                {
                    "leaf": leaf,
                    "kind": entry.kind,
                    "time": rfc3339(entry.time_us),
                    "subject": entry.subject,
                    "fields": entry.fields,
                }
                for leaf, entry in rows
            ]
        )
        return 0
    columns = ("ENTRY", "TIME", "KIND", "SUBJECT", "FIELDS")
    session.table(
        columns,
        [
            [leaf, rfc3339(entry.time_us), entry.kind, entry.subject, json.dumps(entry.fields)]
            for leaf, entry in rows
        ],
    )
    return 0


def _entries(
    ledger: Ledger, subject: str | None, kind: str | None = None, first: int = 0
) -> Iterator[tuple[int, Entry]]:
    """Entries of the ledger with their numbers; about one subject: what it is, or the call or recording that
    they are about."""
    for leaf, data in enumerate(ledger.entries(first), first):
        entry = Entry.from_bytes(data)
        about = (entry.subject, entry.fields.get("recording"), entry.fields.get("call_id"))
        if (subject is None or subject in about) and kind in (None, entry.kind):
            yield leaf, entry


def _verify(session: Session, arguments: argparse.Namespace, ledger: Ledger) -> int:
    public = host_public(session.spool, arguments.host_key)
    recordings = RecordingsCheck(session.spool)
    copies = [copy for folder in arguments.against for copy in _copies(folder)]
    stamps = list(Stamps(ledger.path).stamped())
    copies += [(str(each.note_path), _read(each.note_path)) for each in stamps]
    copy = session.spool.is_remote_copy
    verdict = check_ledger(ledger.path, public, copies, recordings.entry, at_remote=copy)
    if not arguments.no_recordings:
        with session.progress("verifying recordings") as advance:
            recordings.check(verdict, lambda done, total: advance(done, total))
    _check_stamps(session, arguments, ledger, verdict)
    _tell(session, verdict)
    return 0 if verdict.ok else SpoolCorrupt.exit_code


def _copies(folder: Path) -> list[tuple[str, bytes]]:
    if not folder.exists():
        raise UsageError(f"ledger verify: {folder}: there is no such folder")
    found = list(copied_checkpoints(folder))
    if not found:
        raise UsageError(f"ledger verify: {folder}: no checkpoint in it")
    return found


def _check_stamps(
    session: Session, arguments: argparse.Namespace, ledger: Ledger, verdict: LedgerVerdict
) -> None:
    stamps = list(Stamps(ledger.path).stamped())
    if not stamps:
        return
    ca = arguments.ca or _configured_ca(session)
    if ca is None:
        verdict.notes.append(f"{len(stamps)} time stamps were not checked: --ca names the certificate")
        return
    from recorderd.spool.timestamps import load_roots, verify_stamp

    roots = load_roots(ca)
    for each in stamps:
        try:
            verify_stamp(_read(each.note_path), _read(each.token_path), roots)
        except RemoteError as error:
            verdict.problem(f"{each.token_path}: {error}")
        else:
            verdict.stamps += 1


def _configured_ca(session: Session) -> Path | None:
    try:
        timestamps = session.config.ledger.timestamps
    except (ConfigError, OSError):
        return None
    return timestamps.ca if timestamps else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # and so no checkpoint, and no time stamp


def _tell(session: Session, verdict: LedgerVerdict) -> None:
    summary = (
        f"{verdict.size} entries, {verdict.signed} of them signed; {verdict.checkpoints} checkpoints,"
        f" {verdict.stamps} time stamps and {verdict.recordings} recordings agree"
    )
    if verdict.problems:
        summary = f"{verdict.size} entries, {len(verdict.problems)} problems"
    if session.json:
        answer: dict[str, Any] = {
            "ok": verdict.ok,
            "entries": verdict.size,
            "signed": verdict.signed,
            "checkpoints": verdict.checkpoints,
            "stamps": verdict.stamps,
            "recordings": verdict.recordings,
            "problems": verdict.problems,
            "notes": verdict.notes,
        }
        if not verdict.ok:
            answer["error"] = error_json(SpoolCorrupt(verdict.problems[0]))
        session.emit(answer)
        return
    for line in (*verdict.problems, *verdict.notes):
        session.stderr.write(f"recorderctl: {printable(line, limit=1000)}\n")
    session.say(summary)


def _checkpoint(session: Session, arguments: argparse.Namespace, ledger: Ledger) -> int:
    as_owner(session.spool)
    path = session.spool.host_key_path if session.spool_path else session.config.signing_key
    if not path.exists():
        raise SpoolError(f"{path}: there is no host key to sign with")
    signed = ledger.checkpoint(HostKey.load_or_create(path, session.spool.host_public_path))
    note = (ledger.note() or b"").decode()
    if session.json:
        session.emit(
            {"origin": signed.origin, "entries": signed.size, "root": signed.root.hex(), "note": note}
        )
    else:
        # As it is: it is kept, and compared, with its line feeds.
        session.stdout.write(note)
    return 0


def _prove(session: Session, arguments: argparse.Namespace, ledger: Ledger) -> int:
    if bool(arguments.subject) == bool(arguments.since) or arguments.output is None:
        raise UsageError("ledger prove: give a recording's id or --since, and -o FILE")
    if arguments.since:
        return _prove_since(session, arguments, ledger)
    recording = session.find(arguments.subject)
    public = host_public(session.spool, arguments.host_key)
    signed = ledger.stated()
    found = _about(session, ledger, recording, signed.size) if signed is not None else []
    if not found:
        raise NoSuchRecording(f"{recording}: the ledger has no signed entry about it")
    proof = prove(ledger, public, recording, found, session.spool.manifest_path(recording))
    write_file(arguments.output, json.dumps(proof, indent=1).encode() + b"\n", mode=0o644)
    told = {"recording": recording, "entries": len(found), "stamps": len(proof["stamps"])}
    if session.json:
        session.emit({**told, "file": str(arguments.output)})
    else:
        stamped = "" if proof["stamps"] else "; no authority has stamped it"
        session.say(f"{arguments.output}: {len(found)} entries about {recording}{stamped}")
    return 0


def _about(session: Session, ledger: Ledger, recording: str, signed: int) -> list[int]:
    """The numbers of the signed entries about a recording and its calls."""
    if session.index.ledger_known() < signed:
        return [leaf for leaf, _ in _entries(ledger, recording) if leaf < signed]
    rows = session.index.ledger_rows(subject=recording)
    for call in session.index.calls(recording=recording):
        subject = call_subject(call["first_seen"], call["call_id"])
        rows += session.index.ledger_rows(kind="call", subject=subject)
    return sorted({row["leaf"] for row in rows if row["leaf"] < signed})


def _prove_since(session: Session, arguments: argparse.Namespace, ledger: Ledger) -> int:
    proof = prove_since(ledger, host_public(session.spool, arguments.host_key), _given(arguments.since))
    write_file(arguments.output, json.dumps(proof, indent=1).encode() + b"\n", mode=0o644)
    old, new = (unsigned(proof[name].encode()).size for name in ("old", "new"))
    if session.json:
        session.emit({"old": old, "new": new, "file": str(arguments.output)})
    else:
        session.say(f"{arguments.output}: the first {old} of {new} entries are the same")
    return 0


def _given(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _stamp(session: Session, arguments: argparse.Namespace, ledger: Ledger) -> int:
    timestamps = session.config.ledger.timestamps
    if timestamps is None:
        raise UsageError("ledger stamp: the configuration names no authority (ledger.timestamps)")
    from recorderd.spool.timestamps import Stamper

    as_owner(session.spool)
    stamped = Stamper(session.spool, timestamps).stamp_now()
    if stamped is None:
        raise UsageError("ledger stamp: there is no checkpoint yet")
    if session.json:
        session.emit({"entries": stamped.size, "file": str(stamped.token_path)})
    else:
        session.say(f"{stamped.token_path}: the first {stamped.size} entries are stamped")
    return 0


def _anchor(session: Session, arguments: argparse.Namespace, ledger: Ledger) -> int:
    settings = session.config.ledger.opentimestamps
    if settings is None:
        raise UsageError("ledger anchor: the configuration names no calendars (ledger.opentimestamps)")
    from recorderd.spool.open_timestamps import Anchorer

    as_owner(session.spool)
    anchorer = Anchorer(session.spool, settings)
    if anchorer.anchor_now() is None:
        raise UsageError("ledger anchor: there is no checkpoint yet")
    found = anchorer.complete_all()
    if session.json:
        session.emit(
            [
                {
                    "entries": each.size,
                    "file": str(each.ots_path),
                    "blocks": [{"height": height, "merkle_root": root} for height, root in known.blocks],
                    "pending": list(known.pending),
                }
                for each, known in found
            ]
        )
        return 0
    rows = [
        [
            each.size,
            ", ".join(str(height) for height, _ in known.blocks) or None,
            ", ".join(known.pending),
        ]
        for each, known in found
    ]
    session.table(("ENTRIES", "BLOCKS", "PENDING"), rows)
    return 0


_RUN = {
    "anchor": _anchor,
    "list": _list,
    "verify": _verify,
    "checkpoint": _checkpoint,
    "prove": _prove,
    "stamp": _stamp,
}
