"""A mean opinion score from what the network did to a stream: the E-model (ITU-T G.107).

R = R0 - Is - Id - Ie,eff + A with every parameter at its default but the codec and the loss: a tap cannot
know the delay from mouth to ear, so Id is that of none, and A is 0. It tells what a listener with a decent
phone heard at best.
"""

from typing import Final, NamedTuple

R_DEFAULT: Final = 93.2
"""R with all of G.107's defaults: R0 - Is - Id without delay, loss and codec."""


class Impairment(NamedTuple):
    """What a codec costs (``ie``, on the R scale) and how well it stands loss (``bpl``), as in G.113."""

    ie: float
    bpl: float


IMPAIRMENTS: Final = {
    # G.113 appendix I: G.711 with the concealment of its own appendix I, as phones have; without, Bpl is 4.3.
    "pcmu": Impairment(0.0, 25.1),
    "pcma": Impairment(0.0, 25.1),
    # An assumption: G.113 has no Opus. These were derived for narrowband at 11 kbit/s under random loss by
    # Alahmadi, Pocta and Melvin (doi:10.1145/3458751). What wideband gains has no place on this scale.
    "opus": Impairment(2.0, 16.0),
}
"""By codec name."""


def mos(codec: str, loss: float, burst_ratio: float = 1.0) -> float | None:
    """Estimate the score, 1 to 4.5 (narrowband), of a stream that lost the share ``loss`` of its packets.

    ``burst_ratio`` is 1 for random loss, more where losses cluster (BurstR). None for a codec
    that has no figures here.

    Raises:
        ValueError: a loss outside of 0 to 1.
    """
    if not 0 <= loss <= 1:
        raise ValueError(f"loss of {loss}")
    impairment = IMPAIRMENTS.get(codec)
    if impairment is None:
        return None
    ie, bpl = impairment
    percent = 100 * loss
    ie_eff = ie + (95 - ie) * percent / (percent / burst_ratio + bpl)  # G.107: Ie,eff
    return opinion(R_DEFAULT - ie_eff)


def opinion(r: float) -> float:
    """Mean opinion score of a rating R (G.107 annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    # The cubic dips below 1 under R = 6.5.
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)
