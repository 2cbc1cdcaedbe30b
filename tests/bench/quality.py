"""What measuring costs and how near it comes to measuring everything: ``python -m tests.bench.quality``.

Prints one line of JSON: nanoseconds a packet of G.711, microseconds a packet of Opus, and for Opus the
errors, in dB, against the same figures of a full decode.
"""

import json
import sys
import time
from statistics import median

import numpy as np
from numpy.typing import NDArray

from recorderd.media.streams import OPUS, PCMA, PCMU
from recorderd.quality.meters import Meters
from tests.quality_reference import opus_packets, reference
from tests.simulators import g711
from tests.simulators.script import OpusSettings
from tests.simulators.signals import Speech

STREAMS = (400, 2000, 4000)
WINDOWS = 7
OPUS_STREAMS = 40
OPUS_S = 60
SETTINGS = {
    "mono": OpusSettings(),
    "narrowband": OpusSettings(bitrate=12_000, bandwidth="nb"),
    "wideband, FEC": OpusSettings(bitrate=20_000, bandwidth="wb", inband_fec=True),
    "stereo": OpusSettings(bitrate=48_000, channels=2),
}


def _timed(
    meters: Meters, payload: NDArray[np.uint8], size: NDArray[np.int32], kind: NDArray[np.uint8]
) -> float:
    """Seconds of CPU for a window of 50 packets of each stream."""
    ends = np.arange(50, len(size) + 1, 50)
    tracks = np.arange(len(ends))
    begun = time.process_time()
    meters.window(payload, size, kind, ends - 50, ends, tracks, tracks)
    return time.process_time() - begun


def g711_ns(streams: int, laws: tuple[int, ...] = (PCMU,)) -> float:
    """Nanoseconds of CPU a packet, median of some windows."""
    meters = Meters()
    voices = [Speech(seed).window(np.arange(WINDOWS * 50) * 160, 160, 8000) for seed in range(20)]
    for _ in range(streams):
        meters.open()
    kind = np.repeat(np.array([laws[n % len(laws)] for n in range(streams)], np.uint8), 50)
    coded = [
        g711.encode("pcmu" if laws[n % len(laws)] == PCMU else "pcma", voices[n % 20]) for n in range(20)
    ]
    took = []
    for at in range(0, WINDOWS * 50, 50):
        payload = np.concatenate([coded[n % 20][at : at + 50] for n in range(streams)])
        took.append(_timed(meters, payload, np.full(len(payload), 160, np.int32), kind))
    return median(took) / (50 * streams) * 1e9


def opus_us(settings: OpusSettings) -> dict[str, float]:
    """Microseconds of CPU a packet over calls of a minute, and the worst errors."""
    calls = [opus_packets(Speech(seed), settings, OPUS_S) for seed in range(4)]
    width = max(payload.shape[1] for payload, _ in calls)
    wide = [np.pad(payload, ((0, 0), (0, width - payload.shape[1]))) for payload, _ in calls]
    meters = Meters()
    for _ in range(OPUS_STREAMS):
        meters.open()
    took = 0.0
    for at in range(0, OPUS_S * 50, 50):
        payload = np.concatenate([wide[n % 4][at : at + 50] for n in range(OPUS_STREAMS)])
        size = np.concatenate([calls[n % 4][1][at : at + 50] for n in range(OPUS_STREAMS)])
        took += _timed(meters, payload, size, np.full(len(size), OPUS, np.uint8))
    errors = []
    for number, call in enumerate(calls):
        whole, figures = reference(*call), meters.figures(number)
        errors.append(
            [
                abs((getattr(figures, name) or 0.0) - (getattr(whole, name) or 0.0))
                for name in ("speech_level_dbov", "noise_dbov")
            ]
        )
    level, noise = np.max(errors, axis=0)
    return {
        "us_per_packet": round(took / (OPUS_STREAMS * OPUS_S * 50) * 1e6, 2),
        "level_db": round(float(level), 2),
        "noise_db": round(float(noise), 2),
    }


def main() -> int:
    """Measure and print."""
    result = {
        "g711_ns_per_packet": {str(streams): round(g711_ns(streams)) for streams in STREAMS},
        "both_laws_ns_per_packet": round(g711_ns(2000, (PCMU, PCMA))),
        "opus": {name: opus_us(settings) for name, settings in SETTINGS.items()},
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
