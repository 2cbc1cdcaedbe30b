"""A TPACKET_V2 ring: packets that the kernel puts into shared memory, taken out as matrices.

The ring is an array of frames of one size, each with a header that tells whose it is: the kernel's to fill or
ours to read (the kernel's Documentation/networking/packet_mmap.rst). Mapped into memory it is a NumPy matrix,
one row a packet; a run of rows that are ours is copied out in one step and given back in another.
"""

import errno
import mmap
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np

from recorderd.capture.bpf import NO_TUNNELS, Share, media_filter, signalling_filter
from recorderd.capture.packet_socket import Condition, PacketSocket
from recorderd.errors import CaptureError
from recorderd.wire.columns import column
from recorderd.wire.frames import Frames
from recorderd.wire.tunnel_settings import TunnelSettings

PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 5, 6, 10
TPACKET_V2 = 1
STATUS_USER = 1
BLOCK_BYTES = 1 << 18
MIN_FRAME_BYTES = 256
HEADER_BYTES = 24  # of struct tpacket2_hdr, as far as we need it
PROBES = 32
HEADROOM = 80  # what the kernel puts before a frame, at most


class RingSize(NamedTuple):
    """``struct tpacket_req``."""

    block_bytes: int
    blocks: int
    frame_bytes: int
    frames: int


