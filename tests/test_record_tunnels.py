"""Whole calls within tunnels: what is recorded of a mirror is what is recorded without one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recorderd.capture.files import open_capture
from recorderd.service.engine_settings import EngineSettings
from recorderd.wire.frames import LinkType
from recorderd.wire.tunnel_settings import TunnelSettings
from tests.capture_builder import framed, pcap
from tests.recorder import assert_exact, record_files
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript
from tests.tunnel_builder import (
    IP_TUNNELS,
    LINK_TUNNELS,
    erspan2,
    erspan3,
    ethernet,
    geneve,
    gre,
    outer,
    outer_udp,
    tzsp,
    vxlan,
)

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


WIRES: dict[str, tuple[LinkType, Callable[[bytes], bytes]]] = {
    **{name: (LinkType.ETHERNET, wrap) for name, wrap in LINK_TUNNELS.items()},
    **{
        name: (LinkType.ETHERNET, lambda packet, wrap=wrap: ethernet(wrap(packet, 4)))
        for name, wrap in IP_TUNNELS.items()
    },
    **{
        f"link {link.name}": (link, lambda packet, link=link: framed(packet, link))
        for link in LinkType
        if link not in (LinkType.IPV4, LinkType.IPV6)
    },
}


@pytest.mark.parametrize("wire", WIRES)
def test_calls_on_every_wire(tmp_path: Path, wire: str) -> None:
    """Of IPv4 and of IPv6, the signalling in fragments."""
    link, wrap = WIRES[wire]
    simulator = PbxSimulator(seed=6, sip_mtu=700, linktype=LinkType.RAW)
    truths = [simulator.add(CallScript(ring_s=0.3, talk_s=2.0, ip_version=version)) for version in (4, 6)]
    times, packets = [], []
    for time_ns, packet in frames_of(simulator.write(tmp_path / "plain.pcap")):
        times.append(time_ns)
        packets.append(wrap(packet))
    capture = tmp_path / "wire.pcap"
    capture.write_bytes(pcap(packets, link, times=times))
    recorded = record_files(tmp_path, [capture])
    assert len(recorded.rows) == len(recorded.calls) == 2
    for truth in truths:
        call = recorded.call(truth)
        assert (call["outcome"], call["reason"]) == ("complete", "")
        for side in (truth.caller, truth.callee):
            assert_exact(recorded, truth, side)
            assert recorded.track(recorded.of(truth), side.side)["packets"] == side.packets
