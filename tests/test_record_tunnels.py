"""Whole calls within tunnels: what is recorded of a mirror is what is recorded without one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recorderd.capture.files import open_capture
from recorderd.service.engine import EngineSettings
from recorderd.wire.tunnel_settings import TunnelSettings
from tests.capture_builder import pcap
from tests.recorder import assert_exact, record_files
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript
from tests.tunnel_builder import erspan2, erspan3, ethernet, geneve, gre, outer, outer_udp, tzsp, vxlan

MIRRORS: dict[str, Callable[[bytes], bytes]] = {
    "vxlan": lambda frame: outer_udp(vxlan(frame), 4789),
    "geneve": lambda frame: outer_udp(geneve(frame, options=3), 6081, 6),
    "erspan 2": lambda frame: outer(erspan2(frame), 47),
    "erspan 3": lambda frame: outer(erspan3(frame, platform=True), 47),
    "tzsp": lambda frame: outer_udp(tzsp(frame), 37008),
    "gre in vxlan": lambda frame: outer_udp(vxlan(ethernet(outer(gre(frame, 0x6558), 47))), 4789),
}


def frames_of(capture: Path) -> Iterator[tuple[int, bytes]]:
    for frames in open_capture(capture):
        for row, (time_ns, length) in enumerate(
            zip(frames.time_ns.tolist(), frames.caplen.tolist(), strict=True)
        ):
            yield time_ns, frames.data[row, :length].tobytes()


def mirrored(capture: Path, wrap: Callable[[bytes], bytes], *, both: bool = False) -> Path:
    """The capture as a mirror wraps it; ``both``: each frame before its copy in the tunnel."""
    times, packets = [], []
    for time_ns, frame in frames_of(capture):
        for packet in [frame, ethernet(wrap(frame))] if both else [ethernet(wrap(frame))]:
            times.append(time_ns + 20_000 * (packet is not frame and both))
            packets.append(packet)
    path = capture.with_name("mirrored.pcap")
    path.write_bytes(pcap(packets, times=times))
    return path


def staged(folder: Path) -> tuple[PbxSimulator, Path]:
    simulator = PbxSimulator(seed=5)
    for number in range(4):
        simulator.add(CallScript(start_s=0.1 * number, ring_s=0.5, talk_s=4.0))
    return simulator, simulator.write(folder / "plain.pcap")


@pytest.mark.parametrize("name", MIRRORS)
def test_calls_that_a_mirror_wrapped(tmp_path: Path, name: str) -> None:
    simulator, plain = staged(tmp_path)
    recorded = record_files(tmp_path, [mirrored(plain, MIRRORS[name])])
    assert len(recorded.rows) == len(simulator.calls)
    for truth in simulator.calls:
        assert recorded.call(truth)["outcome"] == "complete"
        for side in (truth.caller, truth.callee):
            assert_exact(recorded, truth, side)
            track = recorded.track(recorded.of(truth), side.side)
            assert (track["packets"], track["lost"], track["duplicates"]) == (side.packets, 0, 0)
    counters = recorded.engine.dissector.counters
    assert counters["tunnelled"] == counters["frames"]


def test_a_mirror_that_sees_packets_in_a_tunnel_and_beside_it(tmp_path: Path) -> None:
    """Every packet is recorded once, and every call is one call."""
    simulator, plain = staged(tmp_path)
    recorded = record_files(tmp_path, [mirrored(plain, MIRRORS["vxlan"], both=True)])
    assert len(recorded.calls) == len(recorded.rows) == len(simulator.calls)
    for truth in simulator.calls:
        assert recorded.call(truth)["outcome"] == "complete"
        for side in (truth.caller, truth.callee):
            assert_exact(recorded, truth, side)
            track = recorded.track(recorded.of(truth), side.side)
            assert (track["packets"], track["lost"]) == (side.packets, 0)
            assert track["duplicates"] == side.packets


def test_tunnels_that_stay_closed(tmp_path: Path) -> None:
    _, plain = staged(tmp_path)
    settings = EngineSettings(tunnels=TunnelSettings(frozenset({"gre"})))
    recorded = record_files(tmp_path, [mirrored(plain, MIRRORS["vxlan"])], settings)
    assert recorded.calls == recorded.rows == []
