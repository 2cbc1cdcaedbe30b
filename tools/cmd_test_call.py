"""`recorderctl test-call`: places a real call between two user agents of this host and sees whether it was
recorded.

The running daemon sees it as it sees any other call: SIP and RTP on the loopback interface.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from recorderd.errors import ChecksFailed, UsageError
from recorderd.service.control import ask
from recorderd.tools import agents, agents_pjsua2
from recorderd.tools.agents import HOST, CallReport, Codec, is_free
from recorderd.tools.command import Session
from recorderd.tools.speech import make_voices
from recorderd.tools.terminal import Advance

DEFAULT_PORT: Final = 5060
SEALED_WITHIN_S: Final = 20.0
POLL_S: Final = 0.2
PACKETS_A_SECOND: Final = 50
ENOUGH: Final = 0.8
QUIETEST_DBOV: Final = -45.0

AGENTS: Final = {"baresip": agents.place_call, "pjsua2": agents_pjsua2.place_call}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was found."""

    check: str
    good: bool
    found: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--seconds", type=_seconds, default=8.0, help="how long the two talk (default: %(default)s)"
    )
    parser.add_argument(
        "--codec", choices=("pcmu", "pcma", "opus"), default="pcmu", help="default: %(default)s"
    )
    parser.add_argument(
        "--agent", choices=tuple(AGENTS), default="baresip", help="whose user agents (default: %(default)s)"
    )
    parser.add_argument(
        "--sip-port",
        type=int,
        metavar="PORT",
        help="the port to call, one that the daemon watches; the first such that is free if not given",
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 1 <= value <= 3600):
        raise argparse.ArgumentTypeError("must be from 1 to 3600")
    return value


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Place the call, wait for its recording, check it; exit code 3 where something is not as it should
    be."""
    port = _port(session, arguments.sip_port)
    _daemon_must_answer(session)
    codec: Codec = arguments.codec
    with tempfile.TemporaryDirectory(prefix="test-call-") as folder, session.index:
        voices = make_voices(Path(folder))
        live: list[str] = []
        with session.progress("calling", total=arguments.seconds) as advance:
            report = AGENTS[arguments.agent](
                arguments.seconds,
                voices.caller,
                voices.callee,
                codec,
                sip_port=port,
                while_talking=_watcher(session, live, advance),
            )
        recording = _sealed(session, report) if report.answered else None
    checks = [
        Check("call", report.answered, _call_found(report, port)),
        *_recording_checks(report, recording, codec),
    ]
    if live:
        checks.insert(1, Check("live", True, f"{live[0]} was in the list while the two talked"))
    good = all(check.good for check in checks)
    answer: dict[str, Any] = {
        "good": good,
        "call_id": report.call_id,
        "seconds": round(report.seconds, 3),
        "codec": codec,
        "sip_port": port,
        "spoken": voices.spoken,
        "recording": recording["id"] if recording else None,
        "checks": [asdict(check) for check in checks],
    }
    if session.json:
        session.emit(answer)
    else:
        _tell(session, answer, checks, None if report.answered else report.log)
    return 0 if good else ChecksFailed.exit_code


def _tell(session: Session, answer: dict[str, Any], checks: list[Check], log: str | None) -> None:
    if not answer["spoken"]:
        session.say("espeak-ng is not installed: the two ends speak generated syllables")
    for check in checks:
        session.say(f"{'good' if check.good else 'BAD ':4}  {check.check}: {check.found}")
    if log is not None:
        session.say("the agents said:")
        for line in log.splitlines():
            session.say(f"  {line}")


def _port(session: Session, asked: int | None) -> int:
    """The port to call: asked for, or the first watched one that nothing else uses."""
    watched: tuple[int, ...] = (DEFAULT_PORT,)
    if session.config_path is not None or session.spool_path is None:
        capture = session.config.capture
        watched = tuple(capture.sip_ports)
        if capture.interfaces != "auto" and "lo" not in capture.interfaces:
            raise ChecksFailed("capture.interfaces does not name lo, where a test call takes place")
    ports = watched if asked is None else (asked,)
    if asked is not None and session.config_path is not None and asked not in watched:
        raise UsageError(f"--sip-port {asked}: the daemon watches {', '.join(map(str, watched))}")
    for port in ports:
        if is_free(port):
            return port
    numbers = ", ".join(map(str, ports))
    raise ChecksFailed(
        f"port {numbers} of {HOST} is in use; name a free one in capture.sip_ports (or give --sip-port)"
    )


def _daemon_must_answer(session: Session) -> None:
    path = (
        session.config.control_socket if session.spool_path is None else session.spool_path / "control.sock"
    )
    if ask(path) is None:
        raise ChecksFailed(f"no running recorderd answers at {path}")


def _watcher(session: Session, live: list[str], advance: Advance) -> Callable[[str | None, float], None]:
    """Tells the progress, and notes the recording's id once the index lists the running call."""

    def watch(call_id: str | None, seconds: float) -> None:
        advance(seconds)
        if not live and call_id is not None:
            live.extend(found["id"] for found in session.index.recordings(call_id=call_id))

    return watch


def _sealed(session: Session, report: CallReport) -> dict[str, Any] | None:
    """The call's recording once it is sealed, or as it is when the time is up; None where there is none."""
    deadline = time.monotonic() + SEALED_WITHIN_S
    while True:
        found = session.index.recordings(call_id=report.call_id) if report.call_id else []
        recording = found[-1] if found else None
        if (recording and recording["state"] != "recording") or time.monotonic() > deadline:
            return recording
        time.sleep(POLL_S)


def _call_found(report: CallReport, port: int) -> str:
    if report.answered:
        return f"answered on {HOST}:{port}, up for {report.seconds:.1f} s"
    return f"not answered on {HOST}:{port}"


def _recording_checks(report: CallReport, recording: dict[str, Any] | None, codec: str) -> list[Check]:
    if not report.answered:
        return []
    if recording is None:
        return [Check("recording", False, f"none of the call {report.call_id} in the spool")]
    state = f"{recording['id']} is {recording['state']}"
    checks = [Check("recording", recording["state"] == "sealed", state)]
    tracks = {track["label"]: track for track in recording["tracks"]}
    for label in ("caller", "callee"):
        if label in tracks:
            checks.append(_track_check(label, tracks[label], report.seconds, codec))
        else:
            checks.append(Check(label, False, "no track"))
    return checks


def _track_check(label: str, track: dict[str, Any], seconds: float, codec: str) -> Check:
    """Enough packets, none lost, the right codec, and speech in it."""
    level = track["speech_level_dbov"]
    good = (
        track["packets"] >= seconds * PACKETS_A_SECOND * ENOUGH
        and track["lost"] == 0
        and track["codec"] == codec
        and level is not None
        and level > QUIETEST_DBOV
    )
    heard = "no speech" if level is None else f"speech at {level:.1f} dBov"
    return Check(label, good, f"{track['codec']}, {track['packets']} packets, {track['lost']} lost, {heard}")
