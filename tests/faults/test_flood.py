"""Memory is bounded: a flood in 256 MB is shed with a reason, and a call beside it is exact."""

import json
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.capture.files import open_capture
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from tests.capture_builder import ipv4
from tests.faults.scene import Scene, packets_in

pytestmark = pytest.mark.live

GROUPS = Path("/sys/fs/cgroup/memory")
LIMIT_MB = 256
INVITES = 4_000, 100_000
RTP = 16_000, 600_000
CALM_NS = 2_600_000_000
"""By then the good calls are answered."""
ETHERNET = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0"
INVITE = (
    "INVITE sip:{0}@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK{0}\r\n"
    "From: <sip:{0}@198.51.100.7>;tag={0}\r\nTo: <sip:{0}@192.0.2.9>\r\nCall-ID: flood-{0}@198.51.100.7\r\n"
    "CSeq: 1 INVITE\r\nContact: <sip:{0}@198.51.100.7>\r\nContent-Type: application/sdp\r\n"
    "Content-Length: {1}\r\n\r\n{2}"
)
SDP = (
    "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\n"
)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Path]:
    """A memory control group of its own."""
    group = GROUPS / f"recorderd-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT_MB << 20))
        (group / "memory.swappiness").write_text("0")
    except OSError as error:
        pytest.skip(f"needs the memory controller of cgroup v1: {error}")
    yield group
    group.rmdir()


def udp(source: str, destination: str, sport: int, dport: int, payload: bytes) -> bytes:
    """A frame; a checksum of 0 is none (RFC 768)."""
    header = struct.pack(">HHHH", sport, dport, 8 + len(payload), 0)
    return ETHERNET + ipv4(source, destination, header + payload)


def write_flood(scene: Scene, path: Path, invites: int, packets: int) -> None:
    """The scene's calls with a flood from when all of them are answered."""
    good = [
        (int(time_ns), frames.data[row, : frames.caplen[row]].tobytes())
        for frames in open_capture(scene.capture)
        for row, time_ns in enumerate(frames.time_ns)
    ]
    begins, end = good[0][0] + CALM_NS, max(time_ns for time_ns, _ in good)
    chance = random.Random(3)
    rtp = udp("198.51.100.7", "192.0.2.9", 20_000, 30_000, bytes(172))
    bad = []
    for number in range(invites):
        sdp = SDP.format(10_000 + number % 50_000)
        text = INVITE.format(f"{number:07}", len(sdp), sdp).encode()
        bad.append((chance.randrange(begins, end), udp("198.51.100.7", "192.0.2.9", 5060, 5060, text)))
    for number in range(packets):
        ports = struct.pack(">HH", 10_000 + number % 50_000, chance.randrange(1024, 65535))
        head = struct.pack(">BBHII", 0x80, 0, number & 0xFFFF, number, number % (packets // 4))
        bad.append((chance.randrange(begins, end), rtp[:34] + ports + rtp[38:42] + head + bytes(160)))
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
        for time_ns, frame in sorted(good + bad):
            size = len(frame)
            file.write(struct.pack("<IIII", time_ns // 10**9, time_ns % 10**9, size, size) + frame)


def memory_of(pid: int) -> int:
    """Megabytes that a process has of its own; 0 once it is gone."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("RssAnon:")), 0)


def test_a_flood_is_shed_and_the_call_beside_it_is_exact(
    scene: Scene, thorough: bool, tmp_path: Path, group: Path
) -> None:
    if thorough:
        scene = Scene(tmp_path / "long", talk_s=60)
    capture, spool = tmp_path / "flood.pcap", Spool(tmp_path / "spool")
    write_flood(scene, capture, INVITES[thorough], RTP[thorough])
    recorderd = Path(sys.executable).parent / "recorderd"
    command = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    config = str(scene.installation.config)
    replay = [str(recorderd), "replay", str(capture), "-c", config, "--spool", str(spool.path)]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(["sh", "-c", command, "sh", *replay], stdout=output, stderr=output)
        most = 0
        while process.poll() is None:
            most = max(most, memory_of(process.pid))
            time.sleep(0.05)
    assert process.returncode == 0, (tmp_path / "output").read_text()
    killed = dict(line.split() for line in (group / "memory.oom_control").read_text().splitlines())
    assert killed["oom_kill"] == "0"
    print(f"\nflood: {INVITES[thorough]} INVITEs, {RTP[thorough]} packets, {most} MB at most")
    with Index.read(spool) as index:
        calls = {call["call_id"]: call for call in index.calls()}
    good = {truth.call_id for truth in scene.truths}
    assert {calls[call_id]["outcome"] for call_id in good} == {"complete"}, [calls[each] for each in good]
    packets = packets_in(spool, scene.identities)
    whole = {key[0::3]: payload for key, payload in scene.whole.packets.items()}
    assert {key[0::3]: value for key, value in packets.items() if key[0] in good} == whole
    for call_id, call in calls.items():
        assert call["outcome"], json.dumps(call)
        assert call_id in good or call["reason"], json.dumps(call)
