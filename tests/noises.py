"""What is heard behind speech: noises of a level in dBov, float64 of shape (n), in 16-bit units at 8 kHz."""

import numpy as np

from tests.speech import Wave, speech


def _at(level_dbov: float, wave: Wave) -> Wave:
    scaled: Wave = wave * 32768 * 10 ** (level_dbov / 20) / np.sqrt((wave**2).mean())
    return scaled


def _filtered(level_dbov: float, count: int, response: Wave, seed: int) -> Wave:
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=count))
    return _at(level_dbov, np.fft.irfft(spectrum * response, count))


def _falling(level_dbov: float, count: int, slope: float) -> Wave:
    frequency = np.fft.rfftfreq(count, 1 / 8000)
    response = np.where(frequency < 40, 0, np.maximum(frequency, 50) ** (-slope / 2))
    return _filtered(level_dbov, count, response, 2)


def pink(level_dbov: float, count: int) -> Wave:
    """Noise from 40 Hz on whose power falls as the frequency rises."""
    return _falling(level_dbov, count, 1)


def brown(level_dbov: float, count: int) -> Wave:
    """The same, falling with the square of the frequency."""
    return _falling(level_dbov, count, 2)


def rumble(level_dbov: float, count: int) -> Wave:
    """Noise of 60 to 160 Hz: its level wavers."""
    frequency = np.fft.rfftfreq(count, 1 / 8000)
    return _filtered(level_dbov, count, ((frequency > 60) & (frequency < 160)).astype(np.float64), 3)


def hum(level_dbov: float, count: int) -> Wave:
    """Mains hum."""
    time_s = np.arange(count) / 8000
    return _at(level_dbov, np.sin(2 * np.pi * 50 * time_s) + 0.3 * np.sin(2 * np.pi * 150 * time_s))


def babble(level_dbov: float, count: int) -> Wave:
    """Six voices at once."""
    voices = ["en", "de", "fr", "zh", "es", "it"]
    mixed = [np.roll(np.resize(speech(voice=voice), count), n * 7777) for n, voice in enumerate(voices)]
    return _at(level_dbov, np.sum(mixed, axis=0))


def music(level_dbov: float, count: int) -> Wave:
    """Chords that swell and fade, four times a second."""
    time_s, rng = np.arange(count) / 8000, np.random.default_rng(1)
    knots = np.arange(0, count / 8000 + 1, 0.25)
    notes = [
        np.sin(2 * np.pi * frequency * time_s) * np.interp(time_s, knots, rng.random(len(knots)))
        for frequency in (220, 277, 330, 440, 554, 660)
    ]
    return _at(level_dbov, np.sum(notes, axis=0))
