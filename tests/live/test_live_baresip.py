"""Two real user agents, different speech on each side: recorded on the right tracks, carried away and
verified.
"""

from pathlib import Path

import numpy as np
import pytest

from recorderd.tools.agents import AUDIO_OF, Codec, place_call
from recorderd.tools.speech import fit_wav, make_voices
from tests.live.audio import likeness, read_wav
from tests.live.daemon import Daemon, Installation
from tests.live.process import until
from tests.live.sipp import free_ports

pytestmark = pytest.mark.live

SECONDS = 5.0


@pytest.mark.parametrize("codec", ["pcmu", "opus"])
def test_speech_of_two_agents_is_kept_apart(tmp_path: Path, codec: Codec) -> None:
    installation = Installation(tmp_path / "recorder", sip_ports=free_ports(1), remote=True)
    voices = make_voices(tmp_path)
    with Daemon(installation):
        report = place_call(SECONDS, voices.caller, voices.callee, codec, sip_port=installation.sip_port)
        assert report.answered, report.log
        assert report.call_id is not None
        installation.until_sealed(report.call_id)

        def carried() -> bool:
            found = installation.recording(report.call_id or "") or {}
            return bool(found.get("sync")) and all(r["state"] == "verified" for r in found["sync"])

        until(carried, "the recording verified on the remote", 20)
        row = installation.recording(report.call_id) or {}
    assert (row["from"], row["to"]) == ("alice", "bob")
    assert row["duration_s"] == pytest.approx(SECONDS, abs=0.5)
    for track in row["tracks"]:
        assert (track["codec"], track["lost"]) == (codec, 0)
        assert track["packets"] == pytest.approx(SECONDS * 50, abs=10)
        assert -40 < track["speech_level_dbov"] < -3
    copies = [path for path in (installation.folder / "remote").rglob("*") if path.suffix == ".rec"]
    assert [path.name for path in copies] == [f"{row['id']}.rec"]

    tracks = installation.export_tracks(row["id"], "heard")
    rate, channels = AUDIO_OF[codec]
    said = {}
    for label, voice in (("caller", voices.caller), ("callee", voices.callee)):
        fit_wav(voice, tmp_path / f"{label}.wav", rate=rate, channels=channels, seconds=SECONDS)
        said[label], _ = read_wav(tmp_path / f"{label}.wav")
    for label in ("caller", "callee"):
        heard, heard_rate = read_wav(tracks[label])
        assert heard_rate == rate
        alike = {other: likeness(heard[:, 0], said[other][:, 0]) for other in said}
        assert alike[label] > 0.8, alike
        assert alike["callee" if label == "caller" else "caller"] < 0.4, alike
        assert np.abs(heard).max() > 1000


def test_the_test_call_command(installation: Installation) -> None:
    with Daemon(installation):
        answer = installation.control("test-call", "--seconds", "3", "--codec", "pcma")
        assert answer["good"], answer
        row = installation.recording(answer["call_id"])
        assert row is not None
        assert row["id"] == answer["recording"]
        assert {check["check"] for check in answer["checks"]} >= {"call", "recording", "caller", "callee"}
