"""Which tunnels there are, and which of them are opened."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

from recorderd.wire import kinds

Tunnel = Literal["mpls", "pppoe", "gre", "erspan", "ipip", "vxlan", "geneve", "tzsp", "l2tp"]
TUNNELS: Final[tuple[Tunnel, ...]] = get_args(Tunnel)

PORTS: Final[Mapping[str, tuple[int, ...]]] = {
    "vxlan": (4789, 4790, 8472),  # RFC 7348, its generic extension, and what Linux had before
    "geneve": (6081,),
    "tzsp": (37008,),
    "l2tp": (1701,),
}
"""UDP ports of the tunnels that have them."""

HEADERS: Final[Mapping[str, tuple[int, ...]]] = {
    "mpls": (*kinds.MPLS_LABELS, kinds.UNLABELLED),
    "pppoe": (kinds.PPPOE,),
    "gre": (kinds.GRE,),
    "erspan": (kinds.GRE_OF_ERSPAN, kinds.ERSPAN1, kinds.ERSPAN, kinds.ERSPAN3),
    "vxlan": (kinds.VXLAN,),
    "geneve": (kinds.GENEVE,),
    "tzsp": (kinds.TZSP,),
    "l2tp": (kinds.L2TP,),
}
UDP_KINDS: Final = {"vxlan": kinds.VXLAN, "geneve": kinds.GENEVE, "tzsp": kinds.TZSP, "l2tp": kinds.L2TP}

# IP protocols (RFC 2003, RFC 4213, RFC 2784, RFC 4023).
IPV4_IN_IP, IPV6_IN_IP, GRE, MPLS_IN_IP = 4, 41, 47, 137


class TunnelSettings(NamedTuple):
    """Which tunnels are opened, and where those over UDP are."""

    opened: frozenset[str] = frozenset(TUNNELS)
    ports: Mapping[str, tuple[int, ...]] = PORTS

    @property
    def ethertypes(self) -> tuple[int, ...]:
        """Those that begin a tunnel."""
        mpls = kinds.MPLS_LABELS if "mpls" in self.opened else ()
        return (*mpls, kinds.PPPOE) if "pppoe" in self.opened else mpls

    @property
    def protocols(self) -> dict[int, int]:
        """The IP protocols that are tunnels, and the kinds of what follows the IP header."""
        found: dict[int, int] = {}
        if "ipip" in self.opened:
            found |= {IPV4_IN_IP: kinds.IPV4, IPV6_IN_IP: kinds.IPV6}
        if "mpls" in self.opened:
            found[MPLS_IN_IP] = kinds.MPLS_LABELS[0]
        if "gre" in self.opened:
            found[GRE] = kinds.GRE
        elif "erspan" in self.opened:
            found[GRE] = kinds.GRE_OF_ERSPAN
        return found

    @property
    def headers(self) -> tuple[int, ...]:
        """The kinds of header that are stepped over."""
        return tuple(kind for name in sorted(self.opened) for kind in HEADERS.get(name, ()))

    @property
    def udp_ports(self) -> dict[int, int]:
        """The UDP ports of tunnels, and their kinds."""
        return {
            port: kind
            for name, kind in UDP_KINDS.items()
            if name in self.opened
            for port in self.ports.get(name, PORTS[name])
        }
