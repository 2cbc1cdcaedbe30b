"""`recorderctl retention approve` and `retention keygen`: on the approver's own machine, with no spool."""

import argparse
import getpass
import time

from recorderd.spool.approvals import approve, generate_approver, is_locked, load_approver, read_approval
from recorderd.tools.command import Session
from recorderd.tools.identities import given_passphrase, wanted_passphrase
from recorderd.tools.retention_files import counts, read_proposal, write


def keygen(session: Session, arguments: argparse.Namespace) -> int:
    """Make an approver's key; returns 0."""
    path = arguments.output
    passphrase = wanted_passphrase(arguments, path)
    public = generate_approver(path, passphrase)
    public_path = path.with_name(path.name + ".pub")
    if session.json:
        session.emit({"key": str(path), "public": str(public_path), "id": public.id.hex()})
    else:
        session.say(f"{path}      private: approves destruction; keep it where only its owner is")
        session.say(f"{public_path}  public: for retention.approvers; id {public.id.hex()}")
    return 0


def approve_file(session: Session, arguments: argparse.Namespace) -> int:
    """Sign; returns 0."""
    proposal = read_proposal(arguments.file)
    passphrase = given_passphrase(arguments, arguments.key) if is_locked(arguments.key) else None
    key = load_approver(arguments.key, passphrase)
    by = arguments.by or getpass.getuser()
    data = approve(proposal, key, by, time.time_ns() // 1000)
    write(arguments.output, data)
    approval = read_approval(data)
    if session.json:
        session.emit({"proposal": proposal.sha256, "approval": str(arguments.output), "key": approval.key})
        return 0
    word = "destroy" if proposal.action == "destroy" else "shorten the period of"
    session.say(f"approved by {by} (key {approval.key}), as of {approval.as_of}:")
    session.say(f"  to {word} {len(proposal.items)} recordings of {proposal.host}")
    session.say(f"  {counts([item['class'] for item in proposal.items])}")
    session.say(f"  reason: {proposal.reason}")
    session.say(f"  proposal {proposal.sha256}")
    return 0
