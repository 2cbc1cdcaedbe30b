"""`make run`: a newcomer's first recording, with nothing configured.

Makes keys and a configuration in a folder of its own, starts the daemon, places a real call between two user
agents on the loopback interface, and shows the call being recorded, sealed, carried to the remote and
verified. Without ``--once`` the daemon then goes on recording this host's calls until Ctrl-C.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recorderd.errors import ChecksFailed
from recorderd.service.control import ask
from recorderd.service.daemon import guarded, say
from recorderd.spool.keys import generate_identity

ROOT = Path(__file__).resolve().parent.parent
READY_S = 30.0
SYNC_S = 60.0

CONFIG = """\
# Written by `make run`: the smallest useful configuration. docs/configuration.md has every key.
site:
  name: {host}
capture:
  interfaces: auto
spool:
  path: spool
encryption:
  recipients: [keys/listener.key.pub]
alerts:
  syslog:
    enabled: {syslog}
sync:
  interval_s: 1
  remotes:
    - name: second-disk
      type: file
      path: remote
"""


def prepare(home: Path) -> Path:
    """Make what is missing: keys, remote and configuration. Returns the configuration file."""
    (home / "keys").mkdir(parents=True, exist_ok=True)
    (home / "remote").mkdir(exist_ok=True)
    identity = home / "keys" / "listener.key"
    if not identity.exists():
        generate_identity(identity)
        say(f"made a key: {identity} opens the recordings; on a real host keep it elsewhere")
    config = home / "config.yaml"
    if not config.exists():
        syslog = str(Path("/dev/log").exists()).lower()
        config.write_text(
            CONFIG.format(host=json.dumps(socket.gethostname()), syslog=syslog), encoding="utf-8"
        )
        say(f"wrote {config}")
    return config


@contextmanager
def daemon(config: Path, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The running daemon; ready inside the block, stopped after it."""
    log = (home / "recorderd.log").open("ab")
    command = [sys.executable, "-P", "-m", "recorderd.service.cli", "run", "-c", str(config)]
    process = subprocess.Popen(command, stderr=log, stdout=log, process_group=0)
    try:
        until = time.monotonic() + READY_S
        while ask(home / "spool" / "control.sock") is None:
            if process.poll() is not None or time.monotonic() > until:
                tail = (home / "recorderd.log").read_text(errors="replace").splitlines()[-5:]
                raise ChecksFailed("the daemon did not start: " + " | ".join(tail))
            time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        log.close()


def control(config: Path, *words: str) -> Any:
    """Run recorderctl with --json; returns its answer. Raises ChecksFailed where it fails."""
    command = [sys.executable, "-P", "-m", "recorderd.tools.cli", "-c", str(config), "--json", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ChecksFailed(
            f"recorderctl {' '.join(words)}: exit code {result.returncode}: {result.stdout}{result.stderr}"
        )
    return json.loads(result.stdout)


def watch_call(config: Path, home: Path, seconds: int) -> None:
    """Place the call, and show what the daemon says while it runs."""
    command = [
        sys.executable,
        "-m",
        "recorderd.tools.cli",
        "-c",
        str(config),
        "test-call",
        "--seconds",
        str(seconds),
    ]
    call = subprocess.Popen(command)
    shown: tuple[Any, ...] | None = None
    while call.poll() is None:
        status = ask(home / "spool" / "control.sock") or {}
        drops = sum(ring["drops"] for ring in status.get("rings", []))
        facts = (status.get("calls"), status.get("recording"), status.get("streams"), drops)
        if facts != shown and status:
            shown = facts
            say(
                "  live: calls {}, recording {}, RTP streams {}, packets dropped by the kernel {}".format(
                    *facts
                )
            )
        time.sleep(0.25)
    if call.returncode:
        raise ChecksFailed(f"the test call failed with exit code {call.returncode}")


def wait_for_sync(config: Path) -> dict[str, Any]:
    """Wait until the newest recording is verified on every remote; returns its row of `list`."""
    until = time.monotonic() + SYNC_S
    row: dict[str, Any] = {}
    while time.monotonic() < until:
        rows = control(config, "list")
        row = rows[-1] if rows else {}
        if (
            row.get("state") == "sealed"
            and row.get("sync")
            and all(r["state"] == "verified" for r in row["sync"])
        ):
            return row
        time.sleep(0.5)
    raise ChecksFailed(f"the recording was not verified on the remote within {SYNC_S:.0f} s: {row}")


def show(config: Path, home: Path, row: dict[str, Any]) -> None:
    """Say what was recorded, that it is whole, and how to listen to it."""
    say(
        f"recorded {row['id']}: {row['from']} -> {row['to']},"
        f" {row['duration_s']:.1f} s, {row['bytes']} bytes, {row['state']}"
    )
    for track in row["tracks"]:
        level, noise = track["speech_level_dbov"], track["noise_dbov"]
        figures = f"speech {level:.1f} dBov" if level is not None else "no speech"
        figures += f", noise {noise:.1f} dBov" if noise is not None else ""
        say(
            f"  {track['label']}: {track['codec']}, {track['packets']} packets,"
            f" {track['lost']} lost, {figures}"
        )
    for remote in row["sync"]:
        say(f"  remote {remote['remote']}: {remote['state']} at {remote['verified_at']}")
    control(config, "verify", row["id"])
    say("  verified: every byte is what was sealed")
    wav = home / "call.wav"
    exported = control(
        config, "export", row["id"], "-o", str(wav), "--identity", str(home / "keys" / "listener.key")
    )
    say(f"listen: {exported[0]['files'][0]} (caller left, callee right)")
    say(f"look around: .venv/bin/recorderctl -c {config} list | show {row['id']} | calls | doctor")


def first_run(home: Path, once: bool, seconds: int) -> int:
    """All of it; returns the exit code."""
    if os.geteuid() != 0:
        raise ChecksFailed("capturing needs root (CAP_NET_RAW): run `sudo make run`")
    if shutil.which("baresip") is None:
        raise ChecksFailed("baresip is missing: run `make setup` as root, or `apt-get install baresip`")
    config = prepare(home)
    with daemon(config, home) as process:
        say("the daemon is recording; placing a call between two agents on the loopback interface")
        watch_call(config, home, seconds)
        show(config, home, wait_for_sync(config))
        if not once:
            say("recording this host's calls now; Ctrl-C stops")
            try:
                return process.wait()
            except KeyboardInterrupt:
                return 0
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="first_run", description="Record a first call.")
    parser.add_argument("--once", action="store_true", help="stop after the call")
    parser.add_argument("--seconds", type=int, default=8, help="length of the call (default: %(default)s)")
    parser.add_argument("--home", type=Path, default=ROOT / "var", help="where keys, spool and remote go")
    parsed = parser.parse_args(arguments)
    return guarded(lambda: first_run(parsed.home, parsed.once, parsed.seconds))


if __name__ == "__main__":
    sys.exit(main())
