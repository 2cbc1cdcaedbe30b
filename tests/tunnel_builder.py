"""Tunnels around packets, written from their specifications for the tests to open."""

import struct
from collections.abc import Callable

from tests.capture_builder import PPP_NUMBERS, ipv4, ipv6, udp

OUTER4 = ("198.51.100.1", "198.51.100.2")
OUTER6 = ("2001:db8:99::1", "2001:db8:99::2")
# Of known makers: by these Wireshark tells an address from a control word.
MACS = bytes.fromhex("001bd4000007000c29000008")


def ethertype(packet: bytes) -> int:
    """That of an IP packet."""
    return 0x0800 if packet[0] >> 4 == 4 else 0x86DD


def outer(payload: bytes, protocol: int, version: int = 4) -> bytes:
    """An IP packet of a tunnel."""
    if version == 4:
        return ipv4(*OUTER4, payload, protocol=protocol)
    return ipv6(*OUTER6, payload, last=protocol)


def outer_udp(payload: bytes, port: int, version: int = 4) -> bytes:
    hosts = OUTER4 if version == 4 else OUTER6
    return outer(udp(*hosts, 50_000, port, payload), 17, version)


def ethernet(packet: bytes, tags: tuple[int, ...] = (), macs: bytes = MACS) -> bytes:
    """A frame around an IP packet, with VLAN tags."""
    return macs + _tagged(struct.pack(">H", ethertype(packet)) + packet, tags)


def _tagged(typed: bytes, tags: tuple[int, ...]) -> bytes:
    for number, tag in enumerate(reversed(tags)):
        typed = struct.pack(">HH", tag, 10 + number) + typed
    return typed


def labels(count: int) -> bytes:
    """An MPLS label stack."""
    entries = [(1000 + n) << 12 | (n == count - 1) << 8 | 64 for n in range(count)]
    return struct.pack(f">{count}I", *entries)


def gre(content: bytes, kind: int, flags: int = 0) -> bytes:
    """GRE with a checksum (0x8000, not a right one), a key (0x2000) and a sequence number (0x1000), as
    ``flags`` say.
    """
    optional = b"".join(struct.pack(">I", 7) for flag in (0x8000, 0x2000, 0x1000) if flags & flag)
    return struct.pack(">HH", flags, kind) + optional + content


def vxlan(frame: bytes, flags: int = 0x08, number: int = 0) -> bytes:
    """VXLAN; ``number`` is the protocol of the generic extension (flag 0x04)."""
    return struct.pack(">BHBI", flags, 0, number, 77 << 8) + frame


def geneve(content: bytes, kind: int = 0x6558, options: int = 0) -> bytes:
    """Geneve; ``options``: words of them, in options of 32 words at most."""
    tlv = struct.pack(">HBB", 0x0102, 0x01, options - 1) + bytes(options * 4 - 4) if options else b""
    return struct.pack(">BBHI", options, 0, kind, 77 << 8) + tlv + content


def tzsp(frame: bytes, tags: bytes = b"", kind: int = 0) -> bytes:
    return struct.pack(">BBH", 1, kind, 1) + tags + b"\x01" + frame


def l2tp(packet: bytes, flags: int = 0, addressed: bool = True) -> bytes:
    """L2TP version 2; ``flags``: length (0x4000), sequence (0x0800), offset (0x0200)."""
    ppp = (b"\xff\x03" if addressed else b"") + PPP_NUMBERS[ethertype(packet)] + packet
    body = struct.pack(">HH", 3, 4)
    body += struct.pack(">HH", 1, 0) if flags & 0x0800 else b""
    body += struct.pack(">H2x", 2) if flags & 0x0200 else b""
    length = struct.pack(">H", 2 + 2 + len(body) + len(ppp)) if flags & 0x4000 else b""
    return struct.pack(">H", flags | 2) + length + body + ppp


def erspan2(frame: bytes, flags: int = 0x1000) -> bytes:
    """ERSPAN type II in GRE."""
    return gre(struct.pack(">HHI", 1 << 12 | 5, 0x1001, 3) + frame, 0x88BE, flags)


def erspan3(content: bytes, frame_type: int = 0, platform: bool = False) -> bytes:
    """ERSPAN type III in GRE; frame type 2 is an IP packet."""
    last = frame_type << 10 | platform
    header = struct.pack(">HHIHH", 2 << 12 | 5, 1, 99, 0, last) + bytes(8 * platform)
    return gre(header + content, 0x22EB, 0x1000)


