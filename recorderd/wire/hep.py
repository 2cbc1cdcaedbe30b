"""HEP: signalling that a proxy or an agent saw and passes on, each message with its addresses and its time.

Version 3 is "HEP3", a length, and chunks of vendor, type, length and value (the HEP/EEP network protocol
specification of sipcapture.org). Versions 1 and 2 are a fixed header (Kamailio's siptrace sends version 1
unless told otherwise); version 2 adds a time in the byte order of its sender, little-endian in practice.
"""

import hmac
import struct
import zlib
from collections import Counter
from typing import Final, NamedTuple

from recorderd.errors import PeerError
from recorderd.wire.endpoint import Endpoint, packed_host
from recorderd.wire.signalling import Framed, Signalling
from recorderd.wire.sip import MAX_MESSAGE

MAGIC: Final = b"HEP3"
SIP: Final = 1
MAX_PACKET: Final = 65535
MAX_CHUNKS: Final = 64
CLOCK_NS: Final = 2_000_000_000
"""How far a sender's clock may be from ours before we take our own."""

# Chunks of vendor 0.
SOURCE4, DESTINATION4, SOURCE6, DESTINATION6, SOURCE_PORT, DESTINATION_PORT = 3, 4, 5, 6, 7, 8
SECONDS, MICROSECONDS, KIND, KEY, PAYLOAD, COMPRESSED, CORRELATION = 9, 10, 11, 14, 15, 16, 17
FAMILIES: Final = {2: 4, 10: 16, 30: 16}
"""AF_INET; AF_INET6 of Linux and of macOS: bytes of an address."""


class HepError(PeerError):
    """These bytes are no HEP packet."""


class HepPacket(NamedTuple):
    """What one packet says.

    Attributes:
        source: who sent the message.
        destination: who got it.
        kind: the protocol type; 1 is SIP.
        payload: the message, decompressed.
        time_ns: when the sender saw it, by its clock; None where it does not say.
        key: what it authenticates itself with; empty where it does not.
        correlation: the id of the call, if it names one.
    """

    source: Endpoint
    destination: Endpoint
    kind: int
    payload: bytes
    time_ns: int | None = None
    key: bytes = b""
    correlation: bytes = b""


def parse_hep(data: bytes) -> HepPacket:
    """Read one packet of any version. Raises HepError."""
    if data.startswith(MAGIC):
        return _version3(data)
    if len(data) >= 16 and data[0] in (1, 2):
        return _version1(data)
    raise HepError("no HEP")


def _version3(data: bytes) -> HepPacket:
    if len(data) < 6:
        raise HepError("no length")
    end = int.from_bytes(data[4:6], "big")
    if not 6 <= end <= len(data):
        raise HepError("longer than its packet")
    chunks: dict[int, bytes] = {}
    at = 6
    for _ in range(MAX_CHUNKS):
        if at + 6 > end:
            break
        vendor, kind, length = struct.unpack_from(">HHH", data, at)
        if length < 6 or at + length > end:
            raise HepError("a chunk is longer than its packet")
        if vendor == 0:
            chunks.setdefault(kind, data[at + 6 : at + length])
        at += length
    payload = chunks[PAYLOAD] if PAYLOAD in chunks else _inflated(chunks.get(COMPRESSED, b""))
    return HepPacket(
        source=_endpoint(chunks, SOURCE4, SOURCE6, SOURCE_PORT),
        destination=_endpoint(chunks, DESTINATION4, DESTINATION6, DESTINATION_PORT),
        kind=_number(chunks, KIND, 1) or 0,
        payload=payload,
        time_ns=_time(_number(chunks, SECONDS, 4), _number(chunks, MICROSECONDS, 4) or 0),
        key=chunks.get(KEY, b""),
        correlation=chunks.get(CORRELATION, b""),
    )


def _number(chunks: dict[int, bytes], kind: int, size: int) -> int | None:
    value = chunks.get(kind)
    if value is None:
        return None
    if len(value) != size:
        raise HepError("a number of the wrong size")
    return int.from_bytes(value, "big")


