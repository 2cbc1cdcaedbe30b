"""Measures one track, a window at a time; what it keeps is bounded, however long the call is.

The cost is mostly the VAD's, about 2 us for each 30 ms; all else is done for a whole window at once. How
samples are cut into windows makes no difference to the figures.
"""

from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

import _webrtcvad  # type: ignore[import-not-found]
import numpy as np
from numpy.typing import NDArray

from recorderd.quality.activity import judge
from recorderd.quality.frame_log import FrameLog
from recorderd.quality.levels import dbov

FRAME_MS: Final = 30
"""The VAD's longest frame: the fewest calls."""

FRAME_SAMPLES: Final = {rate: rate * FRAME_MS // 1000 for rate in (8000, 16_000, 32_000, 48_000)}
"""Frame length by sample rate in Hz. Beyond 16 kHz the VAD costs ten times as much and hears no more."""

VAD_MODE: Final = 1
"""How readily the VAD calls a frame silent, 0 to 3. From 2 on soft words are silent, and count as noise."""

TICKS: Final = 96_000
"""Time is counted in parts of a second that every rate divides."""

ENOUGH_SPEECH: Final = 167
"""Frames of speech, 5 s, after which the level is known: from then on the VAD listens now and then."""

TURN: Final = 100
EVERY_TURN: Final = 4
"""It listens for 3 s in every 12: a change of the voice or of the noise still shows, at a quarter of the
cost.
"""

SILENT_SAMPLE: Final = 8
"""Digital silence is all samples within this: the smallest A-law values are +-8, there is no 0."""

FULL_SAMPLE: Final = 32_124
"""The largest mu-law value; A-law and 16-bit go a little further. From here on a sample is at the limit."""

FULL_RUN: Final = 3
"""So many samples in a row at the limit are clipped; fewer are a loud moment."""


@dataclass(frozen=True, slots=True)
class Figures:
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


class TrackMeter:
    """The measuring state of one track."""

    def __init__(self) -> None:
        self._rate = 0
        self._vad: Any = None
        self._rest: NDArray[np.int16] = np.zeros(0, np.int16)
        self._frames = FrameLog()
        self._silent_frames = 0
        self._frames_seen = self._frames_heard = self._speech_heard = 0
        self._listening = True
        self._ticks = 0
        self._skipped_s = 0.0
        self._peak = 0
        self._clipped = 0
        self._clipped_ticks = 0

    def add(self, samples: NDArray[np.int16], rate: int) -> None:
        """Take in the next samples, shape (n), at 8000, 16000, 32000 or 48000 Hz.

        What does not fill a frame waits for the next call. A change of rate drops what waits (under 30 ms).

        Raises:
            ValueError: a rate that the VAD does not know.
        """
        if not len(samples):
            return
        if rate != self._rate:
            self._start(rate)
        self._ticks += len(samples) * (TICKS // rate)
        size = FRAME_SAMPLES[rate]
        if len(self._rest):
            samples = np.concatenate((self._rest, samples))
        count = len(samples) // size
        self._rest = samples[count * size :].copy()
        if count:
            self._measure(np.ascontiguousarray(samples[: count * size], np.int16).reshape(count, size))

    def add_silence(self, seconds: float) -> None:
        """Take in digital silence of any length at no cost: where no sound was sent, or none came."""
        self._skipped_s += seconds

    def figures(self) -> Figures:
        """Work out the figures of all that was taken in; more may be taken in afterwards."""
        activity = judge(self._frames.histogram())
        share = self._frames_seen / self._frames_heard if self._frames_heard else 1.0
        return Figures(
            speech_level_dbov=activity.speech_level_dbov,
            noise_dbov=activity.noise_dbov,
            speech_s=activity.speech_frames * share * FRAME_MS / 1000,
            total_s=self._ticks / TICKS + self._skipped_s,
            digital_silence_s=self._silent_frames * FRAME_MS / 1000 + self._skipped_s,
            peak_dbov=dbov(float(self._peak) ** 2) if self._peak else None,
            clipped=self._clipped,
            clipped_s=self._clipped_ticks / TICKS,
        )

    def _start(self, rate: int) -> None:
        if rate not in FRAME_SAMPLES:
            raise ValueError(f"no VAD at {rate} Hz")
        self._rate = rate
        # The module beneath webrtcvad: its wrapper checks what is known here, for a fifth of the time.
        self._vad = _webrtcvad.create()
        _webrtcvad.init(self._vad)
        _webrtcvad.set_mode(self._vad, VAD_MODE)
        self._rest = self._rest[:0]

    def _extremes(self, frames: NDArray[np.int16]) -> None:
        peak = max(int(frames.max()), -int(frames.min()))
        self._peak = max(self._peak, peak)
        if peak >= FULL_SAMPLE:
            full = (frames >= FULL_SAMPLE) | (frames <= -FULL_SAMPLE)
            runs = full[:, :-2] & full[:, 1:-1] & full[:, 2:]
            clipped = np.zeros_like(full)
            for at in range(FULL_RUN):
                clipped[:, at : at + runs.shape[1]] |= runs
            count = int(np.count_nonzero(clipped))
            self._clipped += count
            self._clipped_ticks += count * (TICKS // self._rate)

    def _measure(self, frames: NDArray[np.int16]) -> None:
        self._extremes(frames)
        while len(frames):
            # Decided where a turn begins, so that how the samples are cut makes no difference.
            into = self._frames_seen % TURN
            if not into:
                turn = self._frames_seen // TURN
                self._listening = self._speech_heard < ENOUGH_SPEECH or turn % EVERY_TURN == 0
            part, frames = frames[: TURN - into], frames[TURN - into :]
            self._frames_seen += len(part)
            if self._listening:
                self._frames_heard += len(part)
                self._judge(part)
            else:
                # Digital silence is told apart all the same: it is nobody's voice, and no noise.
                silent = (part.max(axis=1) <= SILENT_SAMPLE) & (part.min(axis=1) >= -SILENT_SAMPLE)
                self._silent_frames += int(np.count_nonzero(silent))

    def _judge(self, frames: NDArray[np.int16]) -> None:
        size = frames.shape[1]
        wide = frames.astype(np.float32)
        # In sixteenths, so that sums are exact and do not depend on their order.
        power = np.rint(np.vecdot(wide, wide) * np.float32(16 / size)) / np.float32(16)
        audible = power > SILENT_SAMPLE**2
        heard = frames
        if not audible.all():
            quiet = np.flatnonzero(~audible)
            audible[quiet] = (np.abs(frames[quiet]) > SILENT_SAMPLE).any(axis=1)
            heard = frames[audible]
            self._silent_frames += len(frames) - len(heard)
        verdicts = map(_webrtcvad.process, repeat(self._vad), repeat(self._rate), heard, repeat(size))
        speech = np.zeros(len(frames), np.bool_)
        speech[audible] = np.fromiter(verdicts, np.bool_, len(heard))
        self._speech_heard += int(np.count_nonzero(speech))
        self._frames.note(speech, power, audible)
