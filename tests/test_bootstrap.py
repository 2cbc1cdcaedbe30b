"""tools/bootstrap.sh on machines that lack things: on a made-up PATH, with a made-up apt-get."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "tools/bootstrap.sh"
NEEDED_BY_RUN = ["baresip", "espeak-ng", "sox", "ip"]


@dataclass
class Machine:
    """A PATH with a few programs on it."""

    programs: Path

    def add(self, name: str, script: str = "exit 0") -> None:
        program = self.programs / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def bootstrap(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT), *arguments],
            env={"PATH": str(self.programs), "PYTHON": "python3"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    it = Machine(tmp_path)
    for name in ("sh", "dirname"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    it.add("id", "echo 1000")
    it.add("python3")
    # Whatever /usr/sbin of this machine has stays visible to the script.
    for name in NEEDED_BY_RUN[:-1]:
        it.add(name)
    it.add("ip")
    return it


def test_with_everything_there_it_says_nothing(machine: Machine) -> None:
    done = machine.bootstrap("recorder", "run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_root_it_tells_the_command_and_stops(machine: Machine) -> None:
    (machine.programs / "baresip").unlink()
    (machine.programs / "sox").unlink()
    done = machine.bootstrap("recorder", "run")
    assert done.returncode == 1
    assert done.stderr == (
        "Some programs are missing. As root, run:\n  apt-get install -y --no-install-recommends baresip sox\n"
    )


def test_a_python_without_venv_or_a_missing_library_is_noticed(machine: Machine) -> None:
    machine.add("python3", 'case "$2" in *venv*|*ctypes*) exit 1 ;; esac')
    done = machine.bootstrap("recorder")
    assert done.returncode == 1
    assert done.stderr.endswith("--no-install-recommends python3-venv libopus0\n")


APT = """
echo "$DEBIAN_FRONTEND $*" >>"$0.log"
case $1 in
update) : >"$0.lists" ;;
install) [ -e "$0.lists" ] && echo '#!/bin/sh' >"{programs}/baresip" ;;
esac
"""


def test_as_root_it_installs_and_updates_the_lists_only_when_that_fails(machine: Machine) -> None:
    machine.add("id", "echo 0")
    machine.add("apt-get", APT.format(programs=machine.programs))
    (machine.programs / "baresip").unlink()
    done = machine.bootstrap("recorder", "run")
    assert done.returncode == 0, done.stderr
    install = "noninteractive install -y -q --no-install-recommends baresip"
    log = (machine.programs / "apt-get.log").read_text().splitlines()
    assert log == [install, " update -q", install]
    (machine.programs / "baresip").unlink()
    assert machine.bootstrap("run").returncode == 0
    assert (machine.programs / "apt-get.log").read_text().splitlines() == [*log, install]


def test_as_root_it_says_what_could_not_be_installed(machine: Machine) -> None:
    machine.add("id", "echo 0")
    machine.add("apt-get", "exit 100")
    machine.add("sleep")
    (machine.programs / "baresip").unlink()
    done = machine.bootstrap("run")
    assert done.returncode == 1
    assert done.stderr == "apt-get could not install: baresip\n"


def test_an_old_python_is_refused(machine: Machine) -> None:
    machine.add(
        "python3", 'case "$2" in *version_info*) exit 1 ;; -V) ;; esac; [ "$1" != -V ] || echo Python 3.9'
    )
    done = machine.bootstrap("venv")
    assert done.returncode == 1
    assert "3.11 or newer is needed" in done.stderr


def test_an_unknown_word_is_refused(machine: Machine) -> None:
    done = machine.bootstrap("everything")
    assert (done.returncode, done.stderr) == (2, "bootstrap.sh: unknown: everything\n")


def test_what_is_only_wished_for_stops_nothing(machine: Machine) -> None:
    """What this machine has in /usr/sbin is seen, what it has in /usr/bin is not."""
    machine.add("ls", "exit 2")
    done = machine.bootstrap("recorder", "run", "sbc")
    assert done.returncode == 0
    assert done.stderr.startswith("Some tests are skipped without:")
    assert "kamailio-tls-modules" in done.stderr


def test_servers_that_tests_wish_for_are_not_started(machine: Machine) -> None:
    machine.add("id", "echo 0")
    machine.add("ls", "exit 2")
    machine.add("apt-get", f'echo "$1 $6 $7" >>{machine.programs}/log')
    machine.add("systemctl", f'echo "$*" >>{machine.programs}/log')
    done = machine.bootstrap("sbc")
    assert (done.returncode, done.stderr) == (0, "")
    *masked, installed = (machine.programs / "log").read_text().splitlines()
    assert "mask --quiet rtpengine-daemon.service" in masked
    assert installed.startswith("install ")
