"""What stands at a place within a frame, as one number: an EtherType, or a number of our own beyond them.

Link headers, tags, labels and tunnels all come down to this: something of a kind stands at a place, and its
header tells the place and the kind of what it carries, until that is IP.
"""

from typing import Final

NOTHING: Final = 0
"""Nothing that leads to IP. A length in place of an EtherType (IEEE 802.3) is no kind either."""

# https://www.iana.org/assignments/ieee-802-numbers
IPV4, IPV6 = 0x0800, 0x86DD
# IEEE 802.1Q, 802.1ad, and two that older switches use for the outer tag.
VLAN_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200)
ETHERNET: Final = 0x6558
"""Transparent Ethernet bridging: a whole Ethernet frame (RFC 1701, and RFC 8926 section 3.4)."""
ERSPAN, ERSPAN3 = 0x88BE, 0x22EB
MPLS_LABELS = (0x8847, 0x8848)
PPP: Final = 0x880B
PPPOE: Final = 0x8864

# What has no EtherType.
ANY_IP: Final = 0x10000
"""IP of the version that its first four bits tell."""
UNLABELLED: Final = 0x10001
"""What comes after the last label of a stack, which does not tell what it is."""
ERSPAN1: Final = 0x10002
GRE: Final = 0x10003
GRE_OF_ERSPAN: Final = 0x10004
"""GRE that is opened for ERSPAN alone."""
VXLAN, GENEVE, TZSP, L2TP = 0x10005, 0x10006, 0x10007, 0x10008
ERF: Final = 0x10009
PPPOE_LINK: Final = 0x1000A
"""PPPoE as a link type of its own, which is no tunnel."""
COUNT: Final = 0x1000B
