"""Tunnels, opened: mirror ports and networks wrap packets in others, and what is inside is what counts.

Each frame is followed inwards until something is no tunnel, all frames of a batch at once: a round for each
IP packet within another, whatever tunnels a batch holds. Nothing is copied on the way, only places move on. A
packet within a tunnel may not go past the end of what carries it: what does was cut off by who wrapped it,
for mirrors shorten packets, and counts as truncated.

The packets inside keep their own addresses and nothing of the tunnel: the same packet seen with and without
it is the same packet. Two networks with the same addresses in tunnels that only an identifier tells apart
(VXLAN's, MPLS's) are one here.
"""

from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.wire import kinds
from recorderd.wire.columns import blocks, column
from recorderd.wire.frames import Frames
from recorderd.wire.ip import TCP, UDP, Datagrams, RowFragment, find_datagrams, merged, protocols
from recorderd.wire.link import PacketFinder, Places
from recorderd.wire.stream_key import StreamKey
from recorderd.wire.tunnel_settings import TunnelSettings

MAX_DEPTH: Final = 8
"""IP packets within one another."""
UDP_HEADER: Final = 8
LOOKED_AT: Final = UDP_HEADER + 4


class Tunnels:
    """Finds the datagrams in frames, within tunnels or in none."""

    def __init__(self, settings: TunnelSettings) -> None:
        self._finder = PacketFinder(settings.headers)
        self._wanted = protocols(UDP, TCP, *settings.protocols)
        self._innermost = protocols(UDP, TCP)
        self._kind_of_protocol = np.zeros(256, np.int32)
        for number, kind in settings.protocols.items():
            self._kind_of_protocol[number] = kind
        self._is_port, self._kind_of_port = np.zeros(0x10000, np.bool_), np.zeros(0x10000, np.int32)
        for port, kind in settings.udp_ports.items():
            self._is_port[port], self._kind_of_port[port] = True, kind

    def find(
        self, frames: Frames, keys: StreamKey, counters: Counter[str]
    ) -> tuple[Frames, Datagrams, list[RowFragment]]:
        """What is in no tunnel or in the innermost one, rows ascending, and fragments; with them the frames,
        which end where the packets do that carry the datagrams.

        Counts what holds no datagram: 'not_ip', 'not_udp', 'doubles', 'malformed' and 'truncated'; and
        'tunnelled': frames that are tunnels.
        """
        packets = self._finder.of_frames(frames, counters)
        datagrams, fragments = find_datagrams(frames, packets, keys, counters, self._wanted)
        found = []
        for depth in range(1, MAX_DEPTH + 1):
            kind, at, end = self._inside(frames, datagrams)
            tunnel = kind != kinds.NOTHING
            if not tunnel.any():
                break
            counters["tunnelled"] += int(tunnel.sum()) if depth == 1 else 0
            found.append(datagrams.where(~tunnel))
            places = Places(datagrams.row[tunnel], at[tunnel], kind[tunnel])
            frames = _ending(frames, places.row, end[tunnel])
            packets = self._finder.at(frames, places, counters)
            wanted = self._wanted if depth < MAX_DEPTH else self._innermost
            datagrams, more = find_datagrams(frames, packets, keys, counters, wanted)
            fragments += more
        if found:
            datagrams = merged([*found, datagrams])
            fragments.sort(key=lambda item: item.row)
        return frames, datagrams, fragments

    def _inside(
        self, frames: Frames, datagrams: Datagrams
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """The kind of what each datagram carries if it is a tunnel, else NOTHING; its place, and its end."""
        kind, at = self._kind_of_protocol[datagrams.protocol], datagrams.transport_at
        limit = np.minimum(frames.caplen[datagrams.row], datagrams.end)
        looked_at = np.flatnonzero((datagrams.protocol == UDP) & (at + LOOKED_AT <= limit))
        row, start = datagrams.row[looked_at], at[looked_at]
        port = column(blocks(frames.data, row, start + np.int32(2), 2), 0, ">u2")
        some = np.flatnonzero(self._is_port[port])
        if not len(some):
            return kind, at, datagrams.end
        looked_at, kind_of_port = looked_at[some], self._kind_of_port[port[some]]
        header = blocks(frames.data, row[some], start[some], LOOKED_AT)
        end = start[some] + column(header, 4, ">u2").astype(np.int32)
        good = _is_tunnel(header, kind_of_port) & (end <= datagrams.end[looked_at])
        good &= end >= start[some] + LOOKED_AT
        looked_at, at, ends = looked_at[good], at.copy(), datagrams.end.copy()
        kind[looked_at], ends[looked_at] = kind_of_port[good], end[good]
        at[looked_at] += UDP_HEADER
        return kind, at, ends


def _is_tunnel(header: NDArray[np.uint8], kind: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether what follows UDP headers is what their ports promise, so that no voice on these ports is lost.

    VXLAN has a bit for it (RFC 7348 section 5); Geneve version 0 (RFC 8926 section 3.4); TZSP version 1, a
    packet received or sent, of Ethernet; L2TP version 2 and no control message (RFC 2661 section 3.1). RTP is
    none of these.
    """
    first, second = header[:, UDP_HEADER], header[:, UDP_HEADER + 1]
    third = column(header, UDP_HEADER + 2, ">u2")
    return np.asarray(
        ((kind == kinds.VXLAN) & ((first & 0x78) == 0x08))
        | ((kind == kinds.GENEVE) & (first < 0x40))
        | ((kind == kinds.TZSP) & (first == 1) & (second <= 1) & (third == 1))
        | ((kind == kinds.L2TP) & (first < 0x80) & ((second & 0x0F) == 2))
    )


def _ending(frames: Frames, row: NDArray[np.intp], end: NDArray[np.int32]) -> Frames:
    """The same frames, those of some rows with their ends: what goes past them is cut off."""
    caplen, wirelen = frames.caplen.copy(), frames.wirelen.copy()
    caplen[row] = np.minimum(caplen[row], end)
    wirelen[row] = caplen[row] + 1
    return Frames(frames.link, frames.time_ns, frames.data, caplen, wirelen)
