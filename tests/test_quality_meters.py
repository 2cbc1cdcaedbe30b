"""The figures where they are known: speech of a known level (P.56) over noise of a known level."""

import subprocess
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recorderd.media.streams import COMFORT_NOISE, OPUS, OTHER, PCMA, PCMU, TONE
from recorderd.quality.figures import Figures
from recorderd.quality.levels import LOWEST, dbov
from recorderd.quality.meters import CHUNK, Meters
from recorderd.quality.tallies import BINS, CHANGING, RECENT
from recorderd.quality.voice import judge
from tests.noises import babble, brown, hum, music, pink, rumble
from tests.quality_reference import measure, webrtc_level
from tests.simulators import g711
from tests.simulators.signals import Speech, Tone
from tests.speech import Wave, active_level, pcm, speech, speech_at, white

Codes = NDArray[np.uint8]
LAWS = {"pcmu": PCMU, "pcma": PCMA}


def _measure(wave: Wave, law: str = "pcmu", **how: int) -> Figures:
    return measure(g711.encode(law, pcm(wave)), LAWS[law], **how)


def _with_pauses(wave: Wave, parts: int = 4, pause_s: float = 1.5) -> Wave:
    pause = np.zeros(int(pause_s * 8000))
    return np.concatenate([piece for part in np.array_split(wave, parts) for piece in (part, pause)])


def _packets(wave: Wave, law: str = "pcmu") -> Codes:
    coded = g711.encode(law, pcm(wave))
    return coded[: len(coded) // 160 * 160].reshape(-1, 160)


def _window(meters: Meters, stretches: list[tuple[int, int, Codes]], width: int = 160) -> NDArray[np.int32]:
    """A window of (track, kind, packets) with whatever lies behind packets that are shorter than a row."""
    lengths = np.array([len(packets) for _, _, packets in stretches])
    ends = np.cumsum(lengths)
    payload = np.random.default_rng(1).integers(0, 256, (int(ends[-1]), width), dtype=np.uint8)
    size, kind = np.empty(len(payload), np.int32), np.empty(len(payload), np.uint8)
    for end, length, (_, what, packets) in zip(ends.tolist(), lengths.tolist(), stretches, strict=True):
        rows = slice(end - length, end)
        payload[rows, : packets.shape[1]], size[rows], kind[rows] = packets, packets.shape[1], what
    tracks = np.array([track for track, _, _ in stretches])
    return meters.window(payload, size, kind, ends - lengths, ends, tracks, np.arange(len(tracks)))


# Levels


def test_a_full_scale_square_wave_is_0_dbov() -> None:
    assert dbov(32768.0**2) == 0
    assert dbov(32768.0**2 / 2) == pytest.approx(-3.01, abs=0.01)
    assert dbov(1.0) == pytest.approx(-90.31, abs=0.01)
    assert dbov(0.0) == LOWEST


# Known answers


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("voice", ["en", "de", "fr", "zh"])
@pytest.mark.parametrize(
    ("level", "noise"), [(-20, -65), (-26, -70), (-26, -55), (-26, -48), (-26, -40), (-36, -60), (-42, -69)]
)
def test_speech_over_noise(level: float, noise: float, voice: str, law: str) -> None:
    wave = _with_pauses(speech_at(level, voice=voice))
    figures = _measure(wave + white(noise, len(wave)), law)
    assert figures.speech_level_dbov == pytest.approx(level, abs=0.5)
    # What the coding itself adds: to noise of -70 almost a decibel in A-law.
    assert figures.noise_dbov == pytest.approx(noise, abs=1)
    assert figures.snr_db == pytest.approx(level - noise, abs=1.5)
    assert figures.total_s == pytest.approx(len(wave) // 160 / 50)
    assert 0.6 * len(speech(voice=voice)) / 8000 < figures.speech_s < len(speech(voice=voice)) / 8000
    assert figures.clipped == 0


@pytest.mark.parametrize("noise", [-65, -55, -45, -40, -36])
@pytest.mark.parametrize("make", [pink, brown, hum, rumble])
def test_speech_over_other_noise(make: Callable[[float, int], Wave], noise: float) -> None:
    wave = _with_pauses(speech_at(-26))
    figures = _measure(wave + make(noise, len(wave)))
    assert figures.speech_level_dbov == pytest.approx(-26, abs=0.5)
    assert figures.noise_dbov == pytest.approx(noise, abs=0.6)


@pytest.mark.parametrize("noise", [-65, -55, -45])
def test_speech_over_other_speech(noise: float) -> None:
    wave = _with_pauses(speech_at(-26))
    figures = _measure(wave + babble(noise, len(wave)))
    assert figures.speech_level_dbov == pytest.approx(-26, abs=1)
    assert figures.noise_dbov is None or figures.noise_dbov == pytest.approx(noise, abs=1)


@pytest.mark.parametrize("text", ["Yes. No.", "Okay, thank you.", "One, two, three, four, five."])
def test_few_words_measure_as_p56_has_them(text: str) -> None:
    """Where words are few, what counts as active time makes a difference of decibels."""
    wave = _with_pauses(speech(text=text), parts=1, pause_s=5)
    for noise in (None, -65):
        noisy = wave if noise is None else wave + white(noise, len(wave))
        assert _measure(noisy).speech_level_dbov == pytest.approx(active_level(noisy, 8000), abs=1)


@pytest.mark.parametrize("seed", range(3))
def test_a_minute_of_the_simulators_speech(seed: int) -> None:
    wave = Speech(seed).window(np.arange(3000) * 160, 160, 8000).reshape(-1).astype(np.float64)
    figures = _measure(wave)
    assert figures.speech_level_dbov == pytest.approx(active_level(wave, 8000), abs=0.3)
    assert figures.noise_dbov == pytest.approx(-69, abs=1)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("voice", ["en", "it"])
@pytest.mark.parametrize(("level", "noise"), [(-20, -65), (-26, -50), (-36, -60)])
def test_it_agrees_with_a_voice_activity_detector(level: float, noise: float, voice: str, law: str) -> None:
    """webrtcvad's verdict on every 30 ms, and the power of what it calls speech over the active time."""
    wave = _with_pauses(speech_at(level, voice=voice))
    coded = g711.encode(law, pcm(wave + white(noise, len(wave))))
    heard = webrtc_level(g711.decode(law, coded))
    assert measure(coded, LAWS[law]).speech_level_dbov == pytest.approx(heard, abs=1)


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_coded_by_somebody_else(law: str) -> None:
    wave = _with_pauses(speech_at(-26))
    coded = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "s16le", "-ar", "8000", "-i", "-", "-f", law, "-"],
        input=pcm(wave + white(-50, len(wave))).tobytes(),
        capture_output=True,
        check=True,
    ).stdout
    figures = measure(np.frombuffer(coded, np.uint8), PCMU if law == "mulaw" else PCMA)
    assert figures.speech_level_dbov == pytest.approx(-26, abs=1)
    assert figures.noise_dbov == pytest.approx(-50, abs=1)


