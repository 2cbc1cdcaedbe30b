"""`recorderctl resume`: go on recording a call that was paused."""

import argparse

from recorderd.tools.command import Session
from recorderd.tools.pausing import obey


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "target", metavar="CALL", help="a SIP Call-ID, or the id of its recording (8 letters do)"
    )


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Resume; returns 0."""
    return obey(session, "resume", arguments.target)
