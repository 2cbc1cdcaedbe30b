"""Two real user agents that encrypt their media: opened with the keys of their signalling, else told."""

from pathlib import Path

import numpy as np
import pytest

from recorderd.tools.agents import AUDIO_OF, Codec, place_call
from recorderd.tools.speech import fit_wav, make_voices
from tests.live.audio import likeness, read_wav
from tests.live.daemon import Daemon, Installation
from tests.live.process import until

pytestmark = pytest.mark.live

SECONDS = 5.0


@pytest.mark.parametrize("codec", ["pcmu", "opus"])
def test_speech_of_two_agents_with_sdes(tmp_path: Path, installation: Installation, codec: Codec) -> None:
    voices = make_voices(tmp_path)
    with Daemon(installation):
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
    assert {track["label"] for track in row["tracks"]} == {"caller", "callee"}
    for track in row["tracks"]:
        assert (track["codec"], track["lost"]) == (codec, 0)
        assert track["packets"] == pytest.approx(SECONDS * 50, abs=10)
    tracks = installation.export_tracks(row["id"], "heard")
    rate, channels = AUDIO_OF[codec]
    said = {}
    for label, voice in (("caller", voices.caller), ("callee", voices.callee)):
        fit_wav(voice, tmp_path / f"{label}.wav", rate=rate, channels=channels, seconds=SECONDS)
        said[label], _ = read_wav(tmp_path / f"{label}.wav")
    for label in ("caller", "callee"):
        heard, _ = read_wav(tracks[label])
        alike = {other: likeness(heard[:, 0], said[other][:, 0]) for other in said}
        assert alike[label] > 0.8, alike
        assert alike["callee" if label == "caller" else "caller"] < 0.4, alike
        assert np.abs(heard).max() > 1000


def test_dtls_is_told(tmp_path: Path, installation: Installation) -> None:
    voices = make_voices(tmp_path)
    with Daemon(installation):
        report = place_call(
            3.0, voices.caller, voices.callee, sip_port=installation.sip_port, encryption="dtls_srtp"
        )
        assert report.answered, report.log

        def told() -> bool:
            return any(call["outcome"] for call in installation.control("calls"))

        until(told, "an outcome", 20)
    [call] = installation.control("calls")
    assert (call["outcome"], call["recording"]) == ("missing", None)
    assert call["reason"] == "encrypted, not recordable: DTLS-SRTP"
