"""Capture files: every kind gives the same frames, damage ends them where it is, and Wireshark agrees."""

import errno
import gzip
import io
import itertools
import os
import random
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorderd.capture.files import open_capture
from recorderd.capture.pcap import read_pcap
from recorderd.capture.window import Damage, Window
from recorderd.errors import CaptureFileError
from recorderd.wire.dissect import Dissector
from recorderd.wire.frames import Frames, LinkType
from tests.capture_builder import (
    ALL_LINKS,
    START,
    block,
    datagram,
    enhanced,
    framed,
    interface,
    pcap,
    pcapng,
    rtp,
    section,
)

V4 = ("10.1.2.3", "192.168.77.9")
V6 = ("2001:db8::1:2", "fe80::9")

Row = tuple[LinkType, int, bytes, int]
"""Link type, time in ns, captured bytes, length on the wire."""


def rows(frames: Frames) -> list[Row]:
    return [
        (
            frames.link,
            int(frames.time_ns[n]),
            frames.data[n, : frames.caplen[n]].tobytes(),
            int(frames.wirelen[n]),
        )
        for n in range(len(frames))
    ]


def read(path: Path) -> list[Row]:
    return [row for frames in open_capture(path) for row in rows(frames)]


def read_damaged(path: Path) -> tuple[list[Row], str]:
    """What comes before the damage, and the message."""
    found: list[Row] = []
    batches = open_capture(path)
    with pytest.raises(CaptureFileError) as caught:
        found.extend(row for frames in batches for row in rows(frames))
    return found, str(caught.value)


