"""On the host of a border controller each speaker is heard twice, on the way in and on the way out: a
conversation is still one recording with two tracks.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recorderd.tools.speech import fit_wav, make_voices
from tests.live.audio import likeness, read_wav
from tests.live.sbc.hosts import (
    BackToBack,
    Border,
    HidingProxy,
    Proxy,
    SecureProxy,
    TranscodingProxy,
    missing,
)
from tests.live.sbc.lab import laboratory
from tests.live.sbc.phones import Talk, phones, talks
from tests.live.sbc.softphones import secure_call
from tests.live.sbc.speakers import Speaker, nearest
from tests.network_namespaces import privileged
from tests.recorder import Recorded, samples

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not privileged(), reason="needs root: network namespaces"),
    pytest.mark.skipif(bool(missing()), reason=f"needs {', '.join(missing())}: tools/bootstrap.sh sbc venv"),
]

TALK_S = 2.0


def second_call_id(border: type[Border], first: str) -> str | None:
    """The Call-ID on the right, None where it is the same; of one that hides it, all that it starts with."""
    if border is BackToBack:
        return hashlib.md5(first.encode(), usedforsecurity=False).hexdigest() + "-b2b_1"
    return "!!:" if border is HidingProxy else None


@dataclass(frozen=True)
class Scene:
    """Calls across one kind of border, and what the recorder made of them."""

    border: type[Border]
    placed: list[Talk]
    rows: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    drops: int
    recorded: Recorded

    @property
    def speakers(self) -> list[Speaker]:
        return [speaker for talk in self.placed for speaker in (talk.caller, talk.callee)]

    def of(self, talk: Talk) -> list[dict[str, Any]]:
        return [row for row in self.rows if (row["from"], row["to"]) == (talk.calling, talk.called)]

    def heard(self, row: dict[str, Any], label: str) -> NDArray[np.int16]:
        return samples(self.recorded.heard(row)[0], label)


MANY: dict[type[Border], int] = {Proxy: 50, BackToBack: 50}
FEW: dict[type[Border], int] = {HidingProxy: 10, TranscodingProxy: 5}


def staged(border: type[Border], count: int, folder: Path) -> Scene:
    """Place the calls, all at once, and wait until they are over and sealed."""
    placed = talks(count, TALK_S, callee_law="pcmu" if border is TranscodingProxy else "pcma")
    with laboratory(folder, border) as (network, server, recorder):
        with phones(folder / "phones", network, placed, port=server.port) as both:
            both.wait(80)
        status = recorder.until_done(count)
        rows, calls = recorder.ask("list"), recorder.ask("calls")
    drops = sum(ring["drops"] for ring in status["rings"])
    return Scene(border, placed, rows, calls, drops, recorder.recorded())


@pytest.fixture(scope="module")
def small_scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[type[Border], Scene]:
    """Those with few calls, in laboratories side by side."""
    folders = {border: tmp_path_factory.mktemp(border.__name__) for border in FEW}
    with ThreadPoolExecutor() as pool:
        running = {border: pool.submit(staged, border, FEW[border], folders[border]) for border in FEW}
        return {border: scene.result() for border, scene in running.items()}


@pytest.fixture(scope="module", params=[*MANY, *FEW])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    border = request.param
    if border in FEW:
        found: Scene = request.getfixturevalue("small_scenes")[border]
        return found
    return staged(border, MANY[border], tmp_path_factory.mktemp(border.__name__))


def test_every_speaker_across_a_border_is_recorded_on_a_track_of_their_own(scene: Scene) -> None:
    assert scene.drops == 0
    assert {call["outcome"] for call in scene.calls} == {"complete"}
    assert {call["recording"] for call in scene.calls} == {row["id"] for row in scene.rows}
    for talk in scene.placed:
        assert scene.of(talk)
        for row in scene.of(talk):
            assert sorted(track["label"] for track in row["tracks"]) == ["callee", "caller"]
            assert nearest(scene.heard(row, "caller"), scene.speakers) == talk.caller
            assert nearest(scene.heard(row, "callee"), scene.speakers) == talk.callee


def test_a_conversation_across_a_border_is_one_recording(scene: Scene) -> None:
    """Each track is what left the speaker's phone: not what the relay made of it, and with what it lost."""
    assert len(scene.rows) == len(scene.placed)
    for talk in scene.placed:
        (row,) = scene.of(talk)
        assert_call_ids(row, talk, scene.border)
        for label, speaker in (("caller", talk.caller), ("callee", talk.callee)):
            track = scene.recorded.track(row, label)
            assert (track["packets"], track["lost"], track["duplicates"]) == (speaker.packets, 0, 0)
            heard, said = scene.heard(row, label), speaker.samples()
            begin = int(np.flatnonzero(heard)[0] - np.flatnonzero(said)[0])
            assert np.array_equal(heard[begin : begin + len(said)], said)
            assert not heard[begin + len(said) :].any()


def assert_call_ids(row: dict[str, Any], talk: Talk, border: type[Border]) -> None:
    """A recording knows the Call-IDs of both sides, once each."""
    second = second_call_id(border, talk.call_id)
    assert len(row["call_ids"]) == (1 if second is None else 2)
    assert talk.call_id in row["call_ids"]
    others = [call_id for call_id in row["call_ids"] if call_id != talk.call_id]
    assert all(call_id.startswith(str(second)) for call_id in others)


def test_a_call_whose_signalling_only_hep_can_tell(tmp_path: Path) -> None:
    """TLS on both sides; the border controller duplicates what it says and hears to the recorder."""
    voices = make_voices(tmp_path)
    wavs = {"caller": tmp_path / "caller.wav", "callee": tmp_path / "callee.wav"}
    for label, voice in (("caller", voices.caller), ("callee", voices.callee)):
        fit_wav(voice, wavs[label], rate=8000, channels=1, seconds=TALK_S + 20)  # at its end baresip hangs up
    with laboratory(tmp_path, SecureProxy) as (network, _, recorder):
        call_id = secure_call(tmp_path, network, (wavs["caller"], wavs["callee"]), TALK_S + 1)
        recorder.until_done(1)
        (row,) = recorder.ask("list")
    assert (row["call_ids"], row["from"], row["to"]) == ([call_id], "alice", "bob")
    assert row["outcome"] == "complete"
    assert sorted(track["label"] for track in row["tracks"]) == ["callee", "caller"]
    heard = recorder.recorded().heard(row)[0]
    # A call lasts as long as it takes to hang up.
    said = {label: read_wav(wav)[0][: len(samples(heard, label)), 0] for label, wav in wavs.items()}
    for label, other in (("caller", "callee"), ("callee", "caller")):
        assert likeness(samples(heard, label), said[label]) > 0.8
        assert likeness(samples(heard, label), said[other]) < 0.4
