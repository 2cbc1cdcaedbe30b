"""A hash of a flow's two ends that is the same in both directions, and that a kernel filter can work out.

It shares the media out among several workers. Both know it: the filter of a worker's ring
(:mod:`recorderd.capture.bpf`), which admits the worker's part, and whoever reads in the signalling where
media will go. All arithmetic is modulo 2^32, as the filter's is.
"""

import ipaddress
import zlib
from functools import lru_cache
from typing import Final

from recorderd.wire.endpoint import Endpoint

PORT_MASK: Final = 0xFFFE
"""RTP has an even port and its RTCP the next one (RFC 3550 section 11): they belong together."""

PORT_FACTOR: Final = 0x9E3779B1
MIX_FACTOR: Final = 0x85EBCA6B
MIX_SHIFT: Final = 15
LAST_FACTOR, LAST_SHIFT = 0xC2B2AE35, 16
"""Ports come in steps: only the upper bits of the product are spread well over any number of shares."""

MAPPED: Final = 0xFFFF
"""Makes an IPv4-mapped IPv6 address, which has these bits besides, the same as the IPv4 address."""

_MASK: Final = 0xFFFFFFFF


def flow_hash(one: Endpoint, other: Endpoint) -> int:
    """16 bits from the addresses and ports of both ends, whichever comes first."""
    return ((_end(one) + _end(other)) * LAST_FACTOR & _MASK) >> LAST_SHIFT


def share_of(one: Endpoint, other: Endpoint, count: int) -> int:
    """Which of ``count`` shares the flow between two ends belongs to, from 0."""
    return flow_hash(one, other) % count


def text_share(text: str, count: int) -> int:
    """A share for what has no flow, by its name."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) % count


def _end(end: Endpoint) -> int:
    mixed = (_address_word(end.host) ^ (end.port & PORT_MASK) * PORT_FACTOR & _MASK) * MIX_FACTOR & _MASK
    return mixed ^ mixed >> MIX_SHIFT


@lru_cache(maxsize=4096)
def _address_word(host: str) -> int:
    """An IPv4 address as it is, an IPv6 one folded to as many bits; a name by its text."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return zlib.crc32(host.encode("utf-8", "surrogatepass"))
    packed = address.packed
    if len(packed) == 4:
        return int.from_bytes(packed, "big")
    word = MAPPED
    for at in range(0, 16, 4):
        word ^= int.from_bytes(packed[at : at + 4], "big")
    return word
