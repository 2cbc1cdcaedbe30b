"""What is heard in turns of the codecs that a library decodes, against decoding all of it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from recorderd.codecs.formats import Format
from recorderd.codecs.registry import codec
from recorderd.media.streams import OTHER, PCMU
from recorderd.quality.figures import Figures
from recorderd.quality.library_turns import MOST_PACKETS, LibraryTurns, Packets
from recorderd.quality.meters import Meters
from tests.coders import Pcm, by_av, by_ffmpeg
from tests.quality_reference import judged
from tests.speech import pcm, speech_at, white

G722, GSM, L16 = Format("g722", 8000), Format("gsm", 8000), Format("l16", 16_000)
TYPE = 96


def talk(rate: int, seconds: int, level: float = -26, noise: float = -55) -> Pcm:
    """Somebody who speaks and pauses."""
    spoken = np.concatenate([speech_at(level, rate), np.zeros(3 * rate)])
    wave = np.resize(spoken, seconds * rate)
    return pcm(wave + white(noise, len(wave)))


def coded(known: Format, said: Pcm) -> NDArray[np.uint8]:
    """Packets of 20 ms, a row each."""
    if known is G722:
        return np.frombuffer(b"".join(by_av("g722", 16_000, said, 320)), np.uint8).reshape(-1, 160)
    if known is GSM:
        return np.frombuffer(by_ffmpeg("libgsm", "gsm", 8000, said), np.uint8).reshape(-1, 33)
    return said.astype(">i2").view(np.uint8).reshape(-1, 640)


class Listener:
    """Streams, each a track of its own, heard as the recorder hears them."""

    def __init__(self, known: Format, streams: int = 1) -> None:
        self.turns, self.meters = LibraryTurns(), Meters()
        self.streams = np.arange(streams)
        self.tracks = np.array([self.meters.open() for _ in self.streams])
        for stream in self.streams.tolist():
            self.turns.describe(stream, {TYPE: known})

    def second(self, rows: NDArray[np.uint8], second: int, kind: int = OTHER) -> NDArray[np.int32]:
        """The same second of every stream; how many packets of each are decodable."""
        count = len(self.streams)
        everything = np.tile(rows, (count, 1))
        size = np.full(len(everything), rows.shape[1], np.int32)
        given = Packets(
            everything,
            size,
            np.full(len(everything), kind, np.uint8),
            np.full(len(everything), TYPE, np.uint8),
        )
        ends = len(rows) * np.arange(1, count + 1)
        seconds = np.full(count, second, np.int32)
        heard = self.turns.hear(given, ends - len(rows), ends, self.streams, seconds)
        self.meters.decoded(heard.loudness, heard.starts, heard.stretches, self.tracks, heard.samples)
        return heard.decodable

    def all_of(self, rows: NDArray[np.uint8]) -> None:
        for second in range(len(rows) // 50):
            self.second(rows[50 * second : 50 * second + 50], second)

    def figures(self, number: int = 0) -> Figures:
        return self.meters.figures(int(self.tracks[number]))


@pytest.mark.parametrize("known", [G722, GSM, L16], ids=lambda known: known.name)
@pytest.mark.parametrize("seconds", [10, 60])
def test_level_and_noise_are_those_of_all_of_it(known: Format, seconds: int) -> None:
    how = codec(known)
    assert how is not None
    rows = coded(known, talk(how.native_rate, seconds))
    listener = Listener(known)
    listener.all_of(rows)
    decoder = how.decoder()
    everything = np.concatenate([decoder.decode(row.tobytes()) for row in rows])[:, 0]
    whole = judged(everything[: len(everything) // 320 * 320].reshape(-1, how.native_rate // 50))
    figures = listener.figures()
    assert figures.speech_level_dbov == pytest.approx(whole.speech_level_dbov, abs=1)
    assert figures.noise_dbov == pytest.approx(whole.noise_dbov, abs=1.5)
    assert figures.total_s == pytest.approx(seconds, abs=0.1)
    assert listener.turns.unheard(0) == 0


def test_a_muted_microphone() -> None:
    listener = Listener(L16)
    listener.all_of(np.zeros((50 * 20, 640), np.uint8))
    figures = listener.figures()
    assert figures.speech_level_dbov is None
    assert figures.digital_silence_s == pytest.approx(20, abs=0.2)


def test_what_is_decoded_of_a_window_is_bounded_and_everybody_has_their_turn() -> None:
    streams = 5 * MOST_PACKETS // 50
    rows = coded(L16, talk(16_000, 10))
    listener = Listener(L16, streams)
    listener.second(rows[:50], 0)
    waiting = sum(listener.turns.unheard(stream) > 0 for stream in range(streams))
    assert waiting == streams - MOST_PACKETS // 50
    for second in range(1, 5):
        listener.second(rows[50 * second : 50 * second + 50], second)
    assert not any(listener.turns.unheard(stream) for stream in range(streams))
    for stream in range(streams):
        assert listener.figures(stream).total_s == pytest.approx(5)


def test_malformed_packets_are_not_decodable() -> None:
    listener = Listener(GSM)
    rows = coded(GSM, talk(8000, 1))[:50]
    assert listener.second(rows, 0).tolist() == [50]
    assert listener.second(rows[:, :20], 1).tolist() == [0]
    assert listener.second(rows, 2, kind=PCMU).tolist() == [0], "not its business"


def test_streams_of_formats_that_are_unknown() -> None:
    listener = Listener(Format("evs", 16_000))
    assert listener.second(np.zeros((50, 60), np.uint8), 0).tolist() == [0]
    listener.turns.forget(0)
    assert listener.second(np.zeros((50, 60), np.uint8), 1).tolist() == [0]
