"""The meter's figures where they are known: speech of a known level (P.56) over noise of a known level."""

import subprocess
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import recorderd.quality.meter as meter_module
from recorderd.codecs.g711 import PCMA, PCMU
from recorderd.quality.levels import BIN_LEVELS, LOWEST, bins, dbov
from recorderd.quality.meter import FRAME_SAMPLES, Figures, TrackMeter
from tests.speech import Wave, active_level, pcm, speech, speech_at, white

Pcm = NDArray[np.int16]


def _measure(samples: Pcm, rate: int = 8000, window: int | None = None) -> Figures:
    meter = TrackMeter()
    window = window or rate
    for at in range(0, len(samples), window):
        meter.add(samples[at : at + window], rate)
    return meter.figures()


def _with_pauses(wave: Wave, rate: int = 8000, parts: int = 4, pause_s: float = 1.5) -> Wave:
    pause = np.zeros(int(pause_s * rate))
    return np.concatenate([piece for part in np.array_split(wave, parts) for piece in (part, pause)])


# Levels


def test_a_full_scale_square_wave_is_0_dbov() -> None:
    assert dbov(32768.0**2) == 0
    assert dbov(32768.0**2 / 2) == pytest.approx(-3.01, abs=0.01)
    assert dbov(1.0) == pytest.approx(-90.31, abs=0.01)
    assert dbov(0.0) == LOWEST


def test_bins_hold_their_levels() -> None:
    powers = np.array([0.0, 1e-12, 1.0, 32768.0, 32768.0**2], np.float32)
    found = bins(powers)
    assert found.tolist() == [0, 0, 19, 109, 199]
    assert (BIN_LEVELS[found[2:]] <= [dbov(float(p)) for p in powers[2:]]).all()


# Known answers


@pytest.mark.parametrize("voice", ["en", "de", "fr", "zh"])
@pytest.mark.parametrize(
    ("level", "noise"), [(-20, -65), (-26, -70), (-26, -55), (-26, -48), (-36, -60), (-42, -70)]
)
def test_speech_over_noise(level: float, noise: float, voice: str) -> None:
    wave = _with_pauses(speech_at(level, voice=voice))
    figures = _measure(pcm(wave + white(noise, len(wave))))
    assert figures.speech_level_dbov == pytest.approx(level, abs=1)
    assert figures.noise_dbov == pytest.approx(noise, abs=1)
    assert figures.snr_db == pytest.approx(level - noise, abs=2)
    assert figures.total_s == pytest.approx(len(wave) / 8000)
    assert 0.6 * len(speech(voice=voice)) / 8000 < figures.speech_s < len(speech(voice=voice)) / 8000
    assert figures.clipped == 0


@pytest.mark.parametrize("rate", FRAME_SAMPLES)
def test_every_rate(rate: int) -> None:
    wave = _with_pauses(speech_at(-26, rate), rate)
    figures = _measure(pcm(wave + white(-60, len(wave))), rate)
    assert figures.speech_level_dbov == pytest.approx(-26, abs=1)
    assert figures.noise_dbov == pytest.approx(-60, abs=1)
    assert figures.total_s == pytest.approx(len(wave) / rate)


@pytest.mark.parametrize("text", ["Yes. No.", "Okay, thank you.", "One, two, three, four, five."])
def test_few_words_measure_as_p56_has_them(text: str) -> None:
    """Where words are few, what counts as active time makes a difference of decibels."""
    wave = _with_pauses(speech(text=text), parts=1, pause_s=5)
    for noise in (None, -65):
        noisy = wave if noise is None else wave + white(noise, len(wave))
        assert _measure(pcm(noisy)).speech_level_dbov == pytest.approx(active_level(noisy, 8000), abs=1)


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_through_g711(law: str) -> None:
    wave = _with_pauses(speech_at(-26))
    coded = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "s16le", "-ar", "8000", "-i", "-", "-f", law, "-"],
        input=pcm(wave + white(-50, len(wave))).tobytes(),
        capture_output=True,
        check=True,
    ).stdout
    figures = _measure((PCMU if law == "mulaw" else PCMA).decode_block(np.frombuffer(coded, np.uint8)))
    assert figures.speech_level_dbov == pytest.approx(-26, abs=1)
    assert figures.noise_dbov == pytest.approx(-50, abs=1)


