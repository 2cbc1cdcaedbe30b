"""Two real user agents, different speech on each side: recorded on the right tracks, carried away and
verified.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recorderd.tools.agents import AUDIO_OF, Codec, place_call
from recorderd.tools.speech import Voices, fit_wav, make_voices
from tests.live.audio import likeness, read_wav
from tests.live.daemon import Daemon, Installation, Json
from tests.live.process import until
from tests.live.sipp import free_ports
from tests.live.tcpdump import Tcpdump
from tests.live.tshark import rtp_times, time_of_bye

pytestmark = pytest.mark.live

SECONDS = 5.0
STEADY_S = 0.1
"""An agent that has to wait for its turn sends nothing meanwhile, and says the rest later."""


def assert_as_sent(row: Json, wire: Path) -> bool:
    """A track has every packet that an agent sent before the end of the call, and those alone; whether both
    agents spoke without a break.
    """
    ended = time_of_bye(wire, row["call_ids"][0])
    sent = [times for _, times in sorted(rtp_times(wire).items())]
    assert len(sent) == len(row["tracks"]) == 2
    least = sorted(sum(at < ended for at in times) for times in sent)
    most = sorted(map(len, sent))
    packets = sorted(track["packets"] for track in row["tracks"])
    assert all(low <= mid <= high for low, mid, high in zip(least, packets, most, strict=True)), packets
    assert least[0] > 0
    first = min(map(min, sent))
    assert row["duration_s"] == pytest.approx(ended - first, abs=0.5)
    return max(float(np.diff([*times, max(ended, times[-1])]).max()) for times in sent) < STEADY_S


def assert_kept_apart(
    installation: Installation, row: Json, voices: Voices, codec: Codec, *, steady: bool
) -> None:
    """Each track is what its speaker said, and not what the other did."""
    tracks = installation.export_tracks(row["id"], "heard")
    rate, channels = AUDIO_OF[codec]
    said: dict[str, NDArray[np.int16]] = {}
    for label, voice in (("caller", voices.caller), ("callee", voices.callee)):
        path = installation.folder / f"said-{label}.wav"
        fit_wav(voice, path, rate=rate, channels=channels, seconds=SECONDS + 20)
        said[label] = read_wav(path)[0][:, 0]
    for label, other in (("caller", "callee"), ("callee", "caller")):
        heard, heard_rate = read_wav(tracks[label])
        assert heard_rate == rate
        # A call lasts as long as it takes to hang up.
        alike = {each: likeness(heard[:, 0], said[each][: len(heard)]) for each in said}
        assert alike[label] > 0.8 or not steady, alike
        assert alike[label] > alike[other]
        assert alike[other] < 0.4, alike
        assert np.abs(heard).max() > 1000


@pytest.mark.parametrize("codec", ["pcmu", "opus"])
def test_speech_of_two_agents_is_kept_apart(tmp_path: Path, codec: Codec) -> None:
    installation = Installation(tmp_path / "recorder", sip_ports=free_ports(1), remote=True)
    voices = make_voices(tmp_path)
    wire = tmp_path / "wire.pcap"
    with Daemon(installation), Tcpdump(wire) as witness:
        report = place_call(SECONDS, voices.caller, voices.callee, codec, sip_port=installation.sip_port)
        assert report.answered, report.log
        assert report.call_id is not None
        installation.until_sealed(report.call_id)

        def carried() -> bool:
            found = installation.recording(report.call_id or "") or {}
            return bool(found.get("sync")) and all(r["state"] == "verified" for r in found["sync"])

        until(carried, "the recording verified on the remote", 60)
        row = installation.recording(report.call_id) or {}
    assert (row["from"], row["to"]) == ("alice", "bob")
    assert witness.dropped == 0
    steady = assert_as_sent(row, wire)
    for track in row["tracks"]:
        assert (track["codec"], track["lost"]) == (codec, 0)
        assert -40 < track["speech_level_dbov"] < -3
    copies = [path for path in (installation.folder / "remote").rglob("*") if path.suffix == ".rec"]
    assert [path.name for path in copies] == [f"{row['id']}.rec"]

    assert_kept_apart(installation, row, voices, codec, steady=steady)


def test_the_test_call_command(installation: Installation) -> None:
    with Daemon(installation):
        answer = installation.control("test-call", "--seconds", "3", "--codec", "pcma")
        assert answer["good"], answer
        row = installation.recording(answer["call_id"])
        assert row is not None
        assert row["id"] == answer["recording"]
        assert {check["check"] for check in answer["checks"]} >= {"call", "recording", "caller", "callee"}
