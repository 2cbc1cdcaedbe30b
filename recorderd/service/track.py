"""What is said of one speaker's track when its recording ends."""

from dataclasses import dataclass
from typing import Any, Final

from recorderd.calls.events import Side
from recorderd.codecs.formats import Format
from recorderd.codecs.registry import codec
from recorderd.quality.mos import mos
from recorderd.quality.review import TrackFacts

MAX_GAPS: Final = 2000
"""Gaps listed of a track; all of them are in its counts."""


@dataclass(frozen=True, slots=True)
class Track:
    """One speaker's track at the end of a recording."""

    side: Side
    facts: TrackFacts
    format: Format | None
    """What most of its packets were; None where no signalling said."""
    start_s: float
    undecodable: int = 0
    """Packets that no codec here opens; they are kept as they came."""

    @property
    def complaint(self) -> str | None:
        """What a listener must know of a track that cannot be heard."""
        if self.undecodable * 2 <= self.facts.packets:
            return None
        return (
            f"{self.side}: {self.format.name if self.format else 'an unknown codec'} cannot be decoded here"
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
            "start_s": self.start_s,
            "duration_s": facts.duration_s,
            "speech_level_dbov": _tenth(figures.speech_level_dbov),
            "noise_dbov": _tenth(figures.noise_dbov),
            "measured": facts.measured,
            "mos": round(score, 2) if score is not None else None,
            "gaps": [
                {"at_s": gap.at_s, "length_s": gap.length_s, "cause": gap.cause}
                for gap in facts.gaps[:MAX_GAPS]
            ],
        }


def _tenth(value: float | None) -> float | None:
    return round(value, 1) if value is not None else None
