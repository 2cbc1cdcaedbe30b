"""Two people: the keys of those who may approve a proposal, their signed statements, and whether these are
enough (docs/retention.md).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from recorderd.errors import NotAllowed, NotOverwritten, SpoolCorrupt, UsageError, WrongKey
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.proposals import Proposal
from recorderd.spool.signing import HostKey, HostPublic
from recorderd.spool.statements import Statement, open_statement, sign_statement
from recorderd.spool.times import microseconds, rfc3339

KIND: Final = "approval"
VERSION: Final = 1
AHEAD_US: Final = 300_000_000
"""How far two clocks may be apart before one of them is wrong; within that the earlier holds."""
_DAY_US = 86_400_000_000
_NAMES: Final = ("action", "as_of", "by", "items", "proposal", "version")


def generate_approver(path: Path, passphrase: bytes | None = None) -> HostPublic:
    """Write a new approver's key to ``path`` (mode 0600, encrypted with the passphrase, where there is one)
    and its public half to ``path`` + ``.pub``. Raises UsageError; a key is never overwritten.
    """
    if not path.name:
        raise UsageError(f"{str(path)!r} is a folder; name a file for the approver's key")
    key = Ed25519PrivateKey.generate()
    locked = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public_path = path.with_name(path.name + ".pub")
    for each in (path, public_path):
        if each.exists():
            raise NotOverwritten(f"{each} exists; keys are never overwritten")
    for each, data, mode in ((path, private, 0o600), (public_path, public, 0o644)):
        try:
            descriptor = os.open(each, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with open(descriptor, "wb") as file:
                file.write(data)
        except OSError as error:
            raise UsageError(f"{each}: {error.strerror}") from None
    return HostPublic(key.public_key())


def is_locked(path: Path) -> bool:
    """Whether an approver's key wants a passphrase. Raises WrongKey where it cannot be read."""
    try:
        return b"ENCRYPTED PRIVATE KEY" in path.read_bytes()
    except OSError as error:
        raise WrongKey(f"{path}: {error.strerror}") from None


def load_approver(path: Path, passphrase: bytes | None = None) -> HostKey:
    """An approver's private key. Raises WrongKey."""
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase)
    except OSError as error:
        raise WrongKey(f"{path}: {error.strerror}") from None
    except TypeError:
        raise WrongKey(f"{path}: it wants a passphrase, or was given one and wants none") from None
    except (ValueError, UnsupportedAlgorithm):
        raise WrongKey(f"{path}: not a private key in PEM, or the passphrase is wrong") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise WrongKey(f"{path}: not an Ed25519 key")
    return HostKey(key)


@dataclass(frozen=True, slots=True)
class Approval:
    """That somebody approved a proposal. ``as_of`` is what the approver's own clock said."""

    proposal: str
    action: str
    items: int
    as_of: str
    by: str
    statement: Statement

    @property
    def key(self) -> str:
        """The approver's key id, in hex."""
        return self.statement.signer

    @property
    def as_of_us(self) -> int:
        """The approver's time."""
        return microseconds(self.as_of)


def approve(proposal: Proposal, key: HostKey, by: str, now_us: int) -> bytes:
    """The signed statement. Raises NotAllowed where the approver's clock is before the proposal's: one of
    them is wrong."""
    if now_us < microseconds(proposal.as_of) - AHEAD_US:
        raise NotAllowed(
            f"the proposal is of {proposal.as_of}, and this clock says {rfc3339(now_us)}: one is wrong"
        )
    values = (proposal.action, rfc3339(now_us), by, len(proposal.items), proposal.sha256, VERSION)
    return sign_statement(KIND, dict(zip(_NAMES, values, strict=True)), key)


def read_approval(data: bytes) -> Approval:
    """An approval, not yet checked. Raises SpoolCorrupt."""
    statement = open_statement(KIND, data)
    value = statement.value
    try:
        right = (
            tuple(sorted(value)) == _NAMES
            and value["version"] == VERSION
            and type(value["items"]) is int
            and all(type(value[name]) is str for name in ("action", "as_of", "by", "proposal"))
            and rfc3339(microseconds(value["as_of"])) == value["as_of"]
        )
    except ValueError:
        right = False
    if not right:
        raise SpoolCorrupt("the approval is not readable, or was altered")
    return Approval(
        value["proposal"], value["action"], value["items"], value["as_of"], value["by"], statement
    )


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may approve, how many of them are needed, and for how many days an approval holds."""

    approvers: tuple[HostPublic, ...]
    needed: int = 2
    days: int = 30


def check_approvals(
    proposal: Proposal, approvals: Sequence[Approval], rules: Rules, now_us: int | None
) -> tuple[Approval, ...]:
    """Those approvals, where they are enough. Raises NotAllowed, saying which of them is wrong and why.

    ``now_us`` None: whether they were enough then, whenever that was.
    """
    known = {public.id.hex(): public for public in rules.approvers}
    seen: set[str] = set()
    for approval in approvals:
        what = f"the approval of {approval.by} (key {approval.key})"
        public = known.get(approval.key)
        if public is None:
            raise NotAllowed(f"{what}: not the key of one of retention.approvers")
        if not approval.statement.signed_by(public):
            raise NotAllowed(f"{what}: its signature is wrong: it was altered")
        if (approval.proposal, approval.action, approval.items) != _facts(proposal):
            raise NotAllowed(f"{what}: it is of another proposal ({approval.proposal[:16]}...)")
        if approval.key in seen:
            raise NotAllowed(f"{what}: this key has approved already; an approver counts once")
        seen.add(approval.key)
        if approval.as_of_us < microseconds(proposal.as_of) - AHEAD_US:
            raise NotAllowed(f"{what}: it is of {approval.as_of}, before the proposal ({proposal.as_of})")
        if now_us is not None and approval.as_of_us > now_us + AHEAD_US:
            # Dated ahead it would hold for longer than approvals do.
            raise NotAllowed(
                f"{what}: it is of {approval.as_of}, and this clock says {rfc3339(now_us)}: one is wrong"
            )
        if now_us is not None and now_us - approval.as_of_us > rules.days * _DAY_US:
            raise NotAllowed(
                f"{what}: it is of {approval.as_of}, more than {rules.days} days old, and has expired"
            )
    if len(seen) < rules.needed:
        raise NotAllowed(f"{len(seen)} approvals, and {rules.needed} are needed (retention.approvals)")
    return tuple(approvals)


def account(proposal: Proposal, approvals: Sequence[Approval], now_us: int) -> list[Entry]:
    """What the ledger is to say of a proposal that is carried out."""
    fields = {"action": proposal.action, "recordings": len(proposal.items), "reason": proposal.reason}
    entries = [Entry("proposed", microseconds(proposal.as_of), proposal.sha256, fields)]
    for each in approvals:
        who = {"by": each.by, "key": each.key, "as_of": each.as_of}
        entries.append(Entry("approved", now_us, proposal.sha256, who))
    return entries


def earliest(approvals: Sequence[Approval], now_us: int) -> int:
    """The time by which something may have expired: the earliest of this clock's and the approvers' own."""
    return min([now_us, *(approval.as_of_us for approval in approvals)])


def _facts(proposal: Proposal) -> tuple[Any, ...]:
    return proposal.sha256, proposal.action, len(proposal.items)
