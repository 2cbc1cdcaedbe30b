"""What goes wrong is told in one clear line, with a documented exit code, and loses nothing that was good."""

import os
import subprocess
from pathlib import Path

import pytest

from recorderd.errors import (
    CaptureError,
    CaptureFileError,
    ConfigError,
    DiskFull,
    NoSuchRecording,
    SpoolCorrupt,
    SpoolError,
    WrongKey,
)
from tests.commands import configure, run
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript


@pytest.fixture
def capture(tmp_path) -> Path:
    simulator = PbxSimulator(seed=31)
    for number in range(3):
        simulator.add(CallScript(talk_s=5, start_s=10 * number))
    path = tmp_path / "calls.pcap"
    simulator.write(path)
    return path


def lines(text: str) -> list[str]:
    """What was said, hints and log lines apart."""
    return [
        line
        for line in text.splitlines()
        if "hint: " not in line and not line.startswith(("WARNING", "ERROR"))
    ]


def test_a_wrong_configuration_names_file_line_and_key(tmp_path):
    config = configure(
        tmp_path, "capture:\n  sip_ports: [5060, 70000]\nsync:\n  remotes:\n    - name: x\n      type: s4\n"
    )
    for command in ("check-config", "capture", "outbox", "run"):
        answer = run("recorderd", command, "-c", config)
        assert answer.code == ConfigError.exit_code
        assert f"recorderd: {config}:4 capture.sip_ports[1]: " in answer.err
        assert f"recorderd: {config}:8 sync.remotes[0].type: " in answer.err
        assert "Traceback" not in answer.err


def test_a_missing_configuration(tmp_path):
    answer = run("recorderd", "check-config", "-c", tmp_path / "none.yaml")
    assert answer.code == ConfigError.exit_code
    assert len(lines(answer.err)) == 1
    assert "none.yaml" in answer.err


def test_a_recipient_that_is_none(tmp_path):
    config = configure(tmp_path)
    (tmp_path / "listener.key.pub").write_text("ssh-ed25519 AAAA\n")
    answer = run("recorderd", "check-config", "-c", config)
    assert answer.code == ConfigError.exit_code
    assert len(lines(answer.err)) == 1
    assert "listener.key.pub" in answer.err


def test_a_damaged_capture_is_recorded_up_to_the_damage(tmp_path, capture):
    config = configure(tmp_path)
    data = capture.read_bytes()
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(data[: len(data) * 3 // 4])
    answer = run("recorderd", "replay", "-c", config, cut)
    assert answer.code == CaptureFileError.exit_code
    said = [line for line in lines(answer.err) if "cut.pcap" in line]
    assert len(said) == 1
    assert "at byte" in said[0]
    calls = run("recorderctl", "-c", config, "--json", "calls").json
    assert [call["outcome"] for call in calls] == ["complete", "complete", "partial"]


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"not a capture at all, but long enough"])
def test_a_file_that_is_no_capture(tmp_path, content):
    config = configure(tmp_path)
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    answer = run("recorderd", "replay", "-c", config, path)
    assert answer.code == CaptureFileError.exit_code
    assert "Traceback" not in answer.err


def test_a_missing_capture(tmp_path):
    answer = run("recorderd", "replay", "-c", configure(tmp_path), tmp_path / "none.pcap")
    assert answer.code == CaptureFileError.exit_code
    assert lines(answer.err) == [f"recorderd: {tmp_path}/none.pcap: no such file"]


def test_a_wrong_key_opens_nothing(tmp_path, capture):
    config = configure(tmp_path)
    assert run("recorderd", "replay", "-c", config, capture).code == 0
    assert run("recorderctl", "keygen", "-o", tmp_path / "other.key").code == 0
    recording = run("recorderctl", "-c", config, "--json", "list").json[0]["id"]
    out = tmp_path / "out.wav"
    answer = run(
        "recorderctl", "-c", config, "export", recording, "-o", out, "--identity", tmp_path / "other.key"
    )
    assert answer.code == WrongKey.exit_code
    assert len(lines(answer.err)) == 1
    assert recording in answer.err
    assert not out.exists()
    good = run(
        "recorderctl", "-c", config, "export", recording, "-o", out, "--identity", tmp_path / "listener.key"
    )
    assert good.code == 0
    assert out.stat().st_size > 2 * 2 * 8000 * 4


