"""The ring on real interfaces: it delivers what tcpdump sees, whatever the traffic and the ring's size."""

import contextlib
import errno
import gc
import itertools
import json
import os
import select
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from recorderd.capture.bpf import Share
from recorderd.capture.files import open_capture
from recorderd.capture.packet_socket import Condition
from recorderd.capture.ring import HEADROOM, Ring, RingSize, largest_possible, ring_sizes
from recorderd.errors import CaptureError
from recorderd.wire.dissect import Dissected, Dissector
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.flow_hash import share_of
from recorderd.wire.frames import Frames, LinkType
from tests.capture_builder import datagram, fragments, framed, hop_by_hop, ipv6, rtp, udp
from tests.live.process import until
from tests.network_namespaces import Namespace, Pair, Tcpdump, privileged, ready

SIP = b"INVITE sip:x@y SIP/2.0\r\nX: " + b"long " * 40 + b"\r\n\r\n"
PORTS = frozenset({5060})

needs_root = pytest.mark.skipif(not privileged(), reason="needs root: network namespaces")
HOSTS = pytest.mark.parametrize(
    "hosts", [("10.77.0.2", "10.77.0.1"), ("fd77::2", "fd77::1")], ids=["v4", "v6"]
)


def live(test: Callable[..., None]) -> Callable[..., None]:
    marked: Callable[..., None] = pytest.mark.live(needs_root(test))
    return marked


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.remove()


def open_ring(namespace: Namespace, interface: str, kind: str = "media", **options: float) -> Ring:
    with namespace.entered():
        return Ring(interface, kind, sip_ports=PORTS, **{"ring_mb": 1, **options})  # type: ignore[arg-type]


def collect(ring: Ring, count: int, limit: int = 8192) -> list[Frames]:
    """All batches until ``count`` packets came, or none for some seconds."""
    batches: list[Frames] = []
    while sum(len(frames) for frames in batches) < count:
        frames = ring.take(limit)
        if frames is not None:
            batches.append(frames)
        elif not ready(ring.fileno()):
            break
    return batches


