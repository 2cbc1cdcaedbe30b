"""`recorderctl export`: recordings to files that any player opens."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from recorderd.codecs.files import AudioTrack, FileFormat, write_audio, write_tracks
from recorderd.errors import DiskFull, NoSuchRecording, NotOverwritten, SpoolCorrupt, Undecodable, UsageError
from recorderd.spool.durable import disk_error
from recorderd.spool.keys import Identity
from recorderd.spool.reader import COMPLETE, CORRUPT, Recording
from recorderd.tools.command import Session
from recorderd.tools.export_account import ExportAccount, opened_by
from recorderd.tools.identities import add_identity_options, identities_of
from recorderd.tools.listening import Heard, hear, mix, stereo
from recorderd.wire.printable import printable

FORMATS: Final[tuple[FileFormat, ...]] = ("wav", "flac", "opus", "mka")
LAYOUTS: Final = ("stereo", "tracks", "mix")
UNDECODABLE: Final = "undecodable"
"""The status of a recording without a track that can be heard."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="recordings to export")
    parser.add_argument(
        "--all", action="store_true", help="every sealed or recovered recording here; -o is a folder"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a file, or a folder")
    add_identity_options(parser, "a private key; may be repeated")
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="stereo",
        help="stereo: who called left, who was called right; tracks: a file each speaker;"
        " mix: everybody on one channel",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: what OUT ends in, else wav")


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Export; returns 0, or the code of SpoolCorrupt where something is damaged, or else that of Undecodable
    where a recording holds nothing that can be heard.
    """
    if bool(arguments.ids) == arguments.all:
        raise UsageError("export: give recording ids, or --all")
    if not arguments.identity:
        raise UsageError(
            "export: --identity FILE is needed: recordings are sealed, and only a private key opens them"
        )
    ids = [session.find(text) for text in arguments.ids] or [
        row["id"]
        for row in session.index.recordings()
        if row["state"] in ("sealed", "recovered") and row["present"]
    ]
    into_folder = arguments.output.is_dir()
    if not into_folder and (arguments.all or len(ids) > 1):
        raise UsageError(f"export: {arguments.output} must be an existing folder for more than one recording")
    fmt = _format(arguments, into_folder)
    _check_target(session, arguments)
    identities = identities_of(arguments)
    account = ExportAccount(session)
    done = []
    with session.progress("exporting", total=len(ids)) as advance:
        for count, recording_id in enumerate(ids):
            advance(count, description=recording_id)
            target = arguments.output / f"{recording_id}.{fmt}" if into_folder else arguments.output
            try:
                done.append(
                    _export(session, recording_id, target, fmt, arguments.layout, identities, account)
                )
            except (SpoolCorrupt, NoSuchRecording, Undecodable) as error:
                if len(ids) == 1:
                    raise
                # One that cannot be heard keeps nobody from the others.
                status = UNDECODABLE if isinstance(error, Undecodable) else CORRUPT
                problems = [str(error)]
                done.append(
                    {"id": recording_id, "status": status, "problems": problems, "files": [], "ledger": None}
                )
                session.stderr.write(f"recorderctl: {printable(str(error), limit=2000)}\n")
    damaged = [entry["id"] for entry in done if entry["status"] == CORRUPT]
    _tell(session, done)
    if damaged:
        names = printable(", ".join(damaged), limit=2000)
        session.stderr.write(f"recorderctl: damaged, only what is intact was exported: {names}\n")
        return SpoolCorrupt.exit_code
    return Undecodable.exit_code if any(entry["status"] == UNDECODABLE for entry in done) else 0


def _tell(session: Session, done: Sequence[dict[str, Any]]) -> None:
    if session.json:
        session.emit(done)
        return
    if not done:
        session.say("nothing to export: no sealed or recovered recordings here")
    for entry in done:
        for path in entry["files"]:
            session.say(path if entry["status"] == COMPLETE else f"{path}  ({entry['status']})")


def _format(arguments: argparse.Namespace, into_folder: bool) -> FileFormat:
    """The format asked for, by option or by what OUT ends in; the two must not differ."""
    chosen: FileFormat | None = arguments.format
    ending = "" if into_folder else arguments.output.suffix.lower().lstrip(".")
    named = next((known for known in FORMATS if known == ending), None)
    if ending and (named is None if chosen is None else chosen != named):
        raise UsageError(f"export: {arguments.output} ends in .{ending}; known are: {', '.join(FORMATS)}")
    return chosen or named or "wav"


def _check_target(session: Session, arguments: argparse.Namespace) -> None:
    """Never write over what is no earlier export: devices, keys, the spool itself."""
    target: Path = arguments.output
    if str(target) in ("-", "."):
        raise UsageError("export: -o wants a file or an existing folder; standard output is none")
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise UsageError(f"export: {target} is no regular file")
    real = target.resolve()
    if any(real == identity.resolve() for identity in arguments.identity):
        raise NotOverwritten(f"export: {target} is the identity; a key is never overwritten")
    if real.is_relative_to(session.spool.path.resolve()):
        raise NotOverwritten(f"export: {target} lies in the spool; recordings are never overwritten")


def _export(
    session: Session,
    recording_id: str,
    target: Path,
    fmt: FileFormat,
    layout: str,
    identities: Sequence[Identity],
    account: ExportAccount,
) -> dict[str, Any]:
    path = session.locate(recording_id)
    with Recording.open(path, identities) as recording:
        if recording.id != recording_id:
            raise SpoolCorrupt(f"{recording_id}: the file holds another recording, {recording.id}")
        heard = hear(recording)
        status, problems = recording.status, recording.problems
        key = opened_by(path, recording.header, identities)
    if not heard.tracks:
        raise SpoolCorrupt(f"{recording_id}: holds no audio ({status})")
    unheard = _unheard(session, recording_id, heard)
    how = {"layout": layout, "format": fmt, "key": key, "file": target.name}
    entered = account.enter(recording_id, how)
    try:
        files = _write(heard, target, fmt, layout, {"title": recording_id})
    except OSError as error:
        failure = disk_error(error, target)
        raise (
            failure if isinstance(failure, DiskFull) else UsageError(f"{target}: {error.strerror}")
        ) from None
    return {
        "id": recording_id,
        "status": status,
        "problems": list(problems),
        "files": [str(path) for path in files],
        "tracks": list(heard.tracks),
        "sample_rate": heard.rate(),
        "undecodable": unheard,
        "ledger": entered,
    }


def _unheard(session: Session, recording_id: str, heard: Heard) -> dict[str, list[str]]:
    """The codecs of each track that cannot be decoded, told to the user as well.

    Raises Undecodable where there is nothing else: a file of silence would look like a recording of it.
    """
    unheard: dict[str, list[str]] = {}
    for label, track in heard.tracks.items():
        names = [known.name for known in track.undecodable()]
        if names or not track.formats():
            unheard[label] = names or ["an unknown codec"]
    texts = [f"{label}: {', '.join(names)} cannot be decoded here" for label, names in unheard.items()]
    if all(track.formats() == track.undecodable() for track in heard.tracks.values()):
        raise Undecodable(f"{recording_id}: {'; '.join(texts)}")
    for text in texts:
        session.stderr.write(f"recorderctl: {recording_id}: {printable(text)}; that part is silent\n")
    return unheard


def _write(heard: Heard, target: Path, fmt: FileFormat, layout: str, tags: dict[str, str]) -> list[Path]:
    if layout == "tracks":
        files = []
        for label, track in heard.tracks.items():
            path = target.with_name(f"{target.stem}-{label}{target.suffix or '.' + fmt}")
            channels = 2 if track.stereo() else 1
            blocks = track.blocks(heard.start_us, track.rate(), channels)
            write_audio(path, fmt, track.rate(), blocks, tags={**tags, "artist": label})
            files.append(path)
        return files
    if fmt == "mka" and layout == "stereo":
        # Matroska keeps any number of tracks: each speaker on one of their own, nothing resampled.
        tracks = [
            AudioTrack(label, track.rate(), track.blocks(heard.start_us, track.rate()))
            for label, track in heard.tracks.items()
        ]
        write_tracks(target, tracks, tags=tags)
        return [target]
    rate = heard.rate()
    write_audio(target, fmt, rate, (stereo if layout == "stereo" else mix)(heard, rate), tags=tags)
    return [target]