# Tracks without speech, or without noise


def _hum(level: float, count: int) -> Wave:
    time_s = np.arange(count) / 8000
    wave = np.sin(2 * np.pi * 50 * time_s) + 0.3 * np.sin(2 * np.pi * 150 * time_s)
    scaled: Wave = wave * 32768 * 10 ** (level / 20) / np.sqrt((wave**2).mean())
    return scaled


@pytest.mark.parametrize("make", [white, _hum])
@pytest.mark.parametrize("level", [-70, -55, -45, -35, -25, -15])
def test_steady_noise_is_no_speech_however_loud(make: Callable[[float, int], Wave], level: float) -> None:
    figures = _measure(pcm(make(level, 80_000)))
    assert figures.speech_level_dbov is None
    assert figures.speech_s == 0
    assert figures.noise_dbov == pytest.approx(level, abs=0.3)
    assert figures.snr_db is None


@pytest.mark.parametrize(("level", "noise"), [(-20, -30), (-16, -25), (-26, -35)])
def test_noise_is_measured_where_the_vad_never_lets_go(level: float, noise: float) -> None:
    wave = _with_pauses(speech_at(level))
    figures = _measure(pcm(wave + white(noise, len(wave))))
    assert figures.noise_dbov == pytest.approx(noise, abs=1)
    assert figures.speech_level_dbov is not None
    assert figures.speech_level_dbov > level - 1


def test_speech_without_a_pause_tells_nothing_of_the_noise() -> None:
    wave = speech(text="The quick brown fox jumps over the lazy dog and runs away over the hills")
    figures = _measure(pcm(wave))
    assert figures.noise_dbov is None
    assert figures.snr_db is None
    assert figures.speech_level_dbov == pytest.approx(active_level(wave, 8000), abs=1)


@pytest.mark.parametrize("value", [0, 8, -8])
def test_digital_silence_is_neither_speech_nor_noise(value: int) -> None:
    # 8 and -8 are the smallest values that A-law has.
    wave = _with_pauses(speech_at(-26))
    spoken = _measure(pcm(wave + white(-60, len(wave))))
    silence = np.full(80_000, value, np.int16)
    figures = _measure(np.concatenate([silence, pcm(wave + white(-60, len(wave))), silence]))
    assert figures.speech_level_dbov == pytest.approx(spoken.speech_level_dbov, abs=0.1)
    assert figures.noise_dbov == pytest.approx(spoken.noise_dbov, abs=0.1)
    assert figures.digital_silence_s == pytest.approx(20, abs=0.07)
    assert figures.total_s == pytest.approx(spoken.total_s + 20)

    only = _measure(silence)
    assert (only.speech_level_dbov, only.noise_dbov, only.speech_s) == (None, None, 0)
    assert only.digital_silence_s == pytest.approx(10, abs=0.03)
    assert only.peak_dbov == (None if value == 0 else pytest.approx(-72.2, abs=0.1))


def test_nothing_at_all() -> None:
    assert TrackMeter().figures() == Figures(None, None, 0.0, 0.0, 0.0, None, 0, 0.0)


def test_an_hour_of_silence_costs_nothing() -> None:
    meter = TrackMeter()
    meter.add(pcm(speech_at(-26)), 8000)
    before = meter.figures()
    meter.add_silence(3600)
    after = meter.figures()
    assert after.total_s == before.total_s + 3600
    assert after.digital_silence_s == pytest.approx(before.digital_silence_s + 3600)
    assert after.speech_level_dbov == before.speech_level_dbov


def test_a_click_is_no_speech() -> None:
    samples = pcm(white(-60, 80_000))
    samples[40_000:40_240] = pcm(white(-15, 240))
    figures = _measure(samples)
    assert figures.speech_level_dbov is None
    assert figures.noise_dbov == pytest.approx(-60, abs=0.5)
    assert figures.peak_dbov is not None
    assert figures.peak_dbov > -12


# Peaks