def test_errors_are_json_where_json_was_asked_for(tmp_path, capture):
    config = configure(tmp_path)
    assert run("recorderd", "replay", "-c", config, capture).code == 0
    answer = run("recorderctl", "-c", config, "--json", "show", "20260101T000000Z-0000000000")
    assert answer.code == NoSuchRecording.exit_code
    assert answer.json["error"]["code"] == NoSuchRecording.exit_code
    assert answer.json["error"]["message"]


@pytest.mark.live
@pytest.mark.parametrize("command", ["capture", "run"])
def test_a_missing_interface(tmp_path, command):
    config = configure(tmp_path, "capture: {interfaces: [nosuch0]}\n")
    answer = run("recorderd", command, "-c", config)
    assert answer.code == CaptureError.exit_code
    assert "recorderd: nosuch0: no such interface" in lines(answer.err)
    assert "Traceback" not in answer.err


def test_a_spool_that_another_daemon_has(tmp_path, capture):
    from recorderd.spool.layout import Spool

    config = configure(tmp_path)
    with Spool(tmp_path / "spool").prepare().lock():
        answer = run("recorderd", "replay", "-c", config, capture)
    assert answer.code == SpoolError.exit_code
    assert len(lines(answer.err)) == 1


def test_a_spool_that_is_none(tmp_path):
    answer = run("recorderctl", "--spool", tmp_path / "nothing", "list")
    assert answer.code == SpoolError.exit_code
    assert len(lines(answer.err)) == 1


def test_one_flipped_byte_is_named(tmp_path, capture):
    config = configure(tmp_path)
    assert run("recorderd", "replay", "-c", config, capture).code == 0
    assert run("recorderctl", "-c", config, "verify", "--all").code == 0
    path = sorted((tmp_path / "spool").rglob("*.rec"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    answer = run("recorderctl", "-c", config, "verify", "--all")
    assert answer.code == SpoolCorrupt.exit_code
    assert path.stem in answer.out + answer.err


@pytest.mark.live
def test_a_full_disk_loses_nothing_that_was_sealed(tmp_path, capture):
    """A small file system: what fits is recorded, what does not is told, and room makes it go on."""
    config = configure(tmp_path)
    spool = tmp_path / "spool"
    spool.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", spool], check=True)
    try:
        answer = run("recorderd", "replay", "-c", config, capture)
        assert answer.code == DiskFull.exit_code
        said = [line for line in lines(answer.err) if "is full" in line or "No space" in line]
        assert len(said) == 1
        assert "Traceback" not in answer.err
        sealed = sorted(spool.rglob("*.rec"))
        kept = [path.read_bytes() for path in sealed]
        subprocess.run(["mount", "-o", "remount,size=20m", spool], check=True)
        assert run("recorderd", "replay", "-c", config, capture).code == 0
        assert [path.read_bytes() for path in sealed] == kept
        rows = run("recorderctl", "-c", config, "--json", "list").json
        states = [row["state"] for row in rows]
        assert states.count("sealed") == len(sealed) + 3
        assert "recording" not in states
        assert run("recorderctl", "-c", config, "verify", "--all").code == 0
    finally:
        subprocess.run(["umount", "-l", spool], check=True)


def test_what_peers_send_never_reaches_the_terminal_raw(tmp_path):
    config = configure(tmp_path)
    simulator = PbxSimulator(seed=32)
    simulator.add(CallScript(caller="10\x1b[31m\x07", callee="=cmd|calc", talk_s=2))
    path = tmp_path / "calls.pcap"
    simulator.write(path)
    answer = run("recorderd", "replay", "-c", config, path)
    for command in ("list", "calls"):
        answer = run("recorderctl", "-c", config, command)
        assert answer.code == 0
        assert "\x1b[31m" not in answer.out + answer.err
        assert "\x07" not in answer.out + answer.err
    assert os.listdir(tmp_path / "spool" / "recordings")
