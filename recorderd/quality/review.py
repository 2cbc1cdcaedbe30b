"""Which recordings somebody should listen to, and why: each track's figures against thresholds.

The reasons behind the defaults are in docs/quality.md.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from recorderd.media.reception import Delivery
from recorderd.quality.figures import Figures

MISSING, SILENT, LOW, NOISY, CLIPPED, GAPS, LOSS, UNDELIVERED, DISK = CODES = (
    "missing",
    "silent",
    "low",
    "noisy",
    "clipped",
    "gaps",
    "loss",
    "undelivered",
    "disk",
)

INTENDED: Final = frozenset({"silence", "hold", "paused"})
"""Causes of gaps that are nobody's fault: suppressed silence, a held call, a paused recording."""

LEAST_MEASURED: Final = 0.5
"""Where less than this share of a track was measured, no speech in it proves nothing."""


class Thresholds(NamedTuple):
    """Where a track's figures begin to be worth a review."""

    silent_dbov: float = -60.0
    """Speech below this level is none."""
    low_dbov: float = -36.0
    """Speech below this level is too low."""
    noise_dbov: float = -45.0
    """Noise above this level is too loud."""
    snr_db: float = 15.0
    """Noise closer than this to the speech is too loud."""
    clipped_ratio: float = 0.001
    """A share of clipped samples, of the time spoken, above which the speech is distorted."""
    gap_s: float = 0.2
    """A gap at least this long is worth a review."""
    loss_ratio: float = 0.02
    """A share of lost packets above this is."""
    min_speech_s: float = 0.3
    """Less speech than this is none."""
    min_duration_s: float = 3.0
    """A shorter track may have no speech for good reasons, and too little of it to measure."""


class Gap(NamedTuple):
    """A stretch without sound that was due: when (seconds from the recording's start), how long, why."""

    at_s: float
    length_s: float
    cause: str
    reason: str = ""


class TrackFacts(NamedTuple):
    """What is known of one track when its recording ends, or so far."""

    label: str
    figures: Figures
    packets: int
    lost: int
    late: int
    duplicates: int
    gaps: Sequence[Gap]
    duration_s: float
    measured: float = 1.0
    """Share of the packets whose sound was measured; the rest was left out for lack of time."""
    withheld: int = 0
    """Packets that came and were not to be kept."""
    paused_s: float = 0.0
    """How much of the duration was not to be recorded."""
    delivery: Delivery | None = None
    """What the listener's end says of how it got there; None where it said nothing."""
    undecodable: int = 0
    """Packets that no codec here opens; they are kept as they came."""

    unwritten: int = 0
    """Packets that came and are in no file, for the disk did not take them; its gaps of cause DISK."""

    @property
    def unheard(self) -> bool:
        """Whether most of it cannot be decoded, so that its figures say nothing of it."""
        return self.undecodable * 2 > self.packets


class Cause(NamedTuple):
    """One reason for a review, for machines: one of CODES, whose track, and the figure that is out of bounds.

    The value is a level in dBov (``silent``, ``low``, ``noisy``; None where there was no speech at all), a
    ratio (``clipped``, ``loss``, ``undelivered``), the longest gap in seconds (``gaps``), the seconds lost
    (``disk``), or None (``missing``).
    """

    code: str
    track: str
    value: float | None
    text: str
    """The reason in words, the track's label in front."""


class Review(NamedTuple):
    """The verdict on a recording."""

    details: tuple[Cause, ...]

    @property
    def needed(self) -> bool:
        """Whether there is any reason."""
        return bool(self.details)

    @property
    def causes(self) -> tuple[str, ...]:
        """The reasons in words, such as ``caller: level -41.2 dBov``."""
        return tuple(cause.text for cause in self.details)