# Tracks without speech, or without noise


@pytest.mark.parametrize("make", [white, hum, rumble, brown])
@pytest.mark.parametrize("level", [-70, -55, -45, -35, -25, -15])
def test_steady_noise_is_no_speech_however_loud(make: Callable[[float, int], Wave], level: float) -> None:
    coded = g711.encode("pcmu", pcm(make(level, 80_000)))
    figures = measure(coded)
    assert figures.speech_level_dbov is None
    assert figures.speech_s == 0
    # Of noise near the steps of the law the coded level is another.
    decoded = g711.decode("pcmu", coded).astype(np.float64)
    assert figures.noise_dbov == pytest.approx(dbov(float((decoded**2).mean())), abs=0.3)
    assert figures.noise_dbov == pytest.approx(level, abs=0.3 if level > -60 else 1)
    assert figures.snr_db is None


@pytest.mark.parametrize("frequency", [350, 400, 425, 440, 480, 620, 1000, 2000])
def test_a_tone_is_no_speech(frequency: float) -> None:
    wave = Tone(frequency).window(np.arange(500) * 160, 160, 8000).reshape(-1).astype(np.float64)
    figures = _measure(wave)
    assert figures.speech_level_dbov is None
    assert figures.noise_dbov == pytest.approx(-20, abs=0.8)


def test_music_is_measured_one_way_or_the_other() -> None:
    wave = music(-25, 8000 * 30)
    figures = _measure(wave)
    level = figures.speech_level_dbov if figures.speech_level_dbov is not None else figures.noise_dbov
    assert level == pytest.approx(-25, abs=1)