def dissect(batches: list[Frames]) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Media and signalling of batches, without their times."""
    dissector = Dissector(PORTS, seed=1)
    media: list[tuple[object, ...]] = []
    signalling: list[tuple[object, ...]] = []
    for frames in batches:
        result: Dissected = dissector.feed(frames)
        found = result.media
        for n in range(len(found)):
            columns = (found.key, found.seq, found.timestamp, found.ssrc, found.payload_type, found.marker)
            media.append((*(int(column[n]) for column in columns), found.payload(n), found.endpoints(n)))
        signalling += [(item.source, item.destination, item.payload) for item in result.signalling]
    return media, signalling


def everything(hosts: tuple[str, str]) -> list[bytes]:
    """Ethernet frames of every kind that the rings are for, and others."""
    there, here = hosts
    voice = [datagram(there, 4000, here, 6000, rtp(n, 160 * n, 9, bytes([n]) * 160)) for n in range(8)]
    sip = [datagram(there, 5060, here, 5060, SIP + bytes([65 + n])) for n in range(4)]
    large = datagram(there, 5060, here, 5060, SIP + b"large" * 700)
    tags: list[tuple[int, ...]] = [(), (0x8100,), (0x88A8, 0x8100), (0x8100, 0x8100)]
    frames = [framed(packet, LinkType.ETHERNET, vlans=vlans) for packet in (*voice, *sip) for vlans in tags]
    frames += [framed(piece, LinkType.ETHERNET, minimum=60) for piece in fragments(large, 1200)]
    frames += [framed(piece, LinkType.ETHERNET, vlans=(0x8100,)) for piece in fragments(large, 1200, ident=5)]
    if ":" in there:
        packet = ipv6(there, here, udp(there, here, 4000, 6000, rtp(99)), extensions=[hop_by_hop()])
        frames.append(framed(packet, LinkType.ETHERNET))
    other = datagram(there, 4000, here, 6000, b"neither")
    frames.append(framed(other, LinkType.ETHERNET))
    return frames


@live
@HOSTS
def test_every_kind_of_frame_as_tcpdump_sees_it(pair: Pair, hosts: tuple[str, str], tmp_path: Path) -> None:
    """Frames with none, one and two VLAN tags, fragments, extension headers: to the rings as to tcpdump."""
    frames = everything(hosts)
    with (
        open_ring(pair.here, "tap0") as media_ring,
        open_ring(pair.here, "tap0", "signalling") as signalling_ring,
    ):
        tcpdump = Tcpdump(
            pair.here, "tap0", tmp_path / "seen", len(frames), ["ether", "src", "02:00:00:00:00:01"]
        )
        wire = pair.there.wire("far0")
        for frame in frames:
            wire.send(frame)
        wire.close()
        media, nothing = dissect(collect(media_ring, 32))
        assert nothing == []
        more, signalling = dissect(collect(signalling_ring, 16 + 8 + (":" in hosts[0])))
        expected_media, expected_signalling = dissect(list(open_capture(tcpdump.finish())))
    assert len(media) + len(more) == 32 + (":" in hosts[0])
    assert sorted(media + more, key=repr) == sorted(expected_media, key=repr)
    assert media == [packet for packet in expected_media if packet not in more]
    assert len(signalling) == 18
    assert signalling == expected_signalling


@live
@HOSTS
def test_datagrams_of_real_sockets(pair: Pair, hosts: tuple[str, str], tmp_path: Path) -> None:
    """Both directions, with the kernel's own fragments and check sums that nobody filled in."""
    there, here = hosts
    payloads = [rtp(n, 160 * n, 5, os.urandom(160)) for n in range(200)]
    long_sip = SIP + b"y" * 6000
    with (
        open_ring(pair.here, "tap0") as media_ring,
        open_ring(pair.here, "tap0", "signalling") as signalling_ring,
    ):
        fragments_expected = 5
        tcpdump = Tcpdump(
            pair.here,
            "tap0",
            tmp_path / "seen",
            400 + 1 + fragments_expected,
            ["udp"],
        )
        far, near = pair.there.udp(there, 4000), pair.here.udp(here, 6000)
        sip = pair.there.udp(there, 5060)
        for payload in payloads:
            far.sendto(payload, (here, 6000))
            near.sendto(payload, (there, 4000))
        sip.sendto(SIP, (here, 5060))
        sip.sendto(long_sip, (here, 5060))
        media_batches = collect(media_ring, 400)
        media, _ = dissect(media_batches)
        _, signalling = dissect(collect(signalling_ring, 1 + fragments_expected))
        seen = list(open_capture(tcpdump.finish()))
        for made in (far, near, sip):
            made.close()
        assert media_ring.statistics() == (400, 0)
        assert media_ring.statistics() == (400, 0), "reading does not change them"
    expected_media, expected_signalling = dissect(seen)
    assert media == expected_media
    assert len(media) == 400
    assert [item[2] for item in signalling] == [SIP, long_sip]
    assert signalling == expected_signalling
    times = np.concatenate([frames.time_ns for frames in media_batches])
    tcpdump_times = np.concatenate([frames.time_ns for frames in seen])[:400]
    assert np.abs(times - tcpdump_times).max() < 50_000_000
    lengths = np.concatenate([frames.wirelen for frames in media_batches])
    assert lengths.tolist() == np.concatenate([frames.wirelen for frames in seen])[:400].tolist()


