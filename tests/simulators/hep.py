"""HEP as agents send it: version 3 in chunks, versions 1 and 2 with their fixed headers."""

import ipaddress
import struct

from tests.simulators.encapsulation import Address


def chunk(kind: int, value: bytes, vendor: int = 0) -> bytes:
    """One chunk of version 3."""
    return struct.pack(">HHH", vendor, kind, 6 + len(value)) + value


def hep3(
    payload: bytes,
    source: Address,
    destination: Address,
    time_ns: int,
    *,
    kind: int = 1,
    key: bytes | None = None,
    payload_chunk: int = 15,
    extra: bytes = b"",
) -> bytes:
    """A packet with what Kamailio's siptrace sends, in its order; ``extra``: chunks before the payload."""
    first, second = ipaddress.ip_address(source.host), ipaddress.ip_address(destination.host)
    four = first.version == 4
    seconds, rest = divmod(time_ns, 10**9)
    chunks = [
        chunk(1, bytes([2 if four else 10])),
        chunk(2, bytes([6])),
        chunk(3 if four else 5, first.packed),
        chunk(4 if four else 6, second.packed),
        chunk(7, struct.pack(">H", source.port)),
        chunk(8, struct.pack(">H", destination.port)),
        chunk(9, struct.pack(">I", seconds)),
        chunk(10, struct.pack(">I", rest // 1000)),
        chunk(11, bytes([kind])),
        chunk(12, struct.pack(">I", 2001)),
    ]
    if key is not None:
        chunks.append(chunk(14, key))
    body = b"".join(chunks) + extra + chunk(payload_chunk, payload)
    return b"HEP3" + struct.pack(">H", 6 + len(body)) + body


def hep1(
    payload: bytes, source: Address, destination: Address, *, version: int = 1, time_ns: int = 0
) -> bytes:
    """A packet of version 1 or 2."""
    first, second = ipaddress.ip_address(source.host), ipaddress.ip_address(destination.host)
    family = 2 if first.version == 4 else 10
    length = 8 + 2 * len(first.packed)
    head = struct.pack(">BBBBHH", version, length, family, 17, source.port, destination.port)
    head += first.packed + second.packed
    if version == 2:
        head += struct.pack("<IIHxx", time_ns // 10**9, time_ns % 10**9 // 1000, 101)
    return head + payload
