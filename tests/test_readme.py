"""A newcomer's way through the README, command by command, on a simulated call."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript

README = (Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = Path(sys.executable).parent


def block(start: str) -> list[list[str]]:
    """The words of each line of the README's shell block whose first line starts so."""
    found = re.search(rf"^```sh\n({re.escape(start)}.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no block that starts with {start}"
    return [shlex.split(line, comments=True) for line in found[1].splitlines()]


def run(words: list[str], folder: Path) -> str:
    program, *rest = words
    done = subprocess.run(
        [str(COMMANDS / program), *rest],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "RECORDERD_PASSPHRASE_FILE": str(folder / "passphrase")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def listener(tmp_path: Path) -> Path:
    """A folder with keys, configuration and a spool that has one call."""
    for words in block("recorderctl keygen"):
        run(words, tmp_path)
    assert (tmp_path / "vault").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "vault.pub").exists()
    text = re.search(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert text
    config = text[1].replace("/var/lib/recorderd", "DIR").replace("/etc/recorderd/", "")
    (tmp_path / "recorderd.yaml").write_text(config)
    check, start = block("recorderd check-config")
    run(check, tmp_path)
    assert start[:2] == ["recorderd", "run"]
    simulator = PbxSimulator(seed=3)
    simulator.add(CallScript(talk_s=5.0))
    simulator.write(tmp_path / "call.pcap")
    run(["recorderd", "replay", *start[2:], "call.pcap"], tmp_path)
    return tmp_path


def test_the_commands_of_the_readme(listener: Path) -> None:
    listing, export, export_all = block("recorderctl --spool DIR list")
    [recording] = json.loads(run([*listing, "--json"], listener))
    assert recording["from"] in run(listing, listener)
    run([recording["id"] if word == "ID" else word for word in export], listener)
    with wave.open(str(listener / "call.wav")) as audio:
        assert audio.getnchannels() == 2
        assert audio.getnframes() >= 4 * audio.getframerate()
    (listener / "folder").mkdir()
    run(export_all, listener)
    assert [file.suffix for file in (listener / "folder").iterdir()] == [".flac"]
    for command in ("recorderctl calls", "recorderctl verify --all"):
        assert f"`{command}`" in README
        run([*shlex.split(command), "--spool", "DIR"], listener)


def test_what_the_readme_says_of_the_life_of_a_recording(listener: Path) -> None:
    (listener / "passphrase").write_text("open sesame\n")
    for words in block("recorderctl retention keygen"):
        run(words, listener)
    (listener / "nas").mkdir()
    _, more = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    more = more.replace("/mnt/nas/recordings", "nas").replace("/etc/recorderd/", "")
    with (listener / "recorderd.yaml").open("a") as config:
        config.write(more)
    [recording] = json.loads(run(["recorderctl", "--spool", "DIR", "list", "--json"], listener))

    def on_the_recorder(words: list[str]) -> str:
        program, *rest = (recording["id"] if word == "ID" else word for word in words)
        return run([program, "-c", "recorderd.yaml", *rest], listener)

    for words in block("recorderctl sync "):
        on_the_recorder(words)
    assert json.loads((listener / "proof.json").read_text())["recording"] == recording["id"]
    # As the daemons do: before the fire the remote has the hold, too.
    for command in ("ledger checkpoint", "sync"):
        on_the_recorder(["recorderctl", *command.split()])
    (listener / "DIR").rename(listener / "burnt")
    (listener / "DIR").mkdir()
    shutil.copy(listener / "burnt/host.key", listener / "DIR")
    for words in block("recorderctl restore --all"):
        on_the_recorder(words)
    [again] = json.loads(run(["recorderctl", "--spool", "DIR", "list", "--json"], listener))
    assert (again["id"], again["sha256"], again["held"]) == (recording["id"], recording["sha256"], True)
