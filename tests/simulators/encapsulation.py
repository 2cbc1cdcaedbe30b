"""Link, IP and UDP headers around payloads, a matrix of packets at a time.

Checksums are real ones (RFC 1071), UDP's over IPv4 too, so that tshark can be asked to check them all.
"""

import hashlib
import ipaddress
import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ETHERNET, RAW, NULL, LOOP, SLL, SLL2 = 1, 101, 0, 108, 113, 276
_ETHERNET_MINIMUM = 60  # without the frame check sequence, which captures leave out
_DONT_FRAGMENT = 0x4000


class Address(NamedTuple):
    """Where a packet comes from or goes to; ``host`` is an IPv4 or IPv6 address in text."""

    host: str
    port: int


@dataclass(frozen=True)
class Encapsulation:
    """How frames look on the captured link: link type (LINKTYPE_ number) and VLAN ids, outermost first."""

    linktype: int = ETHERNET
    vlans: tuple[int, ...] = ()

    def link_header(self, source: str, destination: str, version: int) -> bytes:
        """The bytes before the IP header."""
        ethertype = struct.pack(">H", 0x0800 if version == 4 else 0x86DD)
        if self.linktype == ETHERNET:
            tags = b""
            for depth, vlan in enumerate(self.vlans):
                outer = 0x88A8 if depth + 1 < len(self.vlans) else 0x8100
                tags += struct.pack(">HH", outer, vlan)
            return _mac(destination) + _mac(source) + tags + ethertype
        if self.linktype == SLL:
            return struct.pack(">HHH", 0, 1, 6) + _mac(source) + b"\0\0" + ethertype
        if self.linktype == SLL2:
            return ethertype + struct.pack(">HIHBB", 0, 2, 1, 0, 6) + _mac(source) + b"\0\0"
        if self.linktype == NULL:
            return struct.pack("<I", 2 if version == 4 else 30)
        if self.linktype == LOOP:
            return struct.pack(">I", 2 if version == 4 else 30)
        return b""

    def wire_length(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """The length of frames on the wire: Ethernet pads short ones."""
        return np.maximum(lengths, _ETHERNET_MINIMUM) if self.linktype == ETHERNET else lengths


class Flow:
    """The headers from one address to another; :meth:`fill` writes them into rows of packets."""

    def __init__(self, source: Address, destination: Address, encapsulation: Encapsulation) -> None:
        sender, receiver = ipaddress.ip_address(source.host), ipaddress.ip_address(destination.host)
        self.version = sender.version
        self.encapsulation = encapsulation
        link = encapsulation.link_header(source.host, destination.host, self.version)
        if self.version == 4:
            fixed = struct.pack(">BBHHHBBH", 0x45, 0xB8, 0, 0, _DONT_FRAGMENT, 64, 17, 0)
        else:
            fixed = struct.pack(">IHBB", 0x6B800000, 0, 17, 64)
        ip = fixed + sender.packed + receiver.packed
        self.ip_at, self.udp_at = len(link), len(link) + len(ip)
        self.size = self.udp_at + 8  #: bytes before the UDP payload
        udp = struct.pack(">HHHH", source.port, destination.port, 0, 0)
        self._template = np.frombuffer(link + ip + udp, np.uint8)
        self._pseudo = _word_sum(sender.packed + receiver.packed) + 17
        self._ip_sum = _word_sum(ip)

    def fill(self, rows: NDArray[np.uint8], payloads: NDArray[np.int64]) -> None:
        """Write the headers of packets whose payloads, of these lengths, already stand at ``size`` and are
        followed by zeros."""
        rows[:, : self.size] = self._template
        udp_length = payloads + 8
        _put16(rows, self.udp_at + 4, udp_length)
        if self.version == 4:
            _put16(rows, self.ip_at + 2, udp_length + 20)
            _put16(rows, self.ip_at + 10, 0xFFFF - _fold(self._ip_sum + udp_length + 20))
        else:
            _put16(rows, self.ip_at + 4, udp_length)
        body = rows[:, self.udp_at :]
        total = body[:, 0::2].sum(axis=1, dtype=np.int64) * 256 + body[:, 1::2].sum(axis=1, dtype=np.int64)
        checksum = 0xFFFF - _fold(total + self._pseudo + udp_length)
        _put16(rows, self.udp_at + 6, np.where(checksum == 0, 0xFFFF, checksum))

    def frame(self, payload: bytes) -> bytes:
        """One packet around one payload."""
        rows = np.zeros((1, self.size + len(payload)), np.uint8)
        rows[0, self.size :] = np.frombuffer(payload, np.uint8)
        self.fill(rows, np.array([len(payload)], np.int64))
        return rows.tobytes()

    def fragments(self, payload: bytes, mtu: int, identification: int) -> list[bytes]:
        """The packet as IP fragments that fit ``mtu`` (RFC 791; RFC 8200 section 4.5)."""
        whole = self.frame(payload)
        link, body = whole[: self.ip_at], whole[self.udp_at :]
        header = bytearray(whole[self.ip_at : self.udp_at])
        room = (mtu - len(header) - (0 if self.version == 4 else 8)) // 8 * 8
        if len(header) + len(body) <= mtu:
            return [whole]
        pieces = []
        for at in range(0, len(body), room):
            piece, more = body[at : at + room], at + room < len(body)
            if self.version == 4:
                struct.pack_into(">HHH", header, 2, 20 + len(piece), identification, (at // 8) | (more << 13))
                struct.pack_into(">H", header, 10, 0)
                struct.pack_into(">H", header, 10, 0xFFFF - int(_fold(_word_sum(bytes(header)))))
                pieces.append(link + bytes(header) + piece)
            else:
                struct.pack_into(">HB", header, 4, 8 + len(piece), 44)
                extension = struct.pack(">BBHI", 17, 0, at | more, identification)
                pieces.append(link + bytes(header) + extension + piece)
        return pieces


def _mac(host: str) -> bytes:
    return b"\x02" + hashlib.sha256(host.encode()).digest()[:5]


def _word_sum(data: bytes) -> int:
    return int(np.frombuffer(data, ">u2").sum(dtype=np.int64))


def _fold(total: NDArray[np.int64] | int) -> NDArray[np.int64]:
    folded = np.asarray(total, np.int64)
    for _ in range(3):
        folded = (folded & 0xFFFF) + (folded >> 16)
    return folded


def _put16(rows: NDArray[np.uint8], at: int, values: NDArray[np.int64]) -> None:
    rows[:, at] = values >> 8
    rows[:, at + 1] = values & 0xFF
