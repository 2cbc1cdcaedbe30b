"""A call in progress is paused and resumed at the control socket of a real recorder."""

from pathlib import Path

import pytest

from tests.live.daemon import Daemon, Installation
from tests.live.process import until
from tests.live.sipp import free_ports, sipp_call

pytestmark = pytest.mark.live


@pytest.mark.parametrize("workers", [1, 2])
def test_a_call_is_paused_and_resumed(tmp_path: Path, workers: int) -> None:
    capture = {"workers": workers}
    installation = Installation(tmp_path / "recorder", sip_ports=free_ports(1), capture=capture)
    with Daemon(installation) as daemon, sipp_call(tmp_path, sip_port=installation.sip_port) as call:
        until(lambda: installation.recording(call.call_id) is not None, "the recording", 10)
        began = installation.recording(call.call_id)
        assert began is not None
        paused = installation.control("pause", call.call_id, "--reason", "card number")
        assert paused["calls"] == [{"call_id": call.call_id, "recording": began["id"], "paused": True}]
        before = daemon.status()["time"]
        until(lambda: daemon.status()["time"] - before > 2, "two seconds", 10)
        resumed = installation.control("resume", began["id"])
        assert resumed["calls"][0]["paused"] is False
        call.wait(30)
        row = installation.until_sealed(call.call_id)
        (told,) = installation.control("calls", spool=installation.spool)
    (pause,) = row["pauses"]
    assert pause["by"].startswith("user ")
    assert pause["reason"] == "card number"
    assert 2 <= pause["length_s"] < 6
    assert told["outcome"] == "complete"
    assert told["reason"] == f"paused {pause['length_s']:.1f} s"
    for track in row["tracks"]:
        (gap,) = track["gaps"]
        assert (gap["cause"], track["lost"]) == ("paused", 0)
        # 236 packets of 30 ms are sent; in bursts, where the sender has to wait for its turn.
        assert abs(track["packets"] + pause["length_s"] / 0.03 - 236) <= 24
    shown = installation.control("show", row["id"], "--identity", str(installation.identity))
    events = [event["event"] for event in shown["inside"]["events"]]
    assert events.count("paused") == events.count("resumed") == 1
