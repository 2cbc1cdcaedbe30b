"""Holds in the index: which recordings must be kept, whatever their period says.

The ledger is the truth; what is here is rebuilt from its entries (:mod:`recorderd.spool.holds`). A hold on a
recording has its id; a standing one, that covers what is yet to come, has a number.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from recorderd.spool.database import Json, SpoolDatabase, database_text

NUMBER: Final = "number:"
"""Begins what a standing hold is on; the number follows."""

_ENDS: Final = ("from", "to", "user", "uri", "display")
_SET_HELD: Final = (
    "UPDATE recordings SET held = EXISTS (SELECT 1 FROM holds"
    " WHERE holds.recording = recordings.id AND released_at IS NULL)"
)


def concerns(summary: Mapping[str, Any], number: str) -> bool:
    """Whether a recording's summary names this number, or a part of it, as somebody who took part."""
    people = [summary, *(summary.get("participants") or ()), *(summary.get("legs") or ())]
    return any(
        number in value
        for one in people
        if isinstance(one, Mapping)
        for name in _ENDS
        if isinstance(value := one.get(name), str)
    )


class HoldRows(SpoolDatabase):
    """The part of the index that holds are kept in."""

    _standing: tuple[int, list[Json]] = 0, []
    """In which transaction the standing holds were read, and what they were."""

    def hold_placed(self, subject: str, matter: str, reason: str, by: str, placed_at: str) -> bool:
        """Enter a hold on a recording or a number; False where this matter holds it already."""
        known = "SELECT 1 FROM holds WHERE recording = ? AND matter = ? AND released_at IS NULL"
        if self.query(known, [subject, matter]):
            return False
        self._standing = 0, []
        self.execute(
            "INSERT INTO holds (recording, matter, reason, by, placed_at) VALUES (?, ?, ?, ?, ?)",
            [subject, matter, database_text(reason), database_text(by), placed_at],
        )
        self.execute("UPDATE recordings SET held = 1 WHERE id = ?", [subject])
        return True

    def hold_released(self, subject: str, matter: str, reason: str, by: str, released_at: str) -> bool:
        """End a hold; False where there is none of this matter. With one on a number end those that came of
        it."""
        rows = self.query(
            "SELECT id, recording, placed_at FROM holds"
            " WHERE recording = ? AND matter = ? AND released_at IS NULL",
            [subject, matter],
        )
        if rows and subject.startswith(NUMBER):
            rows += self.query(
                "SELECT id, recording FROM holds WHERE matter = ? AND placed_at = ? AND released_at IS NULL",
                [matter, rows[0]["placed_at"]],
            )
        self._standing = 0, []
        for row in rows:
            self.execute(
                "UPDATE holds SET released_at = ?, released_by = ?, release_reason = ? WHERE id = ?",
                [released_at, database_text(by), database_text(reason), row["id"]],
            )
            self.execute(f"{_SET_HELD} WHERE id = ?", [row["recording"]])
        return bool(rows)

    def holds(self, *, all_of_them: bool = False, subjects: Sequence[str] | None = None) -> list[Json]:
        """Holds that stand, or all there ever were; of these subjects, or of all."""
        where = "1" if all_of_them else "released_at IS NULL"
        values: list[object] = []
        if subjects is not None:
            where += " AND recording IN (SELECT value FROM json_each(?))"
            values = [json.dumps(list(subjects))]
        columns = "recording, matter, reason, by, placed_at, released_at, released_by, release_reason"
        return self.query(f"SELECT {columns} FROM holds WHERE {where} ORDER BY id", values)  # noqa: S608

    def standing_holds(self) -> list[Json]:
        """Those on a number: ``number, matter, reason, by, placed_at``."""
        rows = self.query(
            "SELECT recording, matter, reason, by, placed_at FROM holds"
            " WHERE recording >= ? AND recording < ? AND released_at IS NULL ORDER BY id",
            [NUMBER, NUMBER[:-1] + ";"],
        )
        return [{"number": row.pop("recording").removeprefix(NUMBER), **row} for row in rows]

    def hold_if_concerned(self, recording_id: str, summary: Mapping[str, Any]) -> None:
        """A recording is new, or more is known of it: the standing holds that concern it hold it."""
        if not self._depth or self._standing[0] != self._transaction:
            # Once for all of a transaction: nobody else places one meanwhile.
            self._standing = self._transaction, self.standing_holds()
        for hold in self._standing[1]:
            if concerns(summary, hold["number"]):
                rest = (hold["matter"], hold["reason"], hold["by"], hold["placed_at"])
                self.hold_placed(recording_id, *rest)

    def concerned(self, number: str, *, since: str | None = None, until: str | None = None) -> list[str]:
        """Ids of the recordings, of those that began from ``since`` to before ``until``, that a number took
        part in. What was destroyed is not among them."""
        rows = self.query(
            "SELECT id, summary, caller, callee FROM recordings"
            " WHERE state NOT IN ('destroying', 'destroyed')"
            " AND (? IS NULL OR started_at >= ?) AND (? IS NULL OR started_at < ?)"
            " AND (instr(summary, ?) OR instr(caller, ?) OR instr(callee, ?)) ORDER BY id",
            [since, since, until, until, json.dumps(number)[1:-1], *[database_text(number)] * 2],
        )
        return [
            row["id"]
            for row in rows
            if concerns({**self.load(row["summary"]), "from": row["caller"], "to": row["callee"]}, number)
        ]

    def forget_holds(self) -> None:
        """Before they are entered anew."""
        self._standing = 0, []
        self.execute("DELETE FROM holds")
        self.execute("UPDATE recordings SET held = 0 WHERE held")

    def set_held(self, ids: Iterable[str] | None = None) -> None:
        """Mark recordings by the holds there are."""
        if ids is None:
            self.execute(_SET_HELD)
            return
        for each in ids:
            self.execute(f"{_SET_HELD} WHERE id = ?", [each])
