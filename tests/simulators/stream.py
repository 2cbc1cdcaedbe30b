"""RTP streams (RFC 3550) from a timeline: what is sent, what the network makes of it, and the frames."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.simulators.dialog import SideTimeline
from tests.simulators.encapsulation import Address, Encapsulation, Flow
from tests.simulators.payloads import Payloads
from tests.simulators.script import Impairment
from tests.simulators.sip_text import EVENT_PAYLOAD_TYPE, PAYLOAD_TYPES
from tests.simulators.truth import SENT

_RTP_HEADER = 12
_EVENT_MS = 100
_END_REPEATS = 3  # RFC 4733 section 2.5.1.4
_EVENT_CODES = "0123456789*#ABCD"


@dataclass(frozen=True)
class Clocking:
    """How an end paces its packets."""

    codec: str
    clock_rate: int
    ptime_ms: int
    drift_ppm: float

    @property
    def length(self) -> int:
        """RTP clock units a packet."""
        return self.clock_rate * self.ptime_ms // 1000

    @property
    def interval_ns(self) -> float:
        """Time from packet to packet; a fast clock (positive drift) sends sooner."""
        return self.ptime_ms * 1e6 / (1 + self.drift_ppm * 1e-6)


def packets_of(timeline: SideTimeline, clocking: Clocking) -> int:
    """How many packets' time a timeline is long, sent or not."""
    return max(0, int(np.ceil((timeline.end_ns - timeline.start_ns) / clocking.interval_ns)))


