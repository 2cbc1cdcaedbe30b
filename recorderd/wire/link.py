"""From frames to IP packets: link-layer headers, and what stands between them and IP."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.wire import kinds
from recorderd.wire.columns import blocks, column
from recorderd.wire.frames import Frames, LinkType
from recorderd.wire.headers import STEPS

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

# What stands at the beginning of frames of the other link types.
BARE = {
    LinkType.PPP: kinds.PPP,
    LinkType.PPP_HDLC: kinds.PPP,
    LinkType.PPP_ETHER: kinds.PPPOE_LINK,
    LinkType.C_HDLC: kinds.PPP,
    LinkType.ERF: kinds.ERF,
}

LINKS = (*kinds.VLAN_TAGS, kinds.ETHERNET, kinds.PPP, kinds.PPPOE_LINK, kinds.ERF)
"""What is stepped over always; the headers of tunnels, where they are opened."""

MAX_HEADERS = 16
"""Between one IP header and the next: tags, labels and tunnels' own."""


class Packets(NamedTuple):
    """IP packets within a matrix of frames: one array of length n a field, rows ascending."""

    row: NDArray[np.intp]
    at: NDArray[np.int32]
    """Where the IP header starts."""
    version: NDArray[np.uint8]
    """4 or 6; the first byte of the header was captured."""


class Places(NamedTuple):
    """Places within a matrix of frames and the kinds of header there, one array of length n a field, rows
    ascending.
    """

    row: NDArray[np.intp]
    at: NDArray[np.int32]
    kind: NDArray[np.int32]
    """See :mod:`recorderd.wire.kinds`."""


class PacketFinder:
    """Steps over headers of chosen kinds until it comes to IP."""

    def __init__(self, opened: Iterable[int] = ()) -> None:
        """``opened``: kinds of header to step over besides those of links and VLANs."""
        self._is_header = np.zeros(kinds.COUNT, np.bool_)
        self._is_header[[*LINKS, *opened]] = True
        self._is_known = self._is_header.copy()
        self._is_known[[kinds.IPV4, kinds.IPV6, kinds.ANY_IP]] = True

    def of_frames(self, frames: Frames, counters: Counter[str]) -> Packets:
        """The IP packets that frames of any link type hold.

        Counts 'not_ip', 'truncated', 'malformed', and the loopback interface's 'doubles'.
        """
        places = _beginnings(frames)
        counters["not_ip"] += len(frames) - len(places.row)
        packets = self.at(frames, places, counters)
        if frames.link in COOKED_FIELDS:
            double = _is_double(frames, packets.row)
            counters["doubles"] += int(double.sum())
            if double.any():
                packets = Packets(packets.row[~double], packets.at[~double], packets.version[~double])
        return packets

    def at(self, frames: Frames, places: Places, counters: Counter[str]) -> Packets:
        """The IP packets at places or behind the headers there; each place is counted if it has none."""
        row, at, kind = places.row, places.at, places.kind
        if not ((kind == kinds.IPV4) & (at < frames.caplen[row])).all():
            at, kind = self._stepped_over(frames, places)
            good = kind != kinds.NOTHING
            cut = good & (self._is_header[kind] | (at >= frames.caplen[row]))
            counters["not_ip"] += int((~good).sum())
            count_cut(frames, row[cut], counters)
            good &= ~cut
            row, at, kind = row[good], at[good], kind[good]
        if len(row) == 0:
            return Packets(row, at, np.empty(0, np.uint8))
        version = blocks(frames.data, row, at, 1)[:, 0] >> np.uint8(4)
        is_ip = (version == 4) & (kind == kinds.IPV4)
        if not is_ip.all():
            either = kind == kinds.ANY_IP
            is_ip |= (version == 6) & (kind == kinds.IPV6) | either & ((version == 4) | (version == 6))
            counters["not_ip"] += int((~is_ip).sum())
        if is_ip.all():
            return Packets(row, at, version)
        return Packets(row[is_ip], at[is_ip], version[is_ip])

    def _stepped_over(self, frames: Frames, places: Places) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Places and kinds of what headers lead to; a kind that is still a header's was cut off."""
        row, at, kind = places.row, places.at.copy(), places.kind.copy()
        caplen = frames.caplen[row]
        pending = np.flatnonzero(self._is_header[kind])
        for _ in range(MAX_HEADERS):
            if not len(pending):
                break
            kinds_here, stepped = kind[pending], []
            alike = bool((kinds_here == kinds_here[0]).all())
            for header in [int(kinds_here[0])] if alike else np.unique(kinds_here).tolist():
                step = STEPS[header]
                here = pending if alike else pending[kinds_here == header]
                here = here[at[here] + step.need <= caplen[here]]
                at[here], kind[here] = step.over(frames, row[here], at[here])
                stepped.append(here)
            pending = np.sort(np.concatenate(stepped)) if len(stepped) > 1 else stepped[0]
            pending = pending[self._is_header[kind[pending]]]
        kind[~self._is_known[kind]] = kinds.NOTHING
        return at, kind


def count_cut(frames: Frames, row: NDArray[np.intp], counters: Counter[str]) -> None:
    """Packets that end too early: by the capture's snap length, or because they are wrong."""
    truncated = int((frames.wirelen[row] > frames.caplen[row]).sum())
    counters["truncated"] += truncated
    counters["malformed"] += len(row) - truncated


def _beginnings(frames: Frames) -> Places:
    """What stands behind the link headers; frames that end with theirs are none."""
    if frames.link in TYPED_HEADERS:
        header, type_at = TYPED_HEADERS[frames.link]
    else:
        header, type_at = FAMILY_HEADER if frames.link in (LinkType.NULL, LinkType.LOOP) else 0, 0
    row = np.flatnonzero(frames.caplen > header)
    if frames.link in TYPED_HEADERS:
        type_field = blocks(frames.data, row, np.full(len(row), type_at, np.int32), 2)
        kind = column(type_field, 0, ">u2").astype(np.int32)
    elif header == FAMILY_HEADER:
        kind = _kind_by_family(frames, row)
    else:
        kind = np.full(len(row), BARE.get(frames.link, kinds.ANY_IP), np.int32)
    return Places(row, np.full(len(row), header, np.int32), kind)


def _kind_by_family(frames: Frames, row: NDArray[np.intp]) -> NDArray[np.int32]:
    # LOOP has the family in network byte order, NULL in that of the capturing host, which the file does not
    # tell.
    header = blocks(frames.data, row, np.zeros(len(row), np.int32), FAMILY_HEADER)
    known = np.isin(column(header, 0, ">u4"), FAMILIES) | np.isin(column(header, 0, "<u4"), FAMILIES)
    return np.where(known, np.int32(kinds.ANY_IP), np.int32(kinds.NOTHING))


def _is_double(frames: Frames, row: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Captures on `any` hold each loopback packet twice, as sent and as received: drop the one sent."""
    hardware_at, packet_type_at = COOKED_FIELDS[frames.link]
    header = blocks(frames.data, row, np.zeros(len(row), np.int32), TYPED_HEADERS[frames.link][0])
    outgoing = header[:, packet_type_at] == PACKET_OUTGOING
    loopback = column(header, hardware_at, ">u2") == ARPHRD_LOOPBACK
    return np.asarray(outgoing & loopback)
