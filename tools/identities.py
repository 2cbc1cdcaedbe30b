"""Private identities on the command line, and the passphrases that protect some of them."""

import argparse
import getpass
import os
from pathlib import Path

from recorderd.errors import UsageError
from recorderd.spool.keys import Identity, load_identities

VARIABLE = "RECORDERD_PASSPHRASE_FILE"
_LONGEST = 4096


def add_identity_options(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Declare ``--identity`` and where its passphrase comes from."""
    parser.add_argument("--identity", type=Path, action="append", default=[], metavar="FILE", help=purpose)
    add_passphrase_option(parser)


def add_passphrase_option(parser: argparse.ArgumentParser) -> None:
    """Declare ``--passphrase-file``."""
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help=f"the passphrase of a protected identity, instead of ${VARIABLE} or the terminal",
    )


def identities_of(arguments: argparse.Namespace) -> tuple[Identity, ...]:
    """The identities of ``--identity``. Raises WrongKey, and UsageError where there is no passphrase."""

    return load_identities(arguments.identity, lambda path: given_passphrase(arguments, path))


def given_passphrase(arguments: argparse.Namespace, path: Path) -> bytes:
    """The passphrase of a key. Raises UsageError and WrongKey."""
    given = _from_file(arguments)
    return given if given is not None else _from_terminal(f"Passphrase of {path}: ")


def wanted_passphrase(arguments: argparse.Namespace, path: Path) -> bytes | None:
    """The passphrase for a new key, None where it has none: who names a file with one wants it protected.
    Raises UsageError."""
    wanted = arguments.passphrase or arguments.passphrase_file is not None
    return new_passphrase(arguments, path) if wanted else None


def new_passphrase(arguments: argparse.Namespace, path: Path) -> bytes:
    """The passphrase for a new identity; from the terminal it is asked for twice. Raises UsageError."""
    given = _from_file(arguments)
    if given is None:
        given = _from_terminal(f"Passphrase for {path}: ")
        if given != _from_terminal("Once more: "):
            raise UsageError("the two passphrases differ")
    if not given:
        raise UsageError("an empty passphrase protects nothing")
    return given


def _from_file(arguments: argparse.Namespace) -> bytes | None:
    named = arguments.passphrase_file or os.environ.get(VARIABLE)
    if not named:
        return None
    path = Path(named)
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if len(text) > _LONGEST:
        raise UsageError(f"{path}: too long for a passphrase")
    return text.removesuffix(b"\n").removesuffix(b"\r")


def _from_terminal(prompt: str) -> bytes:
    try:
        # getpass would read a passphrase from a pipe too, and show it where there is no terminal.
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return getpass.getpass(prompt).encode()
    except (OSError, EOFError):
        raise UsageError(
            "a passphrase is needed, and there is no terminal to ask for it:"
            f" give --passphrase-file or ${VARIABLE}"
        ) from None