@pytest.mark.parametrize(("level", "noise"), [(-20, -30), (-16, -25), (-26, -35)])
def test_noise_is_measured_where_it_is_loud(level: float, noise: float) -> None:
    wave = _with_pauses(speech_at(level))
    figures = _measure(wave + white(noise, len(wave)))
    assert figures.noise_dbov == pytest.approx(noise, abs=1)
    assert figures.speech_level_dbov == pytest.approx(level, abs=1)


def test_speech_without_a_pause_tells_nothing_of_the_noise() -> None:
    wave = speech(text="The quick brown fox jumps over the lazy dog and runs away over the hills")
    figures = _measure(wave)
    assert figures.noise_dbov is None
    assert figures.snr_db is None
    assert figures.speech_level_dbov == pytest.approx(active_level(wave, 8000), abs=1)


def test_two_who_talk_without_a_pause_are_no_noise() -> None:
    starts = np.arange(1500) * 160
    wave = sum(Speech(1).window(starts + at, 160, 8000).reshape(-1).astype(np.float64) for at in (0, 8000))
    figures = _measure(np.asarray(wave))
    assert figures.speech_level_dbov == pytest.approx(active_level(np.asarray(wave), 8000), abs=1)


@pytest.mark.parametrize(("value", "law"), [(0, "pcmu"), (8, "pcmu"), (8, "pcma"), (-8, "pcma")])
def test_digital_silence_is_neither_speech_nor_noise(value: int, law: str) -> None:
    # 8 and -8 are the smallest values that A-law has.
    wave = _with_pauses(speech_at(-26))
    noisy = wave + white(-60, len(wave))
    noisy = noisy[: len(noisy) // 160 * 160]
    spoken = _measure(noisy, law)
    silence = np.full(80_000, float(value))
    figures = _measure(np.concatenate([silence, noisy, silence]), law)
    assert figures.speech_level_dbov == pytest.approx(spoken.speech_level_dbov, abs=0.1)
    assert figures.noise_dbov == pytest.approx(spoken.noise_dbov, abs=0.1)
    assert figures.digital_silence_s == pytest.approx(20, abs=0.07)
    assert figures.total_s == pytest.approx(spoken.total_s + 20)

    only = _measure(silence, law)
    assert (only.speech_level_dbov, only.noise_dbov, only.speech_s) == (None, None, 0)
    assert only.digital_silence_s == pytest.approx(10, abs=0.03)
    assert only.peak_dbov == (None if value == 0 else pytest.approx(-72.2, abs=0.1))


def test_nothing_at_all() -> None:
    meters = Meters()
    assert meters.figures(meters.open()) == Figures(None, None, 0.0, 0.0, 0.0, None, 0, 0.0)


@pytest.mark.parametrize("clicks", [1, 2])
def test_a_click_is_no_speech(clicks: int) -> None:
    wave = white(-60, 80_000)
    for click in range(clicks):
        at = 20_000 + 30_000 * click
        wave[at : at + 240] = white(-15, 240)
    figures = _measure(wave)
    assert figures.speech_level_dbov is None
    assert figures.noise_dbov == pytest.approx(-60, abs=0.5)
    assert figures.peak_dbov is not None
    assert figures.peak_dbov > -12


def test_a_few_words_after_two_minutes_are_not_missed() -> None:
    words = speech_at(-26)[: 8000 * 2]
    quiet = white(-62, 8000 * 124)
    quiet[8000 * 121 : 8000 * 121 + len(words)] += words
    figures = _measure(quiet)
    assert figures.speech_level_dbov == pytest.approx(-26, abs=1)
    assert figures.speech_s > 0.5


# Peaks


@pytest.mark.parametrize("law", LAWS)
def test_peak_and_clipping(law: str) -> None:
    sine = 32767 * np.sin(2 * np.pi * 200 * np.arange(8000) / 8000)
    # The nearest value that the law has may be 3 % away.
    assert _measure(sine / 2, law).peak_dbov == pytest.approx(-6.02, abs=0.3)
    assert _measure(sine / 2, law).clipped == 0
    over = _measure(sine * 2, law)
    # Beyond half its height a sine is two thirds of the time.
    assert over.clipped == pytest.approx(8000 * 2 / 3, rel=0.05)
    assert over.clipped_s == pytest.approx(over.clipped / 8000)
    assert over.peak_dbov == pytest.approx(0, abs=0.2)


def test_a_loud_moment_is_not_clipped() -> None:
    wave = np.zeros(8000)
    wave[100:102] = 32767
    wave[200] = -32768
    wave[330:333] = -32124
    assert _measure(wave).clipped == 3


@given(codes=st.binary(min_size=1, max_size=500), law=st.sampled_from(sorted(LAWS)))
@settings(max_examples=100, deadline=None)
def test_peaks_are_of_every_sample(codes: bytes, law: str) -> None:
    coded = np.frombuffer(codes, np.uint8)
    peak = int(np.abs(g711.decode(law, coded).astype(np.int32)).max())
    meters = Meters()
    track = meters.open()
    _window(meters, [(track, LAWS[law], coded[None, :])], width=500)
    assert meters.figures(track).peak_dbov == (pytest.approx(dbov(peak**2)) if peak else None)


# How it is used


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 120), min_size=1, max_size=12), law=st.sampled_from(sorted(LAWS)))
def test_windows_make_no_difference(cuts: list[int], law: str) -> None:
    wave = _with_pauses(speech_at(-20))
    wave = np.tile(wave * 3 + white(-55, len(wave)), 2)
    wave[30_000:40_000] = 0
    packets = _packets(wave, law)
    meters = Meters()
    track, at, turn = meters.open(), 0, 0
    while at < len(packets):
        _window(meters, [(track, LAWS[law], packets[at : at + cuts[turn % len(cuts)]])])
        at += cuts[turn % len(cuts)]
        turn += 1
        if turn % 5 == 0:
            meters.figures(track)  # looking at them changes nothing
    assert meters.figures(track) == measure(packets.reshape(-1), LAWS[law])


