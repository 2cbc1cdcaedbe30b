"""Who is listened to in turns measures as one who is listened to all the time."""

import numpy as np
import pytest
from numpy.typing import NDArray

from recorderd.media.streams import PCMU
from recorderd.quality.figures import Figures
from recorderd.quality.meters import Meters
from recorderd.quality.turns import AT_FIRST_S, AT_MOST_S, EVERY_S, TURN_S, in_turn
from tests.noises import pink
from tests.simulators import g711
from tests.simulators.signals import Speech
from tests.speech import Wave, pcm, speech_at, white

MINUTE = 60 * 8000


def _in_seconds(waves: list[Wave], first_stream: int, *, in_turns: bool) -> list[Figures]:
    """Measure tracks together, a second at a time."""
    meters = Meters()
    tracks = np.array([meters.open() for _ in waves])
    coded = [g711.encode("pcmu", pcm(wave)).reshape(-1, 50, 160) for wave in waves]
    starts = 50 * np.arange(len(waves))
    stream = first_stream + np.arange(len(waves))
    size, kind = np.full(50 * len(waves), 160, np.int32), np.full(50 * len(waves), PCMU, np.uint8)
    for second in range(len(coded[0])):
        payload = np.concatenate([track[second] for track in coded])
        seconds = np.full(len(waves), second, np.int32) if in_turns else None
        meters.window(payload, size, kind, starts, starts + 50, tracks, stream, seconds)
    return [meters.figures(int(track)) for track in tracks]


def _voices() -> list[Wave]:
    """Two minutes each: real voices with pauses over noises, and the simulators' speech."""
    waves = []
    for voice, level, noise in (("en", -26, -60), ("de", -20, -45), ("fr", -36, -65)):
        said = speech_at(level, voice=voice)
        pause = np.zeros(3 * 8000)
        whole = np.tile(np.concatenate([said, pause]), 12)[: 2 * MINUTE]
        waves.append(whole + (white if noise < -50 else pink)(noise, len(whole)))
    ticks = np.arange(2 * 3000) * 160
    waves += [Speech(seed).window(ticks, 160, 8000).reshape(-1).astype(np.float64) for seed in range(6)]
    return waves


@pytest.mark.parametrize("first_stream", [0, 1, 2])
@pytest.mark.parametrize("minutes", [1, 2])
def test_level_and_noise_are_those_of_all_of_it(first_stream: int, minutes: int) -> None:
    waves = [wave[: minutes * MINUTE] for wave in _voices()]
    some = _in_seconds(waves, first_stream, in_turns=True)
    everything = _in_seconds(waves, first_stream, in_turns=False)
    for heard, full in zip(some, everything, strict=True):
        assert heard.speech_level_dbov == pytest.approx(full.speech_level_dbov, abs=1)
        assert heard.noise_dbov == pytest.approx(full.noise_dbov, abs=1)
        assert heard.total_s == full.total_s
        assert heard.speech_s == pytest.approx(full.speech_s, rel=0.25)


def test_who_speaks_late_is_heard() -> None:
    wave = np.zeros(MINUTE)
    wave[45 * 8000 : 53 * 8000] = speech_at(-26)[: 8 * 8000]
    for stream in range(3):
        (figures,) = _in_seconds([wave], stream, in_turns=True)
        assert figures.speech_level_dbov == pytest.approx(-26, abs=1)


def test_a_noise_that_comes_up_shows() -> None:
    said = np.tile(np.concatenate([speech_at(-26), np.zeros(16_000)]), 12)[: 2 * MINUTE]
    noise = np.concatenate([white(-70, 16 * 8000), white(-40, 104 * 8000, seed=2)])
    for stream in range(3):
        (some,) = _in_seconds([said + noise], stream, in_turns=True)
        (full,) = _in_seconds([said + noise], stream, in_turns=False)
        assert full.noise_dbov == pytest.approx(-40.5, abs=1)
        assert some.noise_dbov == pytest.approx(full.noise_dbov, abs=1)


def _turns(stream: int, known: bool, seconds: int = 200) -> NDArray[np.bool_]:
    ones = np.ones(seconds, np.int32)
    return in_turn(np.arange(seconds, dtype=np.int32), stream * ones, known * ones.astype(np.bool_))


def test_turns() -> None:
    for stream in range(12):
        heard = _turns(stream, known=True)
        assert heard[:AT_FIRST_S].all()
        later = heard[AT_FIRST_S:]
        assert later.reshape(-1)[: 12 * (len(later) // 12)].reshape(-1, EVERY_S).sum(axis=1).tolist() == (
            [TURN_S] * (len(later) // EVERY_S)
        )
        assert _turns(stream, known=False)[:AT_MOST_S].all()
        assert not _turns(stream, known=False)[AT_MOST_S:].all()
    # Every second costs the same.
    together = np.sum([_turns(stream, known=True) for stream in range(3)], axis=0)
    assert set(together[AT_FIRST_S:].tolist()) == {1}
