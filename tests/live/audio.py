"""Reads exported WAV files, and finds one sound in another."""

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_wav(path: Path) -> tuple[NDArray[np.int16], int]:
    """Samples (n, channels) and rate."""
    with wave.open(str(path), "rb") as file:
        assert file.getsampwidth() == 2
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return samples.reshape(-1, file.getnchannels()).astype(np.int16), file.getframerate()


def likeness(heard: NDArray[np.int16], said: NDArray[np.int16]) -> float:
    """The highest normalised correlation of two mono sounds over all shifts: 1 for the same sound."""
    size = 1 << (len(heard) + len(said)).bit_length()
    one = np.fft.rfft(heard.astype(np.float64), size)
    two = np.fft.rfft(said.astype(np.float64), size)
    shared = np.fft.irfft(one * np.conj(two), size)
    scale = np.linalg.norm(heard.astype(np.float64)) * np.linalg.norm(said.astype(np.float64))
    return float(np.abs(shared).max() / scale) if scale else 0.0
