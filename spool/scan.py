"""Walks over the records of a file by lengths, sequence and running CRC, without any key (docs/format.md,
"What a reader answers").

Pure: the file is a function that reads bytes.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from recorderd.errors import SpoolCorrupt
from recorderd.spool.container import CRC, HEAD, HEAD_BYTES, MAX_RECORD, TAG_BYTES, Kind
from recorderd.spool.crc import crc32
from recorderd.spool.header import FIXED_BYTES, Header, header_length, parse_header

# (offset, length) -> those bytes, fewer only where the file ends.
Read = Callable[[int, int], bytes]

_CHUNK = 1 << 20
# A record's type and its three zero bytes, at 12 in its head. In ciphertext it occurs by chance once in
# 2^30 places.
_TYPE_MARK = rb"[\x01-\x04]\0\0\0"
_TYPE_AT = 12


class RawRecord(NamedTuple):
    """A record whose CRC is right. Nothing in it is authenticated yet."""

    offset: int
    sequence: int
    elapsed_ms: int
    kind: int
    head: bytes
    ciphertext: bytes


def read_header(read: Read) -> Header:
    """The header of a file; raises SpoolCorrupt."""
    length = header_length(read(0, FIXED_BYTES))
    return parse_header(read(0, length))


class Scanner:
    """Iterates over the intact prefix; afterwards ``intact_bytes``, ``records`` and ``elapsed_ms`` tell how
    far it went."""

    def __init__(self, read: Read, size: int, header: Header) -> None:
        self._read = read
        self._size = size
        self._crc = header.crc
        self.intact_bytes = len(header.raw)
        self.records = 0
        self.elapsed_ms = 0
        self.ended = False

    def __iter__(self) -> Iterator[RawRecord]:
        while (record := self._next()) is not None:
            yield record

    def run(self) -> "Scanner":
        """Walk to the end of the intact prefix."""
        while self._next() is not None:
            pass
        return self

    @property
    def tail_bytes(self) -> int:
        """How much stands behind the intact prefix."""
        return self._size - self.intact_bytes

    def damage(self) -> str | None:
        """Why what follows the prefix is no torn tail; None when it may be one. Call after the walk."""
        if self.ended:
            return f"{self.tail_bytes} bytes stand behind the end record" if self.tail_bytes else None
        found = self._record_at(self.intact_bytes)
        if found is not None and HEAD.unpack(found[0])[1] != self.records:
            return f"another record than number {self.records} stands at byte {self.intact_bytes}"
        place = self._later_record()
        if place is not None:
            return f"damaged between byte {self.intact_bytes} and an intact record at byte {place}"
        return None

    def _next(self) -> RawRecord | None:
        if self.ended:
            return None
        at = self.intact_bytes
        found = self._record_at(at)
        if found is None:
            return None
        head, body = found
        length, sequence, elapsed, kind, _ = HEAD.unpack(head)
        ciphertext = body[:length]
        crc = crc32(ciphertext, crc32(head, self._crc))
        if sequence != self.records or crc != CRC.unpack(body[length:])[0]:
            return None
        self._crc = crc
        self.intact_bytes = at + HEAD_BYTES + length + CRC.size
        self.records += 1
        self.elapsed_ms = max(self.elapsed_ms, elapsed)
        self.ended = kind == Kind.END
        return RawRecord(at, sequence, elapsed, kind, head, ciphertext)

    def _record_at(self, at: int) -> tuple[bytes, bytes] | None:
        """Head, and ciphertext with CRC, of what could be a record at this place; None where lengths or
        head cannot be."""
        if self._size - at < HEAD_BYTES + TAG_BYTES + CRC.size:
            return None
        head = self._read(at, HEAD_BYTES)
        if len(head) < HEAD_BYTES:
            return None
        length, _, _, kind, zero = HEAD.unpack(head)
        if kind not in Kind._value2member_map_ or zero != b"\0\0\0":
            return None
        if not TAG_BYTES <= length <= MAX_RECORD or at + HEAD_BYTES + length + CRC.size > self._size:
            return None
        body = self._read(at + HEAD_BYTES, length + CRC.size)
        return (head, body) if len(body) == length + CRC.size else None

    def _later_record(self) -> int | None:
        """Where an intact record stands behind damage. Its CRC goes on from the one that the record before
        it stores."""
        first = self.intact_bytes
        crc = self._crc  # of all bytes up to `at`
        at = first
        while at < self._size:
            chunk = self._read(at, _CHUNK + 2 * HEAD_BYTES)
            for match in re.finditer(_TYPE_MARK, chunk):
                place = at + match.start() - _TYPE_AT
                if first < place < at + _CHUNK and self._follows(place, crc, at):
                    return place
            crc = crc32(chunk[:_CHUNK], crc)
            at += _CHUNK
        return None

    def _follows(self, place: int, crc: int, crc_at: int) -> bool:
        found = self._record_at(place)
        if found is None:
            return False
        head, body = found
        length, sequence = struct.unpack_from("<II", head)
        if sequence <= self.records:
            return False
        stored = self._read(place - CRC.size, CRC.size)
        starts = {CRC.unpack(stored)[0]}
        if place - CRC.size >= crc_at:
            # The damage may be in the stored CRC itself.
            starts.add(crc32(self._read(crc_at, place - CRC.size - crc_at), crc))
        wanted = CRC.unpack(body[length:])[0]
        return any(crc32(body[:length], crc32(head, start)) == wanted for start in starts)


def scan_file(read: Read, size: int) -> tuple[Header, Scanner]:
    """Header and a scanner that has walked the whole prefix; raises SpoolCorrupt when the header is not
    intact."""
    header = read_header(read)
    if size < len(header.raw):
        raise SpoolCorrupt("header: cut short")
    return header, Scanner(read, size, header).run()
