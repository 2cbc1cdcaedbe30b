"""SIP over WebSocket, seen by a listener (RFC 6455, RFC 7118): each message of the WebSocket is one of SIP.

One direction tells all that is needed: its half of the opening handshake names the protocol, and a frame
says itself whether it is compressed (RFC 7692: only permessage-deflate uses RSV1 here).
"""

import zlib
from collections import Counter
from typing import Final, NamedTuple

import numpy as np

from recorderd.wire.signalling import Framed
from recorderd.wire.sip import MAX_MESSAGE

MAX_HANDSHAKE: Final = 16 * 1024
CONTINUATION, TEXT, BINARY, CLOSE = 0, 1, 2, 8
OPCODES: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, 9, 10})
FIRST_BYTES: Final = frozenset(b"\x81\x82\x88\x89\x8a\xc1\xc2\x01\x02")
"""What a frame can begin with that stands where a stream is joined; no SIP text begins so."""
FLUSH: Final = b"\x00\x00\xff\xff"  # RFC 7692 section 7.2.2
WINDOW: Final = 32768


class _Header(NamedTuple):
    """The head of a frame (RFC 6455 section 5.2)."""

    final: bool
    compressed: bool
    opcode: int
    mask: bytes
    at: int
    """Where the payload begins."""
    length: int


