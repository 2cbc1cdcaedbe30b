"""`recorderctl policy`: what the rules make of calls, those that were seen or one given by hand."""

import argparse
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recorderd.calls.policy import CallFacts, Policy
from recorderd.calls.privacy import is_masked
from recorderd.config.loader import load_policy
from recorderd.config.policy import header_name
from recorderd.errors import UsageError
from recorderd.tools.command import Session
from recorderd.tools.texts import add_filters, clock, page_for, since_until

UNKNOWN = "unknown"
"""The action where it takes what is not known of an old call."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("what", choices=["test"], help="show per call which rule fits and what is done")
    parser.add_argument(
        "--rules", type=Path, metavar="FILE", help="instead of the configuration's: a section `policy`"
    )
    add_filters(parser)
    given = parser.add_argument_group("one call by hand, instead of those in the index")
    given.add_argument("--from", dest="caller", metavar="NUMBER")
    given.add_argument("--to", dest="callee", metavar="NUMBER")
    given.add_argument("--direction", choices=["inbound", "outbound", "internal", "transit"])
    given.add_argument("--source", default="", metavar="ADDRESS", help="where its INVITE came from")
    given.add_argument("--destination", default="", metavar="ADDRESS", help="where its INVITE went")
    given.add_argument("--header", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    given.add_argument("--call-id", default="", metavar="ID", help="for rules with a percentage")
    given.add_argument("--at", metavar="TIME", help="when; now if not given")


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Try the rules; returns 0."""
    policy = (load_policy(arguments.rules) if arguments.rules else session.config.policy).policy()
    by_hand = arguments.caller is not None or arguments.callee is not None
    calls = [_given(arguments)] if by_hand else _seen(session, arguments)
    rows = [_row(policy, facts, became) for facts, became in calls]
    counts = Counter((row["action"], row["rule"]) for row in rows)
    totals = [
        {"action": action, "rule": rule, "calls": count} for (action, rule), count in counts.most_common()
    ]
    if session.json:
        session.emit({"calls": rows, "counts": totals})
        return 0
    columns = ("FIRST SEEN", "FROM", "TO", "BECAME", "NOW", "RULE", "CALL-ID")
    keys = ("from", "to", "became", "action", "rule", "call_id")
    session.table(columns, [[clock(row["first_seen"]), *(row[key] for key in keys)] for row in rows])
    session.say()
    session.table(("NOW", "RULE", "CALLS"), [list(total.values()) for total in totals])
    return 0


def _row(policy: Policy, facts: CallFacts, known: dict[str, Any]) -> dict[str, Any]:
    found = policy.possible(facts)
    actions = {decision.action for decision in found}
    return {
        "call_id": facts.call_id,
        "from": known.get("from", facts.from_user),
        "to": known.get("to", facts.to_user),
        "first_seen": known.get("first_seen"),
        "became": known.get("outcome"),
        "action": found[0].action if len(actions) == 1 else UNKNOWN,
        "rule": " or ".join(decision.rule for decision in found),
    }


def _seen(session: Session, arguments: argparse.Namespace) -> list[tuple[CallFacts, dict[str, Any]]]:
    """Calls of the index. Their headers and addresses it does not have, nor numbers that are masked."""
    since, until = since_until(arguments)
    page = page_for(session, arguments)
    calls = session.index.calls(since=since, until=until, number=arguments.number, limit=page.limit)
    return [(_facts(call), call) for call in page.of(calls)]


def _facts(call: dict[str, Any]) -> CallFacts:
    caller, callee = (None if is_masked(end) else end for end in (call["from"] or "", call["to"] or ""))
    return CallFacts(call["call_id"], caller, callee, "", "", None, _time_ns(call["first_seen"]))


def _given(arguments: argparse.Namespace) -> tuple[CallFacts, dict[str, Any]]:
    headers: dict[str, list[str]] = {}
    for text in arguments.header:
        name, equals, value = text.partition("=")
        try:
            if not equals:
                raise ValueError("NAME=VALUE was expected")
            headers.setdefault(header_name(name), []).append(value.strip())
        except ValueError as error:
            raise UsageError(f"--header {text}: {error}") from None
    at_ns = time.time_ns() if arguments.at is None else _time_ns(arguments.at)
    facts = CallFacts(
        arguments.call_id,
        arguments.caller or "",
        arguments.callee or "",
        arguments.source,
        arguments.destination,
        headers,
        at_ns,
        arguments.direction,
    )
    return facts, {}


def _time_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time like 2026-11-21T20:05") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(moment.timestamp() * 1_000_000) * 1000