def expected(packets: Sequence[bytes], link: LinkType, *, unit: int = 1, snaplen: int = 262144) -> list[Row]:
    return [
        (link, (START + n * 20_000_000) // unit * unit, packet[:snaplen], len(packet))
        for n, packet in enumerate(packets)
    ]


def packets_for(link: LinkType, count: int = 6) -> list[bytes]:
    """Frames with RTP of both IP versions and several lengths."""
    made = []
    for n in range(count):
        hosts = V6 if link == LinkType.IPV6 or (n % 2 and link != LinkType.IPV4) else V4
        body = rtp(1000 + n, 160 * n, 0x1234, bytes([n]) * (40 + n // 2), marker=n == 0, payload_type=8)
        made.append(framed(datagram(hosts[0], 4000, hosts[1], 6000, body), link))
    return made


PCAPS = {
    f"pcap-{'ns' if nanoseconds else 'us'}-{'big' if order == '>' else 'little'}": (nanoseconds, order)
    for nanoseconds, order in itertools.product((True, False), "<>")
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("link", ALL_LINKS, ids=lambda link: link.name)
@pytest.mark.parametrize("kind", PCAPS)
def test_pcap(tmp_path: Path, kind: str, link: LinkType, packed: bool) -> None:
    nanoseconds, order = PCAPS[kind]
    packets = packets_for(link)
    content = pcap(packets, link, nanoseconds=nanoseconds, order=order, snaplen=70)
    path = tmp_path / "x.pcap"
    path.write_bytes(gzip.compress(content) if packed else content)
    assert read(path) == expected(packets, link, unit=1 if nanoseconds else 1000, snaplen=70)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("link", ALL_LINKS, ids=lambda link: link.name)
@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng(tmp_path: Path, order: str, link: LinkType, packed: bool) -> None:
    packets = packets_for(link)
    content = pcapng(packets, link, order=order)
    path = tmp_path / "x.pcapng"
    path.write_bytes(gzip.compress(content) if packed else content)
    assert read(path) == expected(packets, link)


SIZES: dict[str, Callable[[int], int]] = {
    "one size": lambda n: 214,
    "alternating": lambda n: (214, 74)[n % 2],
    "long runs": lambda n: (214, 74, 1500)[n // 700 % 3],
    "short runs": lambda n: (214, 74, 60)[n // 9 % 3],
    "random": lambda n: random.Random(n).randrange(1, 400),
    "empty ones": lambda n: 0 if n % 5 == 0 else 60,
    "a large one now and then": lambda n: 65535 if n % 4000 == 7 else 60,
    "a message now and then": lambda n: 400 + n % 7 if n % 860 == 7 else 214,
    "two of a size by chance": lambda n: (214, 74, 74, 60, 60)[n % 5],
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_many_records_over_several_chunks(tmp_path: Path, kind: str, name: str) -> None:
    """Each frame comes once, in order, with its bytes; a batch and its matrix stay small.

    Long ones may come before the short ones beside them, and then say so.
    """
    count = 21_000
    frames = [
        struct.pack(">I", n)[: SIZES[name](n)].ljust(SIZES[name](n), b"%d" % (n % 10)) for n in range(count)
    ]
    if kind == "pcap":
        content = bytearray(pcap([]))
        for n, frame in enumerate(frames):
            content += struct.pack("<IIII", n, n, len(frame), len(frame) or 60) + frame
    else:
        content = bytearray(section() + interface(1, resolution=9))
        for n, frame in enumerate(frames):
            fields = (0, 0, n, len(frame), len(frame) or 60)
            content += block(6, struct.pack("<IIIII", *fields) + frame)
    path = tmp_path / "x"
    path.write_bytes(content)
    seen: list[int] = []
    early: list[int] = []
    for batch in open_capture(path):
        assert len(batch) <= 20_000
        assert batch.data.nbytes <= 32 << 20
        numbers = (batch.time_ns // (1_000_000_000 if kind == "pcap" else 1)).tolist()
        for n, number in enumerate(numbers):
            assert batch.data[n, : batch.caplen[n]].tobytes() == frames[number]
        early += numbers
        if not batch.unfinished:
            seen += sorted(early)
            early = []
    assert seen == list(range(count))


def test_batches_own_their_rows(tmp_path: Path) -> None:
    """A batch does not change when the next one is read: its memory is not the reader's window."""
    packets = [bytes([n % 256]) * 300 for n in range(30_000)]
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap([]) + b"".join(struct.pack("<IIII", 1, 0, 300, 300) + packet for packet in packets))
    batches = list(open_capture(path))
    assert len(batches) > 2
    assert [row[2] for frames in batches for row in rows(frames)] == packets


def test_memory_is_used_again_when_nobody_needs_it_any_more(tmp_path: Path) -> None:
    """However long a file, what was read and done with makes room for what comes next."""
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap([]) + (struct.pack("<IIII", 1, 0, 300, 300) + bytes(300)) * 120_000)
    places = [frames.data.__array_interface__["data"][0] >> 20 for frames in open_capture(path)]
    assert len(places) > 10
    assert len(set(places)) <= 6


def test_messages_among_media_leave_the_media_in_place(tmp_path: Path) -> None:
    """The few that are longer than most come apart, so that the others are as wide as they are long."""
    sizes = [400 if n % 860 == 7 else 214 for n in range(9000)]
    path = tmp_path / "x.pcap"
    path.write_bytes(
        pcap([]) + b"".join(struct.pack("<IIII", 1, 0, size, size) + bytes(size) for size in sizes)
    )
    batches = list(open_capture(path))
    assert {(frames.unfinished, frames.data.shape[1]) for frames in batches} == {(True, 400), (False, 214)}


def test_interfaces_of_several_link_types_and_resolutions(tmp_path: Path) -> None:
    frame = {link: packets_for(link, 1)[0] for link in ALL_LINKS}
    second = 1_800_000_000
    content = section()
    content += interface(LinkType.ETHERNET, resolution=6)
    content += interface(LinkType.LINUX_SLL, resolution=9, offset_s=1000)
    content += interface(LinkType.RAW)  # microseconds by default
    content += interface(LinkType.NULL, resolution=0)
    content += interface(LinkType.ETHERNET, resolution=12)
    content += interface(LinkType.ETHERNET, resolution=0x80 | 20)
    content += interface(LinkType.ETHERNET, resolution=3, offset_s=-1000)
    content += enhanced(frame[LinkType.ETHERNET], second * 10**6 + 5, 0)
    content += enhanced(frame[LinkType.LINUX_SLL], second * 10**9 + 7, 1)
    content += enhanced(frame[LinkType.RAW], second * 10**6 + 9, 2)
    content += enhanced(frame[LinkType.NULL], second, 3)
    content += enhanced(frame[LinkType.ETHERNET], 1_800_000 * 10**12 + 123_456, 4)
    content += enhanced(frame[LinkType.ETHERNET], (second << 20) + (1 << 19), 5)
    content += enhanced(frame[LinkType.ETHERNET], second * 1000 + 250, 6)
    path = tmp_path / "x.pcapng"
    path.write_bytes(content)
    found = read(path)
    ns = second * 10**9
    assert [row[1] for row in found] == [
        ns + 5000,
        ns + 7 + 1000 * 10**9,
        ns + 9000,
        ns,
        1_800_000 * 10**9 + 123,
        ns + 500_000_000,
        ns + 250_000_000 - 1000 * 10**9,
    ]
    links = [LinkType.ETHERNET, LinkType.LINUX_SLL, LinkType.RAW, LinkType.NULL, *[LinkType.ETHERNET] * 3]
    assert [row[0] for row in found] == links
    assert [row[2] for row in found] == [frame[link] for link in links]


@pytest.mark.parametrize(
    "resolution", [0, 19, 20, 60, 127, 0x80, 0x80 | 33, 0x80 | 63, 0x80 | 64, 0x80 | 127]
)
@pytest.mark.parametrize("offset", [None, 2**63 - 1, -(2**63)])
def test_odd_resolutions_give_some_time_and_no_error(
    tmp_path: Path, resolution: int, offset: int | None
) -> None:
    content = section() + interface(1, resolution=resolution, offset_s=offset)
    path = tmp_path / "x.pcapng"
    path.write_bytes(content + enhanced(bytes(60), 2**64 - 1) + enhanced(bytes(60), 0))
    assert [0 <= row[1] < 2**63 for row in read(path)] == [True, True]


def test_blocks_of_other_kinds(tmp_path: Path) -> None:
    """Simple and obsolete packet blocks, options, statistics, custom blocks; sections of both orders."""
    frame = packets_for(LinkType.ETHERNET, 1)[0]
    content = section() + interface(1, resolution=9, snaplen=80)
    content += block(4, b"\0\0\0\0")  # name resolution
    content += enhanced(frame, START)
    fields = struct.pack("<IIIII", 0, (START + 1) >> 32, (START + 1) & 0xFFFFFFFF, len(frame), len(frame))
    padded = frame + bytes(-len(frame) % 4)
    content += block(6, fields + padded + struct.pack("<HHIHH", 2, 4, 0, 0, 0))  # with flags
    content += block(
        3, struct.pack("<I", len(frame)) + frame[:80]
    )  # simple: cut by the interface's snap length
    content += block(5, bytes(12))  # statistics
    fields = struct.pack("<HHIIII", 0, 0, (START + 2) >> 32, (START + 2) & 0xFFFFFFFF, 40, len(frame))
    content += block(2, fields + frame[:40])
    content += block(0xBAD, b"custom" * 100_000)
    content += section(">") + interface(1, ">", resolution=9) + enhanced(frame, START + 3, order=">")
    content += block(3, struct.pack(">I", len(frame)) + frame, ">")
    path = tmp_path / "x.pcapng"
    path.write_bytes(content)
    size = len(frame)
    assert read(path) == [
        (LinkType.ETHERNET, START, frame, size),
        (LinkType.ETHERNET, START + 1, frame, size),
        (LinkType.ETHERNET, START + 1, frame[:80], size),
        (LinkType.ETHERNET, START + 2, frame[:40], size),
        (LinkType.ETHERNET, START + 3, frame, size),
        (LinkType.ETHERNET, START + 3, frame, size),
    ]


def boundaries(kind: str, packets: list[bytes]) -> list[int]:
    """Where a file may end: after its header and after each packet."""
    writer = pcap if kind == "pcap" else pcapng
    return [len(writer(packets[:n])) for n in range(len(packets) + 1)]


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_truncated_at_every_byte(tmp_path: Path, kind: str, packed: bool) -> None:
    packets = packets_for(LinkType.ETHERNET, 4)
    content = (pcap if kind == "pcap" else pcapng)(packets)
    whole = expected(packets, LinkType.ETHERNET)
    ends = boundaries(kind, packets)
    path = tmp_path / "cut"
    # A section header alone, with no interface, is a complete pcapng file.
    complete = set(ends) | ({len(section())} if kind == "pcapng" else set())
    for size in range(len(content)):
        path.write_bytes(gzip.compress(content[:size], 1) if packed else content[:size])
        intact = sum(end <= size for end in ends[1:])
        if size in complete:
            assert read(path) == whole[:intact]
            continue
        found, message = read_damaged(path)
        assert found == whole[:intact]
        start = max([end for end in complete if end <= size], default=0)
        assert message.startswith(f"{path}: ")
        assert message.endswith(f", at byte {start}"), (size, message)


def test_gzip_truncated_at_every_byte(tmp_path: Path) -> None:
    packets = packets_for(LinkType.ETHERNET, 3)
    content = gzip.compress(pcap(packets), 0)
    path = tmp_path / "cut.pcap.gz"
    for size in range(2, len(content)):
        path.write_bytes(content[:size])
        found, message = read_damaged(path)
        unpacked = zlib.decompressobj(31).decompress(content[:size])
        whole = sum(end <= len(unpacked) for end in boundaries("pcap", packets)[1:])
        assert found == expected(packets, LinkType.ETHERNET)[:whole]
        assert message.endswith(f"at byte {len(unpacked)}")
        assert "gzip" in message
    path.write_bytes(content[:-8] + bytes(8))  # the check sum
    found, message = read_damaged(path)
    assert found == expected(packets, LinkType.ETHERNET)
    assert "gzip" in message


GOOD = packets_for(LinkType.ETHERNET, 1)[0]


def record(captured: int, wirelen: int, content: bytes = b"") -> bytes:
    return struct.pack("<IIII", 1, 1, captured, wirelen) + content


def ng(captured: int, wirelen: int, number: int, content: bytes) -> bytes:
    return block(6, struct.pack("<IIIII", number, 0, 0, captured, wirelen) + content)


DAMAGES = {
    "captured length of 4 GB": ("pcap", record(2**32 - 1, 60), "absurd"),
    "captured length of 2 GB": ("pcap", record(2**31, 60), "absurd"),
    "just over the longest frame": ("pcap", record(262145, 262145, bytes(300_000)), "absurd"),
    "a hole of zero bytes": ("pcap", bytes(64), "no length"),
    "block of length 0": ("pcapng", struct.pack("<II", 6, 0) + bytes(40), "absurd"),
    "block of length 12": ("pcapng", struct.pack("<III", 6, 12, 12) + bytes(40), "absurd"),
    "block of length 33": ("pcapng", struct.pack("<II", 6, 33) + bytes(40), "absurd"),
    "block of 4 GB": ("pcapng", struct.pack("<II", 6, 2**32 - 4) + bytes(40), "absurd"),
    "other block of length 0": ("pcapng", struct.pack("<II", 99, 0) + bytes(40), "absurd"),
    "other block of 4 GB": ("pcapng", struct.pack("<II", 99, 2**32 - 4) + bytes(40), "absurd"),
    "a hole of zeros": ("pcapng", bytes(64), "absurd"),
    "trailing length differs": ("pcapng", enhanced(GOOD, START)[:-4] + struct.pack("<I", 8), "two lengths"),
    "other block's lengths differ": ("pcapng", block(99, b"abcd")[:-4] + struct.pack("<I", 8), "two lengths"),
    "packet longer than its block": ("pcapng", ng(61, 61, 0, bytes(60)), "longer than its block"),
    "captured length of 4 GB in a block": (
        "pcapng",
        ng(2**32 - 1, 60, 0, bytes(60)),
        "longer than its block",
    ),
    "an interface that is not there": ("pcapng", ng(60, 60, 1, bytes(60)), "not described"),
    "interface 2**32 - 1": ("pcapng", ng(60, 60, 2**32 - 1, bytes(60)), "not described"),
    "packet of nothing": ("pcapng", ng(0, 0, 0, b""), "no length"),
    "interface block of 4 bytes": ("pcapng", block(1, bytes(4)), "too short"),
    "section of no byte order": ("pcapng", block(0x0A0D0D0A, bytes(16)), "byte order"),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("before", [0, 1, 40], ids=["at once", "after one", "after a run"])
def test_damage_in_the_middle(tmp_path: Path, name: str, before: int) -> None:
    """The frames before come first, then one clear line; what follows the damage is not guessed at."""
    kind, damage, words = DAMAGES[name]
    packets = [GOOD] * before
    content = (pcap if kind == "pcap" else pcapng)(packets)
    after = (pcap(packets)[24:]) if kind == "pcap" else enhanced(GOOD, START)
    path = tmp_path / "damaged"
    path.write_bytes(content + damage + after)
    found, message = read_damaged(path)
    assert found == expected(packets, LinkType.ETHERNET)
    assert words in message
    assert message.startswith(f"{path}: ")
    assert message.endswith(f", at byte {len(content)}")
    assert "\n" not in message


class BreakingDisk(io.BytesIO):
    """A file that cannot be read beyond what is there."""

    def readinto1(self, room: Any) -> int:
        count = super().readinto1(room)
        if count == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return count


def test_what_was_read_before_the_disk_failed_is_there() -> None:
    packets = [GOOD] * 30
    content = pcap(packets)
    found: list[Row] = []
    with pytest.raises(Damage, match="Input/output error") as caught:
        found.extend(row for frames in read_pcap(Window(BreakingDisk(content))) for row in rows(frames))
    assert found == expected(packets, LinkType.ETHERNET)
    assert caught.value.at == len(content)


def test_a_frame_of_which_nothing_was_captured_is_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap([]) + record(0, 60) + record(4, 2, b"abcd"))
    assert [row[2:] for row in read(path)] == [(b"", 60), (b"abcd", 4)]


def test_what_is_no_capture_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content, words in [
        (b"", "ends within its first four bytes, at byte 0"),
        (b"abc", "ends within its first four bytes, at byte 0"),
        (b"RIFF....", "neither pcap nor pcapng, at byte 0"),
        (b"\x1f\x8b" + bytes(30), "gzip"),
        (
            pcap([], LinkType.ETHERNET)[:20] + struct.pack("<I", 105),
            "link type 105 is not supported, at byte 20",
        ),
    ]:
        path.write_bytes(content)
        found, message = read_damaged(path)
        assert found == []
        assert words in message
        assert message.startswith(f"{path}: ")
    assert "No such file" in read_damaged(tmp_path / "missing")[1]
    assert "directory" in read_damaged(tmp_path)[1]


def test_packets_of_an_unknown_link_type_are_passed_over_and_told(tmp_path: Path) -> None:
    content = section() + interface(189) + interface(1, resolution=9)
    for n in range(4):
        content += enhanced(GOOD, START + n, n % 2)
    path = tmp_path / "x.pcapng"
    path.write_bytes(content)
    found, message = read_damaged(path)
    assert [row[1] for row in found] == [START + 1, START + 3]
    assert "2 packets of link type 189" in message


@pytest.mark.parametrize("number", [12, 14, 101])
def test_numbers_of_raw_ip(tmp_path: Path, number: int) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap([b"E"])[:20] + struct.pack("<I", number) + record(1, 1, b"E"))
    assert read(path)[0][0] == LinkType.RAW


def test_length_of_check_sequences_in_the_link_type(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap([])[:20] + struct.pack("<I", 1 | 0x24000000) + record(1, 1, b"E"))
    assert read(path)[0][0] == LinkType.ETHERNET


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["pcap", "pcapng"]),
    damages=st.lists(st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=8)), max_size=4),
    cut=st.integers(0, 800),
)
def test_any_damage_gives_frames_or_the_one_error(
    tmp_path: Path, kind: str, damages: list[tuple[int, bytes]], cut: int
) -> None:
    content = (pcap if kind == "pcap" else pcapng)(packets_for(LinkType.ETHERNET, 5))
    for at, damage in damages:
        content = content[:at] + damage + content[at + len(damage) :]
    path = tmp_path / "fuzzed"
    path.write_bytes(content[:cut] if cut < 700 else content)
    dissector = Dissector(frozenset({5060}))
    try:
        for frames in open_capture(path):
            assert (frames.caplen <= frames.wirelen).all()
            assert int(frames.caplen.max()) <= frames.data.shape[1]
            dissector.feed(frames)
    except CaptureFileError:
        return


FIELDS = [
    *("frame.time_epoch", "frame.len", "frame.cap_len", "ip.src", "ipv6.src", "ip.dst", "ipv6.dst"),
    *("udp.srcport", "udp.dstport", "rtp.seq", "rtp.timestamp", "rtp.ssrc", "rtp.p_type", "rtp.marker"),
    "rtp.payload",
]


def tshark(path: Path) -> list[tuple[str, ...]]:
    command = ["tshark", "-n", "-r", str(path), "-d", "udp.port==6000,rtp", "-T", "fields"]
    for name in FIELDS:
        command += ["-e", name]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [tuple(line.split("\t")) for line in output.splitlines()]


def as_tshark_says(path: Path) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for frames in open_capture(path):
        media = Dissector(frozenset({5060})).feed(frames).media
        assert len(media) == len(frames)
        for n in range(len(media)):
            source, destination = media.endpoints(n)
            six = ":" in source.host
            seconds, rest = divmod(int(media.time_ns[n]), 10**9)
            found.append(
                (
                    f"{seconds}.{rest:09d}",
                    str(frames.wirelen[n]),
                    str(frames.caplen[n]),
                    *(
                        ("", source.host, "", destination.host)
                        if six
                        else (source.host, "", destination.host, "")
                    ),
                    str(source.port),
                    str(destination.port),
                    str(media.seq[n]),
                    str(media.timestamp[n]),
                    f"0x{media.ssrc[n]:08x}",
                    str(media.payload_type[n]),
                    str(bool(media.marker[n])),
                    media.payload(n).hex(),
                )
            )
    return found


def as_text(lines: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """tshark versions write flags as 1 or True."""
    marker = FIELDS.index("rtp.marker")
    truth = {"1": "True", "0": "False"}
    return [(*line[:marker], truth.get(line[marker], line[marker]), *line[marker + 1 :]) for line in lines]


needs_wireshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


@pytest.mark.live
@needs_wireshark
# Of ERF Wireshark tells the time and the length that its own header has.
@pytest.mark.parametrize(
    "link", [link for link in ALL_LINKS if link != LinkType.ERF], ids=lambda link: link.name
)
def test_tshark_reads_the_same_packets(tmp_path: Path, link: LinkType) -> None:
    path = tmp_path / "x"
    path.write_bytes((pcap if int(link) % 2 else pcapng)(packets_for(link), link))
    lines = as_text(tshark(path))
    assert len(lines) == 6
    assert as_tshark_says(path) == lines


@pytest.mark.live
@needs_wireshark
@pytest.mark.parametrize("kind", ["pcapng", "pcap", "nsecpcap"])
def test_what_editcap_writes(tmp_path: Path, kind: str) -> None:
    packets = packets_for(LinkType.ETHERNET, 50)
    (tmp_path / "in.pcap").write_bytes(pcap(packets))
    subprocess.run(["editcap", "-F", kind, tmp_path / "in.pcap", tmp_path / "out"], check=True)
    unit = 1000 if kind == "pcap" else 1
    assert read(tmp_path / "out") == expected(packets, LinkType.ETHERNET, unit=unit)


@pytest.mark.live
@needs_wireshark
def test_what_mergecap_writes_of_several_link_types(tmp_path: Path) -> None:
    sources = []
    for link in (LinkType.ETHERNET, LinkType.LINUX_SLL, LinkType.RAW):
        path = tmp_path / link.name
        path.write_bytes(pcap(packets_for(link), link))
        sources.append(path)
    merged = tmp_path / "merged.pcapng"
    subprocess.run(["mergecap", "-F", "pcapng", "-w", merged, *sources], check=True)
    found = read(merged)
    assert sorted(found) == sorted(row for source in sources for row in read(source))
    assert as_tshark_says(merged) == as_text(tshark(merged))
