"""Packets, link headers and capture files written from their specifications for the tests to read back."""

import ipaddress
import struct
from collections.abc import Sequence

import numpy as np

from recorderd.wire.frames import Frames, LinkType

START = 1_800_000_000_123_456_789
ALL_LINKS = tuple(LinkType)
PPP_NUMBERS = {0x0800: b"\0\x21", 0x86DD: b"\0\x57"}


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def rtp(
    seq: int = 1,
    timestamp: int = 160,
    ssrc: int = 0x11223344,
    payload: bytes = b"\xd5" * 160,
    *,
    payload_type: int = 0,
    marker: bool = False,
    csrcs: Sequence[int] = (),
    extension: bytes | None = None,
    padding: int = 0,
) -> bytes:
    """An RTP packet; ``extension``: a header extension's data in words of 4 bytes; ``padding``: its count."""
    first = 0x80 | len(csrcs) | (0x10 if extension is not None else 0) | (0x20 if padding else 0)
    packet = struct.pack(">BBHII", first, payload_type | marker << 7, seq, timestamp, ssrc)
    packet += struct.pack(f">{len(csrcs)}I", *csrcs)
    if extension is not None:
        packet += struct.pack(">HH", 0xBEDE, len(extension) // 4) + extension
    packet += payload
    return packet + bytes(padding - 1) + bytes([padding]) if padding else packet


def udp(source: str, destination: str, sport: int, dport: int, payload: bytes) -> bytes:
    """A UDP datagram with its checksum."""
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    header = struct.pack(">HHH", sport, dport, 8 + len(payload))
    pseudo = addresses + struct.pack(">II", 8 + len(payload), 17)
    return header + struct.pack(">H", checksum(pseudo + header + payload) or 0xFFFF) + payload


def tcp(
    source: str,
    destination: str,
    sport: int,
    dport: int,
    payload: bytes,
    *,
    sequence: int = 1,
    acknowledged: int = 0,
    flags: int = 0x18,
) -> bytes:
    """A TCP segment with its checksum; ``flags`` as in the header, PSH and ACK."""
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    header = struct.pack(">HHIIBBH", sport, dport, sequence, acknowledged, 0x50, flags, 65535)
    pseudo = addresses + struct.pack(">II", 20 + len(payload), 6)
    return header + struct.pack(">HH", checksum(pseudo + header + bytes(4) + payload), 0) + payload


def ipv4(
    source: str,
    destination: str,
    payload: bytes,
    *,
    protocol: int = 17,
    ident: int = 7,
    options: bytes = b"",
    flags_offset: int = 0,
) -> bytes:
    """An IPv4 packet; ``options`` a multiple of 4 bytes; ``flags_offset`` as in the header."""
    words = 5 + len(options) // 4
    head = struct.pack(
        ">BBHHHBBH", 0x40 | words, 0, words * 4 + len(payload), ident, flags_offset, 64, protocol, 0
    )
    head += ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def ipv6(
    source: str,
    destination: str,
    payload: bytes,
    *,
    extensions: Sequence[tuple[int, bytes]] = (),
    last: int = 17,
) -> bytes:
    """An IPv6 packet; ``extensions``: (number, the header without its first byte); ``last``: what follows."""
    numbers = [number for number, _ in extensions] + [last]
    chain = b"".join(bytes([after]) + rest for (_, rest), after in zip(extensions, numbers[1:], strict=True))
    head = struct.pack(">IHBB", 6 << 28, len(chain) + len(payload), numbers[0], 64)
    addresses = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed
    return head + addresses + chain + payload


def datagram(source: str, sport: int, destination: str, dport: int, payload: bytes) -> bytes:
    """An IP packet of either version with a UDP datagram."""
    body = udp(source, destination, sport, dport, payload)
    return (ipv6 if ":" in source else ipv4)(source, destination, body)


def hop_by_hop() -> tuple[int, bytes]:
    """A hop-by-hop header of 8 bytes: PadN."""
    return 0, bytes([0, 1, 4, 0, 0, 0, 0])


def destination_options(words: int = 1) -> tuple[int, bytes]:
    """A destination options header of ``8 * words`` bytes."""
    return 60, bytes([words - 1, 1, words * 8 - 4]) + bytes(words * 8 - 4)


def routing() -> tuple[int, bytes]:
    """A type 4 routing header with one segment, none left."""
    return 43, bytes([2, 4, 0, 0, 0, 0, 0]) + ipaddress.IPv6Address("2001:db8::9").packed


def authentication() -> tuple[int, bytes]:
    """An authentication header of 24 bytes."""
    return 51, bytes([4, 0, 0]) + bytes(20)


def fragment_header(offset: int, more: bool, ident: int) -> tuple[int, bytes]:
    """An IPv6 fragment header; ``offset`` in bytes."""
    return 44, struct.pack(">BHI", 0, offset | more, ident)


def fragments(packet: bytes, size: int, ident: int = 99) -> list[bytes]:
    """An IP packet without options or extensions as fragments of ``size`` (a multiple of 8) bytes."""
    if packet[0] >> 4 == 4:
        source, destination = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
        body = packet[20:]
    else:
        source, destination = (str(ipaddress.IPv6Address(packet[at : at + 16])) for at in (8, 24))
        body = packet[40:]
    pieces = []
    for at in range(0, len(body), size):
        more = at + size < len(body)
        piece = body[at : at + size]
        if packet[0] >> 4 == 4:
            place = more << 13 | at // 8
            pieces.append(
                ipv4(source, destination, piece, protocol=packet[9], ident=ident, flags_offset=place)
            )
        else:
            chain = [fragment_header(at, more, ident)]
            pieces.append(ipv6(source, destination, piece, extensions=chain, last=packet[6]))
    return pieces


def framed(packet: bytes, link: LinkType, *, vlans: Sequence[int] = (), minimum: int = 0) -> bytes:
    """An IP packet behind the header of ``link``; ``vlans`` are tag protocols, outermost first.

    ``minimum`` pads the frame as Ethernet does.
    """
    inner = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    kinds = [*vlans, inner]
    tags = b"".join(struct.pack(">HH", 100 + n, kind) for n, kind in enumerate(kinds[1:]))
    head = {
        LinkType.ETHERNET: b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01" + struct.pack(">H", kinds[0]),
        LinkType.LINUX_SLL: struct.pack(">HHH8sH", 0, 1, 6, b"\x02\0\0\0\0\x01\0\0", kinds[0]),
        LinkType.LINUX_SLL2: struct.pack(">HHIHBB8s", kinds[0], 0, 3, 1, 0, 6, b"\x02\0\0\0\0\x01\0\0"),
        LinkType.NULL: struct.pack("<I", 2 if inner == 0x0800 else 30),
        LinkType.LOOP: struct.pack(">I", 2 if inner == 0x0800 else 24),
        LinkType.PPP: PPP_NUMBERS[inner],
        LinkType.PPP_HDLC: b"\xff\x03" + PPP_NUMBERS[inner],
        LinkType.PPP_ETHER: struct.pack(">BBHH", 0x11, 0, 5, len(packet) + 2) + PPP_NUMBERS[inner],
        LinkType.C_HDLC: struct.pack(">BBH", 0x0F, 0, inner),
        LinkType.ERF: erf(b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01" + struct.pack(">H", inner), len(packet)),
    }.get(link, b"")
    frame = head + tags + packet
    return frame + bytes(max(0, minimum - len(frame)))


def erf(content: bytes, more: int = 0, *, kind: int = 2, extensions: int = 0) -> bytes:
    """The beginning of a record of Endace's format with ``more`` bytes to follow."""
    pad = b"" if kind in (22, 23) else bytes(2)
    chain = b"".join(bytes([0x80 | 3 if n + 1 < extensions else 3]) + bytes(7) for n in range(extensions))
    length, wire = 16 + len(chain) + len(pad) + len(content) + more, len(content) + more
    kind |= 0x80 if extensions else 0
    return (
        struct.pack("<Q", 1_800_000_000 << 32)
        + struct.pack(">BBHHH", kind, 4, length, 0, wire)
        + chain
        + pad
        + content
    )


def as_frames(
    packets: Sequence[bytes],
    link: LinkType = LinkType.ETHERNET,
    *,
    snaplen: int = 262144,
    times: Sequence[int] | None = None,
    fill: int = 0xA5,
) -> Frames:
    """Frames as a matrix, as a source of packets delivers them; ``fill`` stands beyond each frame's end."""
    wirelen = np.array([len(packet) for packet in packets], np.int32)
    caplen = np.minimum(wirelen, snaplen).astype(np.int32)
    data = np.full((len(packets), int(caplen.max(initial=0))), fill, np.uint8)
    for row, packet, length in zip(data, packets, caplen, strict=True):
        row[:length] = np.frombuffer(packet[:length], np.uint8)
    time_ns = np.array(times if times is not None else START + np.arange(len(packets)) * 20_000_000, np.int64)
    return Frames(link, time_ns, data, caplen, wirelen)


def pcap(
    packets: Sequence[bytes],
    link: LinkType = LinkType.ETHERNET,
    *,
    nanoseconds: bool = True,
    order: str = "<",
    snaplen: int = 262144,
    times: Sequence[int] | None = None,
) -> bytes:
    """A pcap file (draft-ietf-opsawg-pcap)."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    content = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link)
    for n, packet in enumerate(packets):
        seconds, rest = divmod(times[n] if times else START + n * 20_000_000, 10**9)
        kept = packet[:snaplen]
        fraction = rest if nanoseconds else rest // 1000
        content += struct.pack(order + "IIII", seconds, fraction, len(kept), len(packet)) + kept
    return content


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A pcapng block: its length twice around the padded body (draft-ietf-opsawg-pcapng section 3.1)."""
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def section(order: str = "<") -> bytes:
    """A section header block of unknown section length."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    link: int,
    order: str = "<",
    *,
    resolution: int | None = None,
    offset_s: int | None = None,
    snaplen: int = 0,
) -> bytes:
    """An interface description block; ``resolution`` as if_tsresol, ``offset_s`` as if_tsoffset."""
    options = b""
    if resolution is not None:
        options += struct.pack(order + "HHB3x", 9, 1, resolution)
    if offset_s is not None:
        options += struct.pack(order + "HHq", 14, 8, offset_s)
    if options:
        options += struct.pack(order + "HH", 0, 0)
    return block(1, struct.pack(order + "HHI", link, 0, snaplen) + options, order)


def enhanced(packet: bytes, ticks: int, number: int = 0, order: str = "<", *, snaplen: int = 262144) -> bytes:
    """An enhanced packet block; ``ticks`` in the interface's resolution."""
    kept = packet[:snaplen]
    fields = (number, ticks >> 32, ticks & 0xFFFFFFFF, len(kept), len(packet))
    return block(6, struct.pack(order + "IIIII", *fields) + kept, order)


def pcapng(
    packets: Sequence[bytes],
    link: LinkType = LinkType.ETHERNET,
    *,
    order: str = "<",
    times: Sequence[int] | None = None,
) -> bytes:
    """A pcapng file of one section and one interface with nanosecond times."""
    content = section(order) + interface(link, order, resolution=9)
    for n, packet in enumerate(packets):
        content += enhanced(packet, times[n] if times else START + n * 20_000_000, 0, order)
    return content
