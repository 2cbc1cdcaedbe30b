"""A Debian 12 with a real systemd, in a container that the test makes, boots and throws away.

Needs root, mmdebstrap and systemd-nspawn. The machine has no network but a loopback and what the test adds.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CACHE = ROOT / "var/system/debian-12.tar"
PACKAGES = "systemd,systemd-sysv,dbus,make,python3,python3-venv,libopus0,iproute2,util-linux"
SOURCES = "/usr/src/recorderd"


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Poll until ``true`` or fail."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(0.1)


def run(*command: str | Path, check: bool = True) -> str:
    """Run a command of the host; its output."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0 or not check, (
        f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    )
    return done.stdout


class Machine:
    """The container, first as a folder, then running."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._log = folder / "console.log"
        self._leader = 0

    def debootstrap(self) -> None:
        """Unpack a minimal Debian; made once and kept in ``var/``."""
        if not CACHE.exists():
            CACHE.parent.mkdir(parents=True, exist_ok=True)
            partial = CACHE.with_suffix(".partial.tar")
            run("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", partial)
            partial.rename(CACHE)
        self.root.mkdir()
        run("tar", "-x", "-C", self.root, "-f", CACHE)
        # Empty: systemd fills it at the first boot.
        (self.root / "etc/machine-id").write_text("")

    def install(self) -> str:
        """Copy the sources and their wheels in, and run ``make install`` there; its output."""
        sources = self.root / SOURCES.lstrip("/")
        sources.mkdir(parents=True)
        excluded = ["--exclude=./.venv", "--exclude=./.git", "--exclude=./var", "--exclude=./build"]
        archive = self.root / "sources.tar"
        run("tar", "-c", "-C", ROOT, *excluded, "-f", archive, ".")
        run("tar", "-x", "-C", sources, "-f", archive)
        archive.unlink()
        wheels = self.root / "wheels"
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheels)]
        run(*pip, str(sources), "setuptools>=68", "wheel")
        return run(
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--pipe",
            "--directory",
            self.root,
            "--setenv=PIP_NO_INDEX=1",
            "--setenv=PIP_FIND_LINKS=/wheels",
            *("make", "-C", SOURCES, "install"),
        )

    @contextlib.contextmanager
    def booted(self) -> Iterator[None]:
        """Boot; power off at the end."""
        with self._log.open("wb") as log:
            nspawn = subprocess.Popen(
                [
                    "systemd-nspawn",
                    "--boot",
                    "--register=no",
                    "--keep-unit",
                    "--private-network",
                    "--console=pipe",
                    "--directory",
                    str(self.root),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
            wait_until(lambda: bool(children.read_text().split()), "the container's first process")
            self._leader = int(children.read_text().split()[0])
            wait_until(self._is_up, "systemd")
            yield
        finally:
            self.run("systemctl", "poweroff", check=False)
            try:
                nspawn.wait(30)
            except subprocess.TimeoutExpired:
                nspawn.kill()
                nspawn.wait()

    def _is_up(self) -> bool:
        return self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded")

    def command(self, *words: str) -> list[str]:
        """Return the host's command that runs ``words`` in the running machine."""
        return ["nsenter", "--target", str(self._leader), "--all", *words]

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command in the running machine; its output."""
        return run(*self.command(*words), check=check)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a unit."""
        wanted = [f"--property={name}" for name in properties]
        lines = self.run("systemctl", "show", *wanted, unit).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def journal(self, unit: str) -> str:
        """What the unit's processes said."""
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit)


def missing() -> str:
    """Why no machine can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "needs root"
    absent = [name for name in ("mmdebstrap", "systemd-nspawn", "nsenter") if not shutil.which(name)]
    return f"needs {', '.join(absent)}" if absent else ""
