"""What the commands load at their start: a short call of them costs little more than Python itself."""

import json
import struct
import subprocess
import sys

import pytest

from tests.commands import configure
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript
from tests.spool_builder import make_desk

# Little-endian pcap of Ethernet frames, without one.
EMPTY = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
NEVER = {"av", "rich", "sqlite_utils", "asyncio", "webrtcvad", "pytest"}
UNCONFIGURED = {"recorderd.config.faults", "recorderd.config.remotes"}
NUMERIC = {"numpy", "cryptography", "pydantic", "yaml"}


def modules_of(program: str, *words: object) -> set[str]:
    """The modules that a command has loaded when it is through."""
    code = (
        f"import json, sys; from {program} import main\n"
        "try: code = main()\n"
        "except SystemExit as left: code = left.code\n"
        "assert not code, code\n"
        "print(json.dumps([*sys.modules]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_a_replay_loads_only_what_it_takes(tmp_path):
    capture = tmp_path / "empty.pcap"
    capture.write_bytes(EMPTY)
    loaded = modules_of("recorderd.service.cli", "replay", capture, "-c", configure(tmp_path))
    assert "numpy" in loaded
    assert not loaded & (NEVER | UNCONFIGURED)


def test_a_call_in_g711_loads_no_library_of_codecs(tmp_path):
    simulator = PbxSimulator(seed=1)
    simulator.add(CallScript(talk_s=3))
    capture = simulator.write(tmp_path / "call.pcap")
    loaded = modules_of("recorderd.service.cli", "replay", capture, "-c", configure(tmp_path))
    assert "numpy" in loaded
    assert not loaded & NEVER


@pytest.mark.parametrize("words", [["list"], ["list", "--number", "10"], ["calls"]])
def test_lists_in_json_load_no_heavy_library(tmp_path, words):
    desk = make_desk(tmp_path)
    from recorderd.spool.index import Index

    with Index.open(desk.spool) as index:
        desk.enter(index, desk.record())
    loaded = modules_of("recorderd.tools.cli", "--spool", desk.spool.path, "--json", *words)
    assert "sqlite3" in loaded
    assert not loaded & (NEVER | NUMERIC)


def test_only_the_sections_of_a_file_get_validators(tmp_path):
    code = (
        "import sys; from pathlib import Path; from recorderd.config import load_config\n"
        "config = load_config(Path(sys.argv[1]))\n"
        "print(*(name for name in type(config).model_fields if getattr(config, name).__pydantic_complete__))"
    )
    file = configure(tmp_path, "capture: {grace_ms: 100}\n")
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["capture", "spool", "encryption"]


def test_a_host_without_libopus_is_told_before_anything_is_recorded(tmp_path):
    capture = tmp_path / "empty.pcap"
    capture.write_bytes(EMPTY)
    # Neither ldconfig nor the usual places have it.
    code = "import ctypes.util, platform, sys; ctypes.util.find_library = lambda name: None\n"
    code += "platform.system = lambda: ''\n"
    code += "from recorderd.service.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "replay", capture, "-c", configure(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "apt install libopus0" in done.stderr
