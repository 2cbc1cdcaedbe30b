"""Signalling that is no plain datagram: TCP connections, WebSockets in them, and HEP."""

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.simulators import websocket
from tests.simulators.encapsulation import Address, Encapsulation, Flow
from tests.simulators.hep import hep3

SipOver = Literal["udp", "tcp", "ws", "hep"]
COLLECTOR = Address("10.0.0.9", 9060)
AGENT = Address("10.0.0.1", 33333)
_SYN, _ACK, _PSH = 2, 16, 8
_MASK = b"\x37\xfa\x21\x3d"

Sent = tuple[int, bytes]
"""When, and the frame."""


@dataclass
class _Connection:
    """One TCP connection: who opened it, to whom, and how far each end is."""

    client: Address
    server: Address
    sequences: dict[Address, int] = field(default_factory=dict)

    def segment(self, sender: Address, flags: int, payload: bytes, encapsulation: Encapsulation) -> bytes:
        """A frame with the next bytes of one end."""
        receiver = self.server if sender == self.client else self.client
        head = struct.pack(
            ">HHIIBBHHH",
            sender.port,
            receiver.port,
            self.sequences[sender],
            self.sequences.get(receiver, 0),
            0x50,
            flags,
            65535,
            0,
            0,
        )
        self.sequences[sender] = (self.sequences[sender] + len(payload) + bool(flags & _SYN)) & 0xFFFFFFFF
        return _packet(sender, receiver, head + payload, encapsulation)


class Carrier:
    """Carries messages as connections do; ``segment_bytes`` at most in a segment.

    ``disorder``: the segments of a message come in the wrong order, the first one once more at the end.
    ``reconnect``: every request opens a connection of its own. ``beside``: HEP tells of what is on the wire,
    too, a little later. ``late_ns`` is how long HEP takes, ``clock_ns`` how far its sender's clock is ahead.
    """

    def __init__(
        self,
        over: SipOver,
        encapsulation: Encapsulation,
        *,
        segment_bytes: int = 1460,
        disorder: bool = False,
        reconnect: bool = False,
        beside: bool = False,
        late_ns: int = 0,
        clock_ns: int = 0,
    ) -> None:
        self._over, self._encapsulation = over, encapsulation
        self._segment_bytes, self._disorder, self._reconnect = segment_bytes, disorder, reconnect
        self._beside, self._late_ns, self._clock_ns = beside, late_ns, clock_ns
        self._connections: dict[frozenset[Address], _Connection] = {}
        self._opened = 0

    def carry(self, time_ns: int, source: Address, destination: Address, payload: bytes) -> Iterator[Sent]:
        """The frames of one message."""
        if self._over == "hep":
            packet = hep3(payload, source, destination, time_ns + self._clock_ns)
            if self._beside:
                yield time_ns, Flow(source, destination, self._encapsulation).frame(payload)
                time_ns += 2_000_000
            yield time_ns + self._late_ns, Flow(AGENT, COLLECTOR, self._encapsulation).frame(packet)
            return
        pair = frozenset((source, destination))
        connection = self._connections.get(pair)
        if connection is None or (self._reconnect and not payload.startswith((b"SIP/2.0", b"ACK"))):
            connection = self._connections[pair] = self._open(source, destination)
            yield from self._handshake(connection, time_ns)
        sender = connection.client if source.host == connection.client.host else connection.server
        text = payload.replace(b"SIP/2.0/UDP", b"SIP/2.0/" + self._over.upper().encode())
        if self._over == "ws":
            text = websocket.frame(text, mask=_MASK if sender == connection.client else b"")
        frames = list(self._segments(connection, sender, text))
        if self._disorder:
            frames = [*frames[::-1], frames[0]]
        for number, frame in enumerate(frames):
            yield time_ns + number * 1000, frame

    def _open(self, source: Address, destination: Address) -> _Connection:
        self._opened += 1
        client = Address(source.host, 50_000 + self._opened)
        start = 2**32 - 2000  # it wraps within the call
        return _Connection(client, destination, {client: start, destination: 7})

    def _handshake(self, connection: _Connection, time_ns: int) -> Iterator[Sent]:
        client, server = connection.client, connection.server
        steps = [(client, _SYN, b""), (server, _SYN | _ACK, b""), (client, _ACK, b"")]
        if self._over == "ws":
            steps += [(client, _PSH | _ACK, websocket.REQUEST), (server, _PSH | _ACK, websocket.RESPONSE)]
        for number, (sender, flags, payload) in enumerate(steps):
            yield (
                time_ns - 50_000 + 1000 * number,
                connection.segment(sender, flags, payload, self._encapsulation),
            )

    def _segments(self, connection: _Connection, sender: Address, text: bytes) -> Iterator[bytes]:
        for at in range(0, len(text), self._segment_bytes):
            piece = text[at : at + self._segment_bytes]
            yield connection.segment(sender, _PSH | _ACK, piece, self._encapsulation)


def _packet(source: Address, destination: Address, segment: bytes, encapsulation: Encapsulation) -> bytes:
    first, second = ipaddress.ip_address(source.host), ipaddress.ip_address(destination.host)
    pseudo = first.packed + second.packed + struct.pack(">II", len(segment), 6)
    segment = segment[:16] + struct.pack(">H", _checksum(pseudo + segment)) + segment[18:]
    if first.version == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, 6, 0)
        head += first.packed + second.packed
        head = head[:10] + struct.pack(">H", _checksum(head)) + head[12:]
    else:
        head = struct.pack(">IHBB", 0x60000000, len(segment), 6, 64) + first.packed + second.packed
    return encapsulation.link_header(source.host, destination.host, first.version) + head + segment


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
