"""From IP packets to what they carry: IPv4 and IPv6 headers, extension headers, and what is a fragment."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.wire.columns import blocks, column
from recorderd.wire.fragments import Fragment
from recorderd.wire.frames import Frames
from recorderd.wire.link import Packets, count_cut
from recorderd.wire.stream_key import StreamKey

TCP, UDP = 6, 17
FRAGMENT, AUTHENTICATION = 44, 51
# Headers that may stand before UDP (RFC 8200 section 4.1, RFC 4302, 6275, 7401, 5533). All begin with the
# number of the next header and a length in 8 bytes not counting the first 8, except AH (4 bytes, not counting
# 8) and FRAGMENT (8).
EXTENSIONS = np.isin(np.arange(256), (0, 43, FRAGMENT, AUTHENTICATION, 60, 135, 139, 140))
MAX_EXTENSIONS = 16
HEADER4, HEADER6 = 20, 40
MORE_OR_OFFSET = 0x3FFF  # the More Fragments bit and the offset in bytes 6-7 of the IPv4 header


class Datagrams(NamedTuple):
    """Unfragmented IP packets of some protocols within a matrix of frames: one array of length n a field.

    ``transport_at`` is where the protocol's header starts. ``end`` is where the IP packet ends by its own
    header, which may be past what was captured, and is before the padding that Ethernet adds to short frames.
    ``addresses`` is the part of the stream key made of both addresses.
    """

    row: NDArray[np.intp]
    network_at: NDArray[np.int32]
    transport_at: NDArray[np.int32]
    end: NDArray[np.int32]
    addresses: NDArray[np.uint64]
    protocol: NDArray[np.uint8]

    def where(self, mask: NDArray[np.bool_]) -> "Datagrams":
        """Those for which the mask is true."""
        if mask.all():
            return self
        return Datagrams(
            self.row[mask],
            self.network_at[mask],
            self.transport_at[mask],
            self.end[mask],
            self.addresses[mask],
            self.protocol[mask],
        )


class RowFragment(NamedTuple):
    """A fragment, the row that it came in, and where its IP header starts there."""

    row: int
    at: int
    fragment: Fragment


Wanted = NDArray[np.bool_]
"""Which protocols are wanted: 256 of them."""


def protocols(*numbers: int) -> Wanted:
    """Those protocols."""
    return np.isin(np.arange(256), numbers)


def find_datagrams(
    frames: Frames, packets: Packets, keys: StreamKey, counters: Counter[str], wanted: Wanted
) -> tuple[Datagrams, list[RowFragment]]:
    """What is of a wanted protocol, rows ascending, and fragments of it.

    Counts 'not_udp' (what is of no wanted protocol), 'malformed' and 'truncated'.
    """
    is4 = packets.version == 4
    if is4.all():
        return _from_ipv4(frames, packets.row, packets.at, keys, counters, wanted)
    first, fragments = _from_ipv4(frames, packets.row[is4], packets.at[is4], keys, counters, wanted)
    second, more = _from_ipv6(frames, packets.row[~is4], packets.at[~is4], keys, counters, wanted)
    return merged([first, second]), sorted(fragments + more, key=lambda item: item.row)


def merged(parts: Sequence[Datagrams]) -> Datagrams:
    """Parts of one matrix, at least one of them, as one with its rows ascending."""
    some = [part for part in parts if len(part.row)] or [parts[0]]
    if len(some) == 1:
        return some[0]
    order = np.argsort(np.concatenate([part.row for part in some]), kind="stable")
    return Datagrams(*(np.concatenate(each)[order] for each in zip(*some, strict=True)))


def _whole_headers(
    frames: Frames, row: NDArray[np.intp], at: NDArray[np.int32], length: int, counters: Counter[str]
) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """The packets of which a header of this length was captured; the others are counted."""
    whole = frames.caplen[row] >= at + length
    if whole.all():
        return row, at
    count_cut(frames, row[~whole], counters)
    return row[whole], at[whole]


def _from_ipv4(
    frames: Frames,
    row: NDArray[np.intp],
    at: NDArray[np.int32],
    keys: StreamKey,
    counters: Counter[str],
    wanted: Wanted,
) -> tuple[Datagrams, list[RowFragment]]:
    row, at = _whole_headers(frames, row, at, HEADER4, counters)
    header = blocks(frames.data, row, at, HEADER4)
    header_length = (header[:, 0] & 15).astype(np.int32) * 4
    total_length = column(header, 2, ">u2").astype(np.int32)
    protocol = header[:, 9]
    is_wanted = wanted[protocol]
    sane = (header_length >= HEADER4) & (total_length >= header_length)
    whole = (column(header, 6, ">u2") & MORE_OR_OFFSET) == 0
    good = is_wanted & sane & whole
    addresses = keys.addresses4(header)
    datagrams = Datagrams(row, at, at + header_length, at + total_length, addresses, protocol)
    if good.all():
        return datagrams, []
    counters["not_udp"] += int((~is_wanted).sum())
    counters["malformed"] += int((is_wanted & ~sane).sum())
    pieces = np.flatnonzero(is_wanted & sane & ~whole)
    found = [_fragment4(frames, int(row[n]), int(at[n]), header[n].tobytes(), counters) for n in pieces]
    return datagrams.where(good), [piece for piece in found if piece is not None]


def _fragment4(
    frames: Frames, row: int, at: int, header: bytes, counters: Counter[str]
) -> RowFragment | None:
    start = at + (header[0] & 15) * 4
    end = at + int.from_bytes(header[2:4], "big")
    if end > frames.caplen[row]:
        count_cut(frames, np.array([row]), counters)
        return None
    place = int.from_bytes(header[6:8], "big")
    return RowFragment(
        row,
        at,
        Fragment(
            key=header[9:10] + header[4:6] + header[12:20],
            # Options go: they would only have to be skipped again. The length is filled in when it is known.
            header=b"\x45" + header[1:6] + b"\0\0" + header[8:20],
            offset=(place & 0x1FFF) * 8,
            more=bool(place & 0x2000),
            payload=frames.data[row, start:end].tobytes(),
            time_ns=int(frames.time_ns[row]),
        ),
    )


def _from_ipv6(
    frames: Frames,
    row: NDArray[np.intp],
    at: NDArray[np.int32],
    keys: StreamKey,
    counters: Counter[str],
    wanted: Wanted,
) -> tuple[Datagrams, list[RowFragment]]:
    row, at = _whole_headers(frames, row, at, HEADER6, counters)
    header = blocks(frames.data, row, at, HEADER6)
    following = header[:, 6].copy()
    end = at + HEADER6 + column(header, 4, ">u2").astype(np.int32)
    datagrams = Datagrams(row, at, at + HEADER6, end, keys.addresses6(header), following)
    if wanted[following].all():
        return datagrams, []
    pieces = _skip_extensions(frames, datagrams, following)
    fragments = []
    for n in pieces:
        place = int(row[n]), int(at[n]), int(datagrams.transport_at[n]), int(end[n])
        piece = _fragment6(frames, place, header[n].tobytes(), counters)
        if piece is not None:
            fragments.append(piece)
    is_wanted = wanted[following]
    # What stands at a header that we cannot step over was cut off or is nothing that a UDP packet has there.
    stuck = EXTENSIONS[following]
    stuck[pieces] = False
    count_cut(frames, row[stuck], counters)
    counters["not_udp"] += int((~is_wanted & ~stuck).sum()) - len(pieces)
    return datagrams.where(is_wanted), fragments


def _skip_extensions(frames: Frames, datagrams: Datagrams, following: NDArray[np.uint8]) -> list[int]:
    """Move ``transport_at`` and ``following`` past extension headers, in place; returns which packets are
    fragments.

    A fragment stays at its fragment header. One that is a whole packet (offset 0, no more) is none: RFC 6946.
    """
    caplen = frames.caplen[datagrams.row]
    limit = np.minimum(caplen, datagrams.end)
    pieces: list[int] = []
    is_piece = np.zeros(len(following), np.bool_)
    for _ in range(MAX_EXTENSIONS):
        here = np.flatnonzero(EXTENSIONS[following] & ~is_piece & (datagrams.transport_at + 8 <= limit))
        if len(here) == 0:
            break
        header = blocks(frames.data, datagrams.row[here], datagrams.transport_at[here], 8)
        kind = following[here]
        is_fragment = kind == FRAGMENT
        split = is_fragment & ((column(header, 2, ">u2") & 0xFFF9) != 0)
        is_piece[here[split]] = True
        pieces += here[split].tolist()
        length = header[:, 1].astype(np.int32)
        step = np.where(kind == AUTHENTICATION, (length + 2) * 4, np.where(is_fragment, 8, (length + 1) * 8))
        on = ~split
        following[here[on]] = header[on, 0]
        datagrams.transport_at[here[on]] += step[on].astype(np.int32)
    return pieces


def _fragment6(
    frames: Frames, place: tuple[int, int, int, int], header: bytes, counters: Counter[str]
) -> RowFragment | None:
    """``place``: the row, where its IP header is, where the fragment header is, where the packet ends."""
    row, at, fragment_at, end = place
    if end > frames.caplen[row]:
        count_cut(frames, np.array([row]), counters)
        return None
    fragment_header = frames.data[row, fragment_at : fragment_at + 8].tobytes()
    offset = int.from_bytes(fragment_header[2:4], "big")
    return RowFragment(
        row,
        at,
        Fragment(
            key=header[8:40] + fragment_header[4:8],
            # What comes before the fragment header is for routers; after reassembly the packet does without
            # it.
            header=header[:4] + b"\0\0" + fragment_header[:1] + header[7:40],
            offset=offset & 0xFFF8,
            more=bool(offset & 1),
            payload=frames.data[row, fragment_at + 8 : end].tobytes(),
            time_ns=int(frames.time_ns[row]),
        ),
    )