@live
def test_a_vlan_interface_and_the_one_below_it(pair: Pair) -> None:
    """On the interface below, the kernel has the tag apart; on the VLAN's own there is none."""
    for namespace, interface, number in ((pair.here, "tap0", 1), (pair.there, "far0", 2)):
        try:
            namespace.ip("link", "add", "link", interface, "name", "vlan7", "type", "vlan", "id", "7")
        except subprocess.CalledProcessError:
            pytest.skip("this kernel has no VLAN interfaces")
        namespace.ip("addr", "add", f"10.78.0.{number}/24", "dev", "vlan7")
        namespace.ip("link", "set", "vlan7", "up")
    with open_ring(pair.here, "tap0") as below, open_ring(pair.here, "vlan7") as own:
        far = pair.there.udp("10.78.0.2", 4000)
        for n in range(5):
            far.sendto(rtp(n), ("10.78.0.1", 6000))
        far.close()
        first, _ = dissect(collect(below, 5))
        second, _ = dissect(collect(own, 5))
    assert len(first) == 5
    assert first == second


@live
def test_loopback_without_its_doubles(pair: Pair) -> None:
    with open_ring(pair.here, "lo") as ring:
        sender = pair.here.udp("127.0.0.1", 4000)
        for n in range(50):
            sender.sendto(rtp(n), ("127.0.0.1", 6000))
        sender.close()
        batches = collect(ring, 50)
        assert ring.take() is None
        assert ring.statistics() == (50, 0)
        assert ring.link == LinkType.ETHERNET
    assert [packet[1] for packet in dissect(batches)[0]] == list(range(50))


@live
@pytest.mark.parametrize("host", ["10.79.0.1", "fd79::1"])
def test_an_interface_without_link_header(pair: Pair, host: str) -> None:
    """A tun device has bare IP packets, in both directions."""
    import fcntl

    with pair.here.entered():
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(
            tun, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001)
        )  # TUNSETIFF, IFF_TUN | IFF_NO_PI
    pair.here.ip("addr", "add", "10.79.0.1/24", "dev", "tun0")
    pair.here.ip("addr", "add", "fd79::1/64", "dev", "tun0", "nodad")
    pair.here.ip("link", "set", "tun0", "up")
    peer = host[:-1] + "2"
    with open_ring(pair.here, "tun0") as ring, open_ring(pair.here, "tun0", "signalling") as signalling_ring:
        assert ring.link == signalling_ring.link == LinkType.RAW
        sender = pair.here.udp(host, 4000)
        for n in range(3):
            sender.sendto(rtp(n), (peer, 6000))
            os.write(tun, datagram(peer, 6000, host, 4000, rtp(100 + n)))
        pieces = fragments(datagram(peer, 5060, host, 5060, SIP), 80)
        for piece in pieces:
            os.write(tun, piece)
        sender.close()
        media, _ = dissect(collect(ring, 6))
        _, signalling = dissect(collect(signalling_ring, len(pieces)))
    os.close(tun)
    assert sorted(packet[1] for packet in media) == [0, 1, 2, 100, 101, 102]  # type: ignore[type-var]
    assert [item[2] for item in signalling] == [SIP]


def send_numbered(pair: Pair, first: int, count: int) -> None:
    """RTP packets numbered in their SSRC, with payloads of changing length."""
    far = pair.there.udp("10.77.0.2", 4000)
    for n in range(first, first + count):
        far.sendto(rtp(n & 0xFFFF, ssrc=n, payload=bytes([n & 0xFF]) * (20 + n % 140)), ("10.77.0.1", 6000))
    far.close()


@live
@pytest.mark.parametrize("limit", [1, 7, 8192])
def test_wrap_around(pair: Pair, limit: int) -> None:
    """Many times more packets than the ring holds, taken in between: each comes once, in order, whole."""
    with open_ring(pair.here, "tap0", ring_mb=0.25, frame_bytes=2048) as ring:
        assert ring.size.frames == 128
        found: list[tuple[object, ...]] = []
        for part in range(12):
            send_numbered(pair, part * 100, 100)
            batches = collect(ring, 100, limit)
            assert all(0 < len(frames) <= limit for frames in batches)
            found += dissect(batches)[0]
        assert ring.statistics() == (1200, 0)
    assert [packet[3] for packet in found] == list(range(1200))
    assert [packet[6] for packet in found] == [bytes([n & 0xFF]) * (20 + n % 140) for n in range(1200)]


