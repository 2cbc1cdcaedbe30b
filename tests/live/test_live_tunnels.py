"""Calls recorded through tunnels: the kernel's own devices wrap them, the recorder sees the carrier alone."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.capture.ring import HEADROOM, Ring
from recorderd.wire.dissect import Dissector
from recorderd.wire.tunnel_settings import TunnelSettings
from tests.capture_builder import as_frames, datagram, fragments, rtp
from tests.live.process import until
from tests.live.test_live_workers import IN_TIME_S, LEAD_NS, Workers, assert_all_there, in_background
from tests.network_namespaces import Pair, privileged, ready
from tests.simulators.encapsulation import ETHERNET, RAW
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Move, SideName
from tests.tunnel_builder import IP_TUNNELS, LINK_TUNNELS, ethernet

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not privileged(), reason="needs root: network namespaces"),
]

DEVICES = {
    "vxlan": ("vxlan", ["id", "7", "dstport", "4789"], True, ETHERNET),
    "vxlan over v6": ("vxlan", ["id", "7", "dstport", "4789"], True, ETHERNET),
    "geneve": ("geneve", ["id", "7"], False, ETHERNET),
    "gretap": ("gre", ["key", "7"], True, ETHERNET),
    "erspan": ("erspan", ["seq", "key", "7", "erspan_ver", "1"], True, ETHERNET),
    "erspan 3": ("erspan", ["seq", "key", "7", "erspan_ver", "2", "erspan_dir", "ingress"], True, ETHERNET),
    "gre": ("gre", [], True, RAW),
    "ipip": ("ipip", [], True, RAW),
}
"""The tunnel that is configured, how its device is made, whether it has an address, and what goes in."""

KINDS = {"gretap": "gretap", "erspan 3": "erspan", "vxlan over v6": "vxlan"}


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.remove()


def add_device(pair: Pair, name: str) -> None:
    """The device ``tun0`` at both ends; what is sent into that of ``there`` comes wrapped to ``here``."""
    _, words, local, _ = DEVICES[name]
    network = "fd77::" if name.endswith("v6") else "10.77.0."
    for namespace, mine, other in ((pair.here, 1, 2), (pair.there, 2, 1)):
        ends = ["remote", f"{network}{other}", *(["local", f"{network}{mine}"] if local else [])]
        try:
            namespace.ip("link", "add", "tun0", "type", KINDS.get(name, name), *words, *ends)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this kernel has no such tunnel: {error.stderr.strip()}")
        namespace.ip("link", "set", "tun0", "mtu", "1500", "up")


def stage(linktype: int, begin_ns: int, count: int, talk_s: float) -> PbxSimulator:
    simulator = PbxSimulator(seed=11, epoch_ns=begin_ns, linktype=linktype)
    for number in range(count):
        happenings = (Move(talk_s / 2, side="callee"),) if number % 3 == 1 else ()
        nat: frozenset[SideName] = frozenset({"caller"}) if number % 3 == 2 else frozenset()
        simulator.add(
            CallScript(start_s=0.03 * number, ring_s=0.4, talk_s=talk_s, happenings=happenings, nat=nat)
        )
    return simulator


def played(simulator: PbxSimulator, pair: Pair, interface: str, folder: Path) -> float:
    """Send all of it in its time; how late, in seconds, the latest frame left."""
    return in_background(simulator.write(folder / "sent.pcap"), pair, interface).result()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", DEVICES)
def test_calls_in_a_tunnel_of_the_kernel(pair: Pair, tmp_path: Path, name: str, workers: int) -> None:
    """Every packet of every call, once, on the track of its speaker, whichever worker's it is."""
    add_device(pair, name)
    tunnel, _, _, linktype = DEVICES[name]
    with Workers(tmp_path, pair.here, workers, tunnels=[tunnel]) as recorder:
        simulator = stage(linktype, time.time_ns() + LEAD_NS, 12, 3.0)
        late_s = played(simulator, pair, "tun0", tmp_path)
        recorder.until_done()
        status = recorder.status_from_now()
    recorded = recorder.recorded()
    assert len(recorded.rows) == len(simulator.calls)
    for truth in simulator.calls:
        assert recorded.call(truth)["outcome"] == "complete", recorded.call(truth)["reason"]
        assert_all_there(recorded, truth, in_time=late_s < IN_TIME_S)
    assert sum(ring["drops"] for ring in status["rings"]) == 0


