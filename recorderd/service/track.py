"""What is said of one speaker's track when its recording ends."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from recorderd.calls.pauses import Pause, Pauses
from recorderd.codecs.formats import Format
from recorderd.codecs.registry import codec
from recorderd.media.reception import Delivery
from recorderd.quality.mos import mos
from recorderd.quality.review import Gap, TrackFacts

MAX_GAPS: Final = 2000
"""Gaps listed of a track; all of them are in its counts."""


class Track(NamedTuple):
    """One speaker's track at the end of a recording."""

    label: str
    facts: TrackFacts
    format: Format | None
    """What most of its packets were; None where no signalling said."""
    start_s: float
    clock_ppm: float | None = None
    """By how much its sender's clock is fast; None where it is not seen to be."""
    jitter_ms: float | None = None
    """Interarrival jitter (RFC 3550 section 6.4.1), mean over its packets."""

    @property
    def complaint(self) -> str | None:
        """What a listener must know of a track that cannot be heard."""
        if not self.facts.unheard:
            return None
        return (
            f"{self.label}: {self.format.name if self.format else 'an unknown codec'} cannot be decoded here"
        )

    def described(self) -> dict[str, Any]:
        """The track as `recorderctl list --json` shows it."""
        facts, figures = self.facts, self.facts.figures
        how = codec(self.format) if self.format else None
        due = facts.packets + facts.lost
        score = mos(self.format.name, facts.lost / due) if self.format and due else None
        return {
            "label": facts.label,
            "codec": self.format.name if self.format else None,
            "sample_rate": how.native_rate if how else (self.format.clock_rate if self.format else None),
            "packets": facts.packets,
            "lost": facts.lost,
            "late": facts.late,
            "duplicates": facts.duplicates,
            "unwritten": facts.unwritten,
            "start_s": self.start_s,
            "duration_s": facts.duration_s,
            "speech_level_dbov": _tenth(figures.speech_level_dbov),
            "noise_dbov": _tenth(figures.noise_dbov),
            "measured": facts.measured,
            "clock_ppm": self.clock_ppm,
            "jitter_ms": self.jitter_ms,
            "rtcp": _rtcp(facts.delivery),
            "mos": round(score, 2) if score is not None else None,
            "gaps": [
                {"at_s": gap.at_s, "length_s": gap.length_s, "cause": gap.cause}
                | ({"reason": gap.reason} if gap.reason else {})
                for gap in facts.gaps[:MAX_GAPS]
            ],
        }


def with_pauses(
    gaps: Sequence[Gap], pauses: Pauses, start_us: float, begin_us: float, end_us: float
) -> list[Gap]:
    """The gaps of a track that sounds from ``begin_us`` to ``end_us``, and its pauses among them. What was
    lost while nothing was to be recorded is nobody's fault.
    """
    found = list(pauses.spans(begin_us, end_us))
    if not found:
        return list(gaps)
    paused = [
        Gap(round((since - start_us) / 1e6, 6), round((until - since) / 1e6, 6), "paused", _why(pause))
        for since, until, pause in found
    ]
    within = [(gap.at_s, gap.at_s + gap.length_s) for gap in paused]
    others = [gap for gap in gaps if not any(at <= gap.at_s < until for at, until in within)]
    return sorted([*others, *paused], key=lambda gap: gap.at_s)


def _why(pause: Pause) -> str:
    return f"{pause.by}: {pause.reason}" if pause.reason else pause.by


def _rtcp(delivery: Delivery | None) -> dict[str, Any] | None:
    """What the listener's end says."""
    if delivery is None:
        return None
    return {
        "reports": delivery.reports,
        "receiver_lost": delivery.receiver_lost,
        "lost_behind": delivery.lost_behind,
        "lost_here_alone": delivery.lost_here_alone,
        "receiver_jitter_ms": delivery.receiver_jitter_ms,
        "round_trip_ms": delivery.round_trip_ms,
        "sender_drift_ppm": delivery.sender_drift_ppm,
        "discarded": delivery.discarded,
        "mos": delivery.mos,
    }


def _tenth(value: float | None) -> float | None:
    return round(value, 1) if value is not None else None
