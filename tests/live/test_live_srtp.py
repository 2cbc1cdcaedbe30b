"""Two real user agents that encrypt their media: opened with the keys of their signalling, else told."""

from pathlib import Path

import pytest

from recorderd.tools.agents import Codec, place_call
from recorderd.tools.speech import make_voices
from tests.live.daemon import Daemon, Installation
from tests.live.process import until
from tests.live.tcpdump import Tcpdump
from tests.live.test_live_baresip import SECONDS, assert_as_sent, assert_kept_apart

pytestmark = pytest.mark.live


@pytest.mark.parametrize("codec", ["pcmu", "opus"])
def test_speech_of_two_agents_with_sdes(tmp_path: Path, installation: Installation, codec: Codec) -> None:
    voices, wire = make_voices(tmp_path), tmp_path / "wire.pcap"
    with Daemon(installation), Tcpdump(wire) as witness:
        report = place_call(
            SECONDS,
            voices.caller,
            voices.callee,
            codec,
            sip_port=installation.sip_port,
            encryption="srtp-mand",
        )
        assert report.answered, report.log
        assert report.call_id is not None
        assert "SRTP is Enabled" in report.log, report.log
        installation.until_sealed(report.call_id)
    row = installation.recording(report.call_id) or {}
    assert witness.dropped == 0
    steady = assert_as_sent(row, wire)
    assert {track["label"] for track in row["tracks"]} == {"caller", "callee"}
    for track in row["tracks"]:
        assert (track["codec"], track["lost"]) == (codec, 0)
    assert_kept_apart(installation, row, voices, codec, steady=steady)


def test_dtls_is_told(tmp_path: Path, installation: Installation) -> None:
    voices = make_voices(tmp_path)
    with Daemon(installation):
        report = place_call(
            3.0, voices.caller, voices.callee, sip_port=installation.sip_port, encryption="dtls_srtp"
        )
        assert report.answered, report.log

        def told() -> bool:
            return any(call["outcome"] for call in installation.control("calls"))

        until(told, "an outcome", 60)
    [call] = installation.control("calls")
    assert (call["outcome"], call["recording"]) == ("missing", None)
    assert call["reason"] == "encrypted, not recordable: DTLS-SRTP"
