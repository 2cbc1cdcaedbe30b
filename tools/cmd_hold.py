"""`recorderctl hold`: keep recordings for a reason, whatever their period says, until they are released."""

import argparse
import getpass
import time
from typing import Any

from recorderd.errors import NoSuchRecording, UsageError
from recorderd.spool.holds import new_matter, number_subject, place, release
from recorderd.spool.index import Index
from recorderd.spool.index_holds import NUMBER
from recorderd.spool.ledger_keeping import ledger_of
from recorderd.tools.command import Session
from recorderd.tools.texts import clock, since_until


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="recordings, by id or its first letters")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--release", action="store_true", help="let them go, or a whole matter")
    what.add_argument("--list", action="store_true", help="what is held, for what")
    parser.add_argument("--number", metavar="TEXT", help="all recordings in which this number took part")
    parser.add_argument("--since", metavar="TIME", help="with --number: from this time on (UTC)")
    parser.add_argument("--until", metavar="TIME", help="with --number: before this time (UTC)")
    parser.add_argument(
        "--future", action="store_true", help="with --number: those that are yet to be made, too"
    )
    parser.add_argument("--matter", metavar="NAME", help="the case it is for; made up where it is not given")
    parser.add_argument("--reason", metavar="TEXT", help="why; goes into the ledger")
    parser.add_argument("--by", metavar="NAME", help="who asked for it; the user where it is not given")
    parser.add_argument("--all", action="store_true", help="with --list: those that were released, too")


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Place, release or list; returns 0. Raises UsageError, and NoSuchRecording where a number has none."""
    if arguments.list:
        return _list(session, arguments.all)
    if not arguments.reason or len(arguments.reason) > 1000:
        raise UsageError("hold: give --reason, of 1 to 1000 characters")
    if not (arguments.ids or arguments.number or (arguments.release and arguments.matter)):
        raise UsageError("hold: give recording ids, or --number, or --release with --matter")
    if arguments.future and not arguments.number:
        raise UsageError("hold: --future goes with --number")
    by = arguments.by or f"user {getpass.getuser()}"
    now = time.time_ns() // 1000
    ids = [session.find(text) for text in arguments.ids]
    index, ledger = session.index_to_write, ledger_of(session.spool)
    subjects = ids + _by_number(session, index, arguments)
    if arguments.release:
        chosen = subjects if ids or arguments.number else None
        done = release(index, ledger, chosen, arguments.matter, arguments.reason, by, now)
        matters = {hold["matter"] for hold in index.holds(all_of_them=True)}
        if not done and arguments.matter and arguments.matter not in matters:
            raise UsageError(f"hold: nothing was ever held for {arguments.matter!r}; see `hold --list --all`")
        return _tell(session, "released", done, arguments.matter)
    if not subjects:
        raise NoSuchRecording(f"nothing is held: {arguments.number!r} took part in no recording here")
    matter = arguments.matter or new_matter(now)
    done = place(index, ledger, subjects, matter, arguments.reason, by, now)
    return _tell(session, "held", done, matter)


def _by_number(session: Session, index: Index, arguments: argparse.Namespace) -> list[str]:
    """What a number took part in; where numbers are masked, by what is left of it, which may be others',
    too."""
    if not arguments.number:
        return []
    since, until = since_until(arguments)
    numbers = {arguments.number}
    if session.spool_path is None or session.config_path is not None:
        masks = session.config.privacy.mask_numbers.masks()
        numbers |= {masks.number(arguments.number)} if masks.manifest else set()
    found = [each for number in sorted(numbers) for each in index.concerned(number, since=since, until=until)]
    standing = [number_subject(number) for number in sorted(numbers)]
    if not arguments.release:
        return [*dict.fromkeys(found), *(standing if arguments.future else [])]
    held = {hold["recording"] for hold in index.holds()}
    return [each for each in dict.fromkeys([*standing, *found]) if each in held]


def _tell(session: Session, word: str, done: list[str], matter: str | None) -> int:
    recordings = [each for each in done if not each.startswith(NUMBER)]
    numbers = [each.removeprefix(NUMBER) for each in done if each.startswith(NUMBER)]
    if session.json:
        session.emit({word: recordings, "numbers": numbers, "matter": matter})
        return 0
    about = f"  matter {matter}" if matter else ""
    session.say(f"{len(recordings)} recordings {word}{about}")
    for number in numbers:
        session.say(f"from now on {word}: whatever {number} takes part in")
    return 0


def _list(session: Session, all_of_them: bool) -> int:
    holds = session.index.holds(all_of_them=all_of_them)
    if session.json:
        session.emit(holds)
        return 0
    if not holds:
        session.say("nothing is held")
        return 0
    columns = ("RECORDING OR NUMBER", "MATTER", "REASON", "BY", "SINCE", "RELEASED", "BY")
    session.table(columns, [_row(hold) for hold in holds])
    return 0


def _row(hold: dict[str, Any]) -> list[object]:
    subject = hold["recording"].replace(NUMBER, "number ", 1)
    times = clock(hold["placed_at"]), clock(hold["released_at"])
    return [subject, hold["matter"], hold["reason"], hold["by"], times[0], times[1], hold["released_by"]]
