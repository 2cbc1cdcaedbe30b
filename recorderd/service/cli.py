"""The `recorderd` command: the daemon, and what is done with its configuration."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recorderd import __version__, libraries
from recorderd.errors import CaptureFileError, RecorderError
from recorderd.service.daemon import guarded, say, set_up_logging

if TYPE_CHECKING:
    from recorderd.config import Config
    from recorderd.service.archive import SpoolArchive
    from recorderd.service.engine import Engine

DEFAULT_CONFIG = Path("/etc/recorderd/config.yaml")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="recorderd", description="Records every SIP/RTP call of this host.")
    parser.add_argument("--version", action="version", version=f"recorderd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("run", "record and carry, in the foreground"),
        ("capture", "record only: the process with the tap"),
        ("outbox", "carry recordings and alerts only: the process with the network"),
        ("replay", "record the calls of capture files"),
        ("check-config", "check the configuration and say what is wrong with it"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s"
        )
        if name != "check-config":
            command.add_argument(
                "--spool", type=Path, metavar="DIR", help="instead of the configuration's spool.path"
            )
        if name == "replay":
            command.add_argument(
                "files", nargs="+", type=Path, metavar="FILE", help="pcap or pcapng, also gzipped"
            )
            command.add_argument(
                "--stages", type=Path, metavar="OUT", help="write the CPU seconds of each stage, as JSON"
            )
    return parser


def _config(arguments: argparse.Namespace) -> "Config":
    with libraries.loading():
        from recorderd.config import load_config

    config = load_config(arguments.config)
    return config.with_spool(arguments.spool) if arguments.spool else config


def _run(arguments: argparse.Namespace) -> int:
    from recorderd.service.run import run

    _config(arguments)  # wrong: told here once, not by each child
    return run(arguments.config, ["--spool", str(arguments.spool)] if arguments.spool else [])


def _capture(arguments: argparse.Namespace) -> int:
    with libraries.loading():
        from recorderd.service.capture import capture
        from recorderd.service.opening import worker_count
        from recorderd.service.workers import supervise

    libraries.recording()
    config = _config(arguments)
    count = worker_count(config)
    return supervise(config, count, _again(arguments)) if count > 1 else capture(config)


def _again(arguments: argparse.Namespace) -> list[str]:
    """The arguments with which another process reads the same configuration."""
    spool = ["--spool", str(arguments.spool)] if arguments.spool else []
    return [f"--config={arguments.config}", *spool]


def _outbox(arguments: argparse.Namespace) -> int:
    with libraries.loading():
        from recorderd.service.outbox import outbox

    return outbox(_config(arguments))


def _replay(arguments: argparse.Namespace) -> int:
    with libraries.loading():
        from recorderd.service.engine import Engine
        from recorderd.service.opening import engine_settings, open_archive
        from recorderd.service.replay import replay

    libraries.recording()
    config = _config(arguments)
    with open_archive(config) as archive:
        engine = Engine(archive, engine_settings(config, live=False))
        damaged = replay(arguments.files, engine)
        archive.settle()
        say(f"recorderd: {_account(engine, archive, config)}")
        if arguments.stages:
            _write_stages(arguments.stages, engine)
        if archive.trouble is not None:
            raise archive.trouble
    for error in damaged:
        say(f"recorderd: {error}")
    if damaged:
        say(f"recorderd: hint: {CaptureFileError.hint}")
        return CaptureFileError.exit_code
    return 0


def _write_stages(path: Path, engine: "Engine") -> None:
    """What each stage of the way cost. Raises RecorderError where the file cannot be written."""
    try:
        path.write_text(json.dumps(engine.status().get("stages", {})) + "\n")
    except OSError as error:
        raise RecorderError(f"{path}: {error.strerror}") from error


def _account(engine: "Engine", archive: "SpoolArchive", config: "Config") -> str:
    """What a replay came to, and what it did not understand."""
    seen, frames = engine.counters, engine.dissector.counters
    ports = ", ".join(map(str, config.capture.sip_ports))
    account = [f"{seen['calls']} calls seen, {archive.recordings_sealed} recorded into {config.spool.path}"]
    for count, what in (
        (seen["streams_unclaimed"], "RTP streams that no signalling explains"),
        (seen["sip_malformed"], "malformed SIP messages"),
        (frames["truncated"], "packets cut off by the capture"),
        (frames["tcp_holes"], "holes in SIP over TCP"),
        (frames["tcp_tls"], "directions of SIP over TLS, which cannot be read"),
        (
            0 if seen["calls"] else frames["frames"],
            f"packets without a call; SIP is looked for on port {ports}",
        ),
    ):
        if count:
            account.append(f"{count} {what}")
    return "; ".join(account)


def _check_config(arguments: argparse.Namespace) -> int:
    with libraries.loading():
        from recorderd.config import load_config
        from recorderd.service.opening import recipients_of

    recipients_of(load_config(arguments.config))
    print(f"{arguments.config}: good")
    return 0


COMMANDS = {
    "run": _run,
    "capture": _capture,
    "outbox": _outbox,
    "replay": _replay,
    "check-config": _check_config,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    libraries.prepare()
    parsed = _parser().parse_args(arguments)
    set_up_logging()
    return guarded(lambda: COMMANDS[parsed.command](parsed))


if __name__ == "__main__":
    sys.exit(main())