@live
def test_drops_are_counted_when_nobody_takes(pair: Pair) -> None:
    with open_ring(pair.here, "tap0", ring_mb=0.25) as ring:
        send_numbered(pair, 0, 1000)
        arrived(ring, 1000)  # before any is taken: room in between would be for others
        held = dissect(collect(ring, 128))[0]
        packets, drops = ring.statistics()
        assert packets == 1000
        assert drops == 1000 - len(held)
        assert [packet[3] for packet in held] == list(range(len(held)))
        assert 0 < len(held) <= 128
        send_numbered(pair, 5000, 10)
        assert [packet[3] for packet in dissect(collect(ring, 10))[0]] == list(range(5000, 5010))
        assert ring.statistics() == (1010, drops)


@live
def test_frames_are_as_wide_as_the_longest_and_long_ones_are_truncated(pair: Pair) -> None:
    with open_ring(pair.here, "tap0", frame_bytes=256) as ring:
        far = pair.there.udp("10.77.0.2", 4000)
        far.sendto(rtp(1, payload=b"s" * 40), ("10.77.0.1", 6000))
        (short,) = collect(ring, 1)
        assert short.data.shape == (1, 14 + 20 + 8 + 12 + 40)
        far.sendto(rtp(2, payload=b"l" * 1000), ("10.77.0.1", 6000))
        (long,) = collect(ring, 1)
        far.close()
    assert long.wirelen.tolist() == [14 + 20 + 8 + 12 + 1000]
    assert 100 < long.caplen[0] < 256
    dissector = Dissector(PORTS)
    assert len(dissector.feed(long).media) == 0
    assert dissector.counters["truncated"] == 1


@live
def test_frames_taken_are_copies(pair: Pair) -> None:
    with open_ring(pair.here, "tap0", ring_mb=0.25) as ring:
        send_numbered(pair, 0, 100)
        first = collect(ring, 100)
        before = dissect(first)
        send_numbered(pair, 100, 100)
        collect(ring, 100)
        assert dissect(first) == before
    assert dissect(first) == before, "nor does closing the ring matter"


@live
def test_an_interface_that_goes_down_and_comes_up(pair: Pair) -> None:
    with open_ring(pair.here, "tap0") as ring:
        assert ring.condition() is Condition.UP
        send_numbered(pair, 0, 5)
        assert ready(ring.fileno()) & select.POLLIN
        pair.here.ip("link", "set", "tap0", "down")
        assert ready(ring.fileno()) & select.POLLERR, "polling tells"
        assert ring.condition() is Condition.DOWN
        assert not ready(ring.fileno(), 0) & select.POLLERR, "until it was asked"
        assert [packet[3] for packet in dissect(collect(ring, 5))[0]] == list(range(5)), (
            "what came before stays"
        )
        assert ring.take() is None
        pair.here.ip("link", "set", "tap0", "up")
        assert ring.condition() is Condition.UP
        send_numbered(pair, 10, 5)
        assert [packet[3] for packet in dissect(collect(ring, 5))[0]] == list(range(10, 15))


@live
def test_an_interface_that_is_down_at_first(pair: Pair) -> None:
    pair.here.ip("link", "set", "tap0", "down")
    with open_ring(pair.here, "tap0") as ring:
        assert ring.condition() is Condition.DOWN
        pair.here.ip("link", "set", "tap0", "up")
        send_numbered(pair, 0, 3)
        assert len(dissect(collect(ring, 3))[0]) == 3


