"""The two user agents: what they are told, and that a missing program or a taken port is said clearly."""

import importlib.util
import socket
import time
from pathlib import Path

import pytest

from recorderd.tools import agents_pjsua2
from recorderd.tools.agents import HOST, Agent, AgentError, free_port, is_free, place_call
from recorderd.tools.speech import make_voices


def test_free_ports_are_free() -> None:
    port = free_port(socket.SOCK_DGRAM)
    assert is_free(port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, port))
        assert not is_free(port)


def test_the_agents_stay_on_loopback(tmp_path: Path) -> None:
    Agent("alice", 5070, tmp_path / "voice.wav", "pcma", tmp_path / "a")
    config = dict(line.split("\t", 1) for line in (tmp_path / "a" / "config").read_text().splitlines())
    assert config["sip_listen"] == "127.0.0.1:5070"
    assert config["net_interface"] == HOST
    assert config["ctrl_tcp_listen"].startswith(f"{HOST}:")
    account = (tmp_path / "a" / "accounts").read_text()
    assert "regint=0" in account
    assert "audio_codecs=PCMA/8000/1" in account


def test_a_missing_library_is_told(tmp_path: Path) -> None:
    if importlib.util.find_spec("pjsua2") is not None:
        pytest.skip("pjsua2 is installed here")
    with pytest.raises(AgentError, match="pjsua2 is not installed"):
        agents_pjsua2.place_call(1, tmp_path / "a.wav", tmp_path / "b.wav")


def test_a_missing_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    voices = make_voices(tmp_path)
    with pytest.raises(AgentError, match="baresip is not installed"):
        place_call(1, voices.caller, voices.callee, sip_port=free_port(socket.SOCK_DGRAM))


@pytest.mark.live
def test_two_agents_talk(tmp_path: Path) -> None:
    voices = make_voices(tmp_path)
    told: list[float] = []
    for _ in range(3):  # a machine that stands still in the midst of a call has it told less often
        told.clear()
        began = time.monotonic()
        report = place_call(
            1.5, voices.caller, voices.callee, "opus", sip_port=free_port(socket.SOCK_DGRAM),
            while_talking=lambda call_id, seconds: told.append(seconds),
        )  # fmt: skip
        assert report.answered, report.log
        assert report.call_id
        assert 1.4 < report.seconds < time.monotonic() - began
        if len(told) >= 3 and report.seconds < 3:
            break
    assert len(told) >= 3
    assert report.seconds < 3


@pytest.mark.live
def test_a_taken_sip_port_is_told(tmp_path: Path) -> None:
    voices = make_voices(tmp_path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        with pytest.raises(AgentError, match="does not start as bob"):
            place_call(1, voices.caller, voices.callee, sip_port=taken.getsockname()[1])
