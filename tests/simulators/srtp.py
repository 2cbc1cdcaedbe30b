"""Seals RTP packets as a telephone does: SRTP written a second time, packet by packet, from the RFCs.

libsrtp (pylibsrtp, where it is installed) is the judge of this one too; it knows four of the eight suites.
"""

import base64
import hashlib
import hmac
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: Suites that pylibsrtp knows, and its numbers for them.
SIMPLE = {
    "AES_CM_128_HMAC_SHA1_80": 1,
    "AES_CM_128_HMAC_SHA1_32": 2,
    "AEAD_AES_128_GCM": 7,
    "AEAD_AES_256_GCM": 8,
}


def crypto_line(suite: str, secret: bytes, mki: str = "", *, tag: int = 1, session: str = "") -> str:
    """The value of an `a=crypto` attribute."""
    key = base64.b64encode(secret).decode() + (f"|2^31|{mki}" if mki else "")
    return f"{tag} {suite} inline:{key} {session}".strip()


def rtp(
    seq: int, payload: bytes, *, csrcs: int = 0, extension: bytes | None = None, padding: int = 0
) -> bytes:
    """An RTP packet of SSRC 0x11223344."""
    first = 0x80 | (0x20 if padding else 0) | (0x10 if extension is not None else 0) | csrcs
    head = struct.pack(">BBHII", first, 0, seq, seq * 160, 0x11223344) + bytes(range(4 * csrcs))
    if extension is not None:
        head += struct.pack(">HH", 0xBEDE, len(extension) // 4) + extension
    return head + payload + (bytes(padding - 1) + bytes([padding]) if padding else b"")


class Sealer:
    """One master key of one sender; ``mki`` is written as in SDP (`1:4`)."""

    def __init__(self, suite: str, secret: bytes, mki: str = "", *, encrypted: bool = True) -> None:
        self.suite, self.encrypted = suite, encrypted
        value, _, length = mki.partition(":")
        self.mki = int(value).to_bytes(int(length), "big") if mki else b""
        self.gcm = suite.startswith("AEAD")
        master, salt = (secret[:-12], secret[-12:] + b"\0\0") if self.gcm else (secret[:-14], secret[-14:])
        self.key = _derive(master, salt, 0, len(master))
        self.auth = _derive(master, salt, 1, 20)
        self.salt = _derive(master, salt, 2, 12 if self.gcm else 14)

    def seal(self, packet: bytes, roc: int) -> bytes:
        """An RTP packet as SRTP."""
        head = 12 + 4 * (packet[0] & 15)
        if packet[0] & 0x10:
            head += 4 + 4 * int.from_bytes(packet[head + 2 : head + 4], "big")
        seq, ssrc = packet[2:4], packet[8:12]
        if self.gcm:
            nonce = _xor(b"\0\0" + ssrc + roc.to_bytes(4, "big") + seq, self.salt)
            return packet[:head] + AESGCM(self.key).encrypt(nonce, packet[head:], packet[:head]) + self.mki
        iv = _xor(bytes(4) + ssrc + roc.to_bytes(4, "big") + seq, self.salt) + b"\0\0"
        body = packet[head:]
        if self.encrypted:
            body = Cipher(algorithms.AES(self.key), modes.CTR(iv)).encryptor().update(body)
        sealed = packet[:head] + body
        tag = hmac.digest(self.auth, sealed + roc.to_bytes(4, "big"), "sha1")
        return sealed + self.mki + tag[: 4 if self.suite.endswith("32") else 10]


def _derive(master: bytes, salt: bytes, label: int, length: int) -> bytes:
    iv = _xor(salt, bytes([0] * 7 + [label] + [0] * 6)) + b"\0\0"
    return Cipher(algorithms.AES(master), modes.CTR(iv)).encryptor().update(bytes(length))


def _xor(one: bytes, two: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, two, strict=True))


