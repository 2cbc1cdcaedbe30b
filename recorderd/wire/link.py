"""From frames to IP packets: link-layer headers and VLAN tags."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recorderd.wire.columns import blocks, column
from recorderd.wire.frames import Frames, LinkType

IPV4, IPV6 = 0x0800, 0x86DD
# IEEE 802.1Q, 802.1ad, and two that older switches use for the outer tag.
VLAN_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200)
MAX_TAGS = 4

# Length of the link header, and where in it the EtherType stands (LINKTYPE_ pages of tcpdump.org).
TYPED_HEADERS = {LinkType.ETHERNET: (14, 12), LinkType.LINUX_SLL: (16, 14), LinkType.LINUX_SLL2: (20, 0)}
# Where a cooked header has the hardware type (two bytes) and the packet type (its last byte).
COOKED_FIELDS = {LinkType.LINUX_SLL: (2, 1), LinkType.LINUX_SLL2: (8, 10)}
ARPHRD_LOOPBACK = 772
PACKET_OUTGOING = 4

# AF_INET, and AF_INET6 of Linux, NetBSD, FreeBSD and macOS: NULL frames carry the number of the capturing
# system.
FAMILIES = (2, 10, 24, 28, 30)
FAMILY_HEADER = 4

# What the link header promises instead of IP version 4 or 6; no header of four bits can hold these.
EITHER, NEITHER = 0xFE, 0xFF


@dataclass(frozen=True, slots=True)
class Packets:
    """IP packets within a matrix of frames: one array of length n a field, rows ascending."""

    row: NDArray[np.intp]
    at: NDArray[np.int32]
    """Where the IP header starts."""
    version: NDArray[np.uint8]
    """4 or 6; the first byte of the header was captured."""


def find_packets(frames: Frames, counters: Counter[str]) -> Packets:
    """The IP packets in frames of any link type. Counts 'not_ip', and the loopback interface's 'doubles'."""
    if frames.link in TYPED_HEADERS:
        header, _ = TYPED_HEADERS[frames.link]
    else:
        header = FAMILY_HEADER if frames.link in (LinkType.NULL, LinkType.LOOP) else 0
    row = np.flatnonzero(frames.caplen > header)
    if len(row) == 0:
        counters["not_ip"] += len(frames)
        return Packets(row, np.empty(0, np.int32), np.empty(0, np.uint8))
    at = np.full(len(row), header, np.int32)
    if frames.link in TYPED_HEADERS:
        wanted = _version_by_ethertype(frames, row, at)
    elif header == FAMILY_HEADER:
        wanted = _version_by_family(frames, row)
    else:
        wanted = np.full(len(row), EITHER, np.uint8)
    version = blocks(frames.data, row, at, 1)[:, 0] >> np.uint8(4)
    is_ip = (version == wanted) | ((wanted == EITHER) & ((version == 4) | (version == 6)))
    doubles = 0
    if frames.link in COOKED_FIELDS:
        double = _is_double(frames, row) & is_ip
        doubles = int(double.sum())
        is_ip &= ~double
    if not is_ip.all():
        row, at, version = row[is_ip], at[is_ip], version[is_ip]
    counters["doubles"] += doubles
    counters["not_ip"] += len(frames) - doubles - len(row)
    return Packets(row, at, version)


def _version_by_ethertype(frames: Frames, row: NDArray[np.intp], at: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The IP version that the EtherType promises; moves ``at`` past VLAN tags, in place."""
    _, type_at = TYPED_HEADERS[frames.link]
    kind = column(blocks(frames.data, row, np.full(len(row), type_at, np.int32), 2), 0, ">u2")
    if not (kind == IPV4).all():
        caplen = frames.caplen[row]
        for _ in range(MAX_TAGS):  # a tag that is cut off keeps its kind, which is not IP
            tagged = np.flatnonzero(np.isin(kind, VLAN_TAGS) & (caplen > at + 4))
            if len(tagged) == 0:
                break
            kind[tagged] = column(blocks(frames.data, row[tagged], at[tagged] + np.int32(2), 2), 0, ">u2")
            at[tagged] += 4
    return np.where(kind == IPV4, np.uint8(4), np.where(kind == IPV6, np.uint8(6), np.uint8(NEITHER)))


def _version_by_family(frames: Frames, row: NDArray[np.intp]) -> NDArray[np.uint8]:
    # LOOP has the family in network byte order, NULL in that of the capturing host, which the file does not
    # tell.
    header = blocks(frames.data, row, np.zeros(len(row), np.int32), FAMILY_HEADER)
    known = np.isin(column(header, 0, ">u4"), FAMILIES) | np.isin(column(header, 0, "<u4"), FAMILIES)
    return np.where(known, np.uint8(EITHER), np.uint8(NEITHER))


def _is_double(frames: Frames, row: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Captures on `any` hold each loopback packet twice, as sent and as received: drop the one sent."""
    hardware_at, packet_type_at = COOKED_FIELDS[frames.link]
    header = blocks(frames.data, row, np.zeros(len(row), np.int32), TYPED_HEADERS[frames.link][0])
    outgoing = header[:, packet_type_at] == PACKET_OUTGOING
    loopback = column(header, hardware_at, ">u2") == ARPHRD_LOOPBACK
    return np.asarray(outgoing & loopback)
