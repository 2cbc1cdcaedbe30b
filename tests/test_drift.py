"""Speakers whose clocks run fast or slow: an hour later they are still together, and nobody hears how."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.media.drift import LOW_US, drift_of, low_of
from recorderd.media.stretch import Stretch
from tests.recorder import record, samples
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Hold, Impairment, NewSource, Pause

EVERY_S = 60
BEEP = 400
"""Samples of a beep, at 8 kHz."""


@dataclass(frozen=True)
class Beeps:
    """A short beep once a minute by the true time, over something quiet, of a sender with this drift."""

    drift_ppm: float

    def window(self, starts, count, rate):
        at = (starts[:, None] + np.arange(count)).astype(np.int32)
        wave = (at % 17 * 8).astype(np.int16)
        since = at % self.spacing(rate)
        loud = (since < BEEP * rate // 8000) & (at >= self.spacing(rate))
        wave[loud] = 8000 * np.sin(since[loud] * (0.7 * 8000 / rate) + 1.5)
        return wave

    def spacing(self, rate=8000):
        return round(EVERY_S * rate * (1 + self.drift_ppm * 1e-6))


def beeps_in(audio):
    """Where beeps begin; those that lost a packet tell nothing."""
    loud = np.flatnonzero(np.abs(audio.astype(np.int32)) > 1000)
    edges = np.flatnonzero(np.diff(loud, prepend=-8000) > 4000)
    ends = loud[[*(edges[1:] - 1), len(loud) - 1]]
    begins = loud[edges]
    return begins[(ends - begins > 0.97 * BEEP) & (np.add.reduceat(np.ones(len(loud)), edges) > 0.7 * BEEP)]


def beeps_heard(audio, start_us, side, every):
    """By how many ms each beep of a track is beside the time at which it was made, by its number."""
    found = start_us / 1e6 + beeps_in(audio) / 8000
    errors = {}
    for number in range(1, side.length // every):
        true_s = side.time_of(number * every) / 1e9
        near = found[np.abs(found - true_s) < 1]
        if len(near):
            errors[number] = float(near[0] - true_s) * 1e3
    return errors


def drifted_call(minutes, caller_ppm, callee_ppm, **more):
    simulator = PbxSimulator(seed=31)
    script = CallScript(
        talk_s=60 * minutes + 5,
        ptime_ms=60,
        caller_drift_ppm=caller_ppm,
        callee_drift_ppm=callee_ppm,
        caller_signal=Beeps(caller_ppm),
        callee_signal=Beeps(callee_ppm),
        **more,
    )
    return simulator, simulator.add(script)


def errors_of(recorded, truth):
    """What :func:`beeps_heard` says of either side."""
    heard, _ = recorded.heard(recorded.of(truth))
    return {
        side.side: beeps_heard(
            samples(heard, side.side), heard.start_us, side, Beeps(side.drift_ppm).spacing(side.clock_rate)
        )
        for side in (truth.caller, truth.callee)
    }


ROUGH = Impairment(loss=0.01, burst=3, jitter_ms=30, reorder=0.002, reorder_ms=90)


@pytest.mark.parametrize(("minutes", "ppm"), [(60, 100.0), (15, 50.0)])
def test_an_hour_later_both_speakers_are_still_together(tmp_path, minutes, ppm):
    quiet = tuple(Pause(40 + 60 * n, 12, side="callee") for n in range(minutes))
    simulator, truth = drifted_call(
        minutes, ppm, -ppm, caller_network=ROUGH, callee_network=ROUGH, happenings=quiet
    )
    recorded = record(tmp_path, simulator)
    errors = errors_of(recorded, truth)
    both = errors["caller"].keys() & errors["callee"].keys()
    assert len(both) >= minutes * 2 / 3
    assert max(both) >= minutes - 3
    assert max(abs(errors["caller"][n] - errors["callee"][n]) for n in both) < 5
    assert max(abs(error) for of in errors.values() for error in of.values()) < 5
    row = recorded.of(truth)
    for side in (truth.caller, truth.callee):
        track = recorded.track(row, side.side)
        lasts = (side.time_of(side.length) - side.time_of(0)) / 1e9
        assert track["duration_s"] == pytest.approx(lasts, abs=0.13)
        assert track["clock_ppm"] == pytest.approx(side.drift_ppm, abs=1)


def test_through_hold_and_new_sources(tmp_path):
    changes = (
        Hold(130, 20),
        NewSource(250),
        NewSource(300, side="callee"),
        Hold(400, 15, by="callee", style="inactive"),
    )
    simulator, truth = drifted_call(12, 150.0, -150.0, caller_network=ROUGH, happenings=changes)
    recorded = record(tmp_path, simulator)
    errors = errors_of(recorded, truth)
    assert all(len(of) >= 8 and max(map(abs, of.values())) < 3 for of in errors.values())


def test_opus(tmp_path):
    simulator, truth = drifted_call(4, 300.0, -300.0, codec="opus")
    recorded = record(tmp_path, simulator)
    errors = errors_of(recorded, truth)
    # The codec's own delay is part of it, the same for both.
    assert all(len(of) >= 3 and max(map(abs, of.values())) < 10 for of in errors.values())
    assert max(abs(errors["caller"][n] - errors["callee"][n]) for n in errors["caller"]) < 1


@pytest.mark.parametrize("drift_ppm", [0.0, 3.0, -4.0])
def test_without_drift_every_sample_stays_as_it_was_sent(tmp_path, drift_ppm):
    simulator, truth = drifted_call(10, drift_ppm, 0.0, caller_network=Impairment(jitter_ms=30))
    recorded = record(tmp_path, simulator)
    heard, _ = recorded.heard(recorded.of(truth))
    said, got = truth.caller.samples(), samples(heard, "caller")
    begin = int(np.flatnonzero(got)[0] - np.flatnonzero(said)[0])
    assert np.array_equal(got[begin:], said[: len(got) - begin])
    assert recorded.track(recorded.of(truth), "caller")["clock_ppm"] is None


@pytest.mark.parametrize("rate", [8000, 48_000])
@pytest.mark.parametrize("frequency", [300, 1000, 3000])
@pytest.mark.parametrize("drift", [1e-4, -5e-5, 1e-3])
def test_a_tone_stays_a_tone(rate, frequency, drift):
    """The distortion and noise of a tone are 65 dB below it, whatever its pieces; G.711's own are 38."""
    sent = np.rint(10_000 * np.sin(2 * np.pi * frequency / rate * np.arange(10 * rate))).astype(np.int16)
    stretch = Stretch(0, drift)
    blocks = np.split(np.concatenate([np.zeros(-stretch.first(0), np.int16), sent]), [7, 170, 9_000, 9_001])
    made = np.concatenate(list(stretch.blocks((block[:, None] for block in blocks), 0)))[:, 0]
    assert len(made) == pytest.approx(len(sent) * (1 + drift), abs=1)
    ideal = 10_000 * np.sin(2 * np.pi * frequency / rate * np.arange(len(made)) / (1 + drift))
    inner = slice(100, -100)
    error = (made - ideal)[inner]
    assert 10 * np.log10((ideal[inner] ** 2).mean() / (error**2).mean()) > 65


