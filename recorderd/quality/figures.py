"""What is said of how a track sounds."""

from typing import NamedTuple


class Figures(NamedTuple):
    """How a track sounds. Levels in dBov, times in seconds of sound."""

    speech_level_dbov: float | None
    """Active speech level; None where there was no speech."""
    noise_dbov: float | None
    """Level between the words, digital silence left out; None where there was no other sound."""
    speech_s: float
    total_s: float
    digital_silence_s: float
    """Frames of (nearly) zeros only: a muted microphone, suppressed silence, packets that never came."""
    peak_dbov: float | None
    """Loudest sample; None where all were 0."""
    clipped: int
    """Samples cut off at the limit."""
    clipped_s: float
    """How long they are together."""

    @property
    def snr_db(self) -> float | None:
        """Speech over noise; None where one of them is missing."""
        if self.speech_level_dbov is None or self.noise_dbov is None:
            return None
        return self.speech_level_dbov - self.noise_dbov
