"""`recorderctl keys`: who can open the recordings, and how others come to."""

import argparse
from pathlib import Path

from recorderd.errors import UsageError
from recorderd.tools.cli import SubcommandParser
from recorderd.tools.command import Session
from recorderd.tools.identities import add_identity_options
from recorderd.tools.keys_listing import list_keys
from recorderd.tools.keys_rewrapping import import_keys, rewrap
from recorderd.tools.keys_rotation import rotate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of each of them."""
    what = parser.add_subparsers(dest="what", metavar="WHAT", required=True, parser_class=SubcommandParser)

    listing = what.add_parser("list", help="the recipients, and how many recordings each can open")
    add_identity_options(listing, "say of this private key, too, what it opens; may be repeated")
    listing.set_defaults(act=list_keys)

    rotation = what.add_parser("rotate", help="seal to a new key from the next start on")
    rotation.add_argument("--to", type=Path, required=True, metavar="NEW.pub", help="the new recipient")
    rotation.add_argument(
        "--retire", action="append", default=[], metavar="KEY-ID", help="seal to this one no longer"
    )
    rotation.set_defaults(act=rotate)

    wrapping = what.add_parser("rewrap", help="let others open what is recorded; the audio is not touched")
    wrapping.add_argument("ids", nargs="*", metavar="ID", help="recordings")
    wrapping.add_argument("--all", action="store_true", help="every finished recording")
    wrapping.add_argument(
        "--folder", type=Path, metavar="DIR", help="slot files (*.key) copied from the recorder, instead"
    )
    add_identity_options(wrapping, "a private key that opens them; may be repeated")
    wrapping.add_argument(
        "--to", type=Path, action="append", required=True, metavar="NEW.pub", help="may be repeated"
    )
    wrapping.add_argument(
        "--drop-old", action="store_true", help="the identity's own key no longer opens the new slot files"
    )
    wrapping.set_defaults(act=rewrap)

    taking = what.add_parser("import", help="take in slot files that were wrapped anew elsewhere")
    taking.add_argument("folder", type=Path, metavar="DIR", help="searched for *.key, folders of days too")
    taking.set_defaults(act=import_keys)


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Do it; returns 0, or 20 or 21 where it could not be done for some of the recordings."""
    if arguments.what == "rewrap" and not arguments.identity:
        raise UsageError("keys rewrap: --identity FILE is needed: only who can open a recording lets others")
    return int(arguments.act(session, arguments))