def ring_sizes(ring_mb: float, frame_bytes: int) -> Iterator[RingSize]:
    """The size asked for, then ever smaller ones, down to one block.

    ``frame_bytes`` is raised to a power of two: then frames fill blocks without a gap, and the ring is one
    matrix.
    """
    frame = max(MIN_FRAME_BYTES, 1 << (frame_bytes - 1).bit_length())
    block = max(BLOCK_BYTES, frame)
    blocks = max(1, int(ring_mb * (1 << 20)) // block)
    while blocks:
        yield RingSize(block, blocks, frame, blocks * block // frame)
        blocks //= 2


def largest_possible(sizes: Iterable[RingSize], attempt: Callable[[RingSize], None]) -> RingSize | None:
    """The first size that ``attempt`` takes without running out of memory; None if all are too large."""
    for size in sizes:
        try:
            attempt(size)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
        else:
            return size
    return None


class Ring:
    """The packets of one interface that are media, or those that are signalling.

    A context manager. Poll :meth:`fileno` for reading; on an error there, or now and then, ask
    :meth:`condition`.

    Attributes:
        interface: its name.
        link: the link type of the frames.
        size: what the kernel gave; smaller than asked for when memory was short.
    """

    def __init__(
        self,
        interface: str,
        kind: Literal["media", "signalling"],
        *,
        sip_ports: Iterable[int],
        frame_bytes: int = 2048,
        ring_mb: float = 32,
        media_bytes: int | None = None,
        share: Share | None = None,
        tunnels: TunnelSettings = NO_TUNNELS,
        promiscuous: bool = False,
    ) -> None:
        """Open the ring and let packets arrive.

        Args:
            interface: its name; it may be down.
            kind: which packets; see :mod:`recorderd.capture.bpf`.
            sip_ports: UDP ports of SIP.
            frame_bytes: room for a packet, with 80 bytes of the kernel's. Longer packets are truncated.
            ring_mb: size of the ring in MiB.
            media_bytes: the longest packet that comes into the media ring; what is longer comes into that of
                the signalling. None: all media comes into its ring.
            share: the part of the media that comes, where others take the rest; signalling comes to all. A
                packet then has the same time in all their rings.
            tunnels: what carries these comes, too, to all, whatever is in it: short as media, long as
                signalling.
            promiscuous: what is not addressed to the interface comes, too.

        Raises:
            CaptureError: no such interface, no privilege, or no memory.
        """
        ports = frozenset(sip_ports)
        self._socket = PacketSocket(
            interface,
            lambda link: (
                media_filter(link, media_bytes, share, tunnels)
                if kind == "media"
                else signalling_filter(ports, link, media_bytes, share, tunnels)
            ),
            promiscuous=promiscuous,
        )
        self.interface, self.link = interface, self._socket.link
        try:
            self._socket.set_option(PACKET_VERSION, TPACKET_V2)
            if share is not None:
                self._socket.stamp_on_arrival()
            size = largest_possible(ring_sizes(ring_mb, frame_bytes), self._allocate)
            if size is None:
                raise CaptureError(f"{interface}: no memory for a ring of {BLOCK_BYTES >> 10} KiB")
            self._map(size)
            self._packets = self._drops = 0
            self._socket.start()
        except OSError as error:
            self._socket.close()
            raise CaptureError(f"{interface}: cannot make a ring: {error.strerror}") from error
        except BaseException:
            self._socket.close()
            raise

    def _map(self, size: RingSize) -> None:
        self.size = size
        # Populated now, lest each page cost a fault when the first packets come.
        self._memory = mmap.mmap(
            self._socket.fileno(),
            size.frames * size.frame_bytes,
            flags=mmap.MAP_SHARED | mmap.MAP_POPULATE,
        )
        self._rows = np.frombuffer(self._memory, np.uint8).reshape(size.frames, size.frame_bytes)
        self._status = self._rows.view(np.uint32)[:, 0]
        self._head = 0

    def _allocate(self, size: RingSize) -> None:
        self._socket.set_option(PACKET_RX_RING, struct.pack("4I", *size))

    def __enter__(self) -> "Ring":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def take(self, limit: int = 8192) -> Frames | None:
        """Copy out up to ``limit`` packets and give their places back to the kernel; None when there are
        none.

        A run ends where the ring does: call again until None. Frames are as wide as the longest among them.
        """
        if not self._status[self._head] & STATUS_USER:
            return None
        status = self._status[self._head : self._head + limit]
        ready = (status & STATUS_USER) != 0
        count = len(ready) if ready.all() else int(np.argmin(ready))
        # Status first, then the rest. x86 keeps the order of these loads (docs/adr/0002-columnar-capture.md).
        rows = self._rows[self._head : self._head + count]
        header = np.ascontiguousarray(rows[:, :HEADER_BYTES])
        wirelen, caplen = column(header, 4, "=u4").astype(np.int32), column(header, 8, "=u4").astype(np.int32)
        start = column(header, 12, "=u2")
        time_ns = column(header, 16, "=u4").astype(np.int64) * 1_000_000_000 + column(header, 20, "=u4")
        data = np.empty((count, int(caplen.max())), np.uint8)
        first = int(start[0])
        for place in [first] if (start == first).all() else np.unique(start).tolist():
            here = start == place
            width = min(data.shape[1], self.size.frame_bytes - place)
            if here.all():
                data[:, :width] = rows[:, place : place + width]
            else:
                data[here, :width] = rows[here, place : place + width]
        self._status[self._head : self._head + count] = 0
        self._head = (self._head + count) % self.size.frames
        return Frames(self.link, time_ns, data, caplen, wirelen)

    def fill(self) -> float:
        """How full the ring is, 0 to 1, to a thirty-second of it: what is ours to read is one run."""
        step = max(1, self.size.frames // PROBES)
        at = (self._head + step * np.arange(1, PROBES)) % self.size.frames
        ready = (self._status[at] & STATUS_USER) != 0
        return 1.0 if ready.all() else (int(np.argmin(ready)) + 1) / PROBES if ready[0] else 0.0

    def statistics(self) -> tuple[int, int]:
        """Packets that passed the filter since the ring was opened, and how many of them found no room."""
        packets, drops = struct.unpack("II", self._socket.option(PACKET_STATISTICS, 8))
        self._packets += packets  # reading sets the kernel's counters to zero
        self._drops += drops
        return self._packets, self._drops

    def condition(self) -> Condition:
        """The interface's state.

        Polling tells of an error when the interface goes DOWN, until this is called. What is in the ring can
        still be taken, and packets come again by themselves when it is UP. When it is GONE, close the ring;
        open another when the interface is made anew.
        """
        return self._socket.condition()

    def close(self) -> None:
        """Close the ring; what was not taken is lost."""
        if self._memory.closed:
            return
        del self._rows, self._status
        self._memory.close()
        self._socket.close()
