"""A batch of captured frames: the value that every source of packets hands to the dissector."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class LinkType(IntEnum):
    """Link-layer header types (the LINKTYPE_ registry of pcap-linktype(7))."""

    NULL = 0
    ETHERNET = 1
    PPP = 9
    PPP_HDLC = 50
    PPP_ETHER = 51
    RAW = 101
    C_HDLC = 104
    LOOP = 108
    LINUX_SLL = 113
    ERF = 197
    IPV4 = 228
    IPV6 = 229
    LINUX_SLL2 = 276


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Frames:
    """Captured frames as a matrix, one row a frame.

    ``data`` has shape (n, width), uint8; what lies beyond a row's ``caplen`` is undefined. ``time_ns`` is the
    capture clock in nanoseconds since the epoch, UTC. ``wirelen`` is the frame's length on the wire, so that
    ``wirelen > caplen`` tells a truncated frame. ``unfinished`` says that the frames that follow are of the
    same stretch of time: time has not gone on before those are there, too.
    """

    link: LinkType
    time_ns: NDArray[np.int64]
    data: NDArray[np.uint8]
    caplen: NDArray[np.int32]
    wirelen: NDArray[np.int32]
    unfinished: bool = False

    def __len__(self) -> int:
        return len(self.time_ns)
