"""Tones of keys are found as ITU-T Q.24 asks for, and speech is not taken for them."""

import numpy as np
import pytest

from recorderd.codecs.g711 import PCMU
from recorderd.media.dtmf import BLOCK, HIGH, LOW, find_tones
from tests.speech import speech

MORE = (
    "She sells sea shells by the sea shore while twenty seven singers sing. "
    "Eleven elephants eloquently explained: oh, ooh, aah, eee, do re mi fa so la ti do. "
    "Nine nine nine, seven seven five one."
)


def coded(wave):
    """As mu-law has it."""
    table = PCMU.table.astype(np.int32)
    values = np.sort(np.unique(table))
    return values[np.searchsorted((values[1:] + values[:-1]) / 2, wave)].astype(np.int16)


def amplitude(dbm0: float) -> float:
    """Of a sine; the loudest that mu-law has is 3.17 dBm0 (ITU-T G.711)."""
    return 32124 * 10 ** ((dbm0 - 3.17) / 20)


def key(rng, ms, level=-10.0, twist=0.0, off=0.0, noise=None, after=500):
    """(samples with a key somewhere, where it begins, where it ends)."""
    begin, length = 400 + int(rng.integers(0, 160)), round(ms * 8)
    wave = np.zeros(begin + length + after)
    time = np.arange(length) / 8000
    for frequency, loud in ((rng.choice(LOW), level), (rng.choice(HIGH), level + twist)):
        sine = np.sin(2 * np.pi * frequency * (1 + off) * time + rng.uniform(0, 6.28))
        wave[begin : begin + length] += amplitude(loud) * sine
    if noise is not None:
        wave += rng.normal(0, amplitude(noise) / np.sqrt(2), len(wave))
    return coded(wave), begin, begin + length


def silenced(samples, cut: int | None = None):
    """Which samples are made silent; ``cut``: in two windows."""
    marks, goes_on = [], False
    for part in (samples,) if cut is None else (samples[:cut], samples[cut:]):
        blocks = np.zeros(-(-len(part) // BLOCK) * BLOCK, np.int16)
        blocks[: len(part)] = part
        found = find_tones(blocks.reshape(-1, BLOCK), np.array([0]), np.array([goes_on]))
        goes_on = bool(found.ends[0])
        marks.append(np.repeat(found.blocks, BLOCK)[: len(part)])
    return np.concatenate(marks)


@pytest.mark.parametrize(
    "of",
    [
        *({"ms": 40, "level": level} for level in (0, -3, -10, -24, -36)),
        *({"ms": 50, "off": off} for off in (0.015, -0.015)),
        *({"ms": 50, "twist": twist} for twist in (4, -8)),
        *({"ms": 50, "level": -15, "noise": -15 - snr} for snr in (24, 15, 10)),
        {"ms": 300, "level": -20},
    ],
)
def test_a_key_is_silent_from_its_beginning_to_its_end(of):
    rng = np.random.default_rng(3)
    for _ in range(100):
        samples, begin, end = key(rng, **of)
        marks = silenced(samples)
        assert marks[begin:end].all()
        assert not marks[: begin - 3 * BLOCK].any()
        assert not marks[end + 3 * BLOCK :].any()


@pytest.mark.parametrize(
    "of", [{"ms": 50, "off": 0.035}, {"ms": 50, "off": -0.035}, {"ms": 10}, {"ms": 50, "level": -60}]
)
def test_what_is_no_key_stays(of):
    rng = np.random.default_rng(4)
    for _ in range(100):
        assert not silenced(key(rng, **of)[0]).any()


def test_a_window_may_end_in_a_key():
    """Hardly more than a hundredth of a second of it is left."""
    rng = np.random.default_rng(5)
    worst = 0
    for _ in range(400):
        samples, begin, end = key(rng, 60)
        cut = (begin + int(rng.integers(0, end - begin))) // 160 * 160
        worst = max(worst, int(np.count_nonzero(~silenced(samples, cut)[begin:end])))
    assert worst <= 100


@pytest.mark.parametrize("voice", ["en", "en+f3", "de", "fr"])
def test_speech_stays(voice):
    wave = np.concatenate([speech(voice=voice), speech(voice=voice, text=MORE)])
    for gain in (0.3, 1.0):
        marks = silenced(coded(np.clip(wave * gain, -32000, 32000)))
        assert np.count_nonzero(marks) <= len(marks) // 1000


def test_streams_do_not_touch_one_another():
    rng = np.random.default_rng(6)
    tone, *_ = key(rng, 200)
    tone = tone[: len(tone) // BLOCK * BLOCK].reshape(-1, BLOCK)
    quiet = np.zeros((1, BLOCK), np.int16)
    blocks = np.concatenate([quiet, tone[8:12], quiet, quiet])
    found = find_tones(blocks, np.array([0, 1, 5, 6]), np.zeros(4, np.bool_))
    assert found.blocks.tolist() == [False, True, True, True, True, False, False]
    assert found.ends.tolist() == [False, True, False, False]


def test_one_block_is_a_stream_too():
    found = find_tones(np.zeros((1, BLOCK), np.int16), np.array([0]), np.array([True]))
    assert (found.blocks.tolist(), found.ends.tolist()) == ([True], [False])
