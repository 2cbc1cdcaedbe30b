"""`recorderctl retention`: what has expired, proposals to destroy it or to keep it shorter, their approval,
and the check of a certificate (docs/retention.md).
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from recorderd.tools import retention_approving, retention_looking, retention_proposing
from recorderd.tools.cli import SubcommandParser
from recorderd.tools.command import Session
from recorderd.tools.identities import add_passphrase_option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be done, each with its own options."""
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", required=True, parser_class=SubcommandParser)

    def verb(
        name: str, act: Callable[[Session, argparse.Namespace], int], purpose: str
    ) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        made.set_defaults(act=act)
        return made

    verb("due", retention_looking.due, "what has expired")
    _propose(verb("propose", retention_proposing.propose, "write down what is to be destroyed"))
    _approve(verb("approve", retention_approving.approve_file, "sign that a proposal may be carried out"))
    keygen = verb("keygen", retention_approving.keygen, "make the key of somebody who may approve")
    keygen.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the private key")
    keygen.add_argument("--passphrase", action="store_true", help="protect it by a passphrase")
    add_passphrase_option(keygen)
    apply = verb(
        "apply", retention_proposing.apply, "bring what is sealed already into line with the classes"
    )
    apply.add_argument("--shorten", type=Path, metavar="PROPOSAL", help="carry out an approved proposal")
    apply.add_argument("--approval", type=Path, action="append", default=[], metavar="FILE")
    certificate = verb(
        "check-certificate", retention_looking.check_certificate, "whether a certificate holds"
    )
    certificate.add_argument("file", type=Path, metavar="FILE")
    certificate.add_argument("--host-key", type=Path, metavar="FILE", help="the recorder's host.pub")
    certificate.add_argument(
        "--approver",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an approver's public key, instead of those of the configuration; may be repeated",
    )


def _propose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="these alone, of what has expired")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the proposal")
    parser.add_argument("--reason", metavar="TEXT", default="their period is over", help="why")
    parser.add_argument(
        "--reviewed", action="store_true", help="somebody looked at those whose class asks for that"
    )
    parser.add_argument(
        "--shorten", action="store_true", help="not to destroy: to shorten periods to those of the classes"
    )


def _approve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="PROPOSAL")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the approver's private key")
    parser.add_argument("--by", metavar="NAME", help="who approves; the user where it is not given")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the approval")
    add_passphrase_option(parser)


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    return int(arguments.act(session, arguments))
