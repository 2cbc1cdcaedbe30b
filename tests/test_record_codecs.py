"""Calls in codecs beyond G.711 and Opus, through the production path: kept, judged, heard, exported."""

import wave
from pathlib import Path

import numpy as np
import pytest

from recorderd.errors import Undecodable
from tests.coders import Bcg729, Pcm, amr_wb, by_av, by_ffmpeg, snr_db, speex_packets
from tests.commands import configure, run
from tests.recorder import Recorded, record, samples
from tests.simulators.pbx import EPOCH_NS, PbxSimulator
from tests.simulators.script import CallScript, Impairment, NewCodec, Pause
from tests.simulators.signals import Tone
from tests.simulators.truth import CallTruth
from tests.speech import active_level, pcm, speech_at, white

SECONDS = 12
VOICES = {"caller": "en", "callee": "de"}
LEVELS = {"caller": -24.0, "callee": -30.0}


def said(side: str, rate: int) -> Pcm:
    spoken = np.resize(speech_at(LEVELS[side], rate, VOICES[side]), SECONDS * rate)
    return pcm(spoken + white(-60, len(spoken)))


def _amr(frames: list[bytes]) -> list[bytes]:
    return [b"\xf0" + bytes((frame[0] & 0x7C,)) + frame[1:] for frame in frames]


def _wide(frames: list[bytes]) -> list[bytes]:
    """AMR-WB 23.85, bandwidth-efficient: the mode request, one entry of the contents, 477 bits."""
    bits = (f"{0xF:04b}0{8:04b}1" + "".join(f"{byte:08b}" for byte in frame[1:])[:477] for frame in frames)
    return [int(one + "0" * (-len(one) % 8), 2).to_bytes(61) for one in bits]


