"""`recorderctl retention propose` and `retention apply`."""

import argparse
import time
from collections.abc import Callable, Iterable
from typing import Any

from recorderd.calls.policy import DEFAULT, CallFacts
from recorderd.calls.privacy import is_masked
from recorderd.errors import NotAllowed, UsageError
from recorderd.spool.clock_check import Clock
from recorderd.spool.destruction import last_entry_us
from recorderd.spool.index import Index
from recorderd.spool.ledger_keeping import learn, ledger_of
from recorderd.spool.proposals import Action, Proposal
from recorderd.spool.retention_changes import Change, changes, lengthen, shorten
from recorderd.spool.times import microseconds
from recorderd.spool.verify import host_public
from recorderd.tools.command import Session
from recorderd.tools.retention_files import (
    counts,
    read_approvals,
    read_proposal,
    rules_of,
    write,
)
from recorderd.tools.retention_looking import due_rows


def propose(session: Session, arguments: argparse.Namespace) -> int:
    """Write a proposal; returns 0. Raises NotAllowed where there is nothing to propose."""
    clock = Clock.of_system()
    action: Action = "shorten" if arguments.shorten else "destroy"
    if arguments.shorten:
        rows = [change.item() for change in _changes(session) if not change.longer]
        if arguments.ids:
            wanted = {session.find(text) for text in arguments.ids}
            rows = [row for row in rows if row["id"] in wanted]
    else:
        rows = _expired(session, arguments, clock.wall_us())
    if not rows:
        raise NotAllowed(f"nothing is to be proposed: nothing to {action}")
    proposal = Proposal.new(action, session.config.site.name, arguments.reason, clock.noted(), rows)
    write(arguments.output, proposal.raw)
    if session.json:
        session.emit({"proposal": proposal.sha256, "recordings": len(proposal.items)})
    else:
        session.say(f"{arguments.output}: to {action} {len(proposal.items)} recordings")
        session.say(f"  {counts([item['class'] for item in proposal.items])}")
        session.say(f"  proposal {proposal.sha256}")
    return 0


def _expired(session: Session, arguments: argparse.Namespace, now_us: int) -> list[dict[str, Any]]:
    rows = {row["id"]: row for row in due_rows(session, now_us)}
    wanted = [session.find(text) for text in arguments.ids]
    for each in wanted:
        if each not in rows:
            raise UsageError(f"{each}: it has not expired")
        if rows[each]["held"]:
            raise NotAllowed(f"{each}: held for {', '.join(rows[each]['holds'])}")
    if wanted:
        return [rows[each] for each in dict.fromkeys(wanted)]
    free = [row for row in rows.values() if not row["held"]]
    chosen = [row for row in free if arguments.reviewed or not row["review"]]
    if len(chosen) < len(free):
        session.warn([f"{len(free) - len(chosen)} want a review first: see to them and give --reviewed"])
    return chosen


def apply(session: Session, arguments: argparse.Namespace) -> int:
    """Lengthen at once, or carry out an approved proposal to shorten; returns 0, or 26 where something was
    left."""
    index, ledger = session.index_to_write, ledger_of(session.spool)
    if arguments.shorten is None:
        found = _changes(session)
        longer = [change for change in found if change.longer]
        lengthen(index, ledger, longer, "the configuration was changed", time.time_ns() // 1000)
        return _told(session, len(longer), len(found) - len(longer))
    learn(ledger, index)
    proposal = read_proposal(arguments.shorten)
    approvals = [approval for approval, _ in read_approvals(arguments.approval)]
    rules = rules_of(session, host_public(session.spool))
    clock = Clock.of_system()
    newest = last_entry_us(ledger) if session.config.ledger.enabled else None
    left = shorten(index, ledger, proposal, approvals, rules, clock, newest)
    done = len(proposal.items) - len(left)
    if session.json:
        session.emit({"shortened": done, "left": left})
    else:
        session.say(f"{done} periods shortened, {len(left)} left")
        session.warn([f"{name}: {why}" for name, why in left.items()])
    return NotAllowed.exit_code if left else 0


def _told(session: Session, longer: int, shorter: int) -> int:
    if session.json:
        session.emit({"lengthened": longer, "shorter": shorter})
        return 0
    session.say(f"{longer} recordings have the periods of the configuration now")
    if shorter:
        session.say(
            f"{shorter} would be kept for less: `retention propose --shorten`, two approvals, and"
            " `retention apply --shorten`"
        )
    return 0


def _changes(session: Session) -> list[Change]:
    schedule = session.config.retention.schedule(session.config.site.name)
    return changes(session.index, schedule, _classes(session, session.index))


def _classes(session: Session, index: Index) -> Callable[[str], Iterable[str]]:
    """The classes that a recording may have by what is still known of its calls."""
    config = session.config
    policy = config.retention.policy(config.policy.policy(), config.site.name)

    def classes_of(recording: str) -> set[str]:
        if policy is None:
            return {""}
        found = set()
        for call in index.calls(recording=recording) or [index.recording(recording)]:
            ends = (call.get("from") or "", call.get("to") or "")
            caller, callee = (None if is_masked(end) else end for end in ends)
            seen = call.get("first_seen") or call.get("started_at")
            at_ns = microseconds(seen) * 1000 if seen else 0
            facts = CallFacts(call.get("call_id") or "", caller, callee, "", "", None, at_ns)
            found |= {decision.rule for decision in policy.possible(facts)}
        return {"" if rule == DEFAULT else rule for rule in found}

    return classes_of
