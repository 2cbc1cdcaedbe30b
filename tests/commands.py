"""Runs the installed commands as a user does."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorderd.spool.keys import generate_identity

COMMANDS = Path(sys.executable).parent


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(command: str, *words: str | Path, timeout: float = 60, cwd: Path | None = None) -> Answer:
    """Run `recorderd` or `recorderctl` to its end."""
    done = subprocess.run(
        [COMMANDS / command, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def configure(folder: Path, text: str = "") -> Path:
    """Keys and a configuration in ``folder``: a spool, and what ``text`` adds."""
    if not (folder / "listener.key").exists():
        generate_identity(folder / "listener.key")
    config = folder / "config.yaml"
    config.write_text(f"spool: {{path: spool}}\nencryption: {{recipients: [listener.key.pub]}}\n{text}")
    return config