@pytest.mark.parametrize("ms", [5, 10, 30, 40, 60])
def test_packets_of_other_lengths(ms: int) -> None:
    wave = _with_pauses(speech_at(-26))
    coded = g711.encode("pcma", pcm(wave + white(-55, len(wave))))
    whole = measure(coded, PCMA)
    figures = measure(coded, PCMA, packet=8 * ms, packets=1000 // ms)
    assert figures.speech_level_dbov == pytest.approx(whole.speech_level_dbov, abs=0.2)
    assert figures.noise_dbov == pytest.approx(whole.noise_dbov, abs=0.2)
    assert figures.speech_s == pytest.approx(whole.speech_s, rel=0.03)
    assert figures.peak_dbov == whole.peak_dbov
    assert figures.total_s == len(coded) // (8 * ms) * ms / 1000


def test_many_tracks_at_once_measure_as_each_alone() -> None:
    """Both laws, more packets than are taken in at once, other rows between, packets wider than their row."""
    count = CHUNK // 50 + 30
    meters = Meters()
    tracks = [meters.open() for _ in range(count)]
    wave = speech_at(-20)[: 8000 * 6] + white(-60, 8000 * 6)
    voices = {law: [_packets(wave * 10 ** (-n / 20), law) for n in range(5)] for law in LAWS}
    tone = np.zeros((2, 4), np.uint8)
    for at in range(0, 300, 50):
        stretches: list[tuple[int, int, Codes]] = []
        for number, track in enumerate(tracks):
            law = "pcma" if number % 3 else "pcmu"
            stretches.append((track, LAWS[law], voices[law][number % 5][at : at + 50]))
            if number % 40 == 7:
                stretches.append((track, TONE, tone))
        assert not _window(meters, stretches, width=172).any()
    for number in (0, 1, 7, 8, count - 1):
        law = "pcma" if number % 3 else "pcmu"
        alone = measure(voices[law][number % 5].reshape(-1), LAWS[law])
        assert meters.figures(tracks[number]) == alone
    assert meters.figures_of(tracks) == [meters.figures(track) for track in tracks]


def test_rows_of_nobody_are_left_out() -> None:
    meters, packets = Meters(), _packets(speech_at(-26))[:150]
    track = meters.open()
    loud = np.full((3, 160), 0x80, np.uint8)
    for at in range(0, 150, 50):
        payload = np.concatenate([loud, packets[at : at + 50], loud])
        size, kind = np.full(56, 160, np.int32), np.full(56, PCMU, np.uint8)
        one = [np.array([value]) for value in (3, 53, track, 0)]
        meters.window(payload, size, kind, *one)
    assert meters.figures(track) == measure(packets.reshape(-1))


@pytest.mark.parametrize("width", [160, 172])
def test_rows_of_nobody_between_tracks(width: int) -> None:
    """Tracks of both laws, one of them too loud."""
    meters, wave = Meters(), _with_pauses(speech_at(-26))[:32_000]
    voices = {law: _packets(wave * gain, law) for law, gain in (("pcmu", 1.0), ("pcma", 30.0))}
    tracks = {law: meters.open() for law in LAWS}
    nobody = np.full((7, 160), 0x80, np.uint8)
    for at in range(0, 200, 50):
        parts = [voices["pcmu"][at : at + 50], nobody, voices["pcma"][at : at + 50], nobody]
        payload = np.full((114, width), 0x80, np.uint8)
        payload[:, :160] = np.concatenate(parts)
        kind = np.repeat(np.array([PCMU, OTHER, PCMA, OTHER], np.uint8), [50, 7, 50, 7])
        starts, order = np.array([0, 57]), np.array([tracks["pcmu"], tracks["pcma"]])
        bad = meters.window(payload, np.full(114, 160, np.int32), kind, starts, starts + 50, order, starts)
        assert bad.tolist() == [0, 0]
    for law, track in tracks.items():
        assert meters.figures(track) == measure(voices[law].reshape(-1), LAWS[law])
    assert meters.figures(tracks["pcma"]).clipped > 0


def test_two_streams_of_a_track() -> None:
    meters, packets = Meters(), _packets(_with_pauses(speech_at(-26)))[:200]
    track, other = meters.open(), meters.open()
    for at in range(0, 200, 50):
        parts = packets[at : at + 20], packets[at + 20 : at + 50]
        _window(meters, [(track, PCMU, parts[0]), (other, PCMU, packets[:5]), (track, PCMU, parts[1])])
    assert meters.figures(track) == measure(packets.reshape(-1))


def test_a_change_of_law_goes_on_in_the_same_figures() -> None:
    meters = Meters()
    track = meters.open()
    wave = _with_pauses(speech_at(-26))
    for law in LAWS:
        packets = _packets(wave + white(-60, len(wave)), law)
        for at in range(0, len(packets), 50):
            _window(meters, [(track, LAWS[law], packets[at : at + 50])])
    figures = meters.figures(track)
    assert figures.speech_level_dbov == pytest.approx(-26, abs=0.5)
    assert figures.noise_dbov == pytest.approx(-60, abs=0.5)


def test_what_is_no_sound_has_no_figures() -> None:
    meters = Meters()
    track = meters.open()
    packets = _packets(speech_at(-26))[:40]
    assert _window(meters, [(track, TONE, packets), (track, COMFORT_NOISE, packets)]).tolist() == [0, 0]
    assert _window(meters, [(track, OTHER, packets)]).tolist() == [40]
    assert meters.figures(track).total_s == 0
    assert meters.figures(track).peak_dbov is None


def test_empty_packets() -> None:
    meters = Meters()
    track = meters.open()
    nothing = np.zeros((3, 0), np.uint8)
    assert _window(meters, [(track, PCMU, nothing), (track, OPUS, nothing)]).tolist() == [0, 3]
    assert meters.figures(track).total_s == 0


def test_a_number_is_given_again() -> None:
    meters, packets = Meters(), _packets(speech_at(-26))
    numbers = [meters.open() for _ in range(200)]
    assert sorted(numbers) == list(range(200))
    _window(meters, [(17, PCMU, packets), (18, PCMU, packets)])
    kept = meters.figures(18)
    meters.close(17)
    assert meters.open() == 17
    assert meters.figures(17) == Figures(None, None, 0.0, 0.0, 0.0, None, 0, 0.0)
    assert meters.figures(18) == kept


def test_frames_of_which_no_power_is_known_have_no_level():
    counts = np.zeros((2, 3, BINS))
    counts[:, CHANGING, 60] = 500
    counts[1, RECENT, 60] = 500
    unknown, known = judge(counts)
    assert unknown.speech_level_dbov is None
    assert known.speech_level_dbov is not None
