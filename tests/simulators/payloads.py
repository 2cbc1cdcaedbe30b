"""Coded payloads of one end: G.711 made on demand from the signal, Opus encoded once and kept."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import opuslib_next
from numpy.typing import NDArray

from tests.simulators import g711
from tests.simulators.script import OpusSettings
from tests.simulators.signals import Signal
from tests.simulators.sip_text import PAYLOAD_TYPES

_LAW_OF = {PAYLOAD_TYPES["pcmu"]: "pcmu", PAYLOAD_TYPES["pcma"]: "pcma"}
_BANDWIDTHS = {"nb": 1101, "wb": 1103, "swb": 1104, "fb": 1105}  # OPUS_BANDWIDTH_* of opus_defines.h
_ENCODED_TOGETHER = 250  # frames: streams of nearly one length share one encoding
_SECOND_CHANNEL = 48_000  # a stereo signal's right side is its left a second later
_READ_TOGETHER = 50  # frames: what is read of a signal at a time


class Payloads(Protocol):
    """Gives the coded audio of rows of ``truth.SENT`` that are no events."""

    def coded(self, rows: NDArray[np.void]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Payloads, one a row of a matrix with zeros behind, and their sizes."""
        ...


@dataclass(frozen=True)
class G711Payloads:
    """A-law or mu-law, as each row's payload type says; ``length`` samples a packet at 8 kHz."""

    signal: Signal
    length: int

    def coded(self, rows: NDArray[np.void]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        spoken = self.signal.window(rows["position"].astype(np.int64), self.length, 8000)
        matrix = np.zeros(spoken.shape, np.uint8)
        for number, law in _LAW_OF.items():
            of_law = rows["payload_type"] == number
            if of_law.all():
                matrix = g711.encode(law, spoken)
            elif of_law.any():
                matrix[of_law] = g711.encode(law, spoken[of_law])
        return matrix, np.full(len(rows), self.length, np.int64)

    def pcm(self, rows: NDArray[np.void]) -> NDArray[np.int16]:
        """What a perfect decoder makes of the rows: int16[rows, length]."""
        matrix, _ = self.coded(rows)
        of_a_law = (rows["payload_type"] == PAYLOAD_TYPES["pcma"])[:, None]
        return np.where(of_a_law, g711.decode("pcma", matrix), g711.decode("pcmu", matrix))


class CodedPayloads:
    """Packets that were encoded before, ``length`` RTP clock units each; G.711 where a row says so."""

    def __init__(self, packets: tuple[bytes, ...], length: int, law: G711Payloads) -> None:
        self._packets, self._length, self._law = packets, length, law

    def coded(self, rows: NDArray[np.void]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        of_law = np.isin(rows["payload_type"], list(_LAW_OF))
        spoken, law_sizes = self._law.coded(rows)
        chosen = [
            self._packets[at % len(self._packets)] for at in (rows["position"] // self._length).tolist()
        ]
        sizes = np.array([len(packet) for packet in chosen], np.int64)
        matrix = np.zeros((len(rows), max(int(sizes.max(initial=0)), spoken.shape[1])), np.uint8)
        for row, packet in zip(matrix, chosen, strict=True):
            row[: len(packet)] = np.frombuffer(packet, np.uint8)
        matrix[of_law, : spoken.shape[1]] = spoken[of_law]
        return matrix, np.where(of_law, law_sizes, sizes)


class OpusPayloads:
    """Frames of one encoder run; ``length`` 48 kHz clock units a packet."""

    def __init__(self, frames: tuple[bytes, ...], length: int) -> None:
        self.sizes = np.array([len(frame) for frame in frames], np.int64)
        self._length = length
        self._matrix = np.zeros((len(frames), int(self.sizes.max(initial=0))), np.uint8)
        for row, frame in zip(self._matrix, frames, strict=True):
            row[: len(frame)] = np.frombuffer(frame, np.uint8)

    def coded(self, rows: NDArray[np.void]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        frame = rows["position"] // self._length
        return self._matrix[frame], self.sizes[frame]


def opus_payloads(signal: Signal, settings: OpusSettings, ptime_ms: int, count: int) -> OpusPayloads:
    """Encode at least ``count`` frames of a signal; a like request is served from what was encoded before.

    The encoder is libopus in its VoIP mode. Frames of one or two bytes are DTX and not meant to be sent.
    """
    return _encoded(signal, settings, ptime_ms, -(-count // _ENCODED_TOGETHER) * _ENCODED_TOGETHER)


@lru_cache(maxsize=64)
def _encoded(signal: Signal, settings: OpusSettings, ptime_ms: int, count: int) -> OpusPayloads:
    channels, length = settings.channels, 48 * ptime_ms
    encoder = opuslib_next.Encoder(48_000, channels, opuslib_next.APPLICATION_VOIP)
    encoder.bitrate = settings.bitrate
    encoder.complexity = settings.complexity
    encoder.max_bandwidth = _BANDWIDTHS[settings.bandwidth]
    encoder.dtx = int(settings.dtx)
    encoder.inband_fec = int(settings.inband_fec)
    encoder.packet_loss_perc = 20 if settings.inband_fec else 0
    frames: list[bytes] = []
    for first in range(0, count, _READ_TOGETHER):
        starts = np.arange(first, min(first + _READ_TOGETHER, count), dtype=np.int64) * length
        sides = [signal.window(starts + n * _SECOND_CHANNEL, length, 48_000) for n in range(channels)]
        frames += [encoder.encode(pcm.tobytes(), length) for pcm in np.stack(sides, axis=2)]
    return OpusPayloads(tuple(frames), length)


def opus_decode(packets: list[bytes], *, rate: int = 48_000, channels: int = 1) -> NDArray[np.int16]:
    """libopus's own decode of packets in order, from a fresh decoder: int16[samples, channels]."""
    decoder = opuslib_next.Decoder(rate, channels)
    pieces = [np.frombuffer(decoder.decode(packet, rate * 120 // 1000), np.int16) for packet in packets]
    joined = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
    return joined.reshape(-1, channels)
