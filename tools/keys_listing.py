"""`recorderctl keys list`: the recipients, and how many recordings each can open."""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from recorderd.errors import ConfigError, NoSuchRecording, SpoolCorrupt, UsageError
from recorderd.spool.layout import Spool
from recorderd.spool.rewrap import present_slots
from recorderd.tools.command import Session
from recorderd.tools.identities import identities_of
from recorderd.tools.recipient_files import RecipientLine, recipient_lines

CONFIGURED = "configured"
RETIRED = "retired"
UNKNOWN = "not configured"


@dataclass
class Openers:
    """Who can open the finished recordings of a spool: for each set of key ids (hex) how many recordings
    they open, and the recordings that nobody can, or of which it cannot be told."""

    sets: Counter[frozenset[str]] = field(default_factory=Counter)
    without: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def of(self, key_id: str) -> int:
        """How many this key opens."""
        return sum(count for keys, count in self.sets.items() if key_id in keys)

    def outside(self, key_ids: Iterable[str]) -> int:
        """How many none of these keys opens, though another one does."""
        known = frozenset(key_ids)
        return sum(count for keys, count in self.sets.items() if not keys & known)


def finished(spool: Spool) -> list[str]:
    """Every finished recording of which there is the file, or the key slots."""
    return sorted({*spool.records(), *spool.slots()} - set(spool.parts()))


def openers(spool: Spool) -> Openers:
    """Look at the key slots of every finished recording; the recordings themselves are hardly read."""
    found = Openers()
    for name in finished(spool):
        try:
            header, slots = present_slots(spool, name)
        except (SpoolCorrupt, NoSuchRecording, UsageError):
            found.damaged.append(name)
            continue
        inside = () if header is None else header.slots
        beside = () if slots is None else slots.slots
        keys = frozenset(slot.key_id.hex() for slot in (*inside, *beside))
        if keys:
            found.sets[keys] += 1
        else:
            found.without.append(name)
    return found


def known_lines(session: Session) -> list[RecipientLine]:
    """The recipients of the configuration; none where only a spool was named."""
    if session.config_path is None and session.spool_path is not None:
        return []
    return [line for path in session.config.encryption.recipients for line in recipient_lines(path)]


def list_keys(session: Session, arguments: argparse.Namespace) -> int:
    """Show; returns 0."""
    identities = {one.recipient().id.hex(): one.suite for one in identities_of(arguments)}
    found = openers(session.spool)
    rows = list(_rows(known_lines(session), identities, found))
    active = [row["id"] for row in rows if row["state"] == CONFIGURED]
    answer: dict[str, Any] = {
        "recipients": rows,
        "recordings": sum(found.sets.values()) + len(found.without) + len(found.damaged),
        "old_only": found.outside(active) if active else 0,
        "without_keys": found.without,
        "damaged": found.damaged,
    }
    if session.json:
        session.emit(answer)
        return 0
    columns = ("id", "suite", "state", "recordings", "file")
    heads = [column.upper() for column in columns]
    session.table(heads, [[row[column] for column in columns] for row in rows])
    session.say()
    session.say(f"{answer['recordings']} recordings")
    if answer["old_only"]:
        session.say(f"{answer['old_only']} of them are opened by none of the configured keys")
    for what, names in (("nobody can open", found.without), ("damaged", found.damaged)):
        if names:
            session.say(f"{what}: {len(names)}, {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}")
    return 0


def _rows(
    lines: list[RecipientLine], identities: Mapping[str, str], found: Openers
) -> Iterator[dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {}
    for line in sorted(lines, key=lambda line: line.retired is not None):
        if line.id in known:
            continue
        state = CONFIGURED if line.retired is None else f"{RETIRED} {line.retired}".rstrip()
        known[line.id] = {"id": line.id, "suite": line.suite, "state": state, "file": str(line.path)}
    others = sorted({key for keys in found.sets for key in keys} | set(identities))
    for key in others:
        known.setdefault(key, {"id": key, "suite": identities.get(key), "state": UNKNOWN, "file": None})
    for row in known.values():
        yield {**row, "identity": row["id"] in identities, "recordings": found.of(row["id"])}


def retire_ids(wanted: Iterable[str], lines: Iterable[RecipientLine]) -> set[str]:
    """The configured key ids that a user means by their first digits. Raises ConfigError for one that is
    none, or several."""
    active = {line.id for line in lines if line.retired is None}
    ids: set[str] = set()
    for text in wanted:
        found = [key for key in active if text and key.startswith(text)]
        if len(found) != 1:
            many = "begins several key ids" if found else "is no configured key"
            raise ConfigError(f"{text[:40]!r} {many}; there are {', '.join(sorted(active))}")
        ids.add(found[0])
    return ids
