"""`recorderctl pause`: record nothing of a running call until it is resumed."""

import argparse

from recorderd.tools.command import Session
from recorderd.tools.pausing import obey


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "target", metavar="CALL", help="a SIP Call-ID, or the id of its recording (8 letters do)"
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; kept in the recording")


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Pause; returns 0."""
    return obey(session, "pause", arguments.target, reason=arguments.reason)