def test_tunnels_that_are_not_named_are_not_taken_in(pair: Pair, tmp_path: Path) -> None:
    add_device(pair, "vxlan")
    with Workers(tmp_path, pair.here, 1) as recorder:
        simulator = stage(ETHERNET, time.time_ns() + LEAD_NS, 2, 0.5)
        played(simulator, pair, "tun0", tmp_path)
        status = recorder.status_from_now()
    # The host's own multicast has extension headers, which may come in as signalling.
    assert [ring["packets"] for ring in status["rings"] if ring["kind"] == "media"] == [0]
    assert sum(ring["packets"] for ring in status["rings"]) < len(simulator.calls) * 25
    assert recorder.recorded().rows == []


def test_every_tunnel_comes_through_the_rings(pair: Pair) -> None:
    """Frames of all kinds of tunnel, short and long, whole and in fragments: what the dissector makes of the
    rings' packets is what it makes of the frames that were sent.
    """
    frames = []
    for number, (name, wrap) in enumerate(sorted(IP_TUNNELS.items())):
        for size in (20, 900):
            packet = datagram("10.1.2.3", 4000, "10.9.9.9", 6000, rtp(number, size, payload=bytes(size)))
            frames.append(ethernet(wrap(packet, 4)))
            frames.append(framed_in_tag(wrap(packet, 6)))
        frames += [ethernet(piece) for piece in fragments(wrap(packet, 4), 400, number)]
        sip = b"OPTIONS sip:%s SIP/2.0\r\n\r\n" % name.replace(" ", "-").encode()
        frames.append(ethernet(wrap(datagram("10.1.2.3", 5060, "10.9.9.9", 5060, sip), 4)))
    for number, wrap_link in enumerate(LINK_TUNNELS.values()):
        frames.append(wrap_link(datagram("10.1.2.3", 4000, "10.9.9.9", 6000, rtp(100 + number))))
    sent, got = Dissector(frozenset({5060})), Dissector(frozenset({5060}))
    expected = sent.feed(as_frames(frames))
    media, signalling = [], []
    with pair.here.entered():
        options = {"media_bytes": 512 - HEADROOM, "tunnels": TunnelSettings(), "sip_ports": [5060]}
        rings = [
            Ring("tap0", "media", ring_mb=1, frame_bytes=512, **options),  # type: ignore[arg-type]
            Ring("tap0", "signalling", ring_mb=4, frame_bytes=4096, **options),  # type: ignore[arg-type]
        ]
    with pair.there.wire("far0") as wire:
        for frame in frames:
            wire.send(frame)
    wanted = [(int(seq), expected.media.payload(n)) for n, seq in enumerate(expected.media.seq)]
    told = [item.payload for item in expected.signalling]

    def all_there() -> bool:
        for ring in rings:
            while (batch := ring.take()) is not None:
                result = got.feed(batch)
                media.extend((int(seq), result.media.payload(n)) for n, seq in enumerate(result.media.seq))
                signalling.extend(item.payload for item in result.signalling)
        return len(media) >= len(wanted) and len(signalling) >= len(told)

    until(all_there, "what was sent", 20)
    while any(ready(ring.fileno(), 0.3) for ring in rings):
        all_there()
    for ring in rings:
        with ring:
            assert ring.statistics()[1] == 0
    assert sorted(media) == sorted(wanted)
    assert sorted(signalling) == sorted(told)
    assert len(signalling) == len(IP_TUNNELS)


def framed_in_tag(packet: bytes) -> bytes:
    """Behind the tag that the kernel keeps apart."""
    return ethernet(packet, (0x8100, 0x8100))
