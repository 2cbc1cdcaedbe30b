"""What the figures would be if everything were decoded, and Opus to try it with."""

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from recorderd.codecs.opus import OPUS
from recorderd.media.streams import PCMU
from recorderd.quality.figures import Figures
from recorderd.quality.meters import Meters
from recorderd.quality.tallies import Tallies
from recorderd.quality.voice import Activity, judge
from tests.simulators.payloads import opus_payloads
from tests.simulators.script import OpusSettings
from tests.simulators.signals import Signal

DTX_BYTES = 2


def measure(coded: NDArray[np.uint8], kind: int = PCMU, packet: int = 160, packets: int = 50) -> Figures:
    """Figures of G.711 (n bytes) in packets of ``packet`` bytes and windows of ``packets``."""
    meters = Meters()
    track = meters.open()
    payload = coded[: len(coded) // packet * packet].reshape(-1, packet)
    for at in range(0, len(payload), packets):
        part = payload[at : at + packets]
        meters.window(
            part,
            np.full(len(part), packet, np.int32),
            np.full(len(part), kind, np.uint8),
            np.array([0]),
            np.array([len(part)]),
            np.array([track]),
            np.array([0]),
        )
    return meters.figures(track)


def opus_packets(
    signal: Signal, settings: OpusSettings, seconds: int, ms: int = 20
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """A call's packets: a row each, and their sizes."""
    count = seconds * 1000 // ms
    rows = np.zeros(count, np.dtype([("position", np.int64)]))
    rows["position"] = np.arange(count) * 48 * ms
    payload, size = opus_payloads(signal, settings, ms, count).coded(rows)
    return payload, size.astype(np.int32)


def reference(payload: NDArray[np.uint8], size: NDArray[np.int32]) -> Activity:
    """Figures of Opus in packets of 20 ms by decoding every one of them at 8 kHz; what was not sent is
    silence.
    """
    decoder, pieces = OPUS.decoder(8000, 1), []
    for row, length in zip(payload, size.tolist(), strict=True):
        samples = decoder.decode(row[:length].tobytes())[:, 0]
        pieces.append(samples if length > DTX_BYTES else np.zeros_like(samples))
    return judged(np.stack(pieces))


def judged(frames: NDArray[np.int16]) -> Activity:
    """Speech and noise of frames of 160 samples at 8 kHz, all of them: shape (n, 160)."""
    tallies = Tallies()
    tallies.grow(1)
    tallies.clear(0)
    power = np.maximum((frames.astype(np.float32) ** 2).mean(axis=1), 1)
    power[np.abs(frames.astype(np.int32)).max(axis=1) <= 8] = 0
    tallies.file(power, np.array([0]), np.array([0]), np.ones(1, np.float32))
    return judge(tallies.counts[:1].astype(np.float64))[0]


def webrtc_level(samples: NDArray[np.int16]) -> float:
    """Active speech level in dBov of samples at 8 kHz by webrtcvad (mode 1): the power of the frames of 30 ms
    that it calls speech, without those 25 dB beneath, over them and up to 0.2 s after each stretch of them.
    """
    frames = samples[: len(samples) // 240 * 240].reshape(-1, 240)
    vad = webrtcvad.Vad(1)
    verdict = np.array([vad.is_speech(frame.tobytes(), 8000) for frame in frames])
    power = (frames.astype(np.float64) ** 2).mean(axis=1)
    speech, level = verdict, 0.0
    while True:
        place = np.arange(len(speech))
        since = place - np.maximum.accumulate(np.where(speech, place, -100))
        level = 10 * np.log10(power[speech].sum() / np.count_nonzero(since <= 6) / 32768**2)
        narrower = speech & (power > 32768**2 * 10 ** ((level - 25) / 10))
        if narrower.sum() == speech.sum():
            return float(level)
        speech = narrower
