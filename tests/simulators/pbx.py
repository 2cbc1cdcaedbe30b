"""The simulated PBX: calls in, a capture file and the truth about it out.

    simulator = PbxSimulator(seed=1)
    truth = simulator.add(CallScript(talk_s=60, caller_network=Impairment(loss=0.01)))
    simulator.write(tmp_path / "call.pcap")
    truth.caller.samples()      # int16: exactly what a recorder must have of the caller
    truth.caller.lost_packets   # [LostPacket(seq, position, length), ...]

The same seed and scripts give the same file, byte for byte. Nothing of the recorder is used here.
"""

import hashlib
import ipaddress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.simulators.capture_file import CaptureWriter
from tests.simulators.connections import Carrier
from tests.simulators.dialog import SECOND, SideTimeline, SipPacket, Staged, stage
from tests.simulators.encapsulation import ETHERNET, Address, Encapsulation, Flow
from tests.simulators.payloads import CodedPayloads, G711Payloads, Payloads, opus_payloads
from tests.simulators.script import SIDES, CallScript, SideName, Stranger, other
from tests.simulators.signals import Noise, Signal, Speech
from tests.simulators.sip_text import CLOCK_RATES, Party
from tests.simulators.stream import Clocking, Stream, impair, packets_of, sent_rows
from tests.simulators.truth import CallTruth, TrackTruth

EPOCH_NS = 1_790_000_000 * SECOND  #: when simulated time starts, unless told otherwise
_SLICE = 300_000  # frames built and written at a time; bounds the memory
_MTU_WITHOUT_FRAGMENTS = 65_000
_DOUBLE_AFTER_NS = 30_000