def sent_rows(
    timeline: SideTimeline,
    clocking: Clocking,
    rng: np.random.Generator,
    unsent: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    """What the end sends, and for each row of an event its 32-bit payload.

    ``unsent`` marks packets that the encoder says need no sending (DTX).
    """
    count = packets_of(timeline, clocking)
    rows = np.zeros(count, SENT)
    rows["sent_ns"] = timeline.start_ns + np.rint(np.arange(count) * clocking.interval_ns).astype(np.int64)
    rows["seen_ns"] = rows["sent_ns"]
    rows["position"] = np.arange(count) * clocking.length
    rows["length"] = clocking.length
    rows["payload_type"] = PAYLOAD_TYPES[clocking.codec]

    def at(time_ns: int) -> int:
        return int(np.searchsorted(rows["sent_ns"], time_ns))

    for time_ns, codec in timeline.codecs:
        rows["payload_type"][at(time_ns) :] = PAYLOAD_TYPES[codec]
    for number, (time_ns, _, _) in enumerate(timeline.flows):
        rows["flow"][at(time_ns) :] = number
    sources = np.zeros(count, np.intp)
    for number, time_ns in enumerate(timeline.new_sources, 1):
        sources[at(time_ns) :] = number
    send = np.ones(count, bool) if unsent is None else ~unsent
    for start_ns, end_ns in timeline.silent:
        send[at(start_ns) : at(end_ns)] = False
    events = np.zeros(count, np.uint32)
    starts = np.arange(count)  # the packet whose time a row's timestamp tells
    for time_ns, digit in timeline.digits:
        _press(rows, events, starts, at(time_ns), digit, clocking)
        send[at(time_ns) :][: _event_packets(clocking)] = True
    ssrcs = rng.integers(1, 2**32, len(timeline.new_sources) + 1, dtype=np.uint32)
    clocks = rng.integers(0, 2**32, len(ssrcs), dtype=np.int64)
    firsts = rng.integers(0, 2**16, len(ssrcs), dtype=np.int64)
    rows["ssrc"] = ssrcs[sources]
    rows["timestamp"] = ((clocks[sources] + starts * clocking.length) & 0xFFFFFFFF).astype(np.uint32)
    rows["marker"] |= send & ~np.concatenate([[False], send[:-1]])
    rows, events, sources = rows[send], events[send], sources[send]
    for number, first in enumerate(firsts):
        of_source = sources == number
        rows["seq"][of_source] = ((first + np.arange(np.count_nonzero(of_source))) & 0xFFFF).astype(np.uint16)
    return rows, events


def _event_packets(clocking: Clocking) -> int:
    return max(1, _EVENT_MS // clocking.ptime_ms) + _END_REPEATS - 1


def _press(
    rows: NDArray[np.void],
    events: NDArray[np.uint32],
    starts: NDArray[np.intp],
    first: int,
    digit: str,
    clocking: Clocking,
) -> None:
    """Put one RFC 4733 event in the place of audio: growing durations, the end told three times."""
    span = rows[first : first + _event_packets(clocking)]
    number = np.arange(len(span))
    held = np.minimum(number + 1, _event_packets(clocking) - _END_REPEATS + 1)
    ended = number >= _event_packets(clocking) - _END_REPEATS
    span["event"] = True
    span["length"] = 0
    span["payload_type"] = EVENT_PAYLOAD_TYPE
    span["marker"] = number == 0
    starts[first : first + len(span)] = first
    code = _EVENT_CODES.index(digit) << 24 | 10 << 16
    events[first : first + len(span)] = code | np.where(ended, 1 << 23, 0) | held * clocking.length


def impair(
    rows: NDArray[np.void], network: Impairment, ptime_ms: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lose, delay and double: marks ``lost`` and ``seen_ns`` in the rows; returns times and rows of what is
    seen."""
    count = len(rows)
    rows["lost"] = _losses(count, network, rng)
    delay = np.zeros(count)
    if network.jitter_ms:
        delay += rng.uniform(0, network.jitter_ms, count)
    if network.reorder:
        late = rng.random(count) < network.reorder
        delay[late] += rng.uniform(1.1 * ptime_ms, max(network.reorder_ms, 1.2 * ptime_ms), int(late.sum()))
    rows["seen_ns"] = rows["sent_ns"] + np.rint(delay * 1e6).astype(np.int64)
    seen = np.flatnonzero(~rows["lost"])
    times = rows["seen_ns"][seen]
    if network.duplicate:
        again = seen[rng.random(len(seen)) < network.duplicate]
        later = rng.integers(50_000, 2_000_000, len(again))
        times = np.concatenate([times, rows["seen_ns"][again] + later])
        seen = np.concatenate([seen, again])
    return times, seen


def _losses(count: int, network: Impairment, rng: np.random.Generator) -> NDArray[np.bool_]:
    if not network.loss:
        return np.zeros(count, bool)
    if network.burst <= 1:
        return rng.random(count) < network.loss
    good_mean = max(1.0, network.burst * (1 - network.loss) / network.loss)
    runs = int(count / (good_mean + network.burst) * 2) + 20
    good, bad = rng.geometric(1 / good_mean, runs), rng.geometric(1 / network.burst, runs)
    lengths = np.stack([good, bad], axis=1).ravel()
    return np.resize(np.repeat(np.tile([False, True], runs), lengths), count)


class Stream:
    """Builds the frames of one end's packets."""

    def __init__(
        self,
        rows: NDArray[np.void],
        events: NDArray[np.uint32],
        payloads: Payloads,
        flows: list[tuple[Address, Address]],
        encapsulation: Encapsulation,
    ) -> None:
        self._rows, self._events, self._payloads = rows, events, payloads
        self._flows = [Flow(source, destination, encapsulation) for source, destination in flows]

    def frames(self, wanted: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The frames of these rows as a matrix with zeros behind each, and their lengths without padding."""
        rows = self._rows[wanted]
        coded, sizes = self._coded(rows, wanted)
        head = self._flows[0].size
        matrix = np.zeros((len(rows), head + _RTP_HEADER + coded.shape[1]), np.uint8)
        rtp = matrix[:, head : head + _RTP_HEADER]
        rtp[:, 0] = 0x80
        rtp[:, 1] = rows["payload_type"] | (rows["marker"].astype(np.uint8) << 7)
        rtp[:, 2:4] = rows["seq"].astype(">u2")[:, None].view(np.uint8)
        rtp[:, 4:8] = rows["timestamp"].astype(">u4")[:, None].view(np.uint8)
        rtp[:, 8:12] = rows["ssrc"].astype(">u4")[:, None].view(np.uint8)
        matrix[:, head + _RTP_HEADER :] = coded
        if len(self._flows) == 1:
            self._flows[0].fill(matrix, sizes + _RTP_HEADER)
        else:
            for number in np.unique(rows["flow"]):
                of_flow = rows["flow"] == number
                part = matrix[of_flow]
                self._flows[number].fill(part, sizes[of_flow] + _RTP_HEADER)
                matrix[of_flow] = part
        return matrix, sizes + head + _RTP_HEADER

    def _coded(
        self, rows: NDArray[np.void], wanted: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        event = rows["event"]
        if not event.any():
            return self._payloads.coded(rows)
        audio, audio_sizes = self._payloads.coded(rows[~event])
        matrix = np.zeros((len(rows), max(4, audio.shape[1])), np.uint8)
        sizes = np.full(len(rows), 4, np.int64)
        matrix[~event, : audio.shape[1]] = audio
        sizes[~event] = audio_sizes
        matrix[event, :4] = self._events[wanted[event]].astype(">u4")[:, None].view(np.uint8)
        return matrix, sizes
