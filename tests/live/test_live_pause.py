"""A call in progress is paused and resumed at the control socket of a real recorder."""

import time
from pathlib import Path

import pytest

from tests.live.daemon import Daemon, Installation
from tests.live.process import until
from tests.live.sipp import free_ports, sipp_call, tones
from tests.live.tcpdump import Tcpdump
from tests.live.tshark import time_of_bye, times_of

pytestmark = pytest.mark.live


@pytest.mark.parametrize("workers", [1, 2])
def test_a_call_is_paused_and_resumed(tmp_path: Path, workers: int) -> None:
    capture = {"workers": workers}
    installation = Installation(tmp_path / "recorder", sip_ports=free_ports(1), capture=capture)
    wire, sound = tmp_path / "wire.pcap", tones(tmp_path, 100)
    with (
        Daemon(installation),
        Tcpdump(wire) as witness,
        sipp_call(
            tmp_path,
            sip_port=installation.sip_port,
            caller_plays=sound,
            callee_plays=sound,
            talk_s=None,
        ) as call,
    ):
        until(lambda: installation.recording(call.call_id) is not None, "the recording", 30)
        began = installation.recording(call.call_id)
        assert began is not None
        asked = time.time()
        paused = installation.control("pause", call.call_id, "--reason", "card number")
        assert paused["calls"] == [{"call_id": call.call_id, "recording": began["id"], "paused": True}]
        obeyed = time.time()
        time.sleep(2)
        asked_again = time.time()
        resumed = installation.control("resume", began["id"])
        obeyed_again = time.time()
        assert resumed["calls"][0]["paused"] is False
        time.sleep(1)
        call.hang_up()
        call.wait(30)
        row = installation.until_sealed(call.call_id)
    (told,) = installation.control("calls", spool=installation.spool)
    assert witness.dropped == 0
    (pause,) = row["pauses"]
    assert pause["by"].startswith("user ")
    assert pause["reason"] == "card number"
    # A clock that is set may step a little.
    assert asked_again - obeyed - 0.01 <= pause["length_s"] <= obeyed_again - asked + 0.01
    assert told["outcome"] == "complete"
    assert told["reason"] == f"paused {pause['length_s']:.1f} s"
    ended = time_of_bye(wire, call.call_id)
    ports = {"caller": call.caller_media, "callee": call.callee_media}
    for track in row["tracks"]:
        sent = times_of(wire, ports[track["label"]])
        withheld = [at for at in sent if obeyed <= at <= asked_again]
        least = [at for at in sent if at < asked or obeyed_again < at < ended]
        assert least[0] < asked < obeyed_again < least[-1]
        assert withheld
        (gap,) = track["gaps"]
        assert (gap["cause"], track["lost"]) == ("paused", 0)
        # One more or less where it was paused and resumed.
        assert len(least) - 2 <= track["packets"] <= len(sent) - len(withheld) + 2
    shown = installation.control("show", row["id"], "--identity", str(installation.identity))
    events = [event["event"] for event in shown["inside"]["events"]]
    assert events.count("paused") == events.count("resumed") == 1
