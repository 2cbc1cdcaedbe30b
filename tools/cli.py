"""The dispatcher of ``recorderctl``: finds the command, runs it, and tells errors in one way.

Exit codes are those of :mod:`recorderd.errors`. An error is one line on standard error, ``recorderctl:
message``, and a hint below it; with ``--json`` it is ``{"error": {"code": ..., "kind": ..., "message": ...,
"hint": ...}}`` on standard output.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

from recorderd import libraries
from recorderd.errors import RecorderError, SpoolError, UsageError

if TYPE_CHECKING:
    from recorderd.tools.command import Command

# name: what it does. The module is cmd_NAME, with `_` for `-`, and is imported only when it is called.
COMMANDS = {
    "list": "the recordings in the spool",
    "show": "everything known about one recording",
    "calls": "every call seen and its outcome",
    "export": "decrypt and decode recordings to audio files",
    "verify": "check that recordings are what was sealed",
    "keygen": "make a private identity and its public recipient",
    "keys": "see who can open the recordings, and let others",
    "ledger": "what happened to recordings and calls, and its proof",
    "sync": "copy recordings to the remotes and verify them there",
    "restore": "bring recordings back from a remote",
    "reindex": "make the index anew from the files",
    "review": "say that recordings put forward for review were listened to",
    "hold": "keep recordings for a reason until they are released",
    "retention": "what has expired, and who approved its destruction",
    "purge": "destroy what was proposed and approved, and certify it",
    "doctor": "check this host and its configuration",
    "pause": "record nothing of a running call until it is resumed",
    "resume": "go on recording a call that was paused",
    "policy": "see what the rules make of calls",
    "test-call": "place a real call and see it recorded",
}
INTERRUPTED = 130
BROKEN_PIPE = 141


class _Parser(argparse.ArgumentParser):
    """Raises UsageError instead of leaving the process, so that --json holds for wrong usage too."""

    def error(self, message: str) -> NoReturn:
        command = self.prog.removeprefix("recorderctl").strip()
        raise UsageError(f"{command}: {message}" if command else message)


class _CommandParser(_Parser):
    """A command's parser, which imports the command when its name was given."""

    command: str = ""
    module: "Command | None" = None

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        if self.module is None:
            self.module = load_command(self.command)
            self.module.add_arguments(self)
            self.set_defaults(module=self.module)
        return super().parse_known_args(args, namespace)


class SubcommandParser(_Parser):
    """The parser of one thing that a command does; takes the options common to all as well."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _add_common(self, first=False)


def load_command(name: str) -> "Command":
    """Import the module of a command of :data:`COMMANDS`."""
    with libraries.loading():
        return cast("Command", import_module(f"recorderd.tools.cmd_{name.replace('-', '_')}"))


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; a command's own options appear once it is named."""
    parser = _Parser(prog="recorderctl", description="Look at, verify, carry and export recordings.")
    _add_common(parser, first=True)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_CommandParser
    )
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        command.command = name
        _add_common(command, first=False)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, first: bool) -> None:
    """Options that may stand before or after the command; what stands after must not reset what stood
    before."""
    unset = None if first else argparse.SUPPRESS
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", default=unset, help="configuration file")
    parser.add_argument(
        "--spool",
        type=Path,
        metavar="DIR",
        default=unset,
        help="spool folder, instead of the configuration's",
    )
    parser.add_argument(
        "--json", action="store_true", default=False if first else argparse.SUPPRESS, help="answer in JSON"
    )


def run(argv: Sequence[str], stdout: TextIO, stderr: TextIO) -> int:
    """Run one command line; return the exit code. Raises SystemExit for --help only."""
    try:
        arguments = build_parser().parse_args(argv)
        from recorderd.tools.command import Session

        with closing(Session(arguments.config, arguments.spool, arguments.json, stdout, stderr)) as session:
            return int(arguments.module.run(session, arguments))
    except RecorderError as error:
        return report(error, "--json" in argv, stdout, stderr)
    except PermissionError as error:
        return report(SpoolError(f"{error.filename}: permission denied"), "--json" in argv, stdout, stderr)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except OSError as error:
        # Not a disk of ours, which has errors of its own: where the answer goes to is full or closed.
        return report(
            UsageError(f"cannot write the answer: {error.strerror or error}"), False, stderr, stderr
        )


def report(error: RecorderError, as_json: bool, stdout: TextIO, stderr: TextIO) -> int:
    """Tell an error in the one way; return its exit code."""
    if as_json:
        stdout.write(json.dumps({"error": error_json(error)}, indent=2) + "\n")
        return error.exit_code
    from recorderd.wire.printable import printable

    # A configuration has all its errors told at once, one a line.
    for line in str(error).splitlines() or [type(error).__name__]:
        stderr.write(f"recorderctl: {printable(line, limit=2000)}\n")
    if error.hint:
        stderr.write(f"  hint: {error.hint}\n")
    return error.exit_code


def error_json(error: RecorderError) -> dict[str, object]:
    """The JSON face of an error."""
    return {"code": error.exit_code, "kind": type(error).__name__, "message": str(error), "hint": error.hint}


def main() -> None:
    """The entry point of ``recorderctl``."""
    if sys.stdout is None or sys.stderr is None:
        sys.exit(UsageError.exit_code)  # closed by the caller: nobody to tell anything
    libraries.prepare()
    try:
        code = run(sys.argv[1:], sys.stdout, sys.stderr)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = BROKEN_PIPE
    sys.exit(code)


if __name__ == "__main__":
    main()
