"""`recorderctl verify`: whether recordings are what was sealed; needs no key, checks more with one.

Exit code 0 when nothing is wrong, 20 when something is; each damaged file is named.
"""

import argparse
from pathlib import Path
from typing import Any

from recorderd.errors import SpoolCorrupt, UsageError
from recorderd.spool.database import NoIndex
from recorderd.spool.entered_slots import EnteredSlots
from recorderd.spool.index import Index
from recorderd.spool.index_retention import DESTROYED
from recorderd.spool.keys import Identity
from recorderd.spool.ledger import FOLDER
from recorderd.spool.manifest import FOREIGN
from recorderd.spool.verify import EVICTED, IN_PROGRESS, Verdict, host_public, verify
from recorderd.tools.cli import error_json
from recorderd.tools.command import Session, away
from recorderd.tools.identities import add_identity_options, identities_of
from recorderd.wire.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="recordings to check")
    parser.add_argument(
        "--all", action="store_true", help="every recording that the spool has or should have"
    )
    add_identity_options(parser, "a private key: authenticate every record too; may be repeated")
    parser.add_argument(
        "--host-key",
        type=Path,
        metavar="FILE",
        help="the recorder's host.pub from a place that can be trusted, instead of the one found here",
    )


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Check; returns 0 or 20."""
    if bool(arguments.ids) == arguments.all:
        raise UsageError("verify: give recording ids, or --all")
    public = host_public(session.spool, arguments.host_key)
    identities: tuple[Identity, ...] = identities_of(arguments)
    rows = _rows(session)
    expected = {row["id"]: row["sha256"] for row in rows}
    where = {row["id"]: away(row) for row in rows if not row["present"] and row["state"] != DESTROYED}
    gone = {row["id"] for row in rows if row["state"] == DESTROYED}
    expected = {name: sha256 for name, sha256 in expected.items() if name not in gone}
    known = sorted({*_all_ids(session, expected), *(gone if arguments.ids else ())})
    ids = [_find(text, known) for text in arguments.ids] or known
    verdicts: list[Verdict] = []
    entered = _entered(session)
    with session.progress("verifying", total=len(ids)) as advance:
        for count, recording_id in enumerate(ids):
            advance(count, description=recording_id)
            if recording_id in gone:
                verdicts.append(_of_destroyed(session, recording_id))
                continue
            verdicts.append(
                verify(
                    session.spool,
                    recording_id,
                    public,
                    identities,
                    expected_sha256=expected.get(recording_id),
                    evicted=recording_id in where,
                    entered=entered,
                )
            )
    _tell(session, verdicts, where)
    return SpoolCorrupt.exit_code if any(not verdict.ok for verdict in verdicts) else 0


def _entered(session: Session) -> EnteredSlots | None:
    """What the ledger has of key slots; None where there is no ledger."""
    ledger = session.spool.path / FOLDER
    if not ledger.is_dir():
        return None
    entered = EnteredSlots(ledger, at_copy=session.spool.is_remote_copy)
    session.warn([f"the ledger, see `recorderctl ledger verify`: {text}" for text in entered.problems[:1]])
    return entered


def _rows(session: Session) -> list[dict[str, Any]]:
    """The finished recordings that the index has; a broken or missing index is no reason not to check the
    files."""
    try:
        with Index.read(session.spool) as index:
            rows = index.recordings()
    except NoIndex:
        return []
    except SpoolCorrupt as error:
        session.warn([str(error)])
        return []
    return [row for row in rows if row["state"] in ("sealed", "recovered", DESTROYED)]


def _of_destroyed(session: Session, recording_id: str) -> Verdict:
    """Nothing of it may be here."""
    spool = session.spool
    verdict = Verdict(recording_id, spool.record_path(recording_id), DESTROYED, DESTROYED)
    for path in (spool.slot_path(recording_id), verdict.path):
        if path.exists():
            verdict.problems.append(f"{path}: it was destroyed, and is here")
    return verdict


def _find(text: str, known: list[str]) -> str:
    """As :meth:`Session.find`, for which the index would have to be readable."""
    found = [name for name in known if text and name.startswith(text)]
    return found[0] if len(found) == 1 else text


def _all_ids(session: Session, expected: dict[str, str | None]) -> list[str]:
    spool = session.spool
    return sorted({*spool.records(), *spool.manifests(), *spool.parts(), *expected})


def _tell(session: Session, verdicts: list[Verdict], where: dict[str, str]) -> None:
    bad = [verdict for verdict in verdicts if not verdict.ok]
    summary = f"{len(verdicts)} checked, {len(bad)} damaged"
    if session.json:
        answer: dict[str, Any] = {
            "ok": not bad,
            "checked": len(verdicts),
            "damaged": len(bad),
            "recordings": [verdict.as_json() for verdict in verdicts],
        }
        if bad:
            answer["error"] = error_json(SpoolCorrupt(bad[0].problems[0] if len(bad) == 1 else summary))
        session.emit(answer)
        return
    for verdict in verdicts:
        if verdict.ok and (len(verdicts) <= 20 or verdict.status != "complete"):
            depth = " (every record authenticated)" if verdict.with_key else ""
            word = "in progress" if verdict.status == IN_PROGRESS else f"{verdict.state}, {verdict.status}"
            if verdict.status == DESTROYED:
                word = DESTROYED
            if verdict.status == EVICTED:
                word = f"{verdict.state}, {where[verdict.recording]}; its manifest is right"
            session.say(f"{verdict.recording}  ok  {word}{depth}")
        for problem in dict.fromkeys(verdict.problems):
            session.stderr.write(f"recorderctl: {printable(problem, limit=1000)}\n")
    session.say(summary)
    if bad:
        session.stderr.write(f"  hint: {_hint(bad)}\n")


def _hint(bad: list[Verdict]) -> str:
    foreign = all(any(FOREIGN in problem for problem in verdict.problems) for verdict in bad)
    return "give --host-key the host.pub of the recorder that made them" if foreign else SpoolCorrupt.hint
