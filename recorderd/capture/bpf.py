"""The kernel filters of the two rings: classic BPF programs, assembled here.

Together they let through what the dissector can use and nothing twice: whatever a ring is not there for costs
no copy. *Media* is every UDP datagram whose payload begins like RTP or RTCP (version 2). *Signalling* is
every other datagram and every TCP segment of a port of signalling, and all that needs a closer look:
fragments, of which only the first has ports, and IPv6 packets with extension headers. Its frames have room
for anything, so it also takes the media that is too long for the frames of the other.

What is in a tunnel is nothing that a filter can tell. Where tunnels are to be opened, all that carries one
comes in by its length: what fits the short frames as media, the rest as signalling, and no part of it is
anybody's share.

A load beyond the end of the packet ends a program with 0, "drop" (the kernel's
Documentation/networking/filter.rst).
"""

from collections.abc import Iterable
from typing import NamedTuple

from recorderd.wire.flow_hash import (
    LAST_FACTOR,
    LAST_SHIFT,
    MAPPED,
    MIX_FACTOR,
    MIX_SHIFT,
    PORT_FACTOR,
    PORT_MASK,
)
from recorderd.wire.frames import LinkType
from recorderd.wire.kinds import IPV4, IPV6, VLAN_TAGS
from recorderd.wire.tunnel_settings import TunnelSettings

SNAPLEN = 0x40000
MAX_TAGS = 4
NO_TUNNELS = TunnelSettings(opened=frozenset())
TCP, UDP = 6, 17
EXTENSIONS = (0, 43, 44, 60)  # hop-by-hop, routing, fragment, destination options

# Instructions by their assembler names: A is the accumulator, X the index register.
LOAD_LENGTH, JUMP_GREATER = 0x80, 0x25  # ld len, jgt
LOAD_HALF, LOAD_BYTE = 0x28, 0x30  # ldh [k], ldb [k]
LOAD_HALF_X, LOAD_BYTE_X = 0x48, 0x50  # ldh [x + k], ldb [x + k]
SET_X = 0x01  # ldx #k
AND, SHIFT_LEFT, ADD, ADD_X = 0x54, 0x64, 0x04, 0x0C
X_IS_A, A_IS_X = 0x07, 0x87  # tax, txa
JUMP, JUMP_EQUAL, JUMP_ANY_BIT = 0x05, 0x15, 0x45  # ja, jeq, jset
LOAD_WORD_X, STORE, FETCH, FETCH_X = 0x40, 0x02, 0x60, 0x61  # ld [x + k], st M[k], ld M[k], ldx M[k]
MULTIPLY, MODULO, SHIFT_RIGHT, XOR, XOR_X = 0x24, 0x94, 0x74, 0xA4, 0xAC
RETURN = 0x06

# What the scratch memory holds on the way to a flow's share.
SOURCE, DESTINATION, WORD, HALF = 0, 1, 2, 3


class Share(NamedTuple):
    """One of several equal parts of the media, by :func:`recorderd.wire.flow_hash.flow_hash`."""

    number: int
    """From 0."""
    of: int


class Instruction(NamedTuple):
    """One instruction of a classic BPF program: ``struct sock_filter``."""

    code: int
    if_true: int
    if_false: int
    operand: int


