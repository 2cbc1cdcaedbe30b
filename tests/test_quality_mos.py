"""The E-model's scores, against the values that G.107 prints."""

import pytest

from recorderd.quality.mos import IMPAIRMENTS, mos, opinion


@pytest.mark.parametrize(
    ("r", "score"), [(90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1.0), (100, 4.5)]
)
def test_opinions_as_printed(r: float, score: float) -> None:
    # G.107 annex B, table B.1.
    assert opinion(r) == pytest.approx(score, abs=0.01)


def test_the_scale_has_ends() -> None:
    assert opinion(-20) == 1
    assert opinion(3) == 1
    assert opinion(120) == 4.5
    assert all(1 <= opinion(r / 10) <= 4.5 for r in range(-100, 1200))


def test_g711_without_loss_is_as_good_as_it_gets() -> None:
    assert mos("pcmu", 0.0) == mos("pcma", 0.0) == pytest.approx(4.41, abs=0.005)


def test_one_percent_of_loss() -> None:
    # Ie,eff = 95 * 1 / (1 + 25.1) = 3.64
    assert mos("pcmu", 0.01) == pytest.approx(opinion(93.2 - 3.64), abs=0.001)


@pytest.mark.parametrize("codec", IMPAIRMENTS)
def test_loss_never_helps(codec: str) -> None:
    scores = [mos(codec, percent / 100) or 0.0 for percent in range(101)]
    assert scores == sorted(scores, reverse=True)
    assert 1 <= scores[-1] < 2


def test_losses_in_a_row_are_worse() -> None:
    even, clustered = mos("pcmu", 0.05), mos("pcmu", 0.05, burst_ratio=3)
    assert even is not None
    assert clustered is not None
    assert clustered < even


def test_what_is_not_known_is_not_guessed() -> None:
    assert mos("g729", 0.0) is None


@pytest.mark.parametrize("loss", [-0.01, 1.01])
def test_a_loss_is_a_share(loss: float) -> None:
    with pytest.raises(ValueError, match="loss"):
        mos("pcmu", loss)
