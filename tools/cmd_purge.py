"""`recorderctl purge`: destroy what was proposed and approved, and certify it (docs/retention.md).

Exit code 0 when all of it is destroyed, 26 where something was left for a reason, 30 where a remote could not
be reached or did not let go: run it again then.
"""

import argparse
import hashlib
import os
from pathlib import Path
from typing import Any

from recorderd.config import Config
from recorderd.errors import NotAllowed, NotOverwritten, RecorderError, RemoteError, UsageError
from recorderd.spool.certificate import as_text, issue
from recorderd.spool.clock_check import Clock
from recorderd.spool.destruction import Destroyer, Outcome, last_entry_us
from recorderd.spool.ledger_keeping import learn, ledger_of
from recorderd.spool.statements import open_statement
from recorderd.spool.stores import Store
from recorderd.spool.sync import open_remotes
from recorderd.tools.cli import error_json
from recorderd.tools.command import Session
from recorderd.tools.retention_files import host_key, read_approvals, read_proposal, rules_of, write

CREDENTIALS = ("credentials_file", "identity_file", "password_file")
"""The keys of remotes that name a file with what its owner may do there."""

_AGAIN = "run the same purge again: it goes on with what is left"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("proposal", type=Path, metavar="PROPOSAL")
    parser.add_argument("--approval", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument(
        "--credentials",
        action="append",
        default=[],
        metavar="REMOTE=FILE",
        help="credentials that may delete there, instead of those that copies are sent with",
    )
    parser.add_argument(
        "--signing-key",
        type=Path,
        metavar="FILE",
        help="the host's signing key, where systemd alone has what the configuration names",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the certificate; FILE.txt beside it"
    )


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Destroy; returns 0, 26 or 30."""
    for path in () if arguments.output is None else _outputs(arguments.output):
        # Told before anything is destroyed.
        if path.exists():
            raise NotOverwritten(f"{path} exists; it is not overwritten")
        if not os.access(path.parent, os.W_OK):
            raise UsageError(f"{path}: {path.parent} is no folder that can be written to")
    proposal = read_proposal(arguments.proposal)
    if proposal.action != "destroy":
        raise UsageError("purge: this proposal is one to shorten periods: `retention apply --shorten`")
    approvals = read_approvals(arguments.approval)
    key = host_key(session, arguments.signing_key)
    rules = rules_of(session, key.public)
    stores = stores_of(session.config, arguments.credentials)
    index, ledger, clock = session.index_to_write, ledger_of(session.spool), Clock.of_system()
    learn(ledger, index)
    newest = last_entry_us(ledger) if session.config.ledger.enabled else None
    destroyer = Destroyer(session.spool, index, ledger, stores, clock, key.public, newest)
    with session.progress("destroying") as advance:
        try:
            outcome = destroyer.run(proposal, [each for each, _ in approvals], rules, progress=advance)
        except RemoteError as error:
            raise RemoteError(str(error), hint=_AGAIN) from error
    certificate = None
    if outcome.done:
        site = session.config.site.name
        certificate = issue(proposal, approvals, rules, outcome, site, key, clock.wall_us())
        _keep(outcome, certificate, arguments.output)
    return _tell(session, outcome, certificate)


def stores_of(config: Config, credentials: list[str]) -> dict[str, Store]:
    """The remotes, opened with other credentials where some are given. Raises UsageError."""
    files = {}
    for text in credentials:
        name, equals, path = text.partition("=")
        if not equals or name not in {remote.name for remote in config.sync.remotes}:
            raise UsageError(f"purge: --credentials {text}: NAME=FILE with the name of a remote was expected")
        files[name] = Path(path).absolute()
    remotes = []
    for remote in config.sync.remotes:
        if remote.name in files:
            fields = [name for name in CREDENTIALS if name in type(remote).model_fields]
            if not fields:
                raise UsageError(f"purge: {remote.name} is of type {remote.type}, which has no credentials")
            remotes.append(remote.model_copy(update={fields[0]: files[remote.name]}))
        else:
            remotes.append(remote)
    return open_remotes(remotes)


def _keep(outcome: Outcome, certificate: bytes, output: Path | None) -> None:
    """In the folder of the destruction, and where it is wanted."""
    value = open_statement("certificate", certificate).value
    text = as_text(value, hashlib.sha256(certificate).hexdigest()).encode()
    digest = hashlib.sha256(certificate).hexdigest()[:16]
    write(outcome.progress.folder / f"certificate-{digest}.json", certificate)
    write(outcome.progress.folder / f"certificate-{digest}.txt", text)
    if output is not None:
        for path, data in zip(_outputs(output), (certificate, text), strict=True):
            write(path, data)


def _outputs(output: Path) -> tuple[Path, Path]:
    """The certificate, and the one for people beside it."""
    return output, output.with_name(output.name + ".txt")


def _tell(session: Session, outcome: Outcome, certificate: bytes | None) -> int:
    unfinished = [why for why in outcome.left.values() if why.startswith("not finished")]
    error: RecorderError | None = None
    if outcome.trouble is not None or unfinished:
        error = RemoteError(str(outcome.trouble or unfinished[0]), hint=_AGAIN)
    elif outcome.left:
        error = NotAllowed(f"{len(outcome.left)} recordings were left: {next(iter(outcome.left.values()))}")
    readable = {
        name: work.readable_until for name, work in outcome.done.items() if work.readable_until is not None
    }
    if session.json:
        answer: dict[str, Any] = {
            "destroyed": sorted(outcome.done),
            "readable": readable,
            "left": outcome.left,
            "certificate": certificate and str(outcome.progress.folder),
        }
        session.emit({**answer, "error": error_json(error)} if error else answer)
    else:
        session.say(f"{len(outcome.done)} recordings destroyed, {len(outcome.left)} left")
        session.warn([f"{name}: {why}" for name, why in outcome.left.items()])
        session.warn(
            [f"{name}: still readable until {until or 'an unknown time'}" for name, until in readable.items()]
        )
        if certificate is not None:
            session.say(f"certificate: {outcome.progress.folder}")
    return 0 if error is None else error.exit_code