class _Assembler:
    """Collects instructions; jumps go to labels that come later, as BPF wants it."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, str]] = []
        self._labels: dict[str, int] = {}

    def do(self, code: int, operand: int = 0) -> None:
        self._lines.append((code, operand, ""))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._lines)

    def go(self, label: str) -> None:
        self._lines.append((JUMP, 0, label))

    def when(self, test: int, operand: int, label: str) -> None:
        """Jump if the test holds, else go on. Over a jump of its own, which reaches any distance."""
        self._lines.append((test, operand, "next"))
        self.go(label)

    def unless(self, test: int, operand: int, label: str) -> None:
        """Jump if the test does not hold, else go on."""
        self._lines.append((test, operand, "over"))
        self.go(label)

    def program(self) -> tuple[Instruction, ...]:
        made = []
        for place, (code, operand, target) in enumerate(self._lines):
            if code == JUMP:
                made.append(Instruction(code, 0, 0, self._labels[target] - place - 1))
            else:
                made.append(Instruction(code, int(target == "over"), int(target == "next"), operand))
        return tuple(made)


def media_filter(
    link: LinkType = LinkType.ETHERNET,
    longest: int | None = None,
    share: Share | None = None,
    tunnels: TunnelSettings = NO_TUNNELS,
) -> tuple[Instruction, ...]:
    """Unfragmented UDP whose payload begins with version 2, on IPv4 or on IPv6 without extension headers.

    And what carries ``tunnels``. None that is longer than ``longest`` bytes, link header included; of a
    ``share``, its flows alone, and all tunnels.
    """
    program = _Assembler()
    _find_ip(program, link, tunnels)
    program.label("ipv4")
    program.do(LOAD_HALF_X, 6)
    program.when(JUMP_ANY_BIT, 0x3FFF, "drop")
    _to_udp4(program, share, tunnels)
    program.go("udp")
    program.label("ipv6")
    program.do(LOAD_BYTE_X, 6)
    _is_tunnel(program, tunnels.protocols)
    program.unless(JUMP_EQUAL, UDP, "drop")
    _to_udp6(program, share)
    program.label("udp")
    if tunnels.udp_ports:
        program.do(LOAD_HALF_X, 2)
        _is_tunnel(program, tunnels.udp_ports)
    _payload_is_version2(program)
    program.unless(JUMP_EQUAL, 0x80, "drop")
    if longest is not None:
        program.do(LOAD_LENGTH)
        program.when(JUMP_GREATER, longest, "drop")
    if share is not None:
        _is_of_share(program, share)
    program.go("accept")
    program.label("tunnel")
    if longest is not None:
        program.do(LOAD_LENGTH)
        program.when(JUMP_GREATER, longest, "drop")
    program.go("accept")
    return _ends(program)


def signalling_filter(
    sip_ports: Iterable[int],
    link: LinkType = LinkType.ETHERNET,
    longest: int | None = None,
    share: Share | None = None,
    tunnels: TunnelSettings = NO_TUNNELS,
) -> tuple[Instruction, ...]:
    """UDP of one of the ports whose payload does not begin with version 2; TCP of one of the ports;
    fragments; IPv6 extensions.

    And media and tunnels that are too long for :func:`media_filter`, by the same ``longest``, ``share`` and
    ``tunnels``.
    """
    ports = sorted(set(sip_ports))
    program = _Assembler()
    _find_ip(program, link, tunnels)
    program.label("ipv4")
    program.do(LOAD_HALF_X, 6)
    program.when(JUMP_ANY_BIT, 0x3FFF, "accept")
    program.do(LOAD_BYTE_X, 9)
    program.when(JUMP_EQUAL, TCP, "tcp4")
    _to_udp4(program, share, tunnels)
    program.go("udp")
    program.label("ipv6")
    program.do(LOAD_BYTE_X, 6)
    for extension in EXTENSIONS:
        program.when(JUMP_EQUAL, extension, "accept")
    program.when(JUMP_EQUAL, TCP, "tcp6")
    _is_tunnel(program, tunnels.protocols)
    program.unless(JUMP_EQUAL, UDP, "drop")
    _to_udp6(program, share)
    program.label("udp")
    if tunnels.udp_ports:
        program.do(LOAD_HALF_X, 2)
        _is_tunnel(program, tunnels.udp_ports)
    _payload_is_version2(program)
    program.when(JUMP_EQUAL, 0x80, "version 2")
    program.go("ports")
    program.label("tcp4")
    _past_header4(program)
    program.go("ports")
    program.label("tcp6")
    _to_udp6(program, None)
    program.label("ports")
    for place in (0, 2):
        program.do(LOAD_HALF_X, place)
        for port in ports:
            program.when(JUMP_EQUAL, port, "accept")
    program.go("drop")
    program.label("version 2")
    if longest is not None:
        program.do(LOAD_LENGTH)
        program.unless(JUMP_GREATER, longest, "drop")
        if share is not None:
            _is_of_share(program, share)
        program.go("accept")
    else:
        program.go("drop")
    program.label("tunnel")
    if longest is not None:
        program.do(LOAD_LENGTH)
        program.when(JUMP_GREATER, longest, "accept")
    return _ends(program)


def _is_tunnel(program: _Assembler, numbers: Iterable[int]) -> None:
    """Go on at 'tunnel' if A is one of the numbers."""
    for number in sorted(numbers):
        program.when(JUMP_EQUAL, number, "tunnel")


def _find_ip(program: _Assembler, link: LinkType, tunnels: TunnelSettings) -> None:
    """X becomes the place of the IP header; goes on at 'ipv4', 'ipv6' or 'tunnel'."""
    if link != LinkType.ETHERNET:
        program.do(SET_X, 0)
        program.do(LOAD_BYTE, 0)
        program.do(AND, 0xF0)
        program.when(JUMP_EQUAL, 0x60, "ipv6")
        program.unless(JUMP_EQUAL, 0x40, "drop")
        return
    for tags in range(MAX_TAGS + 1):
        program.label(f"after {tags} tags")
        program.do(SET_X, 14 + 4 * tags)
        program.do(LOAD_HALF, 12 + 4 * tags)
        program.when(JUMP_EQUAL, IPV4, "ipv4")
        program.when(JUMP_EQUAL, IPV6, "ipv6")
        if tags < MAX_TAGS:
            for tag in VLAN_TAGS:
                program.when(JUMP_EQUAL, tag, f"after {tags + 1} tags")
        _is_tunnel(program, tunnels.ethertypes)
        program.go("drop")


def _to_udp4(program: _Assembler, share: Share | None, tunnels: TunnelSettings) -> None:
    """X goes from the IPv4 header to the UDP header, past the options; of a share, the addresses are kept."""
    program.do(LOAD_BYTE_X, 9)
    _is_tunnel(program, tunnels.protocols)
    program.unless(JUMP_EQUAL, UDP, "drop")
    if share is not None:
        for place, address in ((12, SOURCE), (16, DESTINATION)):
            program.do(LOAD_WORD_X, place)
            program.do(STORE, address)
    _past_header4(program)


def _past_header4(program: _Assembler) -> None:
    """X goes from the IPv4 header to what follows it."""
    program.do(LOAD_BYTE_X, 0)
    program.do(AND, 15)
    program.do(SHIFT_LEFT, 2)
    program.do(ADD_X)
    program.do(X_IS_A)


def _to_udp6(program: _Assembler, share: Share | None) -> None:
    """X goes from the IPv6 header to the UDP header right behind it; of a share, the addresses are kept."""
    program.do(A_IS_X)
    program.do(ADD, 40)
    if share is None:
        program.do(X_IS_A)
        return
    program.do(STORE, HALF)
    for place, address in ((8, SOURCE), (24, DESTINATION)):
        _fold_address(program, place, address)
    program.do(FETCH_X, HALF)


def _fold_address(program: _Assembler, place: int, address: int) -> None:
    """The four words of an IPv6 address as one. X stays: it is what the words are found by."""
    program.do(A_IS_X)
    program.do(STORE, WORD)
    program.do(LOAD_WORD_X, place)
    program.do(XOR, MAPPED)
    program.do(STORE, address)
    for part in (4, 8, 12):
        program.do(FETCH_X, WORD)
        program.do(LOAD_WORD_X, place + part)
        program.do(FETCH_X, address)
        program.do(XOR_X)
        program.do(STORE, address)
    program.do(FETCH_X, WORD)


def _is_of_share(program: _Assembler, share: Share) -> None:
    """Drop what is of another share. X is the UDP header's place, and is not kept."""
    program.do(LOAD_HALF_X, 0)
    program.do(STORE, WORD)
    program.do(LOAD_HALF_X, 2)
    program.do(STORE, HALF)
    for port, address in ((WORD, SOURCE), (HALF, DESTINATION)):
        program.do(FETCH, port)
        program.do(AND, PORT_MASK)
        program.do(MULTIPLY, PORT_FACTOR)
        program.do(FETCH_X, address)
        program.do(XOR_X)
        program.do(MULTIPLY, MIX_FACTOR)
        program.do(X_IS_A)
        program.do(SHIFT_RIGHT, MIX_SHIFT)
        program.do(XOR_X)
        program.do(STORE, address)
    program.do(FETCH_X, SOURCE)
    program.do(ADD_X)
    program.do(MULTIPLY, LAST_FACTOR)
    program.do(SHIFT_RIGHT, LAST_SHIFT)
    program.do(MODULO, share.of)
    program.unless(JUMP_EQUAL, share.number, "drop")


def _payload_is_version2(program: _Assembler) -> None:
    """A becomes the two upper bits of the UDP payload's first byte."""
    program.do(LOAD_BYTE_X, 8)
    program.do(AND, 0xC0)


def _ends(program: _Assembler) -> tuple[Instruction, ...]:
    program.label("drop")
    program.do(RETURN, 0)
    program.label("accept")
    program.do(RETURN, SNAPLEN)
    return program.program()
