"""Legal holds: placed and released in the ledger, which is the truth, and in the index, made from it.

A hold is of a matter (a case, an inquiry). A recording may be held for several; it is free when all have let
it go.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from recorderd.errors import NoSuchRecording, NotAllowed, UsageError
from recorderd.spool.index import Index
from recorderd.spool.index_holds import NUMBER
from recorderd.spool.index_retention import DESTROYED, DESTROYING
from recorderd.spool.layout import is_recording_id
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter
from recorderd.spool.times import rfc3339

RETENTION: Final = "retention"
"""The kind of the entries that tell of another class or expiry."""
_BATCH: Final = 500


def new_matter(now_us: int) -> str:
    """A name for a matter that was given none."""
    return f"{rfc3339(now_us)[:10]}-{secrets.token_hex(3)}"


def place(
    index: Index, ledger: Ledger, subjects: Sequence[str], matter: str, reason: str, by: str, now_us: int
) -> list[str]:
    """Hold recordings, and numbers (``number:`` before them) for what is yet to come; returns those that this
    matter did not hold yet.

    Nothing is held where one of them cannot be: raises NoSuchRecording, or NotAllowed for one that is
    destroyed, or about to be.
    """
    with index.batch():
        # A destruction begins inside such a transaction as well: one of the two comes first.
        known = {row["id"]: row["state"] for row in index.retained(subjects)}
        for subject in subjects:
            if not is_recording_id(subject):
                continue
            if subject not in known:
                raise NoSuchRecording(f"{subject}: no such recording in the index")
            if known[subject] in (DESTROYING, DESTROYED):
                raise NotAllowed(f"{subject}: too late for a hold: {known[subject]}")
        at = rfc3339(now_us)
        new = [each for each in subjects if index.hold_placed(each, matter, reason, by, at)]
        fields = {"matter": matter, "reason": reason, "by": by}
        enter(ledger, index, [Entry("hold", now_us, each, fields) for each in new])
    return new


def release(
    index: Index,
    ledger: Ledger,
    subjects: Sequence[str] | None,
    matter: str | None,
    reason: str,
    by: str,
    now_us: int,
) -> list[str]:
    """End holds: of these subjects (None: of all) for this matter; returns what was released.

    Without a matter the subjects may be held for one only: raises UsageError otherwise.
    """
    with index.batch():
        holds = [hold for hold in index.holds(subjects=subjects) if matter in (None, hold["matter"])]
        matters = {hold["matter"] for hold in holds}
        if matter is None and len(matters) > 1:
            raise UsageError(f"held for {len(matters)} matters ({', '.join(sorted(matters))}): give --matter")
        entries = []
        for hold in holds:
            index.hold_released(hold["recording"], hold["matter"], reason, by, rfc3339(now_us))
            fields = {"matter": hold["matter"], "reason": reason, "by": by}
            entries.append(Entry("release", now_us, hold["recording"], fields))
        enter(ledger, index, entries)
    return [hold["recording"] for hold in holds]


def restore_holds(index: Index, ledger: Ledger) -> int:
    """Enter into the index what the ledger says of holds, of changed periods and of what was destroyed; for
    an index that was made anew, after the recordings were entered. Returns how many recordings are held.

    Raises SpoolCorrupt where an entry of the ledger cannot be read.
    """
    with index.batch():
        index.forget_holds()
        for data in ledger.entries():
            _restore(index, Entry.from_bytes(data))
    (row,) = index.query("SELECT count(*) AS held FROM recordings WHERE held")
    return int(row["held"])


def _restore(index: Index, entry: Entry) -> None:
    fields, at = _texts(entry.fields), rfc3339(entry.time_us)
    if entry.kind == "hold":
        subjects = [entry.subject]
        if entry.subject.startswith(NUMBER):
            subjects += index.concerned(entry.subject.removeprefix(NUMBER))
        for each in subjects:
            index.hold_placed(each, fields["matter"], fields["reason"], fields["by"], at)
    elif entry.kind == "release":
        index.hold_released(entry.subject, fields["matter"], fields["reason"], fields["by"], at)
    elif entry.kind == RETENTION:
        name, expires_at = entry.fields.get("class"), entry.fields.get("expires_at")
        index.set_retention(entry.subject, name, expires_at)
    elif entry.kind == DESTROYED:
        if index.has_recording(entry.subject):
            index.destroyed([entry.subject])
        else:
            index.tombstone(entry.subject, dict(entry.fields))


def _texts(fields: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(fields.get(name) or "") for name in ("matter", "reason", "by")}


def held_by(ledger: Ledger) -> frozenset[str]:
    """What is held by what the ledger says: recordings, and numbers (``number:`` before them). Raises
    SpoolCorrupt."""
    held: set[tuple[str, str]] = set()
    for data in ledger.entries():
        if b'"kind":"hold"' not in data and b'"kind":"release"' not in data:
            continue  # of millions of entries a few are read
        entry = Entry.from_bytes(data)
        subject = (entry.subject, str(entry.fields.get("matter") or ""))
        if entry.kind == "hold":
            held.add(subject)
        elif entry.kind == "release":
            held.discard(subject)
    return frozenset(name for name, _ in held)


def number_subject(number: str) -> str:
    """What a standing hold on a number is on. Raises UsageError."""
    if not number or len(number) > 128:
        raise UsageError("a number has 1 to 128 characters")
    return NUMBER + number
