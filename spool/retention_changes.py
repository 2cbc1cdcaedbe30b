"""What a changed configuration makes of the periods of recordings that were sealed before: longer ones hold
at once, shorter ones take approvals.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from recorderd.errors import NotAllowed
from recorderd.spool.approvals import Approval, Rules, account, check_approvals
from recorderd.spool.clock_check import Clock, check_clock
from recorderd.spool.index import Index
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import enter
from recorderd.spool.proposals import Proposal
from recorderd.spool.retention import Schedule, end_of, time_text
from recorderd.spool.times import microseconds

ClassesOf = Callable[[str], Iterable[str]]
"""The classes that the calls of a recording may have; see :meth:`Schedule.longest`."""


@dataclass(frozen=True, slots=True)
class Change:
    """Another class or expiry of one recording. None: for ever, and of no class."""

    id: str
    sha256: str | None
    bytes: int | None
    name: str | None
    expires_at: str | None
    new_name: str | None
    new_expires_at: str | None

    @property
    def longer(self) -> bool:
        """Whether it is kept for longer, or as long."""
        old, new = self.expires_at, self.new_expires_at
        return new is None or (old is not None and new >= old)

    def item(self) -> dict[str, Any]:
        """For a proposal."""
        return {
            "id": self.id,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "class": self.name,
            "expires_at": self.expires_at,
            "new_class": self.new_name,
            "new_expires_at": self.new_expires_at,
        }


def changes(index: Index, schedule: Schedule, classes_of: ClassesOf) -> list[Change]:
    """What is not as the schedule has it. A class that is not in it any more changes nothing; a recording of
    no class gets that of its calls, as far as they are still known, and the longest that it may be."""
    found = []
    for row in index.retained():
        summary = index.load(row["summary"])
        since_us = _since_us(summary)
        if since_us is None:
            continue
        if row["retention"] is not None:
            now = schedule.named(row["retention"])
        else:
            now = schedule.longest(classes_of(row["id"]), since_us)
        if now is None:
            continue
        end = end_of(since_us, now.keep)
        new = None if end is None else time_text(end)
        if (now.name, new) != (row["retention"], row["expires_at"]):
            old = (row["id"], row["sha256"], row["bytes"], row["retention"], row["expires_at"])
            found.append(Change(*old, now.name, new))
    return found


def _since_us(summary: dict[str, Any]) -> int | None:
    stated = (summary.get("retention") or {}).get("since")
    if stated is not None:
        return microseconds(stated)
    started = summary.get("started_at")
    return None if started is None else microseconds(started) + round((summary.get("duration_s") or 0) * 1e6)


def lengthen(index: Index, ledger: Ledger, found: Sequence[Change], why: str, now_us: int) -> None:
    """Let changes hold; all of them are to make periods longer."""
    assert all(change.longer for change in found)
    _enter(index, ledger, [change.item() for change in found], why, now_us)


def shorten(
    index: Index,
    ledger: Ledger,
    proposal: Proposal,
    approvals: Sequence[Approval],
    rules: Rules,
    clock: Clock,
    last_entry_us: int | None,
) -> dict[str, str]:
    """Let a proposal to shorten periods hold; returns what was left, and why. Raises NotAllowed."""
    if proposal.action != "shorten":
        raise NotAllowed("this proposal is one to destroy: `recorderctl purge` carries it out")
    now = clock.wall_us()
    check_clock(clock, proposal.clock, last_entry_us)
    check_approvals(proposal, approvals, rules, now)
    left = {}
    with index.batch():
        rows = {row["id"]: row for row in index.retained([item["id"] for item in proposal.items])}
        todo = []
        for item in proposal.items:
            row = rows.get(item["id"])
            if row is None or row["state"] not in ("sealed", "recovered"):
                left[item["id"]] = "the index does not have it, or it is not finished"
            elif (row["retention"], row["expires_at"]) == (item["new_class"], item["new_expires_at"]):
                continue  # done before
            elif any(row[key] != item[key] for key in ("sha256", "expires_at")):
                left[item["id"]] = "changed since the proposal"
            else:
                todo.append(item)
        who = ", ".join(f"{each.by} ({each.key})" for each in approvals)
        why = f"proposal {proposal.sha256}, approved by {who}"
        enter(ledger, index, account(proposal, approvals, now))
        _enter(index, ledger, todo, why, now)
    return left


def _enter(index: Index, ledger: Ledger, items: Sequence[dict[str, Any]], why: str, now_us: int) -> None:
    entries = []
    with index.batch():
        for item in items:
            name, expires_at = item["new_class"], item["new_expires_at"]
            index.set_retention(item["id"], name, expires_at)
            was = {"class": item["class"], "expires_at": item["expires_at"]}
            fields = {"class": name, "expires_at": expires_at, "was": was, "why": why}
            entries.append(Entry("retention", now_us, item["id"], fields))
        enter(ledger, index, entries)
