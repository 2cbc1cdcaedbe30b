"""An address and port, the one value that signalling and media have in common.

The host is canonical text: two endpoints are the same exactly when they compare equal. IPv4 is dotted
decimal, IPv6 is RFC 5952 (`fe80::1`), an IPv4-mapped IPv6 address is the IPv4 address (a dual-stack
socket's packets and the SDP that announced them must meet), and a name is lower-case.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Final, NamedTuple

_MAX_ADDRESS: Final = 66
"""Characters of an address, brackets included."""

_CANONICAL: Final = re.compile(r"[0-9a-z.-]*[0-9a-z]")
"""An IPv4 address as it must be written, or a name in its one spelling: an IPv6 address has colons."""


class Endpoint(NamedTuple):
    """Where packets come from or go to.

    Attributes:
        host: canonical text of the address, see `canonical_host`.
        port: 0..65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def canonical_host(text: str) -> str:
    """The one spelling of a host: `FE80:0::1` and `fe80::1` are the same address, so are `[::1]` and `::1`.

    What is no address is returned in lower case without its surrounding white space, brackets and final dot.
    """
    if _CANONICAL.fullmatch(text):
        return text
    # The length is checked first: no address is longer, and the host comes from a peer.
    return _known_host(text) if len(text) <= _MAX_ADDRESS else _bare(text).rstrip(".").lower()


@lru_cache(maxsize=4096)
def _known_host(text: str) -> str:
    bare = _bare(text)
    try:
        return _text(ipaddress.ip_address(bare))
    except ValueError:
        return bare.rstrip(".").lower()


def _bare(text: str) -> str:
    bare = text.strip()
    if bare.startswith("[") and bare.endswith("]"):
        bare = bare[1:-1]
    return bare


def packed_host(packed: bytes) -> str:
    """The canonical text of an address as it stands in an IP header.

    Args:
        packed: 4 or 16 bytes in network order.

    Raises:
        ValueError: another number of bytes.
    """
    if len(packed) == 4:
        return ".".join(map(str, packed))
    if len(packed) != 16:
        raise ValueError(f"an address has 4 or 16 bytes, not {len(packed)}")
    return _text(ipaddress.ip_address(packed))


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        # A zone (fe80::1%eth0) is this host's own name for a link, never seen in a packet.
        return str(ipaddress.IPv6Address(address.packed))
    return str(address)
