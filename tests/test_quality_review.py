"""Which tracks are put forward for a review, and in which words."""

from typing import Any

import pytest

from recorderd.quality.figures import Figures
from recorderd.quality.review import CODES, Gap, Review, Thresholds, TrackFacts, review

FIGURES = Figures(
    speech_level_dbov=-26.0,
    noise_dbov=-60.0,
    speech_s=20.0,
    total_s=60.0,
    digital_silence_s=0.0,
    peak_dbov=-10.0,
    clipped=0,
    clipped_s=0.0,
)
LIMITS = Thresholds()


def _track(label: str = "caller", **changes: Any) -> TrackFacts:
    facts = TrackFacts(label, FIGURES, packets=3000, lost=0, late=0, duplicates=0, gaps=(), duration_s=60.0)
    return facts._replace(**changes)


def _figures(**changes: Any) -> Figures:
    return FIGURES._replace(**changes)


def _review(*tracks: TrackFacts, limits: Thresholds = LIMITS) -> Review:
    return review(tracks, limits, [track.label for track in tracks])


def test_a_good_call_needs_none() -> None:
    verdict = review([_track("caller"), _track("callee")], LIMITS)
    assert not verdict.needed
    assert verdict.causes == ()


@pytest.mark.parametrize(
    ("figures", "code", "text"),
    [
        (_figures(speech_level_dbov=None, speech_s=0.0), "silent", "caller: silent"),
        (_figures(speech_level_dbov=-60.01), "silent", "caller: silent"),
        (_figures(speech_s=0.29), "silent", "caller: silent"),
        (_figures(speech_level_dbov=-41.2), "low", "caller: level -41.2 dBov"),
        (_figures(noise_dbov=-38.0), "noisy", "caller: noise -38.0 dBov"),
        (_figures(clipped=480, clipped_s=0.06), "clipped", "caller: clipped 0.3%"),
    ],
)
def test_what_is_wrong_with_the_sound(figures: Figures, code: str, text: str) -> None:
    verdict = _review(_track(figures=figures))
    assert verdict.needed
    assert verdict.causes == (text,)
    assert [(cause.code, cause.track) for cause in verdict.details] == [(code, "caller")]


@pytest.mark.parametrize(
    "figures",
    [
        _figures(speech_level_dbov=-36.0),
        _figures(noise_dbov=-45.0),
        _figures(noise_dbov=None),
        _figures(clipped=160, clipped_s=0.02),
        _figures(speech_s=0.3),
        _figures(digital_silence_s=40.0),
    ],
)
def test_at_the_threshold_nothing_is_wrong_yet(figures: Figures) -> None:
    assert not _review(_track(figures=figures)).needed


def test_quiet_speech_over_some_noise() -> None:
    """Neither is out of bounds, but they are too close."""
    verdict = _review(_track(figures=_figures(speech_level_dbov=-35.0, noise_dbov=-48.0)))
    assert verdict.causes == ("caller: noise -48.0 dBov",)


def test_a_short_track_may_be_silent() -> None:
    silent = _figures(speech_level_dbov=None, speech_s=0.0, noise_dbov=-30.0)
    assert not _review(_track(figures=silent, duration_s=2.9)).needed
    assert _review(_track(figures=silent, duration_s=3.0)).causes == (
        "caller: silent",
        "caller: noise -30.0 dBov",
    )


def test_gaps_are_counted_from_a_length_on() -> None:
    gaps = [Gap(1.0, 0.2, "network"), Gap(5.0, 0.42, "capture"), Gap(9.0, 0.19, "network")]
    verdict = _review(_track("callee", gaps=gaps))
    assert verdict.causes == ("callee: 2 gaps, longest 0.42 s",)
    assert verdict.details[0].value == 0.42
    assert _review(_track(gaps=gaps[:1])).causes == ("caller: 1 gap, longest 0.20 s",)
    assert not _review(_track(gaps=gaps[2:])).needed


def test_what_the_disk_did_not_take_is_a_cause_of_its_own() -> None:
    gaps = [Gap(1.0, 0.02, "disk"), Gap(5.0, 1.0, "disk")]
    verdict = _review(_track(gaps=gaps, unwritten=51))
    assert verdict.causes == ("caller: 1.02 s could not be written to the disk (51 packets)",)
    assert (verdict.details[0].code, verdict.details[0].value) == ("disk", pytest.approx(1.02))
    assert not _review(_track(unwritten=0)).needed


@pytest.mark.parametrize("cause", ["silence", "hold", "paused"])
def test_what_was_meant_to_be_silent_is_no_gap(cause: str) -> None:
    assert not _review(_track(gaps=[Gap(1.0, 30.0, cause)])).needed


def test_loss_as_a_share_of_what_was_sent() -> None:
    assert not _review(_track(packets=2940, lost=60)).needed
    verdict = _review(_track(packets=2900, lost=100))
    assert verdict.causes == ("caller: 3.3% of packets lost",)
    assert verdict.details[0].value == pytest.approx(1 / 30)


@pytest.mark.parametrize("tracks", [[_track("caller")], [_track("caller"), _track("callee", packets=0)]])
def test_a_speaker_of_whom_nothing_came(tracks: list[TrackFacts]) -> None:
    verdict = review(tracks, LIMITS)
    assert verdict.causes == ("callee: no media",)
    assert verdict.details[0].value is None


def test_causes_come_in_a_fixed_order() -> None:
    bad = _figures(speech_level_dbov=-40.0, noise_dbov=-40.0, clipped=800, clipped_s=0.1)
    worst = _track("callee", figures=bad, lost=300, gaps=[Gap(0, 1, "network")])
    verdict = review([_track("third", lost=300), worst], LIMITS)
    assert [(cause.track, cause.code) for cause in verdict.details] == [
        ("caller", "missing"),
        ("callee", "low"),
        ("callee", "noisy"),
        ("callee", "clipped"),
        ("callee", "gaps"),
        ("callee", "loss"),
        ("third", "loss"),
    ]
    assert [code for code in CODES if code in {cause.code for cause in verdict.details}] == [
        "missing",
        "low",
        "noisy",
        "clipped",
        "gaps",
        "loss",
    ]


def test_thresholds_can_be_moved() -> None:
    strict = Thresholds(low_dbov=-20.0, noise_dbov=-65.0, loss_ratio=0.0)
    verdict = _review(_track(lost=1), limits=strict)
    assert {cause.code for cause in verdict.details} == {"low", "noisy", "loss"}


def test_what_was_never_decoded_is_not_called_silent() -> None:
    nothing = _figures(speech_level_dbov=None, noise_dbov=None, speech_s=0.0)
    assert not _review(_track(figures=nothing, undecodable=2000)).needed
    assert _review(_track(figures=nothing, undecodable=1500)).causes == ("caller: silent",)
