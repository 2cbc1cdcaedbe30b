"""`recorderctl test-call`: what it refuses, and how it judges a recording. (A real call: tests/live.)"""

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recorderd.service.control import ControlSocket
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.tools import cmd_test_call
from recorderd.tools.agents import HOST, CallReport
from recorderd.tools.cli import run

CALL_ID = "abc@127.0.0.1"
TRACK = {
    "label": "caller", "codec": "pcmu", "sample_rate": 8000, "packets": 400, "lost": 0, "late": 0,
    "duplicates": 0, "duration_s": 8.0, "speech_level_dbov": -20.0, "noise_dbov": -60.0, "mos": 4.4,
    "gaps": [],
}  # fmt: skip


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    Spool(path).prepare()
    with Index.open(Spool(path)):
        return path


@pytest.fixture
def sip_port() -> Iterator[int]:
    """A port that is in use."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        yield taken.getsockname()[1]


def config(folder: Path, spool: Path, capture: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    document = {"capture": capture, "spool": {"path": str(spool)}, "encryption": {"recipients": ["key.pub"]}}
    path.write_text(json.dumps(document))
    return path


def recorderctl(*arguments: str) -> tuple[int, dict[str, Any]]:
    out, err = io.StringIO(), io.StringIO()
    code = run(["--json", *arguments], out, err)
    return code, json.loads(out.getvalue())


def test_without_a_daemon_no_call_is_placed(spool: Path) -> None:
    code, answer = recorderctl("--spool", str(spool), "test-call", "--sip-port", "0")
    assert code == answer["error"]["code"] == 3
    assert "no running recorderd" in answer["error"]["message"]


def test_the_port_must_be_one_that_the_daemon_watches(tmp_path: Path, spool: Path) -> None:
    file = config(tmp_path, spool, {"sip_ports": [5070, 5072]})
    code, answer = recorderctl("-c", str(file), "test-call", "--sip-port", "5060")
    assert code == 2
    assert "the daemon watches 5070, 5072" in answer["error"]["message"]


def test_a_port_in_use_is_told(tmp_path: Path, spool: Path, sip_port: int) -> None:
    file = config(tmp_path, spool, {"sip_ports": [sip_port]})
    code, answer = recorderctl("-c", str(file), "test-call")
    assert code == 3
    assert f"port {sip_port} of 127.0.0.1 is in use" in answer["error"]["message"]


def test_lo_must_be_tapped(tmp_path: Path, spool: Path) -> None:
    file = config(tmp_path, spool, {"interfaces": ["eth7"]})
    code, answer = recorderctl("-c", str(file), "test-call")
    assert code == 3
    assert "does not name lo" in answer["error"]["message"]


@pytest.mark.parametrize("seconds", ["0", "nan", "1e9", "x"])
def test_silly_lengths_are_refused(spool: Path, seconds: str) -> None:
    assert recorderctl("--spool", str(spool), "test-call", "--seconds", seconds)[0] == 2


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch, spool: Path) -> Iterator[list[CallReport]]:
    """A daemon that answers, and a call that is not really placed: the first of the list is its report."""
    reports = [CallReport(CALL_ID, True, 8.0, "")]
    monkeypatch.setitem(cmd_test_call.AGENTS, "baresip", lambda *arguments, **options: reports[0])
    monkeypatch.setattr(cmd_test_call, "SEALED_WITHIN_S", 0.0)
    monkeypatch.setattr(cmd_test_call, "is_free", lambda port: True)
    daemon = ControlSocket(spool / "control.sock")
    yield reports
    daemon.close()


def record(spool: Path, *tracks: dict[str, Any], state: str = "sealed") -> None:
    summary = {"call_ids": [CALL_ID], "started_at": "2026-01-01T00:00:00Z", "tracks": list(tracks)}
    with Index.open(Spool(spool)) as index:
        index.recording_finished("20260101T000000Z-0000000000", state, summary, "x.rec", "00", 1)


def verdicts(spool: Path) -> tuple[int, dict[str, bool]]:
    code, answer = recorderctl("--spool", str(spool), "test-call")
    assert answer["good"] == (code == 0)
    return code, {check["check"]: check["good"] for check in answer["checks"]}


def test_a_recorded_call_is_good(spool: Path, placed: list[CallReport]) -> None:
    record(spool, TRACK, {**TRACK, "label": "callee"})
    assert verdicts(spool) == (0, {"call": True, "recording": True, "caller": True, "callee": True})


WRONG: list[dict[str, Any]] = [
    {"packets": 100},
    {"lost": 1},
    {"codec": "pcma"},
    {"speech_level_dbov": None},
    {"speech_level_dbov": -70.0},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_bad_track_is_seen(spool: Path, placed: list[CallReport], wrong: dict[str, Any]) -> None:
    record(spool, TRACK, {**TRACK, "label": "callee", **wrong})
    assert verdicts(spool) == (3, {"call": True, "recording": True, "caller": True, "callee": False})


def test_a_missing_track_is_seen(spool: Path, placed: list[CallReport]) -> None:
    record(spool, TRACK)
    assert verdicts(spool) == (3, {"call": True, "recording": True, "caller": True, "callee": False})


def test_a_call_that_was_not_recorded_fails(spool: Path, placed: list[CallReport]) -> None:
    assert verdicts(spool) == (3, {"call": True, "recording": False})


def test_a_recording_that_is_not_sealed_fails(spool: Path, placed: list[CallReport]) -> None:
    record(spool, TRACK, {**TRACK, "label": "callee"}, state="recording")
    assert verdicts(spool)[1]["recording"] is False


def test_a_call_that_was_not_answered_shows_the_log(spool: Path, placed: list[CallReport]) -> None:
    placed[0] = CallReport(None, False, 0.0, "bob: 486 Busy\nalice: sad\n")
    out, err = io.StringIO(), io.StringIO()
    assert run(["--spool", str(spool), "test-call"], out, err) == 3
    assert "BAD   call: not answered on 127.0.0.1:5060" in out.getvalue()
    assert "  bob: 486 Busy" in out.getvalue()