def _endpoint(chunks: dict[int, bytes], four: int, six: int, port: int) -> Endpoint:
    packed = chunks.get(four) or chunks.get(six) or b""
    if len(packed) not in (4, 16):
        raise HepError("no address")
    return Endpoint(packed_host(packed), _number(chunks, port, 2) or 0)


def _time(seconds: int | None, microseconds: int) -> int | None:
    return None if seconds is None else seconds * 1_000_000_000 + microseconds * 1000


def _inflated(data: bytes) -> bytes:
    """gzip or zlib by its header, or else bare deflate; agents differ."""
    for bits in (47, -15):
        inflator = zlib.decompressobj(bits)
        try:
            text = inflator.decompress(data, MAX_MESSAGE)
        except zlib.error:
            continue
        if inflator.unconsumed_tail:
            raise HepError("inflates to more than a message")
        return text
    raise HepError("cannot be inflated")


def _version1(data: bytes) -> HepPacket:
    version, _, family, _, source, destination = struct.unpack_from(">BBBBHH", data)
    size = FAMILIES.get(family)
    if size is None:
        raise HepError("no address")
    at = 8 + 2 * size
    time_ns = None
    if version == 2:
        if len(data) < at + 12:
            raise HepError("no time")
        time_ns = _time(*struct.unpack_from("<II", data, at))
        at += 12
    if len(data) <= at:
        raise HepError("no payload")
    return HepPacket(
        Endpoint(packed_host(data[8 : 8 + size]), source),
        Endpoint(packed_host(data[8 + size : 8 + 2 * size]), destination),
        SIP,
        data[at:],
        time_ns,
    )


def hep_signalling(
    data: bytes, arrived_ns: int, counters: Counter[str], password: str | None = None
) -> Signalling | None:
    """The SIP message in a HEP packet; None where there is none, which is counted.

    Counts 'hep_messages', 'hep_malformed', 'hep_refused' (wrong password), 'hep_other' (reports, RTCP,
    keep-alives) and 'hep_clock_off' (a sender whose clock is not ours: the time of arrival is taken).
    """
    try:
        packet = parse_hep(data)
    except HepError:
        counters["hep_malformed"] += 1
        return None
    if password is not None and not hmac.compare_digest(packet.key, password.encode()):
        counters["hep_refused"] += 1
        return None
    if packet.kind != SIP or not packet.payload.strip(b"\r\n\0 "):
        counters["hep_other"] += 1
        return None
    time_ns = arrived_ns if packet.time_ns is None else packet.time_ns
    if abs(time_ns - arrived_ns) > CLOCK_NS:
        counters["hep_clock_off"] += 1
        time_ns = arrived_ns
    counters["hep_messages"] += 1
    return Signalling(time_ns, packet.source, packet.destination, packet.payload, "hep")


class HepStream:
    """HEP3 packets out of a stream of bytes. Pure; holds at most one. Counts 'hep_resyncs'."""

    transport = "hep"

    def __init__(self, counters: Counter[str], *, fresh: bool = True) -> None:
        """``fresh`` does not matter: every packet begins with "HEP3"."""
        self._counters = counters
        self._buffer = bytearray()

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their packet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Framed]:
        """Take the next bytes; returns the packets that they complete."""
        self._buffer += data
        found: list[Framed] = []
        while len(self._buffer) >= 6:
            if not self._buffer.startswith(MAGIC):
                self._counters["hep_resyncs"] += 1
                start = self._buffer.find(MAGIC)
                del self._buffer[: start if start >= 0 else len(self._buffer) - 3]
                continue
            length = int.from_bytes(self._buffer[4:6], "big")
            if length < 6:
                del self._buffer[:4]
            elif len(self._buffer) < length:
                break
            else:
                found.append(Framed(bytes(self._buffer[:length])))
                del self._buffer[:length]
        return found

    def gap(self) -> list[Framed]:
        """Bytes are missing here: what is in hand is of no use."""
        self._buffer.clear()
        return []
