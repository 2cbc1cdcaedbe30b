"""`recorderctl export`: recordings to files that any player opens."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from recorderd.codecs.files import AudioTrack, FileFormat, write_audio, write_tracks
from recorderd.errors import DiskFull, SpoolCorrupt, UsageError
from recorderd.spool.durable import disk_error
from recorderd.spool.keys import Identity, load_identities
from recorderd.spool.reader import Recording
from recorderd.tools.command import Session
from recorderd.tools.listening import Heard, hear, mix, stereo

FORMATS: Final[tuple[FileFormat, ...]] = ("wav", "flac", "opus", "mka")
LAYOUTS: Final = ("stereo", "tracks", "mix")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="recordings to export")
    parser.add_argument(
        "--all", action="store_true", help="every sealed or recovered recording; -o is a folder"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a file, or a folder")
    parser.add_argument(
        "--identity",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a private key; may be repeated",
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="stereo",
        help="stereo: caller left, callee right; tracks: a file each speaker; mix: everybody on one channel",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: what OUT ends in, else wav")


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Export; returns 0."""
    if bool(arguments.ids) == arguments.all:
        raise UsageError("export: give recording ids, or --all")
    if not arguments.identity:
        raise UsageError(
            "export: --identity FILE is needed: recordings are sealed, and only a private key opens them"
        )
    ids = arguments.ids or [row["id"] for row in session.index.recordings() if row["state"] != "recording"]
    into_folder = arguments.output.is_dir()
    if not into_folder and (arguments.all or len(ids) > 1):
        raise UsageError(f"export: {arguments.output} must be an existing folder for more than one recording")
    identities = load_identities(arguments.identity)
    fmt = _format(arguments)
    done = []
    with session.progress("exporting", total=len(ids)) as advance:
        for count, recording_id in enumerate(ids):
            advance(count, description=recording_id)
            target = arguments.output / f"{recording_id}.{fmt}" if into_folder else arguments.output
            done.append(_export(session, recording_id, target, fmt, arguments.layout, identities))
    if session.json:
        session.emit(done)
    else:
        for entry in done:
            for path in entry["files"]:
                note = "" if entry["status"] == "complete" else f"  ({entry['status']})"
                session.say(f"{path}{note}")
    return 0


def _format(arguments: argparse.Namespace) -> FileFormat:
    chosen: FileFormat | None = arguments.format
    if chosen is not None:
        return chosen
    ending = arguments.output.suffix.lower().lstrip(".")
    return next((known for known in FORMATS if known == ending), "wav")


def _export(
    session: Session,
    recording_id: str,
    target: Path,
    fmt: FileFormat,
    layout: str,
    identities: Sequence[Identity],
) -> dict[str, Any]:
    with Recording.open(session.spool.locate(recording_id), identities) as recording:
        heard = hear(recording)
        status = recording.status
    if not heard.tracks:
        raise SpoolCorrupt(f"{recording_id}: holds no audio ({status})")
    tags = {"title": recording_id}
    try:
        files = _write(heard, target, fmt, layout, tags)
    except OSError as error:
        failure = disk_error(error, target)
        raise (
            failure if isinstance(failure, DiskFull) else UsageError(f"{target}: {error.strerror}")
        ) from None
    return {
        "id": recording_id,
        "status": status,
        "files": [str(path) for path in files],
        "tracks": list(heard.tracks),
        "sample_rate": heard.rate(),
    }


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
