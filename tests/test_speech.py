"""Voices for test calls: two of them, not the same, of the rate and length that was asked for."""

import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from recorderd.tools.speech import SpeechError, fit_wav, make_voices
from tests.live.audio import likeness, read_wav


def assert_two_voices(caller: Path, callee: Path) -> None:
    first, rate = read_wav(caller)
    second, _ = read_wav(callee)
    assert len(first) > 5 * rate
    assert len(second) > 5 * rate
    for voice in (first, second):
        assert np.abs(voice.astype(int)).max() > 3000
    assert likeness(first[:, 0], second[:, 0]) < 0.5


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_two_voices_speak(tmp_path: Path) -> None:
    voices = make_voices(tmp_path)
    assert voices.spoken
    assert_two_voices(voices.caller, voices.callee)


def test_without_a_synthesizer_syllables_are_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    voices = make_voices(tmp_path)
    assert not voices.spoken
    assert_two_voices(voices.caller, voices.callee)


@pytest.mark.parametrize(
    ("rate", "channels", "seconds"), [(8000, 1, 30.0), (48000, 1, 2.5), (48000, 2, 20.0)]
)
def test_sound_is_looped_or_cut(tmp_path: Path, rate: int, channels: int, seconds: float) -> None:
    source, target = tmp_path / "source.wav", tmp_path / "target.wav"
    tone = np.rint(9000 * np.sin(2 * np.pi * 440 * np.arange(16000 * 5) / 16000)).astype("<i2")
    with wave.open(str(source), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(tone.tobytes())
    fit_wav(source, target, rate=rate, channels=channels, seconds=seconds)
    heard, heard_rate = read_wav(target)
    assert (heard_rate, heard.shape) == (rate, (round(rate * seconds), channels))
    spectrum = np.abs(np.fft.rfft(heard[:, -1].astype(float)))
    assert spectrum.argmax() / seconds == pytest.approx(440, abs=1)


def test_what_is_no_sound_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    for name in ("text.wav", "missing.wav"):
        with pytest.raises(SpeechError, match=name):
            fit_wav(tmp_path / name, tmp_path / "out.wav", rate=8000, channels=1, seconds=1)
