"""What really happened in a simulated call: the measure of everything that is recorded."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.simulators.encapsulation import Address
from tests.simulators.script import CallScript, SideName

#: One row a packet that was sent. ``position`` and ``length`` count samples of the codec's RTP clock from the
#: start of the track; ``sent_ns`` is the true time by the recorder's clock; ``seen_ns`` when the capture sees
#: it (if not lost).
SENT = np.dtype(
    [
        ("sent_ns", "i8"), ("seen_ns", "i8"), ("position", "i4"), ("timestamp", "u4"), ("ssrc", "u4"),
        ("seq", "u2"), ("length", "u2"), ("payload_type", "u1"), ("flow", "u1"),
        ("marker", "?"), ("event", "?"), ("lost", "?"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class LostPacket:
    """A packet that the network lost: its sequence number and the samples that went with it."""

    seq: int
    position: int
    length: int


@dataclass(frozen=True)
class TrackTruth:
    """One end's sent media. ``start_ns`` is the true time of sample 0; positions count from there."""

    side: SideName
    codec: str
    clock_rate: int
    channels: int
    start_ns: int
    drift_ppm: float
    flows: tuple[tuple[Address, Address], ...]
    ssrcs: tuple[int, ...]
    sent: NDArray[np.void]  #: dtype SENT, in the order of sending
    duplicates: int
    digits: str
    _payloads: Callable[[NDArray[np.void]], list[bytes]]
    _pcm: Callable[[NDArray[np.void]], NDArray[np.int16]] | None

    @property
    def arrived(self) -> NDArray[np.void]:
        """The rows of ``sent`` that reached the capture at least once, in the order of sending."""
        rows: NDArray[np.void] = self.sent[~self.sent["lost"]]
        return rows

    @property
    def packets(self) -> int:
        """Packets seen, each counted once."""
        return int(np.count_nonzero(~self.sent["lost"]))

    @property
    def lost(self) -> int:
        """Packets lost, those before the first and after the last seen of their SSRC included."""
        return int(np.count_nonzero(self.sent["lost"]))

    @property
    def lost_between(self) -> int:
        """Packets lost between the first and the last seen of their SSRC: what a receiver can know of."""
        known = 0
        for ssrc in self.ssrcs:
            lost = self.sent["lost"][self.sent["ssrc"] == ssrc]
            seen = np.flatnonzero(~lost)
            known += int(lost[seen[0] : seen[-1]].sum()) if len(seen) else 0
        return known

    @property
    def heard_from(self) -> int:
        """The position of the first audio that arrived."""
        return int(self.arrived["position"][~self.arrived["event"]][0])

    def time_of(self, position: int) -> int:
        """The true time, in ns, at which the sample at this position was sent."""
        return self.start_ns + round(position / self.clock_rate * 1e9 / (1 + self.drift_ppm * 1e-6))

    def by_stream(self) -> dict[tuple[Address, Address, int], tuple[int, int]]:
        """Packets seen and packets known to be lost for each (source, destination, SSRC)."""
        streams = {}
        for number, (source, destination) in enumerate(self.flows):
            for ssrc in self.ssrcs:
                lost = self.sent["lost"][(self.sent["ssrc"] == ssrc) & (self.sent["flow"] == number)]
                seen = np.flatnonzero(~lost)
                if len(seen):
                    streams[source, destination, ssrc] = len(seen), int(lost[seen[0] : seen[-1]].sum())
        return streams

    @property
    def lost_packets(self) -> list[LostPacket]:
        """The lost packets of audio, in the order of sending."""
        rows = self.sent[self.sent["lost"] & ~self.sent["event"]]
        return [LostPacket(int(r["seq"]), int(r["position"]), int(r["length"])) for r in rows]

    @property
    def length(self) -> int:
        """Samples of the RTP clock from the first sent to the end of the last."""
        return int(self.sent["position"][-1]) + int(self.sent["length"][-1]) if len(self.sent) else 0

    def payloads(self) -> list[bytes]:
        """The coded audio payloads that arrived, in the order of sending (events left out)."""
        return self._payloads(self.arrived[~self.arrived["event"]])

    def samples(self, *, lost_too: bool = False) -> NDArray[np.int16]:
        """G.711 only: the sent audio as int16[length], as a perfect decoder hears it; zeros where no audio
        packet arrived, or, with ``lost_too``, only where none was sent."""
        if self._pcm is None:
            raise ValueError(f"{self.codec} has no samples of its own: decode payloads() with its library")
        rows = self.sent if lost_too else self.arrived
        rows = rows[~rows["event"]]
        track = np.zeros(self.length, np.int16)
        if len(rows):
            spoken = self._pcm(rows)
            track[rows["position"][:, None] + np.arange(spoken.shape[1])] = spoken
        return track


@dataclass(frozen=True)
class CallTruth:
    """One call as it really was; a side that sent nothing has no track."""

    script: CallScript
    call_id: str
    invited_ns: int
    answered_ns: int | None
    ended_ns: int | None
    tracks: dict[SideName, TrackTruth]
    holds: tuple[tuple[SideName, int, int], ...]
    stranger_packets: int

    @property
    def caller(self) -> TrackTruth:
        return self.tracks["caller"]

    @property
    def callee(self) -> TrackTruth:
        return self.tracks["callee"]
