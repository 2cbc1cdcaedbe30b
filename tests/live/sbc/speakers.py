"""Who says what: every speaker of every call has a sound of their own, as a capture file that SIPp plays.

Two tones that no other speaker has, under an envelope that no two seconds share: a track that is swapped,
mixed, doubled, cut or shifted is not what was said, to the sample.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tests.simulators import g711
from tests.simulators.capture_file import CaptureWriter
from tests.simulators.encapsulation import ETHERNET, Address, Encapsulation, Flow

RATE, PACKET = 8000, 160  #: samples a second, and in a packet
Law = Literal["pcma", "pcmu"]
_LOWEST_HZ, _STEP_HZ = 300, 16
_RTP = np.dtype([("first", "u1"), ("type", "u1"), ("sequence", ">u2"), ("timestamp", ">u4"), ("ssrc", ">u4")])


@dataclass(frozen=True)
class Speaker:
    """Number ``number`` of at most 200, who speaks for ``packets`` packets of 20 ms."""

    number: int
    packets: int
    law: Law = "pcma"

    @property
    def payload_type(self) -> int:
        return {"pcma": 8, "pcmu": 0}[self.law]

    @property
    def ssrc(self) -> int:
        """The SSRC that the phone sends; others may see another."""
        return 0x5BC00000 + self.number

    @property
    def pitch_hz(self) -> float:
        """The lower tone, which tells the speaker."""
        return _LOWEST_HZ + _STEP_HZ * self.number

    @cached_property
    def _coded(self) -> NDArray[np.uint8]:
        time = np.arange(self.packets * PACKET) / RATE
        tones = np.sin(2 * np.pi * self.pitch_hz * time) + 0.4 * np.sin(
            2 * np.pi * (self.pitch_hz + 151) * time
        )
        envelope = 0.6 + 0.4 * np.sin(2 * np.pi * (0.31 + self.number / 400) * time**1.2)
        return g711.encode(self.law, np.asarray(np.rint(9000 * tones * envelope), np.int16)).reshape(
            -1, PACKET
        )

    def payloads(self) -> list[bytes]:
        """The coded packets, in order."""
        return [row.tobytes() for row in self._coded]

    def samples(self) -> NDArray[np.int16]:
        """What a listener hears: int16[n] at 8000 Hz."""
        return g711.decode(self.law, self._coded).reshape(-1)

    def write(self, folder: Path) -> Path:
        """The capture file for SIPp's ``play_pcap_audio``, which takes from it all but the addresses."""
        path = folder / f"speaker-{self.number}.pcap"
        flow = Flow(Address("192.0.2.1", 10000), Address("192.0.2.2", 10000), Encapsulation(ETHERNET))
        order = np.arange(self.packets)
        head = np.zeros(self.packets, _RTP)
        head["first"], head["type"] = 0x80, self.payload_type
        head["type"][0] |= 0x80
        head["sequence"] = (self.number * 300 + order) & 0xFFFF
        head["timestamp"] = self.number * 100_003 + order * PACKET
        head["ssrc"] = self.ssrc
        payload = np.hstack([head.view(np.uint8).reshape(self.packets, -1), self._coded])
        frames = np.hstack([np.zeros((self.packets, flow.size), np.uint8), payload])
        flow.fill(frames, np.full(self.packets, payload.shape[1]))
        lengths = np.full(self.packets, frames.shape[1])
        with CaptureWriter(path, ETHERNET, nanoseconds=False) as writer:  # SIPp reads microseconds
            buffer, starts = writer.place(lengths)
            buffer[starts[:, None] + np.arange(frames.shape[1])] = frames
            writer.write(buffer, starts, order * 20_000_000 + 10**18, lengths)
        return path


def nearest(heard: NDArray[np.int16], speakers: list[Speaker]) -> Speaker:
    """The speaker whose tone is the strongest in a sound."""
    spectrum = np.abs(np.fft.rfft(heard.astype(np.float64)))
    peak = float(np.argmax(spectrum)) * RATE / max(len(heard), 1)
    return min(speakers, key=lambda speaker: abs(speaker.pitch_hz - peak))
