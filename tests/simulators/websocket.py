"""What the ends of a WebSocket of SIP send (RFC 6455, RFC 7118)."""

import struct

_KEY, _ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3

REQUEST = (
    "GET / HTTP/1.1\r\nHost: pbx.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
).encode()
RESPONSE = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {_ACCEPT}\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
).encode()


def frame(
    payload: bytes, *, mask: bytes = b"", opcode: int = 1, final: bool = True, compressed: bool = False
) -> bytes:
    """One frame; clients mask theirs with four bytes."""
    first = final << 7 | compressed << 6 | opcode
    masked = 0x80 if mask else 0
    if len(payload) < 126:
        head = struct.pack(">BB", first, masked | len(payload))
    elif len(payload) < 65536:
        head = struct.pack(">BBH", first, masked | 126, len(payload))
    else:
        head = struct.pack(">BBQ", first, masked | 127, len(payload))
    if mask:
        payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return head + mask + payload