def review(
    tracks: Sequence[TrackFacts], thresholds: Thresholds, expected: Sequence[str] = ("caller", "callee")
) -> Review:
    """Judge a recording's tracks; those ``expected`` by label but not there, or empty, are causes too.

    Causes come in the order of the expected labels, then of the other tracks, then of CODES.
    """
    by_label = {track.label: track for track in tracks}
    details: list[Cause] = []
    for label in [*expected, *(label for label in by_label if label not in expected)]:
        track = by_label.get(label)
        if track is not None and track.withheld and not track.packets:
            continue  # it was there, and nothing of it was to be kept
        if track is None or not track.packets:
            details.append(Cause(MISSING, label, None, f"{label}: no media"))
        else:
            details += [*_heard(track, thresholds), *_carried(track, thresholds)]
    return Review(tuple(details))


def _heard(track: TrackFacts, limits: Thresholds) -> list[Cause]:
    """What is wrong with the sound."""
    label, figures = track.label, track.figures
    level, noise, snr = figures.speech_level_dbov, figures.noise_dbov, figures.snr_db
    out: list[Cause] = []
    if track.duration_s - track.paused_s >= limits.min_duration_s:
        unknown = track.unheard or track.measured < LEAST_MEASURED
        if _none(level, figures.speech_s, limits) and unknown:
            snr = None  # there may be speech in what nobody measured
        elif _none(level, figures.speech_s, limits):
            out.append(Cause(SILENT, label, level, f"{label}: silent"))
            snr = None  # nothing to compare the noise with
        elif level is not None and level < limits.low_dbov:
            out.append(Cause(LOW, label, level, f"{label}: level {level:.1f} dBov"))
        if noise is not None and (noise > limits.noise_dbov or (snr is not None and snr < limits.snr_db)):
            out.append(Cause(NOISY, label, noise, f"{label}: noise {noise:.1f} dBov"))
    ratio = figures.clipped_s / figures.speech_s if figures.speech_s else 0.0
    if ratio > limits.clipped_ratio:
        out.append(Cause(CLIPPED, label, ratio, f"{label}: clipped {ratio:.1%}"))
    return out


def _none(level: float | None, speech_s: float, limits: Thresholds) -> bool:
    """Whether there is no speech, or none to speak of."""
    return level is None or level < limits.silent_dbov or speech_s < limits.min_speech_s


def _carried(track: TrackFacts, limits: Thresholds) -> list[Cause]:
    """What is wrong with the way it came."""
    label = track.label
    out: list[Cause] = []
    lengths = [gap.length_s for gap in track.gaps if gap.cause not in INTENDED and gap.cause != DISK]
    long = [length for length in lengths if length >= limits.gap_s]
    if long:
        noun = "gap" if len(long) == 1 else "gaps"
        text = f"{label}: {len(long)} {noun}, longest {max(long):.2f} s"
        out.append(Cause(GAPS, label, max(long), text))
    due = track.packets + track.lost
    if track.lost > limits.loss_ratio * due:
        ratio = track.lost / due
        text = f"{label}: {ratio:.1%} of packets lost{_whose(track.delivery)}"
        out.append(Cause(LOSS, label, ratio, text))
    if track.delivery is not None:
        behind = track.delivery.lost_behind / due if due else 0.0
        late = track.delivery.discarded or 0.0
        if max(behind, late) > limits.loss_ratio:
            fault = "lost behind the recorder" if behind >= late else "too late for the listener"
            text = f"{label}: {max(behind, late):.1%} of packets {fault}"
            out.append(Cause(UNDELIVERED, label, max(behind, late), text))
    if track.unwritten:
        seconds = sum(gap.length_s for gap in track.gaps if gap.cause == DISK)
        text = f"{label}: {seconds:.2f} s could not be written to the disk ({track.unwritten} packets)"
        out.append(Cause(DISK, label, seconds, text))
    return out


def _whose(delivery: Delivery | None) -> str:
    """Where packets were lost that did not come here, by what the listener's end says."""
    if delivery is None or not delivery.lost_here:
        return ""
    if delivery.lost_here_alone > delivery.lost_here / 2:
        return " on the way to the recorder alone"
    return " before they came by"