Wrap = Callable[[bytes, int], bytes]
IP_TUNNELS: dict[str, Wrap] = {
    "ipip": lambda p, v: outer(p, 4 if p[0] >> 4 == 4 else 41, v),
    "gre": lambda p, v: outer(gre(p, ethertype(p)), 47, v),
    "gre with everything": lambda p, v: outer(gre(p, ethertype(p), 0xB000), 47, v),
    "gre with a key": lambda p, v: outer(gre(p, ethertype(p), 0x2000), 47, v),
    "gretap": lambda p, v: outer(gre(ethernet(p), 0x6558, 0x2000), 47, v),
    "gretap with a tag": lambda p, v: outer(gre(ethernet(p, (0x8100,)), 0x6558), 47, v),
    "mpls in gre": lambda p, v: outer(gre(labels(2) + p, 0x8847), 47, v),
    "mpls in ip": lambda p, v: outer(labels(1) + p, 137, v),
    "erspan 1": lambda p, v: outer(gre(ethernet(p), 0x88BE), 47, v),
    "erspan 2": lambda p, v: outer(erspan2(ethernet(p, (0x8100,))), 47, v),
    "erspan 3": lambda p, v: outer(erspan3(ethernet(p)), 47, v),
    "erspan 3 with a subheader": lambda p, v: outer(erspan3(ethernet(p), platform=True), 47, v),
    "erspan 3 of ip": lambda p, v: outer(erspan3(p, 2), 47, v),
    "vxlan": lambda p, v: outer_udp(vxlan(ethernet(p)), 4789, v),
    "vxlan of linux": lambda p, v: outer_udp(vxlan(ethernet(p, (0x88A8, 0x8100))), 8472, v),
    "vxlan with a group": lambda p, v: outer_udp(vxlan(ethernet(p), 0x88), 4789, v),
    "vxlan of ip": lambda p, v: outer_udp(vxlan(p, 0x0C, 1 if p[0] >> 4 == 4 else 2), 4790, v),
    "geneve": lambda p, v: outer_udp(geneve(ethernet(p)), 6081, v),
    "geneve with options": lambda p, v: outer_udp(geneve(ethernet(p), options=63), 6081, v),
    "geneve of ip": lambda p, v: outer_udp(geneve(p, ethertype(p), 2), 6081, v),
    "tzsp": lambda p, v: outer_udp(tzsp(ethernet(p)), 37008, v),
    "tzsp with tags": lambda p, v: outer_udp(tzsp(ethernet(p), b"\0\0\x0a\x01\xd0\x29\x02ab\0"), 37008, v),
    "l2tp": lambda p, v: outer_udp(l2tp(p), 1701, v),
    "l2tp with everything": lambda p, v: outer_udp(l2tp(p, 0x4A00, addressed=False), 1701, v),
}
"""Ways to put an IP packet into another of a version."""


def _pppoe(packet: bytes) -> bytes:
    ppp = PPP_NUMBERS[ethertype(packet)] + packet
    return struct.pack(">BBHH", 0x11, 0, 9, len(ppp)) + ppp


LINK_TUNNELS: dict[str, Callable[[bytes], bytes]] = {
    "none": ethernet,
    "tag": lambda p: ethernet(p, (0x8100,)),
    "three tags": lambda p: ethernet(p, (0x9100, 0x88A8, 0x8100)),
    "mpls": lambda p: MACS + b"\x88\x47" + labels(1) + p,
    "mpls stack": lambda p: MACS + b"\x88\x48" + labels(5) + p,
    "mpls behind a tag": lambda p: MACS + _tagged(b"\x88\x47" + labels(2) + p, (0x8100,)),
    "pseudo-wire": lambda p: MACS + b"\x88\x47" + labels(2) + ethernet(p),
    "pseudo-wire with a control word": lambda p: MACS + b"\x88\x47" + labels(2) + bytes(4) + ethernet(p),
    "pseudo-wire and tag": lambda p: MACS + b"\x88\x47" + labels(1) + bytes(4) + ethernet(p, (0x8100,)),
    "pseudo-wire of a MAC like IPv4": lambda p: (
        MACS + b"\x88\x47" + labels(1) + ethernet(p, macs=b"E" + MACS[1:])
    ),
    "pseudo-wire of a MAC like IPv6": lambda p: (
        MACS + b"\x88\x47" + labels(1) + ethernet(p, macs=b"`" + MACS[1:])
    ),
    "pppoe": lambda p: MACS + b"\x88\x64" + _pppoe(p),
    "pppoe behind a tag": lambda p: MACS + _tagged(b"\x88\x64" + _pppoe(p), (0x8100,)),
}
"""Ways to put an IP packet onto Ethernet."""
