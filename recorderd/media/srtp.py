"""Opens SRTP and SRTCP with keys from signalling: AES counter mode with HMAC-SHA1 (RFC 3711, RFC 6188) and
AES-GCM (RFC 7714).

A stream's packets of a window are opened together. The key stream of all of them is one call of AES: each
counter block is a row of a matrix. Authentication is one call a packet, with states of the hash that already
have the key in them.
"""

import hashlib
import hmac
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from recorderd.wire.sdes import SUITES, Crypto, MasterKey

BLOCK: Final = 16
GCM_TAG: Final = 16
RTCP_TAG: Final = 10
"""Of SRTCP, with the suites of 32 bits too (RFC 4568 section 6.2.2, RFC 6188 section 4)."""
ROC_BYTES: Final = 4
#: Labels of the key derivation (RFC 3711 section 4.3.2): of the key, the authentication key and the salt.
RTP_LABELS: Final = (0, 1, 2)
RTCP_LABELS: Final = (3, 4, 5)

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sealed:
    """SRTP packets of one stream in columns: ``data`` (n, width) has whole packets from the RTP header on,
    ``size`` (n) bytes each; ``header`` (n) is how long header, CSRCs and extension are.
    """

    data: Bytes
    size: NDArray[np.int32]
    header: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.size)

    def select(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "Sealed":
        """The given packets, in the given order."""
        return Sealed(self.data[which], self.size[which], self.header[which])

    @property
    def seq(self) -> NDArray[np.int64]:
        """The sequence numbers on the wire."""
        return self.data[:, 2].astype(np.int64) << 8 | self.data[:, 3]


class Opened(NamedTuple):
    """What was opened: ``good`` (n) says which packets authenticate; of those, the first ``size`` (n) bytes
    of ``payload`` (n, width) are what was said, without padding.
    """

    good: NDArray[np.bool_]
    size: NDArray[np.int32]
    payload: Bytes


def header_lengths(data: Bytes, size: NDArray[np.int32]) -> NDArray[np.int32]:
    """How long the headers of RTP packets (n, width), each of 12 bytes or more, are with CSRCs and extension
    (RFC 3550 sections 5.1 and 5.3.1); longer than the packet where they do not fit.
    """
    first = data[:, 0]
    length = 12 + 4 * (first & 0x0F).astype(np.int32)
    extended = np.flatnonzero((first & 0x10 != 0) & (length + 4 <= size))
    at = length[extended]
    words = data[extended, at + 2].astype(np.int32) << 8 | data[extended, at + 3]
    length[extended] += 4 + 4 * words
    return length


class SrtpKey:
    """One master key at work: opens the packets of any stream that was sealed with it."""

    def __init__(self, crypto: Crypto, key: MasterKey) -> None:
        """Of a crypto attribute with a suite out of `SUITES`, and one of its keys."""
        length, _ = SUITES[crypto.suite]
        raw = key.secret.reveal()
        master, salt = raw[:length], raw[length:].ljust(14, b"\0")  # RFC 7714 section 11: 96 bits, then zeros
        self.suite, self.gcm = crypto.suite, crypto.suite.startswith("AEAD")
        self.encrypted = crypto.encrypted
        self.mki = len(key.mki)
        self.tag = GCM_TAG if self.gcm else (4 if crypto.suite.endswith("32") else 10)
        self._master, self._salt = master, salt
        self._rtp = self._session(RTP_LABELS)

    def __repr__(self) -> str:
        return f"SrtpKey({self.suite})"

    def _session(self, labels: tuple[int, int, int]) -> "SessionKeys":
        lengths = (len(self._master), 20, 12 if self.gcm else 14)
        keys = (
            derived(self._master, self._salt, label, length)
            for label, length in zip(labels, lengths, strict=True)
        )
        return SessionKeys(*keys)

    @cached_property
    def _rtcp(self) -> "SessionKeys":
        return self._session(RTCP_LABELS)

    def open(self, packets: Sealed, index: NDArray[np.int64]) -> Opened:
        """Open packets by their index, which is roll-over counter << 16 | sequence number (RFC 3711 section
        3.3.1). A wrong guess does not authenticate.
        """
        # What lies between header and trailer; GCM's tag is a part of what it encrypts.
        end = packets.size - np.int32(self.mki + (0 if self.gcm else self.tag))
        coded = end - packets.header - np.int32(GCM_TAG if self.gcm else 0)
        good = coded >= 0
        width = int(coded.max(initial=0))
        payload = np.zeros((len(packets), max(width, 0)), np.uint8)
        if good.any():
            open_all = self._open_gcm if self.gcm else self._open_cm
            open_all(packets, index, end, coded, good, payload)
        return Opened(good, _without_padding(packets, coded, good, payload), payload)

    def _open_cm(
        self,
        packets: Sealed,
        index: NDArray[np.int64],
        end: NDArray[np.int32],
        coded: NDArray[np.int32],
        good: NDArray[np.bool_],
        payload: Bytes,
    ) -> None:
        good &= self._rtp.authentic(
            packets.data, end, (index >> 16).astype(">u4"), packets.size, self.tag, good
        )
        _gather(packets, payload)
        if self.encrypted and payload.shape[1] and good.any():
            payload ^= self._rtp.key_stream(
                packet_ivs(self._rtp.salt, packets.data[:, 8:12], index), payload.shape[1]
            )

    def _open_gcm(
        self,
        packets: Sealed,
        index: NDArray[np.int64],
        end: NDArray[np.int32],
        coded: NDArray[np.int32],
        good: NDArray[np.bool_],
        payload: Bytes,
    ) -> None:
        """RFC 7714 section 8: the nonce is SSRC and index, what is authenticated beside is the header."""
        nonces = packet_ivs(self._rtp.salt, packets.data[:, 8:12], index)[:, 2:14].tobytes()
        rows, width = memoryview(packets.data.tobytes()), packets.data.shape[1]
        for at in np.flatnonzero(good).tolist():
            row = rows[at * width : (at + 1) * width]
            head, last, nonce = int(packets.header[at]), int(end[at]), nonces[at * 12 : at * 12 + 12]
            try:
                if self.encrypted:
                    plain = self._rtp.aead.decrypt(nonce, row[head:last], row[:head])
                else:
                    self._rtp.aead.decrypt(nonce, row[last - GCM_TAG : last], row[: last - GCM_TAG])
                    plain = row[head : last - GCM_TAG].tobytes()
            except InvalidTag:
                good[at] = False
                continue
            payload[at, : len(plain)] = np.frombuffer(plain, np.uint8)

    def open_rtcp(self, packet: bytes) -> bytes | None:
        """Open an SRTCP packet (RFC 3711 section 3.4, RFC 7714 section 9); None if it is not authentic."""
        plain: bytes
        data = np.frombuffer(packet, np.uint8)
        trailer = 4 + self.mki + (0 if self.gcm else RTCP_TAG)
        if len(packet) < 8 + trailer + (GCM_TAG if self.gcm else 0):
            return None
        # The index stands behind what is encrypted, with GCM behind its tag.
        end = len(packet) - trailer
        word = packet[end : end + 4]
        encrypted, index = word[0] >> 7, int.from_bytes(word, "big") & 0x7FFFFFFF
        iv = packet_ivs(self._rtcp.salt, data[None, 4:8], np.array([index], np.int64))
        if self.gcm:
            nonce, head = iv[0, 2:14].tobytes(), 8 if encrypted else end - GCM_TAG
            try:
                plain = self._rtcp.aead.decrypt(nonce, packet[head:end], packet[:head] + word)
            except InvalidTag:
                return None
            return packet[:head] + plain
        tag = hmac.digest(self._rtcp.auth, packet[: end + 4], "sha1")[:RTCP_TAG]
        if not hmac.compare_digest(tag, packet[-RTCP_TAG:]):
            return None
        if not encrypted or end == 8:
            return packet[:end]
        plain = (data[8:end] ^ self._rtcp.key_stream(iv, end - 8)[0]).tobytes()
        return packet[:8] + plain


class SessionKeys:
    """The keys that one master key gives for SRTP, or for SRTCP."""

    def __init__(self, key: bytes, auth: bytes, salt: bytes) -> None:
        """``auth`` is not used with GCM, whose ``salt`` is of 12 bytes, else of 14."""
        self.auth = auth
        # GCM's salt stands where its nonce does (RFC 7714 section 8.1).
        self.salt = np.frombuffer(salt.rjust(14, b"\0") + b"\0\0", np.uint8)
        self.aead = AESGCM(key)
        self._blocks = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - counter blocks
        padded = np.frombuffer(auth.ljust(64, b"\0"), np.uint8)  # RFC 2104, its two passes begun
        self._inner, self._outer = (
            hashlib.sha1((padded ^ np.uint8(pad)).tobytes())  # noqa: S324 - the suites' own
            for pad in (0x36, 0x5C)
        )

    def key_stream(self, ivs: Bytes, width: int) -> Bytes:
        """AES counter mode from each of the IVs (n, 16), ``width`` bytes (n, width) of it (RFC 3711 section
        4.1.1).
        """
        count = -(-width // BLOCK)
        blocks = np.repeat(ivs[:, None, :], count, axis=1)
        number = np.arange(count)
        blocks[:, :, 14], blocks[:, :, 15] = number >> 8, number & 0xFF
        stream = np.frombuffer(self._blocks.update(blocks.tobytes()), np.uint8)
        return stream.reshape(len(ivs), count * BLOCK)[:, :width]

    def authentic(
        self,
        data: Bytes,
        end: NDArray[np.int32],
        roc: NDArray[np.uint32],
        size: NDArray[np.int32],
        tag: int,
        which: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Which packets have the tag of what comes before it and of the roll-over counter (RFC 3711 section
        4.2): HMAC (RFC 2104) of the first ``end`` bytes, its first bytes at the packet's end.
        """
        places = np.flatnonzero(which)
        rows, stops = data[places], end[places]
        within = np.arange(len(places))[:, None]
        tags = rows[within, (size[places] - tag)[:, None] + np.arange(tag)].tobytes()
        # The counter takes the place of what follows in the packet: what is hashed stands together.
        rows[within, stops[:, None] + np.arange(ROC_BYTES)] = (
            roc[places].view(np.uint8).reshape(-1, ROC_BYTES)
        )
        whole, width = rows.reshape(-1).data, rows.shape[1]
        starts = range(0, len(places) * width, width)
        inner, outer, found = self._inner.copy, self._outer.copy, []
        for start, stop in zip(starts, (stops + ROC_BYTES).tolist(), strict=True):
            first, second = inner(), outer()
            first.update(whole[start : start + stop])
            second.update(first.digest())
            found.append(second.digest()[:tag])
        equal = np.frombuffer(b"".join(found), np.uint8) == np.frombuffer(tags, np.uint8)
        good = np.zeros(len(data), np.bool_)
        good[places] = equal.reshape(len(places), tag).all(axis=1)
        return good


def derived(master: bytes, salt: bytes, label: int, length: int) -> bytes:
    """RFC 3711 section 4.3.1, with a key derivation rate of 0; RFC 6188 section 3 for longer keys."""
    start = bytearray(salt + b"\0\0")
    start[7] ^= label
    stream = Cipher(algorithms.AES(master), modes.CTR(bytes(start))).encryptor()
    return stream.update(bytes(length))


def packet_ivs(salt: Bytes, ssrc: Bytes, index: NDArray[np.int64]) -> Bytes:
    """salt * 2^16 XOR SSRC * 2^64 XOR index * 2^16 (RFC 3711 section 4.1.1), for each packet: (n, 16)."""
    ivs = np.repeat(salt[None, :], len(index), axis=0)
    ivs[:, 4:8] ^= ssrc
    ivs[:, 8:14] ^= index.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
    return ivs


def _gather(packets: Sealed, payload: Bytes) -> None:
    """What is behind the headers, into ``payload``."""
    width = payload.shape[1]
    for head in np.unique(packets.header).tolist():
        which = np.flatnonzero(packets.header == head)
        part = packets.data[which, head : head + width]
        payload[which, : part.shape[1]] = part


def _without_padding(
    packets: Sealed, coded: NDArray[np.int32], good: NDArray[np.bool_], payload: Bytes
) -> NDArray[np.int32]:
    """The payloads' sizes without the padding that the header tells of (RFC 3550 section 5.1)."""
    size = np.maximum(coded, 0).astype(np.int32)
    padded = np.flatnonzero(good & (packets.data[:, 0] & 0x20 != 0) & (size > 0))
    count = payload[padded, size[padded] - 1].astype(np.int32)
    size[padded] -= np.where(count <= size[padded], count, 0)
    return size


def unwrapped(packets: Sealed) -> Opened:
    """What plain RTP packets carry, taken out of them as it is taken out of SRTP."""
    coded = packets.size - packets.header
    good = coded >= 0
    payload = np.zeros((len(packets), max(0, int(coded.max(initial=0)))), np.uint8)
    _gather(packets, payload)
    size = _without_padding(packets, coded, good, payload)
    padded = good & (packets.data[:, 0] & 0x20 != 0)
    # Too much padding is none in SRTP whose sender erred; here it is no RTP (RFC 3550 section A.1).
    good &= ~padded | (coded == 0) | (size < coded) | (_last(payload, coded) == 0)
    return Opened(good, size, payload)


def _last(payload: Bytes, size: NDArray[np.int32]) -> Bytes:
    """The last byte of each payload, 0 of empty ones."""
    if not payload.shape[1]:
        return np.zeros(len(size), np.uint8)
    last: Bytes = np.where(size > 0, payload[np.arange(len(size)), np.maximum(size - 1, 0)], 0)
    return last


def sealed_of(packets: list[bytes]) -> Sealed:
    """Whole packets of at least 12 bytes each, of one stream, in columns."""
    size = np.array([len(packet) for packet in packets], np.int32)
    data = np.zeros((len(packets), int(size.max(initial=12))), np.uint8)
    for row, packet in zip(data, packets, strict=True):
        row[: len(packet)] = np.frombuffer(packet, np.uint8)
    return Sealed(data, size, header_lengths(data, size))