def test_a_stretch_of_next_to_nothing():
    stretch = Stretch(0, 1e-4)
    assert list(stretch.blocks([], 0)) == []
    (made,) = stretch.blocks([np.full((18, 2), 9, np.int16)], 20)
    assert made.shape == (3, 2)
    assert list(stretch.blocks([np.full((3, 1), 9, np.int16)], 10_000)) == []


def lows(ppm, *, minutes=20, noise_us=0.0, seed=0, steps=()):
    rng = np.random.default_rng(seed)
    numbers = np.arange(60 * minutes * 1_000_000 // LOW_US)
    skew = -ppm * 1e-6 * numbers * LOW_US + rng.exponential(noise_us, len(numbers))
    for at, by in steps:
        skew[round(at * len(skew)) :] += by
    return [low_of(int(number), float(value)) for number, value in zip(numbers, skew, strict=True)]


@settings(max_examples=60, deadline=None)
@given(
    st.floats(20, 900), st.sampled_from([-1, 1]), st.integers(2, 120), st.floats(0, 300), st.integers(0, 99)
)
def test_drift_is_found_and_its_sign(ppm, sign, minutes, noise_us, seed):
    found = drift_of(lows(sign * ppm, minutes=minutes, noise_us=noise_us, seed=seed))
    assert -found * 1e6 == pytest.approx(sign * ppm, abs=1 + 40 / minutes)


@pytest.mark.parametrize(
    "what",
    [
        lows(100, minutes=1),
        lows(0, noise_us=3_000),
        lows(0, minutes=2, noise_us=20_000),
        lows(4, minutes=120),
        lows(20_000),
        lows(0, steps=[(0.5, 40_000), (0.6, -40_000)]),
        lows(0, steps=[(0.85, 40_000)]),
    ],
    ids=["too short", "jitter", "bad network", "hardly any", "no crystal", "a detour", "another route"],
)
def test_what_is_no_drift(what):
    assert drift_of(what) == 0.0


def test_some_bad_minutes_do_not_hide_a_drift():
    found = drift_of(lows(50, minutes=60, noise_us=200, steps=[(0.3, 60_000), (0.4, -60_000)]))
    assert -found * 1e6 == pytest.approx(50, abs=2)