class PbxSimulator:
    """A PBX and its phones, seen from a tap on the PBX's interface.

    ``linktype`` and ``vlans`` say how frames look, ``sip_mtu`` cuts SIP into IP fragments, ``doubles`` shows
    every frame twice 30 us apart as a mirror port may, ``carrier`` takes SIP over something else than UDP,
    ``nanoseconds`` and ``snaplen`` belong to the capture file.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        epoch_ns: int = EPOCH_NS,
        linktype: int = ETHERNET,
        vlans: tuple[int, ...] = (),
        nanoseconds: bool = True,
        snaplen: int = 65535,
        sip_mtu: int = _MTU_WITHOUT_FRAGMENTS,
        doubles: bool = False,
        carrier: Carrier | None = None,
    ) -> None:
        self.calls: list[CallTruth] = []
        self._seed, self._epoch_ns = seed, epoch_ns
        self._encapsulation = Encapsulation(linktype, vlans)
        self._nanoseconds, self._snaplen = nanoseconds, snaplen
        self._sip_mtu, self._doubles = sip_mtu, doubles
        self._carrier = carrier
        self._streams: list[Stream] = []
        self._emissions: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []  # times, rows; one a stream
        self._sip_times: list[int] = []
        self._sip_frames: list[bytes] = []
        self._fragmented = 0

    def add(self, script: CallScript) -> CallTruth:
        """Stage a call; its packets are built when the file is written."""
        index = len(self.calls)
        seed = script.seed if script.seed is not None else self._seed * 1_000_003 + index
        rng = np.random.default_rng(seed)
        call_id = script.call_id or f"{hashlib.sha256(f'{seed}'.encode()).hexdigest()[:20]}@pbx.example"
        caller, callee = self._parties(script, index, call_id)
        staged = stage(script, caller, callee, call_id, self._epoch_ns)
        for message in staged.messages:
            self._signal(message)
        tracks: dict[SideName, TrackTruth] = {}
        for number, side in enumerate(SIDES):
            if side in staged.timelines:
                tracks[side] = self._speak(script, side, staged.timelines[side], seed * 2 + number, rng)
        strangers = self._strangers(script, staged, rng)
        truth = CallTruth(
            script, call_id, staged.invited_ns, staged.answered_ns, staged.ended_ns, tracks,
            tuple(staged.holds), strangers
        )  # fmt: skip
        self.calls.append(truth)
        return truth

    def say(self, time_ns: int, source: Address, destination: Address, payload: bytes) -> None:
        """Anything else on the way of the signalling: messages of no call, garbage."""
        self._signal(SipPacket(time_ns, source, destination, payload))

    def send(
        self,
        at_s: float,
        length_s: float,
        source: Address,
        destination: Address,
        signal: Signal,
        *,
        payload_type: int = 0,
        ssrc: int | None = None,
    ) -> NDArray[np.int16]:
        """Another stream, of mu-law under any payload type, that no script has; returns its samples."""
        start = self._epoch_ns + round(at_s * SECOND)
        timeline = SideTimeline(start, start + round(length_s * SECOND), [(start, source, destination)])
        rng = np.random.default_rng((self._seed, len(self._streams)))
        rows, events = sent_rows(timeline, Clocking("pcmu", 8000, 20, 0.0), rng)
        rows["payload_type"] = payload_type
        rows["ssrc"] = rows["ssrc"] if ssrc is None else ssrc
        payloads = G711Payloads(signal, 160)
        self._streams.append(Stream(rows, events, payloads, [(source, destination)], self._encapsulation))
        self._emissions.append((rows["sent_ns"].copy(), np.arange(len(rows))))
        samples: NDArray[np.int16] = payloads.pcm(rows).ravel()
        return samples

    def _parties(self, script: CallScript, index: int, call_id: str) -> tuple[Party, Party]:
        """Each caller has an address of its own; the callees are behind the PBX, on ports of their own."""
        if script.ip_version == 4:
            phone = str(ipaddress.IPv4Address("10.1.0.0") + 1 + index)
            pbx, private = "10.0.0.1", ("192.168.77.5", "192.168.88.6")
        else:
            phone = str(ipaddress.IPv6Address("fd00:1::") + 1 + index)
            pbx, private = "fd00::1", ("fd00:77::5", "fd00:88::6")
        hosts = {"caller": script.caller_host or phone, "callee": script.callee_host or pbx}
        ports = {"caller": script.caller_port or 40000 + 8 * (index % 2000)}
        ports["callee"] = script.callee_port or 10000 + 8 * (index % 3500)
        tag = hashlib.sha256(call_id.encode()).hexdigest()
        parties: list[Party] = []
        for side, user, side_tag in (
            ("caller", script.caller, tag[:8]),
            ("callee", script.callee, tag[8:16]),
        ):
            media = Address(hosts[side], ports[side])
            announced = Address(private[len(parties)], 16384) if side in script.nat else media
            sip = Address(hosts[side], script.sip_port)
            name: SideName = "caller" if side == "caller" else "callee"
            parties.append(Party(name, user, sip, media, announced, side_tag))
        return parties[0], parties[1]

    def _signal(self, message: SipPacket) -> None:
        if self._carrier is not None:
            for time_ns, frame in self._carrier.carry(
                message.time_ns, message.source, message.destination, message.payload
            ):
                self._sip_times.append(time_ns)
                self._sip_frames.append(frame)
            return
        self._fragmented += 1
        flow = Flow(message.source, message.destination, self._encapsulation)
        for place, frame in enumerate(
            flow.fragments(message.payload, self._sip_mtu, self._fragmented & 0xFFFF)
        ):
            self._sip_times.append(message.time_ns + place * 1000)
            self._sip_frames.append(frame)

    def _speak(
        self, script: CallScript, side: SideName, timeline: SideTimeline, seed: int, rng: np.random.Generator
    ) -> TrackTruth:
        clock_rate = CLOCK_RATES[script.codec]
        clocking = Clocking(script.codec, clock_rate, script.ptime_ms, script.drift_of(side))
        signal = script.signal_of(side) or Speech(seed + 1)
        payloads: Payloads
        unsent = None
        coded = script.coded_of(side)
        if coded is not None:
            law = G711Payloads(signal, 8 * script.ptime_ms)
            payloads = CodedPayloads(coded, clocking.length, law)
        elif script.codec == "opus":
            count = packets_of(timeline, clocking)
            payloads = opus = opus_payloads(signal, script.opus, script.ptime_ms, count)
            unsent = opus.sizes[:count] <= 2 if script.opus.dtx else None
        else:
            payloads = G711Payloads(signal, clocking.length)
        rows, events = sent_rows(timeline, clocking, rng, unsent)
        times, seen = impair(rows, script.network_of(side), script.ptime_ms, rng)
        flows = [(source, destination) for _, source, destination in timeline.flows]
        self._streams.append(Stream(rows, events, payloads, flows, self._encapsulation))
        self._emissions.append((times, seen))

        def payload_bytes(of: NDArray[np.void]) -> list[bytes]:
            matrix, sizes = payloads.coded(of)
            return [row[:size].tobytes() for row, size in zip(matrix, sizes, strict=True)]

        return TrackTruth(
            side=side, codec=script.codec, clock_rate=clock_rate,
            channels=script.opus.channels if script.codec == "opus" else 1,
            start_ns=timeline.start_ns, drift_ppm=clocking.drift_ppm, flows=tuple(flows),
            ssrcs=tuple(dict.fromkeys(int(ssrc) for ssrc in np.unique(rows["ssrc"]))), sent=rows,
            duplicates=len(seen) - int(np.count_nonzero(~rows["lost"])),
            digits="".join(digit for _, digit in timeline.digits),
            _payloads=payload_bytes, _pcm=payloads.pcm if isinstance(payloads, G711Payloads) else None,
        )  # fmt: skip

    def _strangers(self, script: CallScript, staged: Staged, rng: np.random.Generator) -> int:
        """Somebody else's packets to an end's port; returns how many."""
        total = 0
        for happening in script.happenings:
            toward = (
                staged.timelines.get(other(happening.toward)) if isinstance(happening, Stranger) else None
            )
            if not isinstance(happening, Stranger) or toward is None or staged.answered_ns is None:
                continue
            victim = toward.flows[0][2]
            host = "10.66.6.6" if script.ip_version == 4 else "fd00:66::6"
            start = staged.answered_ns + round(happening.at_s * SECOND)
            end = start + round(happening.length_s * SECOND)
            source = toward.flows[0][1] if happening.spoofed else Address(host, 6666)
            timeline = SideTimeline(start, end, [(start, source, victim)])
            rows, events = sent_rows(timeline, Clocking("pcmu", 8000, 20, 0.0), rng)
            noise = G711Payloads(Noise(int(rng.integers(1000))), 160)
            flows = [(source, destination) for _, source, destination in timeline.flows]
            self._streams.append(Stream(rows, events, noise, flows, self._encapsulation))
            self._emissions.append((rows["sent_ns"].copy(), np.arange(len(rows))))
            total += len(rows)
        return total

    def write(self, path: Path) -> Path:
        """Write every staged call's packets in order of time; may be called once all calls are added."""
        sip = len(self._streams)
        # SIP first: the sort is stable, so at the same instant signalling comes before media.
        times = np.concatenate([np.array(self._sip_times, np.int64), *(t for t, _ in self._emissions)])
        sizes = [len(self._sip_times)] + [len(t) for t, _ in self._emissions]
        streams = np.repeat(np.array([sip, *range(sip)], np.int32), sizes)
        rows = [np.arange(len(self._sip_times), dtype=np.int32)] + [
            r.astype(np.int32) for _, r in self._emissions
        ]
        places = np.concatenate(rows)
        if self._doubles:
            times = np.concatenate([times, times + _DOUBLE_AFTER_NS])
            streams, places = np.tile(streams, 2), np.tile(places, 2)
        order = np.argsort(times, kind="stable")
        with CaptureWriter(
            path, self._encapsulation.linktype, nanoseconds=self._nanoseconds, snaplen=self._snaplen
        ) as writer:
            for at in range(0, len(order), _SLICE):
                part = order[at : at + _SLICE]
                self._write_slice(writer, times[part], streams[part], places[part])
        return path

    def _write_slice(
        self,
        writer: CaptureWriter,
        times: NDArray[np.int64],
        streams: NDArray[np.int32],
        places: NDArray[np.int32],
    ) -> None:
        """Build the frames stream by stream, then put each where its time says."""
        by_stream = np.argsort(streams, kind="stable")
        cuts = np.flatnonzero(np.diff(streams[by_stream])) + 1
        built = []
        lengths = np.zeros(len(times), np.int64)
        for group in np.split(by_stream, cuts):
            number = int(streams[group[0]])
            if number < len(self._streams):
                matrix, sizes = self._streams[number].frames(places[group].astype(np.int64))
            else:
                matrix, sizes = _padded([self._sip_frames[place] for place in places[group]])
            sizes = self._encapsulation.wire_length(sizes)
            lengths[group] = sizes
            built.append((group, matrix, sizes))
        buffer, starts = writer.place(lengths)
        for group, matrix, sizes in built:
            _scatter(buffer, starts[group], matrix, writer.clip(sizes))
        writer.write(buffer, starts, times, lengths)


def _padded(frames: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    sizes = np.array([len(frame) for frame in frames], np.int64)
    matrix = np.zeros((len(frames), int(sizes.max())), np.uint8)
    for row, frame in zip(matrix, frames, strict=True):
        row[: len(frame)] = np.frombuffer(frame, np.uint8)
    return matrix, sizes


def _scatter(
    buffer: NDArray[np.uint8], starts: NDArray[np.int64], matrix: NDArray[np.uint8], sizes: NDArray[np.int64]
) -> None:
    """Copy each row's first ``size`` bytes to its start; what a row does not have stays zero (Ethernet's
    padding)."""
    column = np.arange(matrix.shape[1])
    at = starts[:, None] + column
    if (sizes >= matrix.shape[1]).all():
        buffer[at] = matrix
    else:
        within = column < sizes[:, None]
        buffer[at[within]] = matrix[within]
