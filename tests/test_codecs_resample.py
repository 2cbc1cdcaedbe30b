"""Rates changed block by block, against sines whose samples at the other rate are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from recorderd.codecs.resample import resample

RATES = (8000, 12000, 16000, 24000, 48000)


def _sine(frequency: float, rate: int, count: int, channels: int = 1) -> NDArray[np.float64]:
    wave = 10_000 * np.sin(2 * np.pi * frequency * np.arange(count) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def _ratio_db(wanted: NDArray[np.float64], got: NDArray[np.int16]) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()))


@pytest.mark.parametrize("target", RATES)
@pytest.mark.parametrize("source", RATES)
def test_a_tone_stays_the_same_tone(source: int, target: int) -> None:
    sine = np.rint(_sine(1000, source, source)).astype(np.int16)
    got = resample(sine, source, target)
    assert got.shape == (target, 1)
    inner = slice(target // 50, -target // 50)
    assert _ratio_db(_sine(1000, target, target)[inner], got[inner]) > 70


def test_equal_rates_cost_nothing() -> None:
    samples = np.zeros((160, 2), np.int16)
    assert resample(samples, 8000, 8000) is samples


@pytest.mark.parametrize("count", [0, 1, 2, 3, 159, 160])
def test_short_blocks_have_their_length(count: int) -> None:
    block = np.full((count, 2), 1000, np.int16)
    for target in RATES:
        got = resample(block, 8000, target)
        assert got.shape == (count * target // 8000, 2)
        assert (np.abs(got - 1000) <= 1).all()
    assert resample(block, 48000, 8000).shape == (count // 6, 2)


def test_packets_join_without_a_click() -> None:
    sine = np.rint(_sine(440, 8000, 8000, channels=2)).astype(np.int16)
    got = np.concatenate([resample(sine[at : at + 160], 8000, 48000) for at in range(0, 8000, 160)])
    assert _ratio_db(_sine(440, 48000, 48000, channels=2), got) > 30


def test_what_the_lower_rate_cannot_hold_is_taken_out() -> None:
    high = np.rint(_sine(7000, 48000, 48000)).astype(np.int16)
    got = resample(high, 48000, 8000)
    assert np.abs(got[100:-100]).max() < 30
