"""The certificate of a destruction: what was destroyed, by what means, at which places, and who approved it;
signed by the host, and checked with public keys only (docs/retention.md).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from recorderd.errors import NotAllowed, SpoolCorrupt
from recorderd.spool.approvals import Approval, Rules, check_approvals, read_approval
from recorderd.spool.destruction import Outcome
from recorderd.spool.destruction_progress import Work
from recorderd.spool.proposals import Proposal
from recorderd.spool.signing import HostKey, HostPublic
from recorderd.spool.statements import open_statement, sign_statement
from recorderd.spool.times import rfc3339

KIND: Final = "certificate"
VERSION: Final = 1
SHREDDED: Final = "key slots destroyed"
DELETED: Final = "deleted"
READABLE: Final = "still readable"
_ASK_AGAIN: Final = "ask for it again: the recorder keeps each certificate in `destruction/` of its spool"
_FACTS: Final = ("bytes", "class", "expires_at", "id", "sha256")


def issue(
    proposal: Proposal,
    approvals: Sequence[tuple[Approval, bytes]],
    rules: Rules,
    outcome: Outcome,
    host: str,
    key: HostKey,
    now_us: int,
) -> bytes:
    """The signed certificate of what was done so far. ``approvals`` come with the bytes of their files."""
    done = outcome.done
    return sign_statement(
        KIND,
        {
            "version": VERSION,
            "host": host,
            "issued_at": rfc3339(now_us),
            "complete": len(done) == len(proposal.items),
            "proposal": {
                "sha256": proposal.sha256,
                "host": proposal.host,
                "reason": proposal.reason,
                "clock": dict(proposal.clock),
            },
            "approvals_needed": rules.needed,
            "approvals": [data.decode("ascii") for _, data in approvals],
            "recordings": [
                _destroyed(item, done[item["id"]]) for item in proposal.items if item["id"] in done
            ],
            "left": [
                {**item, "why": outcome.left.get(item["id"], "")}
                for item in proposal.items
                if item["id"] not in done
            ],
        },
        key,
    )


def _destroyed(item: Mapping[str, Any], work: Work) -> dict[str, Any]:
    copies = [
        {
            "where": copy.where,
            "part": copy.part,
            "outcome": copy.outcome,
            "until": copy.until,
            "versions": list(copy.versions),
        }
        for copy in work.copies.values()
    ]
    until = work.readable_until
    method = READABLE if until is not None else SHREDDED if work.detached else DELETED
    return {
        **item,
        "started_at": work.facts.get("started_at"),
        "destroyed_at": work.done_at,
        "method": method,
        "readable_until": until,
        "copies": copies,
    }


def check(data: bytes, host: HostPublic, approvers: Sequence[HostPublic], needed: int) -> dict[str, Any]:
    """What a certificate says, where everything in it holds: the host's signature, the hash of the proposal
    that its recordings make up, and enough approvals of exactly that by ``approvers``.

    Raises SpoolCorrupt and NotAllowed. It says nothing of a place that the certificate does not name.
    """
    try:
        return _checked(data, host, approvers, needed)
    except SpoolCorrupt as error:
        raise SpoolCorrupt(str(error), hint=_ASK_AGAIN) from None


def _checked(data: bytes, host: HostPublic, approvers: Sequence[HostPublic], needed: int) -> dict[str, Any]:
    statement = open_statement(KIND, data)
    if not statement.signed_by(host):
        raise SpoolCorrupt(f"the certificate is not signed by the host's key {host.id.hex()}, or was altered")
    value = statement.value
    try:
        if value["version"] != VERSION:
            raise SpoolCorrupt(f"certificate version {value['version']!r} is unknown")
        head, items = value["proposal"], [*value["recordings"], *value["left"]]
        proposal = Proposal.new("destroy", head["host"], head["reason"], head["clock"], items)
        Proposal.from_bytes(proposal.raw)
        if proposal.sha256 != head["sha256"]:
            raise SpoolCorrupt("the recordings in the certificate are not those of the proposal")
        approvals = [read_approval(text.encode("ascii")) for text in value["approvals"]]
        problems = list(_contradictions(value))
        needed_then = int(value["approvals_needed"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SpoolCorrupt("the certificate is not readable") from None
    if needed_then < needed:
        raise NotAllowed(f"it was made with {needed_then} approvals, {needed} are wanted")
    check_approvals(proposal, approvals, Rules(tuple(approvers), needed), None)
    if problems:
        raise SpoolCorrupt(problems[0])
    return value


def _contradictions(value: Mapping[str, Any]) -> list[str]:
    found = []
    if value["complete"] != (not value["left"]):
        found.append("the certificate says that it is complete, and that something is left")
    for each in value["recordings"]:
        kept = {(copy["where"], copy["part"]) for copy in each["copies"] if copy["outcome"] != "gone"}
        slots, recordings = (
            {where for where, part in kept if part == name} for name in ("slots", "recording")
        )
        if each["method"] == SHREDDED and slots and recordings:
            found.append(f"{each['id']}: said to be unreadable, and its keys are kept at {min(slots)}")
        if each["method"] == DELETED and recordings:
            found.append(f"{each['id']}: said to be deleted, and kept at {min(recordings)}")
    return found


def as_text(value: Mapping[str, Any], sha256: str) -> str:
    """The certificate for people; ``sha256`` is that of the signed file."""
    done, left = value["recordings"], value["left"]
    lines = [
        "CERTIFICATE OF DESTRUCTION",
        "",
        f"Host            {_plain(value['host'])}",
        f"Issued          {value['issued_at']}",
        f"Reason          {_plain(value['proposal']['reason'])}",
        f"Proposal        {value['proposal']['sha256']}",
        f"Signed file     {sha256} (SHA-256)",
        f"Recordings      {len(done)} destroyed, {len(left)} left",
        "",
    ]
    for method, meaning in (
        (SHREDDED, "every copy of the keys was destroyed: nobody can open what may be left"),
        (DELETED, "the recording and its keys, which were inside, were deleted"),
        (READABLE, "a place keeps it under a lock: it can still be read there"),
    ):
        count = sum(each["method"] == method for each in done)
        if count:
            lines.append(f"{count:>8}  {method}: {meaning}")
    lines += ["", "Approved by"]
    for text in value["approvals"]:
        approval = read_approval(text.encode("ascii"))
        lines.append(f"  {_plain(approval.by)}, {approval.as_of} by their own clock, key {approval.key}")
    lines += ["", "Destroyed"]
    for each in done:
        lines.append(f"  {each['id']}  class {each['class']}, expired {each['expires_at']}, {each['method']}")
        lines += [f"      {line}" for line in _places(each)]
    if left:
        lines += ["", "Left"]
        lines += [f"  {each['id']}  {_plain(each['why'])}" for each in left]
    lines += ["", "Deleted means removed from the file system or the store; overwriting is not promised.", ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Without anything that a terminal would heed."""
    return json.dumps(text)[1:-1]


def _places(each: Mapping[str, Any]) -> list[str]:
    found: dict[str, list[str]] = {}
    for copy in each["copies"]:
        word = f"{copy['part']} {copy['outcome']}"
        if copy["outcome"] == "locked":
            word += f" until {copy['until'] or 'an unknown time'}"
        if copy["versions"]:
            word += f" (versions {', '.join(copy['versions'])})"
        found.setdefault(copy["where"], []).append(word)
    lines = [f"{where}: {', '.join(words)}" for where, words in found.items()]
    if each["readable_until"] is not None:
        lines.append(f"STILL READABLE until {each['readable_until'] or 'an unknown time'}")
    return lines
