"""Speech for test calls: two voices from espeak-ng, or generated syllables where it is not installed."""

import shutil
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from recorderd.errors import RecorderError

SYNTHESIZER_TIMEOUT_S: Final = 30
GENERATED_RATE: Final = 16000
GENERATED_S: Final = 12.0

CALLER_TEXT: Final = (
    "Hello, this is the caller of a test call. I speak on the left side of the recording. "
    "One, two, three, four, five. If you can hear me clearly, then the caller's track is good."
)
CALLEE_TEXT: Final = (
    "Good day, you have reached the other end. My voice belongs on the right side. "
    "Ten, nine, eight, seven, six. The quick brown fox jumps over the lazy dog, and the recorder keeps it."
)


class SpeechError(RecorderError):
    """A sound file for a test call cannot be made or read."""

    exit_code = 3
    hint = "give wav files of your own, or `apt-get install espeak-ng`"


@dataclass(frozen=True)
class Voices:
    """What the two ends say; ``spoken`` is false where syllables were generated instead of speech."""

    caller: Path
    callee: Path
    spoken: bool


def make_voices(folder: Path) -> Voices:
    """Write two different wav files into ``folder``."""
    caller, callee = folder / "caller-voice.wav", folder / "callee-voice.wav"
    program = shutil.which("espeak-ng")
    if program is not None:
        for path, voice, words in ((caller, "en-us+m3", CALLER_TEXT), (callee, "en-gb+f2", CALLEE_TEXT)):
            _speak(program, path, voice, words)
        return Voices(caller, callee, spoken=True)
    for path, pitch in ((caller, 115.0), (callee, 205.0)):
        _write_wav(path, _syllables(pitch)[:, None], GENERATED_RATE)
    return Voices(caller, callee, spoken=False)


def _speak(program: str, path: Path, voice: str, words: str) -> None:
    command = [program, "-v", voice, "-s", "150", "-w", str(path), words]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=SYNTHESIZER_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise SpeechError(f"espeak-ng cannot make {path}: {error}") from error


def _syllables(pitch: float) -> NDArray[np.int16]:
    """Voiced syllables, four a second, of harmonics under a moving formant, with pauses: int16[n]."""
    time = np.arange(int(GENERATED_RATE * GENERATED_S)) / GENERATED_RATE
    melody = pitch * (1 + 0.08 * np.sin(2 * np.pi * 0.4 * time))
    phase = 2 * np.pi * np.cumsum(melody) / GENERATED_RATE
    formant = 600 + 300 * np.sin(2 * np.pi * 0.7 * time)
    voice = np.zeros(len(time))
    for harmonic in range(1, 16):
        voice += np.sin(harmonic * phase) * np.exp(-(((harmonic * melody - formant) / 400) ** 2))
    spoken = np.floor(time * 4) % 5 < 4  # every fifth syllable is a pause
    voice *= spoken * np.sin(np.pi * (time * 4 % 1)) ** 0.5
    return np.asarray(np.rint(voice / np.abs(voice).max() * 12000), np.int16)


def fit_wav(source: Path, target: Path, *, rate: int, channels: int, seconds: float) -> None:
    """Write ``source``, any file with sound, as 16-bit wav of this rate and length, looped or cut."""
    pieces = []
    layout = "mono" if channels == 1 else "stereo"
    try:
        with av.open(str(source)) as container:
            resampler = av.AudioResampler(format="s16", layout=layout, rate=rate)
            for frame in container.decode(audio=0):
                pieces += [part.to_ndarray().reshape(-1, channels) for part in resampler.resample(frame)]
            pieces += [part.to_ndarray().reshape(-1, channels) for part in resampler.resample(None)]
    except (OSError, av.FFmpegError, IndexError) as error:
        raise SpeechError(f"{source}: no sound file: {error}") from error
    sound = np.concatenate(pieces) if pieces else np.zeros((0, channels), np.int16)
    if not len(sound):
        raise SpeechError(f"{source}: no sound in it")
    count = int(rate * seconds)
    looped = np.tile(sound, (count // len(sound) + 1, 1))[:count]
    _write_wav(target, looped, rate)


def _write_wav(path: Path, samples: NDArray[np.int16], rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