def test_peak_and_clipping() -> None:
    time_s = np.arange(8000) / 8000
    sine = 32767 * np.sin(2 * np.pi * 200 * time_s)
    assert _measure(pcm(sine / 2)).peak_dbov == pytest.approx(-6.02, abs=0.01)
    assert _measure(pcm(sine / 2)).clipped == 0
    over = _measure(pcm(sine * 2))
    # Beyond half its height a sine is two thirds of the time.
    assert over.clipped == pytest.approx(8000 * 2 / 3, rel=0.05)
    assert over.clipped_s == pytest.approx(over.clipped / 8000)
    assert over.peak_dbov == 0


def test_a_loud_moment_is_not_clipped() -> None:
    samples = np.zeros(8000, np.int16)
    samples[100:102] = 32767
    samples[200] = -32768
    samples[300:303] = -32124
    figures = _measure(samples)
    assert figures.clipped == 3
    assert figures.peak_dbov == 0


# How it is used


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(40, 20_000), min_size=1, max_size=12))
def test_windows_make_no_difference(cuts: list[int]) -> None:
    wave = _with_pauses(speech_at(-20))
    samples = np.tile(pcm(wave * 3 + white(-55, len(wave))), 4)
    samples[30_000:40_000] = 0
    samples[-40_000:-30_000] = 0
    meter, at, turn = TrackMeter(), 0, 0
    while at < len(samples):
        meter.add(samples[at : at + cuts[turn % len(cuts)]], 8000)
        at += cuts[turn % len(cuts)]
        turn += 1
        if turn % 5 == 0:
            meter.figures()  # looking at them changes nothing
    assert meter.figures() == _measure(samples)


def test_a_change_of_codec_goes_on_in_the_same_figures() -> None:
    meter = TrackMeter()
    for rate in (8000, 16000):
        wave = _with_pauses(speech_at(-26, rate), rate)
        meter.add(pcm(wave + white(-60, len(wave))), rate)
    figures = meter.figures()
    assert figures.speech_level_dbov == pytest.approx(-26, abs=1)
    assert figures.noise_dbov == pytest.approx(-60, abs=1)


def test_a_rate_without_vad_is_refused() -> None:
    with pytest.raises(ValueError, match="24000"):
        TrackMeter().add(np.zeros(100, np.int16), 24000)


def test_samples_need_not_lie_side_by_side() -> None:
    wave = speech_at(-26)
    stereo = np.stack([pcm(wave), pcm(wave * 0)], axis=1)
    assert _measure(stereo[:, 0]) == _measure(pcm(wave))


def test_what_it_keeps_is_bounded() -> None:
    samples, meter = pcm(speech_at(-26)), TrackMeter()
    for _ in range(3):
        meter.add(samples, 8000)
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        for _ in range(40):
            meter.add(samples, 8000)
        assert tracemalloc.get_traced_memory()[0] - start < 20_000
    finally:
        tracemalloc.stop()


def test_listening_now_and_then_hears_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """After five seconds of speech the VAD takes turns; over minutes the figures are those of the whole."""
    wave = _with_pauses(speech_at(-26), parts=3, pause_s=2.2)
    samples = pcm(np.tile(wave, 14)[: 8000 * 240] + white(-58, 8000 * 240))
    some = _measure(samples)
    monkeypatch.setattr(meter_module, "ENOUGH_SPEECH", 10**9)
    whole = _measure(samples)
    assert some != whole
    assert some.speech_level_dbov == pytest.approx(whole.speech_level_dbov, abs=0.5)
    assert some.noise_dbov == pytest.approx(whole.noise_dbov, abs=0.3)
    assert some.speech_s == pytest.approx(whole.speech_s, rel=0.1)
    assert (some.total_s, some.peak_dbov, some.clipped) == (whole.total_s, whole.peak_dbov, whole.clipped)


def test_who_has_hardly_spoken_is_listened_to_all_the_time() -> None:
    """A few words after two minutes of noise are not missed."""
    words = speech_at(-26)[: 8000 * 2]
    quiet = white(-62, 8000 * 124)
    quiet[8000 * 121 : 8000 * 121 + len(words)] += words
    figures = _measure(pcm(quiet))
    assert figures.speech_level_dbov == pytest.approx(-26, abs=3)
    assert figures.speech_s > 0.5
