"""Sends the frames of a capture file out of an interface, at their own pace: a mirror port in small.

Runs inside the container, with nothing but the standard library: ``python play.py FILE INTERFACE``. The file
is a pcap with nanoseconds, little-endian, Ethernet.
"""

import socket
import struct
import sys
import time
from pathlib import Path

ETH_P_ALL = 0x0003
NANOSECOND_MAGIC = 0xA1B23C4D


def main(file: str, interface: str) -> None:
    """Play ``file``."""
    data = Path(file).read_bytes()
    magic, *_, link = struct.unpack_from("<IHHiIII", data)
    assert (magic, link) == (NANOSECOND_MAGIC, 1), "not a pcap of this kind"
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
        out.bind((interface, ETH_P_ALL))
        at, offset = 24, None
        while at < len(data):
            seconds, nanoseconds, size, _ = struct.unpack_from("<IIII", data, at)
            frame = data[at + 16 : at + 16 + size]
            at += 16 + size
            due = seconds * 1_000_000_000 + nanoseconds
            if offset is None:
                offset = time.monotonic_ns() - due
            if (wait := due + offset - time.monotonic_ns()) > 0:
                time.sleep(wait / 1e9)
            out.send(frame)


if __name__ == "__main__":
    main(*sys.argv[1:])
