"""What goes wrong is told in one clear line, with a documented exit code, and loses nothing that was good."""

import os
import shutil
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
    UsageError,
    WrongKey,
)
from tests.commands import COMMANDS, configure, run
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    simulator = PbxSimulator(seed=31)
    for number in range(3):
        simulator.add(CallScript(talk_s=5, start_s=10 * number))
    path = tmp_path_factory.mktemp("capture") / "calls.pcap"
    simulator.write(path)
    return path


@pytest.fixture(scope="module")
def once_recorded(tmp_path_factory, capture) -> tuple[Path, str]:
    """A folder with a configuration, its key and recordings in its spool; the id of one."""
    folder = tmp_path_factory.mktemp("recorded")
    config = configure(folder)
    assert run("recorderd", "replay", "-c", config, capture).code == 0
    return folder, run("recorderctl", "-c", config, "--json", "list").json[0]["id"]


@pytest.fixture
def recorded(tmp_path, once_recorded) -> tuple[Path, str, Path]:
    """A configuration with recordings in its spool, the id of one, and the key that opens it."""
    folder, recording = once_recorded
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path / "config.yaml", recording, tmp_path / "listener.key"


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
    said = [line for line in lines(answer.err) if "none.pcap" in line]
    assert len(said) == 1
    assert "No such file" in said[0]


def test_a_wrong_key_opens_nothing(recorded, tmp_path):
    config, recording, key = recorded
    assert run("recorderctl", "keygen", "-o", tmp_path / "other.key").code == 0
    out = tmp_path / "out.wav"
    answer = run(
        "recorderctl", "-c", config, "export", recording, "-o", out, "--identity", tmp_path / "other.key"
    )
    assert answer.code == WrongKey.exit_code
    assert len(lines(answer.err)) == 1
    assert recording in answer.err
    assert not out.exists()
    good = run("recorderctl", "-c", config, "export", recording, "-o", out, "--identity", key)
    assert good.code == 0
    assert out.stat().st_size > 2 * 2 * 8000 * 4


def test_errors_are_json_where_json_was_asked_for(recorded):
    config, _, _ = recorded
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


def test_one_flipped_byte_is_named(recorded, tmp_path):
    config, _, _ = recorded
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


def test_an_export_never_writes_over_what_is_none(recorded, tmp_path):
    config, recording, key = recorded
    before = key.read_bytes()
    fifo = tmp_path / "fifo.wav"
    os.mkfifo(fifo)
    copy = tmp_path / "copy.key"
    copy.symlink_to(key)
    sealed = next((tmp_path / "spool").rglob("*.rec"))
    for target in ("/dev/full", fifo, key, copy, sealed, tmp_path / "spool" / "x.wav", "-", "", "out.mp3"):
        answer = run("recorderctl", "-c", config, "export", recording, "-o", target, "--identity", key)
        assert answer.code == UsageError.exit_code, target
        assert len(lines(answer.err)) == 1
    assert key.read_bytes() == before
    assert fifo.is_fifo()
    assert Path("/dev/full").is_char_device()
    assert not (tmp_path / "spool" / "x.wav").exists()


def test_an_export_is_its_owners_alone(recorded, tmp_path):
    config, recording, key = recorded
    out = tmp_path / "out.flac"
    answer = run("recorderctl", "-c", config, "export", recording[:20], "-o", out, "--identity", key)
    assert answer.code == 0
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.read_bytes()[:4] == b"fLaC"


def test_a_damaged_recording_exports_what_is_intact_and_says_so(recorded, tmp_path):
    config, recording, key = recorded
    path = next((tmp_path / "spool").rglob(f"{recording}.rec"))
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(data)
    out = tmp_path / "out.wav"
    answer = run("recorderctl", "-c", config, "export", recording, "-o", out, "--identity", key)
    assert answer.code == SpoolCorrupt.exit_code
    assert len(lines(answer.err)) == 1
    assert recording in answer.err
    assert out.stat().st_size > 10_000


def test_a_recording_under_another_name_is_not_exported(recorded, tmp_path):
    config, recording, key = recorded
    other = run("recorderctl", "-c", config, "--json", "list").json[1]["id"]
    for suffix in (".rec", ".json"):
        source = next((tmp_path / "spool").rglob(other + suffix))
        next((tmp_path / "spool").rglob(recording + suffix)).write_bytes(source.read_bytes())
    out = tmp_path / "out.wav"
    answer = run("recorderctl", "-c", config, "export", recording, "-o", out, "--identity", key)
    assert answer.code == SpoolCorrupt.exit_code
    assert not out.exists()


def test_a_remote_must_be_a_second_place(tmp_path):
    config = configure(
        tmp_path,
        "sync:\n  remotes:\n    - {name: a, type: file, path: spool/recordings}\n"
        "    - {name: b, type: file, path: there}\n    - {name: c, type: file, path: there/deeper}\n",
    )
    answer = run("recorderd", "check-config", "-c", config)
    assert answer.code == ConfigError.exit_code
    said = lines(answer.err)
    assert len(said) == 2
    assert f"{config}:5 sync.remotes[0].path: " in said[0]
    assert f"{config}:7 sync.remotes[2].path: " in said[1]


def test_a_missing_recipient_is_named_by_its_key(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("spool: {path: spool}\nencryption:\n  recipients:\n    - nope.pub\n")
    answer = run("recorderd", "check-config", "-c", config)
    assert answer.code == ConfigError.exit_code
    assert lines(answer.err)[0].startswith(f"recorderd: {config}:4 encryption.recipients[0]: ")


def test_a_bad_file_does_not_keep_the_next_from_being_read(tmp_path, capture):
    config = configure(tmp_path)
    bad = tmp_path / "bad.pcap"
    bad.write_bytes(b"nothing of the kind, and long enough")
    answer = run("recorderd", "replay", "-c", config, bad, tmp_path / "none.pcap", capture)
    assert answer.code == CaptureFileError.exit_code
    assert "3 calls seen, 3 recorded" in answer.err
    assert f"{bad}: " in answer.err
    assert "none.pcap: " in answer.err


def test_a_replay_says_what_it_did_not_understand(tmp_path, capture):
    config = configure(tmp_path, "capture: {sip_ports: [5074]}\n")
    answer = run("recorderd", "replay", "-c", config, capture)
    assert answer.code == 0
    assert "0 calls seen" in answer.err
    assert "RTP streams that no signalling explains" in answer.err
    assert "SIP is looked for on port 5074" in answer.err


@pytest.mark.live
def test_what_lies_in_the_current_folder_is_not_run(tmp_path):
    config = configure(tmp_path, "capture: {interfaces: [nosuch0]}\n")
    (tmp_path / "yaml.py").write_text("raise SystemExit('taken over')\n")
    (tmp_path / "recorderd").mkdir()
    answer = run("recorderd", "run", "-c", config, cwd=tmp_path)
    assert answer.code == CaptureError.exit_code
    assert "taken over" not in answer.err


def test_a_full_standard_output(recorded):
    config, _, _ = recorded
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [COMMANDS / "recorderctl", "-c", config, "--json", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == UsageError.exit_code
    assert "Traceback" not in done.stderr
