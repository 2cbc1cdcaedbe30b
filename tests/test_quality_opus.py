"""What is heard of Opus in turns, against decoding all of it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from recorderd.media.streams import OPUS
from recorderd.quality.figures import Figures
from recorderd.quality.meters import Meters
from tests.quality_reference import opus_packets, reference
from tests.simulators.script import OpusSettings
from tests.simulators.signals import Samples, Signal, Speech
from tests.speech import pcm, speech_at, white

Packets = tuple[NDArray[np.uint8], NDArray[np.int32]]

SETTINGS = {
    "mono": OpusSettings(),
    "stereo": OpusSettings(channels=2, bitrate=48_000),
    "narrowband": OpusSettings(bitrate=12_000, bandwidth="nb"),
    "fec": OpusSettings(bitrate=20_000, bandwidth="wb", inband_fec=True),
    "dtx": OpusSettings(dtx=True),
}
TALKS = (
    "I am calling about the delivery that should have come last Tuesday. No, nothing at all arrived.",
    "Yes, that is right. Seven, three, nine, zero, two. Thank you very much indeed, goodbye.",
    "Let me see what I can do for you. Here it is, I have found your order now.",
)


def _conversation(seed: int, seconds: int, noise: float = -58) -> Samples:
    """Somebody who speaks, pauses, and is not always as loud: at 48 kHz."""
    rng = np.random.default_rng(seed)
    pieces: list[NDArray[np.float64]] = []
    while sum(map(len, pieces)) < 48_000 * seconds:
        loud = speech_at(
            -26 + rng.normal(0, 1.5), 48_000, ("en", "de", "fr")[seed % 3], TALKS[rng.integers(3)]
        )
        pieces += [loud, np.zeros(int(rng.uniform(0.4, 5) * 48_000))]
    wave = np.concatenate(pieces)[: 48_000 * seconds]
    return Samples(pcm(wave + white(noise, len(wave), seed)))


def _measure(packets: Packets, window: int = 50, meters: Meters | None = None) -> Figures:
    payload, size = packets
    meters = meters or Meters()
    track = meters.open()
    for at in range(0, len(size), window):
        part = slice(at, at + window)
        _hear(meters, track, payload[part], size[part])
    return meters.figures(track)


def _hear(meters: Meters, track: int, payload: NDArray[np.uint8], size: NDArray[np.int32]) -> int:
    kind, ends = np.full(len(size), OPUS, np.uint8), np.array([len(size)])
    return int(meters.window(payload, size, kind, ends * 0, ends, np.array([track]), np.array([0]))[0])


@pytest.mark.parametrize("name", SETTINGS)
def test_a_minute_measures_as_all_of_it_does(name: str) -> None:
    for seed in range(3):
        packets = opus_packets(_conversation(seed, 60), SETTINGS[name], 60)
        figures, whole = _measure(packets), reference(*packets)
        assert figures.speech_level_dbov == pytest.approx(whole.speech_level_dbov, abs=1)
        if name != "dtx":  # there is hardly any noise where silence is not sent
            assert figures.noise_dbov == pytest.approx(whole.noise_dbov, abs=1)
        assert figures.speech_s == pytest.approx(whole.speech_frames / 50, rel=0.2)
        assert figures.total_s == 60


@pytest.mark.parametrize("seed", range(3))
def test_ten_seconds(seed: int) -> None:
    packets = opus_packets(_conversation(seed, 10), SETTINGS["mono"], 10)
    figures, whole = _measure(packets), reference(*packets)
    assert figures.speech_level_dbov == pytest.approx(whole.speech_level_dbov, abs=1.5)
    assert figures.noise_dbov == pytest.approx(whole.noise_dbov, abs=1)


@pytest.mark.parametrize("ms", [10, 40, 60])
def test_packets_of_other_lengths(ms: int) -> None:
    signal = _conversation(1, 30)
    whole = reference(*opus_packets(signal, SETTINGS["mono"], 30))
    figures = _measure(opus_packets(signal, SETTINGS["mono"], 30, ms), window=1000 // ms)
    assert figures.speech_level_dbov == pytest.approx(whole.speech_level_dbov, abs=1.5)
    assert figures.noise_dbov == pytest.approx(whole.noise_dbov, abs=1)
    assert figures.total_s == pytest.approx(30, abs=0.06)


@pytest.mark.parametrize("signal", [Speech(1), Speech(2, gain=0.2)])
def test_who_never_pauses(signal: Signal) -> None:
    packets = opus_packets(signal, SETTINGS["fec"], 60)
    figures, whole = _measure(packets), reference(*packets)
    assert figures.speech_level_dbov == pytest.approx(whole.speech_level_dbov, abs=1)


@pytest.mark.parametrize("level", [-65, -45, -30])
def test_noise_is_no_speech(level: float) -> None:
    noise = Samples(pcm(white(level, 48_000 * 30)))
    packets = opus_packets(noise, SETTINGS["mono"], 30)
    figures, whole = _measure(packets), reference(*packets)
    assert figures.speech_level_dbov is None
    assert figures.noise_dbov == pytest.approx(whole.noise_dbov, abs=1)


def test_silence_that_is_not_sent() -> None:
    payload, size = opus_packets(_conversation(2, 30), SETTINGS["dtx"], 30)
    unsent = np.count_nonzero(size <= 2) / 50
    figures = _measure((payload, size))
    assert unsent > 3
    assert figures.digital_silence_s == pytest.approx(unsent, abs=0.1)
    assert figures.total_s == 30


def test_many_streams_measure_as_each_alone() -> None:
    calls = [opus_packets(_conversation(seed, 30), SETTINGS["mono"], 30) for seed in range(3)]
    width = max(payload.shape[1] for payload, _ in calls)
    wide = [np.pad(payload, ((0, 0), (0, width - payload.shape[1]))) for payload, _ in calls]
    meters = Meters()
    tracks = np.array([meters.open() for _ in range(9)])
    for at in range(0, 1500, 50):
        payload = np.concatenate([wide[n % 3][at : at + 50] for n in range(9)])
        size = np.concatenate([calls[n % 3][1][at : at + 50] for n in range(9)])
        ends = np.arange(50, 451, 50)
        meters.window(payload, size, np.full(450, OPUS, np.uint8), ends - 50, ends, tracks, tracks)
    for number, track in enumerate(tracks.tolist()):
        assert meters.figures(track) == _measure(calls[number % 3])
    silent = meters.open()
    together = meters.figures_of([silent, *tracks.tolist()])
    assert together == [meters.figures(track) for track in (silent, *tracks.tolist())]


def test_nothing_is_left_of_a_track_whose_number_is_given_again() -> None:
    noise = opus_packets(Samples(pcm(white(-58, 48_000 * 12))), SETTINGS["fec"], 12)
    calls = [opus_packets(_conversation(seed, 12), SETTINGS["dtx"], 12) for seed in range(2)]
    meters = Meters()
    for call in (noise, *calls):
        assert _measure(call, meters=meters) == _measure(call)
        meters.close(0)


def test_malformed_packets_are_counted() -> None:
    meters = Meters()
    track = meters.open()
    payload = np.zeros((50, 40), np.uint8)
    size = np.full(50, 40, np.int32)
    payload[:, :2] = (0x0B, 0x00)  # code 3 without frames: the first bytes tell
    assert _hear(meters, track, payload, size) == 50
    payload[:, :2] = (0x0A, 0xFC)  # code 2: the first frame is longer than the packet; decoding tells
    assert _hear(meters, track, payload, size) == 50
    assert _hear(meters, track, payload[:, :1], np.minimum(size, 1)) == 0  # DTX
    assert _hear(meters, track, payload[:, :0], size * 0) == 50  # nothing at all, in no packet of the window
    figures = meters.figures(track)
    assert figures.speech_level_dbov is None
    assert figures.peak_dbov is None


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_are_measured_or_malformed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    meters = Meters()
    track = meters.open()
    for _ in range(5):
        payload = rng.integers(0, 256, (60, 90), dtype=np.uint8)
        size = rng.integers(0, 91, 60).astype(np.int32)
        assert 0 <= _hear(meters, track, payload, size) <= 60
    meters.figures(track)
