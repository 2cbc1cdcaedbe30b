"""What Wireshark makes of a capture file: the independent opinion that tests compare with."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.simulators.encapsulation import Address

_TIMEOUT_S = 120


@dataclass(frozen=True)
class RtpStream:
    """A line of ``tshark -z rtp,streams``. ``packets`` counts duplicates too; ``lost`` is what is missing
    between the lowest and the highest sequence number."""

    source: Address
    destination: Address
    ssrc: int
    payload: str
    packets: int
    lost: int
    jitter_ms: float
    """The mean over the packets, in the order in which they came (RFC 3550 section A.8)."""


def tshark(path: Path, *arguments: str) -> str:
    """Run tshark on a file with all checksums checked; its standard output."""
    command = [
        "tshark",
        "-n",
        "-r",
        str(path),
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
    ]
    command += ["--enable-heuristic", "rtp_udp", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S).stdout


def tshark_fields(
    path: Path, display_filter: str, *fields: str, options: Sequence[str] = ()
) -> list[list[str]]:
    """The values of fields for each packet that passes a display filter."""
    chosen = [part for field in fields for part in ("-e", field)]
    text = tshark(path, "-Y", display_filter, "-T", "fields", *options, *chosen)
    return [line.split("\t") for line in text.splitlines()]


def tshark_rtp_streams(path: Path) -> list[RtpStream]:
    """The RTP streams in a file, in the order in which they begin.

    Columns: start, end, source and port, destination and port, SSRC, payload, packets, "lost (percent)",
    deltas. The payload may hold blanks or several names, so the columns after it are found from ``(``.
    """
    streams = []
    for line in tshark(path, "-q", "-z", "rtp,streams").splitlines():
        before, bracket, after = line.partition("(")
        words = before.split()
        if not bracket or len(words) < 10 or not words[6].startswith("0x"):
            continue
        source, destination = Address(words[2], int(words[3])), Address(words[4], int(words[5]))
        payload, packets, lost = " ".join(words[7:-2]), int(words[-2]), int(words[-1])
        jitter = float(after.split()[5])
        streams.append(RtpStream(source, destination, int(words[6], 16), payload, packets, lost, jitter))
    return streams


def times_of(path: Path, port: int) -> list[float]:
    """When each RTP packet from a port was seen, in seconds since 1970."""
    rows = tshark_fields(path, f"rtp && udp.srcport == {port}", "frame.time_epoch")
    return [float(time) for (time,) in rows]


def rtp_times(path: Path) -> dict[int, list[float]]:
    """The same of every port that RTP packets came from."""
    found: dict[int, list[float]] = {}
    for port, time in tshark_fields(path, "rtp", "udp.srcport", "frame.time_epoch"):
        found.setdefault(int(port), []).append(float(time))
    return found


def time_of_bye(path: Path, call_id: str) -> float:
    """When the first BYE of a call was seen."""
    rows = tshark_fields(path, f'frame contains "BYE sip:" && frame contains "{call_id}"', "frame.time_epoch")
    return float(rows[0][0])


def tshark_complaints(path: Path) -> list[str]:
    """Everything that Wireshark finds wrong: errors, bad checksums and malformed packets."""
    text = tshark(path, "-q", "-z", "expert,warn")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("=")]
