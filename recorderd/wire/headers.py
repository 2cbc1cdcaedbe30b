"""The headers that stand between a link and IP, or between one IP packet and the one that it carries.

Each is a step from the place of a header to the place and kind of what follows it, for all frames that have
such a header at once. A step reads no more than the bytes that it says it needs; where what it finds leads
nowhere, the kind becomes NOTHING.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.wire import kinds
from recorderd.wire.columns import blocks, column
from recorderd.wire.frames import Frames

Rows = NDArray[np.intp]
Places = NDArray[np.int32]
Kinds = NDArray[np.int32]
Header = NDArray[np.uint8]

MAX_TZSP_TAGS: Final = 32
MAX_ERF_EXTENSIONS: Final = 8
BEYOND: Final = 1 << 30
"""A place in no frame: that of what follows a header whose end is not there."""


class Step(NamedTuple):
    """How one header is stepped over. The frames hold ``need`` bytes of it and of what follows it."""

    need: int
    over: Callable[[Frames, Rows, Places], tuple[Places, Kinds]]


def _type_at(header: Header, at: int) -> Kinds:
    return column(header, at, ">u2").astype(np.int32)


def _tag(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """IEEE 802.1Q: what the tag is of, after two bytes of its own."""
    return at + np.int32(4), _type_at(blocks(frames.data, row, at, 4), 2)


def _ethernet(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    return at + np.int32(14), _type_at(blocks(frames.data, row, at + np.int32(12), 2), 0)


def _label(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """RFC 3032 section 2.1: the lowest bit of the third byte tells the last label of the stack."""
    last = blocks(frames.data, row, at, 4)[:, 2] & 1
    return at + np.int32(4), np.where(last, kinds.UNLABELLED, kinds.MPLS_LABELS[0]).astype(np.int32)


def _unlabelled(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """IP, or an Ethernet pseudo-wire with or without a control word (RFC 4448, RFC 4928 section 3).

    No field tells. The first four bits of IP are its version and those of a control word are 0, but a MAC
    address may begin with any: so an IPv4 header has to have the right checksum to go before Ethernet, which
    is known by an EtherType that what follows bears out.
    """
    header = blocks(frames.data, row, at, 20)
    first = header[:, 0]
    total = header.view(">u2").sum(axis=1, dtype=np.uint32)
    total = (total & 0xFFFF) + (total >> 16)
    checked = (first == 0x45) & (((total & 0xFFFF) + (total >> 16)) == 0xFFFF)
    # RFC 4448 section 4.6: the flags of the word are 0, too.
    worded = (first == 0) & _is_ethernet(header, 4) & ~checked
    wire = worded | (_is_ethernet(header, 0) & ~checked)
    version = np.where(_is_ip4(first), kinds.IPV4, np.where(first >> 4 == 6, kinds.IPV6, kinds.NOTHING))
    return at + np.where(worded, np.int32(4), np.int32(0)), np.where(wire, kinds.ETHERNET, version).astype(
        np.int32
    )


def _is_ip4(first: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((first >> 4 == 4) & (first & 15 >= 5))


def _is_ethernet(header: Header, at: int) -> NDArray[np.bool_]:
    """Whether an EtherType of ours stands where a frame at ``at`` has it, and an IP header of its version
    follows.
    """
    kind, first = _type_at(header, at + 12), header[:, at + 14]
    ip = ((kind == kinds.IPV4) & _is_ip4(first)) | ((kind == kinds.IPV6) & (first >> 4 == 6))
    return np.asarray(ip | np.isin(kind, (*kinds.VLAN_TAGS, *kinds.MPLS_LABELS, kinds.PPPOE)))


def _pppoe(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """RFC 2516 section 4: version 1, type 1; code 0 is session data."""
    data = column(blocks(frames.data, row, at, 6), 0, ">u2") == 0x1100
    return at + np.int32(6), np.where(data, kinds.PPP, kinds.NOTHING).astype(np.int32)


_PPP_NUMBERS: Final = {0x0021: kinds.IPV4, 0x0057: kinds.IPV6, 0x0281: kinds.MPLS_LABELS[0]}


def _ppp(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """RFC 1661 section 2, with the address and control bytes of RFC 1662 or without; Cisco's HDLC (RFC 1547
    section 4.3.1) has an EtherType.
    """
    header = blocks(frames.data, row, at, 4)
    addressed = column(header, 0, ">u2") == 0xFF03
    number = np.where(addressed, column(header, 2, ">u2"), column(header, 0, ">u2"))
    # The first byte of a number is even; an odd one is the second, the first left out (section 6.5).
    short = (number & 0x0100) != 0
    number = np.where(short, number >> 8, number)
    kind = np.zeros(len(row), np.int32)
    for value, meaning in _PPP_NUMBERS.items():
        kind[number == value] = meaning
    cisco = ((header[:, 0] & 0x7F) == 0x0F) & (header[:, 1] == 0)
    size = np.where(addressed, 2, 0) + np.where(short, 1, 2)
    return at + np.where(cisco, 4, size).astype(np.int32), np.where(cisco, _type_at(header, 2), kind)


_CHECKSUM, _ROUTING, _KEY, _SEQUENCE, _VERSION = 0x8000, 0x4000, 0x2000, 0x1000, 0x0007


def _gre(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """RFC 2784 section 2 with the key and sequence number of RFC 2890. ERSPAN without a sequence number is of
    type I, which has no header of its own.
    """
    header = blocks(frames.data, row, at, 4)
    flags, kind = column(header, 0, ">u2"), _type_at(header, 2)
    size = sum(np.where(flags & flag, 4, 0) for flag in (_CHECKSUM, _KEY, _SEQUENCE))
    kind[(kind == kinds.ERSPAN) & ((flags & _SEQUENCE) == 0)] = kinds.ERSPAN1
    kind[(flags & (_ROUTING | _VERSION)) != 0] = kinds.NOTHING
    return at + np.asarray(4 + size, np.int32), kind


def _gre_of_erspan(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    at, kind = _gre(frames, row, at)
    return at, np.where(np.isin(kind, _ERSPANS), kind, kinds.NOTHING).astype(np.int32)


_ERSPANS: Final = (kinds.ERSPAN, kinds.ERSPAN1, kinds.ERSPAN3)


def _erspan1(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    return at, np.full(len(at), kinds.ETHERNET, np.int32)


def _erspan(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """draft-foschiano-erspan-03: version 1 is type II, version 2 type III, whose last bit
    tells of a subheader of the platform's and whose frame type 2 is an IP packet.
    """
    header = blocks(frames.data, row, at, 12)
    version, platform = header[:, 0] >> 4, header[:, 11] & 1
    kind = np.where((version == 1) | (version == 2), kinds.ETHERNET, kinds.NOTHING).astype(np.int32)
    kind[(version == 2) & ((header[:, 10] >> 2 & 0x1F) == 2)] = kinds.ANY_IP
    return at + np.where(version == 2, 12 + platform.astype(np.int32) * 8, 8).astype(np.int32), kind


_VXLAN_NUMBERS: Final = {1: kinds.IPV4, 2: kinds.IPV6, 3: kinds.ETHERNET}


def _vxlan(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """RFC 7348 section 5: an Ethernet frame; what it is else, the generic protocol extension tells
    (draft-ietf-nvo3-vxlan-gpe section 3).
    """
    header = blocks(frames.data, row, at, 8)
    kind = np.full(len(row), kinds.ETHERNET, np.int32)
    told = (header[:, 0] & 0x04) != 0
    kind[told] = kinds.NOTHING
    for value, meaning in _VXLAN_NUMBERS.items():
        kind[told & (header[:, 3] == value)] = meaning
    return at + np.int32(8), kind


def _geneve(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """RFC 8926 section 3.4: the length of the options in words stands in the first byte."""
    header = blocks(frames.data, row, at, 8)
    return at + (8 + (header[:, 0] & 0x3F).astype(np.int32) * 4), _type_at(header, 2)


def _tzsp(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """The TaZmen Sniffer Protocol: four bytes, tagged fields up to tag 1, an Ethernet frame.

    Tag 0 is padding of one byte; any other has a length in the byte after it.
    """
    at, going, limit = at + np.int32(4), np.arange(len(row)), frames.caplen[row]
    for _ in range(MAX_TZSP_TAGS):
        there = at[going] + 2 <= limit[going]
        at[going[~there]] = BEYOND
        going = going[there]
        if not len(going):
            break
        tag = blocks(frames.data, row[going], at[going], 2)
        at[going] += np.where(tag[:, 0] <= 1, 1, tag[:, 1].astype(np.int32) + 2).astype(np.int32)
        going = going[tag[:, 0] != 1]
    at[going] = BEYOND
    return at, np.full(len(row), kinds.ETHERNET, np.int32)


def _l2tp(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """RFC 2661 section 3.1: a length, two identifiers, two sequence numbers, an offset; most may miss."""
    header = blocks(frames.data, row, at, 16)
    flags = column(header, 0, ">u2")
    size = 6 + np.where(flags & 0x4000, 2, 0) + np.where(flags & 0x0800, 4, 0)
    offset = (flags & 0x0200) != 0
    rows = np.arange(len(row))
    words = header[rows, size].astype(np.int32) << 8 | header[rows, size + 1]
    size += np.where(offset, words + 2, 0)
    return at + size.astype(np.int32), np.full(len(row), kinds.PPP, np.int32)


# Ethernet with a host's or a receiver's colours and hashes beside it, and bare IP.
_ERF_ETHERNET, _ERF_IP = (2, 11, 16, 20), (22, 23)


def _erf(frames: Frames, row: Rows, at: Places) -> tuple[Places, Kinds]:
    """Endace's extensible record format: 16 bytes, extension headers of 8, for Ethernet 2 bytes of padding.

    The upper bit of a type tells that an extension header follows.
    """
    kind_of = blocks(frames.data, row, at, 16)[:, 8]
    ethernet = np.isin(kind_of & 0x7F, _ERF_ETHERNET)
    kind = np.where(np.isin(kind_of & 0x7F, _ERF_IP), kinds.ANY_IP, kinds.NOTHING).astype(np.int32)
    kind[ethernet] = kinds.ETHERNET
    at, more, limit = at + np.int32(16), np.flatnonzero(kind_of & 0x80), frames.caplen[row]
    for _ in range(MAX_ERF_EXTENSIONS):
        there = at[more] + 8 <= limit[more]
        at[more[~there]] = BEYOND
        more = more[there]
        if not len(more):
            break
        first = blocks(frames.data, row[more], at[more], 1)[:, 0]
        at[more] += 8
        more = more[(first & 0x80) != 0]
    at[more] = BEYOND
    return at + np.where(ethernet, np.int32(2), np.int32(0)), kind


STEPS: Final[dict[int, Step]] = {
    **dict.fromkeys(kinds.VLAN_TAGS, Step(4, _tag)),
    kinds.ETHERNET: Step(14, _ethernet),
    **dict.fromkeys(kinds.MPLS_LABELS, Step(4, _label)),
    kinds.UNLABELLED: Step(20, _unlabelled),
    kinds.PPPOE: Step(6, _pppoe),
    kinds.PPPOE_LINK: Step(6, _pppoe),
    kinds.PPP: Step(4, _ppp),
    kinds.GRE: Step(4, _gre),
    kinds.GRE_OF_ERSPAN: Step(4, _gre_of_erspan),
    kinds.ERSPAN1: Step(0, _erspan1),
    kinds.ERSPAN: Step(12, _erspan),
    kinds.ERSPAN3: Step(12, _erspan),
    kinds.VXLAN: Step(8, _vxlan),
    kinds.GENEVE: Step(8, _geneve),
    kinds.TZSP: Step(6, _tzsp),
    kinds.L2TP: Step(16, _l2tp),
    kinds.ERF: Step(16, _erf),
}
"""The step over each kind of header."""