@live
def test_an_interface_that_is_removed_and_made_anew(pair: Pair) -> None:
    pair.here.ip("link", "add", "gone7", "type", "veth", "peer", "name", "gone8")
    pair.here.ip("link", "set", "gone7", "up")
    with open_ring(pair.here, "gone7") as ring:
        pair.here.ip("link", "del", "gone7")
        assert ready(ring.fileno()) & select.POLLERR
        assert ring.condition() is Condition.GONE
        pair.here.ip("link", "add", "gone7", "type", "veth", "peer", "name", "gone8")
        assert ring.condition() is Condition.GONE
        assert ring.take() is None
    with open_ring(pair.here, "gone7") as ring:
        assert ring.condition() is Condition.DOWN


@live
def test_errors_are_one_clear_line(pair: Pair) -> None:
    for name, words in [
        ("nosuch0", "nosuch0: no such interface"),
        ("", "no name of an interface"),
        ("a-name-of-sixteen", "no name of an interface"),
        ("nul\0", "no name of an interface"),
        ("any", "any: no such interface"),
    ]:
        with pytest.raises(CaptureError) as caught:
            open_ring(pair.here, name)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


@live
def test_without_privilege(pair: Pair) -> None:
    """In a process of its own, as nobody."""
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            Ring("lo", "media", sip_ports=PORTS)
        except CaptureError as error:
            os._exit(0 if "lo: no privilege to capture (CAP_NET_RAW)" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@live
def test_closing_twice_and_leaking_nothing(pair: Pair) -> None:
    gc.collect()  # what other tests left open is not to be closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        ring = open_ring(pair.here, "tap0")
        ring.close()
        ring.close()
        with pytest.raises(CaptureError):
            open_ring(pair.here, "nosuch0")
    assert len(os.listdir("/proc/self/fd")) == before


def test_sizes_of_rings() -> None:
    sizes = list(ring_sizes(1, 2048))
    assert sizes[0] == RingSize(1 << 18, 4, 2048, 512)
    assert [size.blocks for size in sizes] == [4, 2, 1]
    for megabytes, frame in itertools.product(
        (0.1, 0.25, 3, 64), (1, 100, 256, 300, 2048, 9000, 65536, 1 << 19)
    ):
        for size in ring_sizes(megabytes, frame):
            assert size.frame_bytes >= frame
            assert size.block_bytes % size.frame_bytes == 0
            assert size.block_bytes % 4096 == 0
            assert size.frames * size.frame_bytes == size.blocks * size.block_bytes


def test_smaller_rings_when_memory_is_short() -> None:
    tried = []

    def attempt(size: RingSize) -> None:
        tried.append(size.blocks)
        if size.blocks > 10:
            raise OSError(errno.ENOMEM, "no memory")

    size = largest_possible(ring_sizes(32, 2048), attempt)
    assert size is not None
    assert size.blocks == 8
    assert tried == [128, 64, 32, 16, 8]


def test_no_memory_at_all_and_other_errors() -> None:
    def short(size: RingSize) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    def wrong(size: RingSize) -> None:
        raise OSError(errno.EINVAL, "invalid")

    assert largest_possible(ring_sizes(1, 2048), short) is None
    with pytest.raises(OSError, match="invalid"):
        largest_possible(ring_sizes(1, 2048), wrong)


@live
def test_long_media_takes_the_ring_with_the_long_frames(pair: Pair) -> None:
    """What fits the short frames by the filter fits them whole; what is longer is whole in the other ring."""
    frame = 512
    options = {"frame_bytes": frame, "media_bytes": frame - HEADROOM}
    with (
        open_ring(pair.here, "tap0", **options) as media_ring,
        open_ring(pair.here, "tap0", "signalling", **{**options, "frame_bytes": 4096}) as signalling_ring,
    ):
        far = pair.there.udp("10.77.0.2", 4000)
        longest = frame - HEADROOM - 54
        sizes = [160, longest, longest + 1, 1400]
        for n, size in enumerate(sizes):
            far.sendto(rtp(n, payload=bytes([n]) * size), ("10.77.0.1", 6000))
        far.close()
        short, _ = dissect(collect(media_ring, 2))
        long, _ = dissect(collect(signalling_ring, 2))
    assert [packet[6] for packet in short] == [bytes([n]) * sizes[n] for n in (0, 1)]
    assert [packet[6] for packet in long] == [bytes([n]) * sizes[n] for n in (2, 3)]


@live
@pytest.mark.parametrize("promiscuous", [False, True])
def test_what_is_addressed_to_others_is_asked_for(pair: Pair, promiscuous: bool) -> None:
    """As long as the ring is open."""

    def asked() -> int:
        command = ["ip", "-n", pair.here.name, "-json", "-details", "link", "show", "tap0"]
        (interface,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return int(interface["promiscuity"])

    with open_ring(pair.here, "tap0", promiscuous=promiscuous):
        assert asked() == promiscuous
    assert asked() == 0


def arrived(ring: Ring, count: int) -> None:
    """Wait until so many packets passed the filter."""
    until(lambda: ring.statistics()[0] >= count, f"{count} packets", 20)


@live
def test_how_full_it_is(pair: Pair) -> None:
    with open_ring(pair.here, "tap0", ring_mb=0.25, frame_bytes=256) as ring:
        assert ring.size.frames == 1024
        assert ring.fill() == 0.0
        send_numbered(pair, 0, 512)
        arrived(ring, 512)
        assert abs(ring.fill() - 0.5) <= 1 / 16
        collect(ring, 512)
        assert ring.fill() == 0.0
        send_numbered(pair, 0, 1100)
        arrived(ring, 512 + 1100)
        assert ring.fill() == 1.0


@live
@HOSTS
def test_rings_share_the_flows_as_their_ends_tell(pair: Pair, hosts: tuple[str, str]) -> None:
    """Each flow to one of three rings in both directions, the one that is computed; signalling to all, and
    the same packet at the same time in each.
    """
    there, here = hosts
    flows = [(Endpoint(there, 4000 + 2 * n), Endpoint(here, 10_000 + 2 * n)) for n in range(60)]
    both = [*flows, *((receiver, sender) for sender, receiver in flows)]
    frames = [
        framed(
            datagram(*source, *destination, rtp(n, 160, n + 1, bytes(700 if n % 5 == 0 else 160))),
            LinkType.ETHERNET,
        )
        for n, (source, destination) in enumerate(both)
    ]
    sip = framed(datagram(there, 5060, here, 5060, SIP), LinkType.ETHERNET)
    wanted = [share_of(*flow, 3) for flow in both]
    with contextlib.ExitStack() as stack:
        pairs = [
            [
                stack.enter_context(
                    open_ring(pair.here, "tap0", kind, frame_bytes=2048, media_bytes=432, share=Share(n, 3))  # type: ignore[arg-type]
                )
                for kind in ("media", "signalling")
            ]
            for n in range(3)
        ]
        wire = pair.there.wire("far0")
        for frame in [*frames, sip]:
            wire.send(frame)
        for number, (media_ring, signalling_ring) in enumerate(pairs):
            short = [n for n, share in enumerate(wanted) if share == number and n % 5]
            long = [n for n, share in enumerate(wanted) if share == number and n % 5 == 0]
            media, _ = dissect(collect(media_ring, len(short)))
            assert [packet[3] - 1 for packet in media] == short  # type: ignore[operator]
            media, signalling = dissect(collect(signalling_ring, len(long) + 1))
            assert [packet[3] - 1 for packet in media] == long  # type: ignore[operator]
            assert len(signalling) == 1

        def stamped_once() -> bool:
            wire.send(sip)
            return len({int(collect(ring, 1)[-1].time_ns[-1]) for _, ring in pairs}) == 1

        # The kernel begins to stamp packets a little after it was asked to.
        until(stamped_once, "the same time in each ring", 20)
        wire.close()
    assert set(wanted) == {0, 1, 2}