def coded(codec: str, side: str) -> tuple[bytes, ...]:
    """Twelve seconds of speech in packets of 20 ms (G.723.1: 30)."""
    rate = 16_000 if codec in ("g722", "amr-wb", "speex", "l16") else 8000
    spoken = said(side, rate)
    if codec == "g722":
        out = by_av("g722", rate, spoken, 320)
    elif codec == "g726-32":
        whole = b"".join(by_av("g726le", rate, spoken, 160, code_size="4"))
        out = [whole[at : at + 80] for at in range(0, len(whole) - 79, 80)]
    elif codec == "g723":
        out = by_av("g723_1", rate, spoken, 240)
    elif codec == "g729":
        frames = Bcg729().encode(spoken)
        out = [b"".join(frames[at : at + 2]) for at in range(0, len(frames), 2)]
    elif codec == "gsm":
        file = by_ffmpeg("libgsm", "gsm", rate, spoken)
        out = [file[at : at + 33] for at in range(0, len(file) - 32, 33)]
    elif codec == "amr":
        out = _amr(by_av("libopencore_amrnb", rate, spoken, 160, bit_rate="12200"))
    elif codec == "amr-wb":
        out = _wide(amr_wb(spoken))
    elif codec == "speex":
        out = speex_packets(spoken, rate)[1]
    else:
        out = [part.astype(">i2").tobytes() for part in spoken[: len(spoken) // 320 * 320].reshape(-1, 320)]
    return tuple(out)


CODECS = {
    "g722": (16_000, 15),
    "g726-32": (8000, 15),
    "g723": (8000, 6),
    "g729": (8000, 0),
    "gsm": (8000, 4),
    "amr": (8000, 4),
    "amr-wb": (16_000, 4),
    "speex": (16_000, 0),
    "l16": (16_000, 60),
}
"""Rate, and how near the waveform the codec comes, in dB."""


def script(codec: str, **more: object) -> CallScript:
    each = {f"{side}_coded": coded(codec, side) for side in VOICES}
    ptime_ms = 30 if codec == "g723" else 20
    return CallScript(codec=codec, talk_s=10, ptime_ms=ptime_ms, **each, **more)  # type: ignore[arg-type]


def likeness(recorded: Recorded, truth: CallTruth, label: str, source: str, rate: int) -> float:
    """How near a recorded track comes to what a speaker said, in dB."""
    heard, _ = recorded.heard(recorded.of(truth))
    return similar(samples(heard, label, rate), source, rate)


def similar(got: Pcm, source: str, rate: int) -> float:
    """How near a sound comes to what a speaker said, in dB, wherever in time it lies."""
    wanted = said(source, rate)[rate : 5 * rate]
    size = 1 << (len(got) + len(wanted)).bit_length()
    spectrum = np.fft.rfft(got, size) * np.conj(np.fft.rfft(wanted, size))
    lag = int(np.argmax(np.fft.irfft(spectrum)[: len(got) - len(wanted)]))
    return snr_db(wanted, got[lag : lag + len(wanted)])


@pytest.mark.parametrize("codec", CODECS)
def test_a_call_in(tmp_path: Path, codec: str) -> None:
    rate, near_db = CODECS[codec]
    simulator = PbxSimulator(seed=40)
    truth = simulator.add(script(codec))
    recorded = record(tmp_path, simulator)
    row = recorded.of(truth)
    assert recorded.call(truth)["outcome"] == "complete", recorded.call(truth)["reason"]
    assert not [cause for cause in row["review"]["causes"] if "silent" in cause]
    for side, other in (("caller", "callee"), ("callee", "caller")):
        track = recorded.track(row, side)
        assert (track["codec"], track["sample_rate"]) == (codec, rate)
        assert (track["packets"], track["lost"]) == (truth.tracks[side].packets, 0)
        assert track["duration_s"] == pytest.approx(10, abs=0.1)
        level = active_level(said(side, 8000).astype(float), 8000)
        assert track["speech_level_dbov"] == pytest.approx(level, abs=2)
        mine = likeness(recorded, truth, side, side, rate)
        assert mine > near_db
        assert mine > likeness(recorded, truth, side, other, rate) + 3


@pytest.mark.parametrize("codec", ["g722", "g729"])
def test_loss_leaves_everything_else_in_place(tmp_path: Path, codec: str) -> None:
    simulator = PbxSimulator(seed=41)
    truth = simulator.add(script(codec, caller_network=Impairment(loss=0.03)))
    recorded = record(tmp_path, simulator)
    track = recorded.track(recorded.of(truth), "caller")
    assert track["lost"] == truth.caller.lost_between > 5
    assert track["duration_s"] == pytest.approx(10, abs=0.1)
    assert all(
        gap["length_s"] == pytest.approx(0.02 * round(gap["length_s"] / 0.02)) for gap in track["gaps"]
    )


def test_a_change_from_g722_to_g711_in_mid_call(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=42)
    tone = Tone(440, -20)
    truth = simulator.add(script("g722", caller_signal=tone, happenings=(NewCodec(6, "pcma"),)))
    recorded = record(tmp_path, simulator)
    row = recorded.of(truth)
    track = recorded.track(row, "caller")
    assert (track["codec"], track["lost"], track["gaps"]) == ("g722", 0, [])
    assert track["duration_s"] == pytest.approx(10, abs=0.1)
    assert likeness(recorded, truth, "caller", "caller", 16_000) > 15
    heard, _ = recorded.heard(row)
    assert heard.tracks["caller"].rate() == 16_000
    got = samples(heard, "caller", 16_000)[7 * 16_000 : 9 * 16_000].astype(float)
    spectrum = np.abs(np.fft.rfft(got * np.hanning(len(got))))
    assert np.argmax(spectrum) / 2 == pytest.approx(440, abs=1)
    assert 20 * np.log10(got.std() / 32768) == pytest.approx(-20, abs=0.5)


def test_silence_suppression_in_g722(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=43)
    truth = simulator.add(script("g722", happenings=(Pause(5, 3),)))
    recorded = record(tmp_path, simulator)
    track = recorded.track(recorded.of(truth), "caller")
    assert (track["lost"], track["gaps"]) == (0, [])
    assert track["duration_s"] == pytest.approx(10, abs=0.1)


def test_an_unknown_codec_is_kept_and_told(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=44)
    frames = tuple(np.random.default_rng(1).bytes(60) for _ in range(50))
    truth = simulator.add(CallScript(codec="evs", talk_s=6, caller_coded=frames, callee_coded=frames))
    recorded = record(tmp_path, simulator)
    row, call = recorded.of(truth), recorded.call(truth)
    told = ["caller: evs cannot be decoded here", "callee: evs cannot be decoded here"]
    assert row["review"]["causes"] == told, "nobody heard it, so nobody can say that it is silent"
    assert call["outcome"] == "complete", "all that was sent is kept"
    assert call["reason"] == row["reason"] == "; ".join(told)
    heard, _ = recorded.heard(row)
    (lane,) = heard.tracks["caller"].lanes
    assert b"".join(lane.payload) == b"".join(truth.caller.payloads()), "every frame, as it came"
    assert [known.name for known in heard.tracks["caller"].undecodable()] == ["evs"]


def _replayed(folder: Path, simulator: PbxSimulator) -> tuple[Path, str]:
    """Through the command: the configuration, and the id of the only recording."""
    capture, config = simulator.write(folder / "call.pcap"), configure(folder)
    assert run("recorderd", "replay", "-c", config, capture).code == 0
    (row,) = run("recorderctl", "-c", config, "--json", "list").json
    return config, row["id"]


def test_export_of_g722(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=46)
    simulator.add(script("g722"))
    config, recording = _replayed(tmp_path, simulator)
    out = tmp_path / "out.wav"
    key = tmp_path / "listener.key"
    answer = run("recorderctl", "-c", config, "--json", "export", recording, "-o", out, "--identity", key)
    assert (answer.code, answer.err) == (0, "")
    assert (answer.json[0]["sample_rate"], answer.json[0]["undecodable"]) == (16_000, {})
    with wave.open(str(out)) as file:
        assert (file.getframerate(), file.getnchannels()) == (16_000, 2)
        assert file.getnframes() / 16_000 == pytest.approx(10, abs=0.1)
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).astype(np.int16)
    for channel, side in enumerate(("caller", "callee")):
        assert similar(frames[:, channel], side, 16_000) > 15


def test_export_of_what_cannot_be_decoded(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=47)
    frames = tuple(np.random.default_rng(1).bytes(60) for _ in range(50))
    simulator.add(CallScript(codec="evs", talk_s=4, caller_coded=frames, callee_coded=frames))
    config, recording = _replayed(tmp_path, simulator)
    out, key = tmp_path / "out.wav", tmp_path / "listener.key"
    answer = run("recorderctl", "-c", config, "export", recording, "-o", out, "--identity", key)
    assert answer.code == Undecodable.exit_code
    assert f"{recording}: caller: evs cannot be decoded here; callee: evs cannot be" in answer.err
    assert not out.exists(), "silence would look like what was said"
    other = PbxSimulator(seed=50, epoch_ns=EPOCH_NS + 60 * 10**9)
    other.add(CallScript(talk_s=4))
    again = run("recorderd", "replay", "-c", config, other.write(tmp_path / "other.pcap"))
    assert again.code == 0
    (tmp_path / "all").mkdir()
    all_of = ("--json", "export", "--all", "-o", tmp_path / "all", "--identity", key)
    answer = run("recorderctl", "-c", config, *all_of)
    assert answer.code == Undecodable.exit_code
    assert sorted(entry["status"] for entry in answer.json) == ["complete", "undecodable"]


def test_export_of_one_track_that_cannot_be_decoded(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=48)
    frames = tuple(np.random.default_rng(1).bytes(60) for _ in range(50))
    change = NewCodec(0, "pcmu", side="callee")
    simulator.add(
        CallScript(codec="evs", talk_s=4, caller_coded=frames, callee_coded=frames, happenings=(change,))
    )
    config, recording = _replayed(tmp_path, simulator)
    out, key = tmp_path / "out.wav", tmp_path / "listener.key"
    answer = run("recorderctl", "-c", config, "--json", "export", recording, "-o", out, "--identity", key)
    assert answer.code == 0
    assert answer.json[0]["undecodable"] == {"caller": ["evs"]}
    assert "caller: evs cannot be decoded here; that part is silent" in answer.err
    with wave.open(str(out)) as file:
        frames_of = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    assert not frames_of[:, 0].any()
    assert frames_of[:, 1].any()


def test_a_packet_of_another_codec_than_announced_hurts_nobody(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=45)
    noise = np.random.default_rng(2)
    frames = tuple(noise.bytes(int(noise.integers(1, 90))) for _ in range(200))
    truths = [
        simulator.add(CallScript(codec=name, talk_s=6, caller_coded=frames, callee_coded=frames))
        for name in CODECS
    ]
    recorded = record(tmp_path, simulator)
    assert len(recorded.rows) == len(truths)
    for truth in truths:
        heard, _ = recorded.heard(recorded.of(truth))
        got = samples(heard, "caller", 8000)
        assert len(got) / 8000 < 8