class WebSocketStream:
    """One direction of a WebSocket. Pure; holds at most one message.

    Counts 'ws_opened', 'ws_other' (HTTP that is no WebSocket of SIP), 'ws_control' (close, ping, pong),
    'ws_lost' (joined in its middle, or damaged: until a frame is recognised), 'ws_cut', 'ws_absurd',
    'ws_inflate_failed'.
    """

    transport = "ws"

    def __init__(self, counters: Counter[str], *, fresh: bool = True) -> None:
        """``fresh``: the stream is seen from its first byte, which is of HTTP."""
        self._counters = counters
        self._buffer = bytearray()
        self._state = "http" if fresh else "lost"
        self._message = bytearray()
        self._compressed = False
        self._inflator = zlib.decompressobj(-15)

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their message, and what is needed to inflate the next one."""
        return len(self._buffer) + len(self._message)

    def feed(self, data: bytes) -> list[Framed]:
        """Take the next bytes; returns the messages that they complete."""
        if self._state in ("other", "lost") and not self._joins(data):
            return []
        self._buffer += data
        if self._state == "http" and not self._handshake():
            return []
        found: list[Framed] = []
        while (header := _header(self._buffer)) is not None and self._state == "frames":
            if not self._sound(header):
                self._lose("ws_absurd")
                break
            if len(self._buffer) < header.at + header.length:
                break
            payload = self._payload(header)
            del self._buffer[: header.at + header.length]
            message = self._frame(header, payload)
            if message is not None:
                found.append(message)
        return found

    def gap(self) -> list[Framed]:
        """Bytes are missing here, or nothing more comes; returns the message that was in hand, cut."""
        if self._state == "frames" and not self._compressed:
            header = _header(self._buffer)
            if header is not None and not header.compressed and header.opcode <= BINARY:
                self._message += self._payload(header)
            in_hand = bytes(self._message)
        else:
            in_hand = b""
        self._lose("ws_lost")
        if not in_hand.strip(b"\r\n\0"):
            return []
        self._counters["ws_cut"] += 1
        return [Framed(in_hand, truncated=True)]

    def _lose(self, counter: str) -> None:
        self._counters[counter] += self._state != "other"
        self._state = "lost" if self._state != "other" else "other"
        self._buffer.clear()
        self._message.clear()
        self._compressed = False

    def _joins(self, data: bytes) -> bool:
        """Whether the first bytes of a segment are where a handshake or a frame of SIP begins."""
        if data.startswith((b"GET ", b"HTTP/1.")):
            self._state = "http"
            return True
        header = _header(data)
        if self._state == "other" or header is None or data[0] not in FIRST_BYTES:
            return False
        if not self._sound(header):
            return False
        text = _unmasked(data[header.at : header.at + min(header.length, 8)], header.mask)
        if not header.compressed and header.opcode <= BINARY and not text.decode("latin-1").isprintable():
            return False
        self._state = "frames"
        return True

    def _handshake(self) -> bool:
        """Read a request or a response; whether frames follow (RFC 6455 section 4, RFC 7118 section 4)."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HANDSHAKE:
                self._buffer.clear()
                self._state = "other"
            return False
        first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        fields = [line.partition(":") for line in lines]
        protocols = [
            protocol.strip().lower()
            for name, _, value in fields
            if name.strip().lower() == "sec-websocket-protocol"
            for protocol in value.split(",")
        ]
        upgrades = any(
            name.strip().lower() == "upgrade" and "websocket" in v.lower() for name, _, v in fields
        )
        switching = first.startswith(("GET ", "HTTP/1.1 101", "HTTP/1.0 101"))
        # A server need not repeat what it was asked for, though the client will not like it.
        spoken = "sip" in protocols or (not protocols and first.startswith("HTTP"))
        if not (upgrades and switching and spoken):
            self._counters["ws_other"] += 1
            self._state = "other"
            self._buffer.clear()
            return False
        self._counters["ws_opened"] += 1
        self._state = "frames"
        self._inflator = zlib.decompressobj(-15)
        del self._buffer[: end + 4]
        return True

    @staticmethod
    def _sound(header: _Header) -> bool:
        control = header.opcode >= CLOSE
        within = header.length <= (125 if control else MAX_MESSAGE)
        # Nobody has a reason for a middle part without a byte, and zeros would be thousands of them.
        empty = header.opcode == CONTINUATION and not header.length and not header.final
        return header.opcode in OPCODES and within and not empty and not (control and not header.final)

    def _payload(self, header: _Header) -> bytes:
        """The payload of the frame that the buffer begins with, or what there is of it."""
        return _unmasked(bytes(self._buffer[header.at : header.at + header.length]), header.mask)

    def _frame(self, header: _Header, payload: bytes) -> Framed | None:
        """The message that a frame completes."""
        if header.opcode >= CLOSE:
            self._counters["ws_control"] += 1
            return None
        if header.opcode != CONTINUATION:
            self._message.clear()
            self._compressed = header.compressed
        self._message += payload
        if len(self._message) > MAX_MESSAGE:
            self._lose("ws_absurd")
            return None
        if not header.final:
            return None
        message: bytes | None = bytes(self._message)
        if self._compressed:
            message = self._inflated(bytes(self._message))
        self._message.clear()
        self._compressed = False
        if message is not None and not message.strip(b"\r\n\0"):
            self._counters["sip_pings"] += 1
            return None
        return Framed(message) if message is not None else None

    def _inflated(self, data: bytes) -> bytes | None:
        try:
            text = self._inflator.decompress(data + FLUSH, MAX_MESSAGE)
        except zlib.error:
            # Joined in its middle: this message needs the ones before it.
            self._counters["ws_inflate_failed"] += 1
            self._inflator = zlib.decompressobj(-15)
            return None
        if self._inflator.unconsumed_tail:
            self._counters["ws_absurd"] += 1
            self._inflator = zlib.decompressobj(-15)
            return None
        if self._inflator.eof:
            # The sender ended its deflate stream; the window goes on all the same (RFC 7692 section 7.2.3.4).
            self._inflator = zlib.decompressobj(-15, zdict=text[-WINDOW:])
        return text


def _header(data: bytes | bytearray) -> _Header | None:
    """The head of the frame that the bytes begin with, if it is all there."""
    if len(data) < 2:
        return None
    short, masked = data[1] & 0x7F, data[1] >> 7
    size = {126: 2, 127: 8}.get(short, 0)
    at = 2 + size + 4 * masked
    if len(data) < at:
        return None
    length = int.from_bytes(data[2 : 2 + size], "big") if size else short
    opcode = data[0] & 0x0F if not data[0] & 0x30 else 0x0F  # RSV2 and RSV3 have no meaning yet
    mask = bytes(data[at - 4 : at]) if masked else b""
    return _Header(bool(data[0] & 0x80), bool(data[0] & 0x40), opcode, mask, at, length)


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    """RFC 6455 section 5.3."""
    if not mask or not payload:
        return payload
    keys = np.resize(np.frombuffer(mask, np.uint8), len(payload))
    return (np.frombuffer(payload, np.uint8) ^ keys).tobytes()