@dataclass
class Secured:
    """How a capture of plain calls is made one of SRTP, each host with keys of its own.

    At each of ``rekeyed_ns`` every host takes a new key into use: what it says of itself from then on
    announces it, and ``lag_ns`` later its packets have it. ``lies`` are the hosts that announce another key
    than they use, ``offers`` crypto attributes that come before. ``since_ns`` is when packets begin to be
    sealed, ``first_seq`` the number of the first of each stream, ``first_roc`` how often numbers have wrapped
    before.
    """

    suite: str = "AES_CM_128_HMAC_SHA1_80"
    mki: str = ""
    protocol: str = "RTP/SAVP"
    rekeyed_ns: tuple[int, ...] = ()
    lag_ns: int = 30_000_000
    lies: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()  #: hosts that announce no key
    offers: tuple[str, ...] = ()
    session: str = ""
    first_roc: int = 0
    first_seq: int | None = None
    only: frozenset[str] = frozenset()  #: hosts whose calls are SRTP, all where there is none
    since_ns: int = 0
    until_ns: int = 1 << 62
    attributes: tuple[str, ...] = ()  #: further lines of the description
    adorned: bool = False  #: packets have a CSRC, a header extension and padding
    _sealers: dict[tuple[str, int], Sealer] = field(default_factory=dict)
    _highest: dict[bytes, int] = field(default_factory=dict)
    _shifts: dict[bytes, int] = field(default_factory=dict)

    def secret(self, host: str, generation: int, *, true: bool = True) -> bytes:
        """A host's master key and salt, or what it says in their place."""
        digest = hashlib.sha512(f"{host}/{generation}/{true}".encode()).digest()
        return digest[: _secret_length(self.suite)]

    def write(self, plain: Path, sealed: Path) -> Path:
        """Rewrite a capture (pcap, Ethernet, IPv4, UDP)."""
        data = plain.read_bytes()
        out, at = [data[:24]], 24
        while at < len(data):
            seconds, rest, caplen, _ = struct.unpack_from("<IIII", data, at)
            frame = data[at + 16 : at + 16 + caplen]
            frame = self._frame(frame, seconds * 1_000_000_000 + rest)
            out.append(struct.pack("<IIII", seconds, rest, len(frame), len(frame)) + frame)
            at += 16 + caplen
        sealed.write_bytes(b"".join(out))
        return sealed

    def _frame(self, frame: bytes, time_ns: int) -> bytes:
        host = socket.inet_ntoa(frame[26:30])
        if self.only and not self.only & {host, socket.inet_ntoa(frame[30:34])}:
            return frame
        payload = frame[42 : 34 + int.from_bytes(frame[38:40], "big")]
        if 5060 in struct.unpack(">HH", frame[34:38]):
            payload = self._signalling(payload, host, time_ns)
        elif payload[0] >> 6 == 2 and self.since_ns <= time_ns - self.lag_ns < self.until_ns:
            payload = self._media(payload, host, time_ns)
        size = struct.pack(">H", len(payload) + 8)
        total = struct.pack(">H", len(payload) + 28)
        return frame[:16] + total + frame[18:38] + size + frame[40:42] + payload

    def _generation(self, time_ns: int) -> int:
        return sum(time_ns >= when for when in self.rekeyed_ns)

    def _signalling(self, message: bytes, host: str, time_ns: int) -> bytes:
        head, _, body = message.partition(b"\r\n\r\n")
        if b"m=audio" not in body or (
            self.since_ns < 1 << 62 and not self.since_ns <= time_ns < self.until_ns
        ):
            return message
        key = self.secret(host, self._generation(time_ns), true=host not in self.lies)
        lines = list(self.offers)
        if host not in self.silent:
            lines.append(crypto_line(self.suite, key, self.mki, tag=len(lines) + 1, session=self.session))
        written = [*(f"a=crypto:{line}" for line in lines), *self.attributes]
        attributes = "".join(f"{line}\r\n" for line in written).encode()
        body = body.replace(b"RTP/AVP", self.protocol.encode()).replace(b"a=ptime", attributes + b"a=ptime")
        head = b"\r\n".join(
            b"Content-Length: %d" % len(body) if line.startswith(b"Content-Length") else line
            for line in head.split(b"\r\n")
        )
        return head + b"\r\n\r\n" + body

    def _media(self, packet: bytes, host: str, time_ns: int) -> bytes:
        generation = self._generation(time_ns - self.lag_ns)
        sealer = self._sealers.get((host, generation))
        if sealer is None:
            encrypted = "UNENCRYPTED_SRTP" not in self.session
            sealer = Sealer(self.suite, self.secret(host, generation), self.mki, encrypted=encrypted)
            self._sealers[host, generation] = sealer
        seq = int.from_bytes(packet[2:4], "big")
        stream = packet[8:12] + host.encode()
        if self.first_seq is not None:
            seq = seq + self._shifts.setdefault(stream, self.first_seq - seq) & 0xFFFF
        highest = self._highest.setdefault(stream, self.first_roc << 16 | seq)
        index = highest + ((seq - highest + 0x8000 & 0xFFFF) - 0x8000)
        self._highest[stream] = max(highest, index)
        packet = packet[:2] + seq.to_bytes(2, "big") + packet[4:]
        if self.adorned:
            head = bytes([packet[0] | 0x31]) + packet[1:12]
            packet = head + b"csrc" + struct.pack(">HHI", 0xBEDE, 1, 7) + packet[12:] + b"\0\0\0\4"
        return sealer.seal(packet, index >> 16)


def _secret_length(suite: str) -> int:
    if suite.startswith("AEAD"):
        return 44 if "256" in suite else 28
    return 46 if "256" in suite else 38 if "192" in suite else 30
