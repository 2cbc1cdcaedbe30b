"""`recorderctl keygen`: a private identity, and the public recipient that recordings are sealed to."""

import argparse
from pathlib import Path

from recorderd.spool.keys import DEFAULT_SUITE, SUITES, generate_identity
from recorderd.tools.command import Session
from recorderd.tools.identities import add_passphrase_option, wanted_passphrase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the private identity"
    )
    parser.add_argument(
        "--suite", choices=tuple(SUITES), default=DEFAULT_SUITE, help="default: post-quantum hybrid"
    )
    parser.add_argument(
        "--passphrase",
        action="store_true",
        help="protect the private identity by a passphrase, asked for twice",
    )
    add_passphrase_option(parser)


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Generate; returns 0."""
    path: Path = arguments.output
    passphrase = wanted_passphrase(arguments, path)
    recipient = generate_identity(path, arguments.suite, passphrase)
    public = path.with_name(path.name + ".pub")
    if session.json:
        session.emit(
            {
                "identity": str(path),
                "recipient": str(public),
                "id": recipient.id.hex(),
                "suite": recipient.suite,
            }
        )
    else:
        session.say(f"{path}      private: opens recordings; keep it off the recording host, and keep a copy")
        session.say(f"{public}  public: for encryption.recipients; id {recipient.id.hex()}")
    return 0
