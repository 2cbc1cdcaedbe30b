"""Records of a recording: their layout, sealing and opening, and what the end record says (docs/format.md,
"Records").

Pure: no file, no clock. A writer and a reader hold one :class:`RecordSealer` or :class:`RecordOpener` each.
"""

import hashlib
import json
import struct
from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from recorderd.errors import SpoolCorrupt
from recorderd.spool.crc import crc32
from recorderd.spool.header import Header, Keys

# One packet. Times in microseconds after the record's base time; bit 7 of payload_type is the RTP marker.
PACKET_ROW = np.dtype(
    [
        ("time", "<u4"),
        ("seq", "<u4"),
        ("timestamp", "<u4"),
        ("size", "<u2"),
        ("stream", "u1"),
        ("payload_type", "u1"),
    ]
)
ROW_BYTES = 16
_SIZE_AT = 12
_HIGH_AT = 13
_STREAM_AT = 14

HEAD = struct.Struct("<IIIB3s")
HEAD_BYTES = HEAD.size
CRC = struct.Struct("<I")
TAG_BYTES = 16
TAG = slice(-CRC.size - TAG_BYTES, -CRC.size)  # where it stands in a whole record
MAX_RECORD = 16 * 1024 * 1024
MAX_ELAPSED = 0xFFFF_FFFF
_MEDIA = struct.Struct("<QII")
_REMEMBERED_ROWS = 256  # what is longer is not kept: a file may have records of a million rows
_NO_BYTES = b"\0\0\0"

Rows = NDArray[np.void]


class Kind(IntEnum):
    """The types of records."""

    MEDIA = 1
    EVENT = 2
    INDEX = 3  # reserved
    END = 4


class Media(NamedTuple):
    """An opened media record: base time in microseconds, rows of PACKET_ROW[n], payload u8[total]."""

    base_time_us: int
    rows: Rows
    payload: NDArray[np.uint8]


class SealingRoom:
    """Memory that records are made in, one after another, for whoever makes many: a record, and what it
    opens to again. Used by one thread at a time."""

    __slots__ = ("_again", "_whole", "checked", "length", "opened", "record", "sealed")

    def __init__(self) -> None:
        self._grow(1 << 16)
        self.fit(0)

    def _grow(self, length: int) -> None:
        self._whole = memoryview(bytearray(HEAD_BYTES + length + TAG_BYTES + CRC.size))
        self._again = bytearray(length)

    def fit(self, length: int) -> None:
        """The next record has a plaintext of so many bytes, as nearly all have that follow one another.

        Raises ValueError where that is more than a record may have.
        """
        if length + TAG_BYTES > MAX_RECORD:
            raise ValueError(f"a record of {length + TAG_BYTES} bytes is too long")
        if length > len(self._again):
            self._grow(max(length, 2 * len(self._again)))
        end = HEAD_BYTES + length + TAG_BYTES
        self.length = length
        self.record = self._whole[: end + CRC.size]
        self.checked = self._whole[:end]  # what the CRC runs over
        self.sealed = self._whole[HEAD_BYTES:end]
        self.opened = memoryview(self._again)[:length]

    def agrees(self, plaintext: bytes) -> bool:
        """Whether what was opened is the plaintext."""
        # Strings of bytes compare as memory, views of them byte by byte as numbers.
        return self._again.startswith(plaintext)


class RecordSealer:
    """Seals records one after another: sequence, nonce and running CRC move with each."""

    __slots__ = ("_aes", "_crc", "_header_hash", "_nonce_head", "_nonce_tail", "records")

    def __init__(self, header: Header, keys: Keys) -> None:
        self._aes = AESGCM(keys.record_key)
        self._nonce_head = int.from_bytes(keys.nonce_base[:4], "little")
        self._nonce_tail = keys.nonce_base[4:]
        self._header_hash = header.hash
        self._crc = header.crc
        self.records = 0

    def seal(self, kind: Kind, elapsed_ms: int, plaintext: bytes) -> bytes:
        """One whole record; as :meth:`seal_in` does."""
        return bytes(self.seal_in(SealingRoom(), kind, elapsed_ms, plaintext))

    def seal_in(self, room: SealingRoom, kind: Kind, elapsed_ms: int, plaintext: bytes) -> memoryview:
        """One whole record, in ``room`` until that is used again.

        It is opened again and compared before it is given out, so that a fault of memory or processor cannot
        seal audio that nobody can ever open; raises ArithmeticError then.
        """
        size = len(plaintext)
        if size != room.length:
            room.fit(size)
        record, sealed, aes = room.record, room.sealed, self._aes
        sequence = self.records
        if not 0 <= elapsed_ms <= MAX_ELAPSED:  # the clock may jump; the true times are inside
            elapsed_ms = 0 if elapsed_ms < 0 else MAX_ELAPSED
        head = HEAD.pack(size + TAG_BYTES, sequence, elapsed_ms, kind, _NO_BYTES)
        nonce = (self._nonce_head ^ sequence).to_bytes(4, "little") + self._nonce_tail
        associated = self._header_hash + head
        record[:HEAD_BYTES] = head
        aes.encrypt_into(nonce, plaintext, associated, sealed)
        try:
            aes.decrypt_into(nonce, sealed, associated, room.opened)
        except InvalidTag:
            raise ArithmeticError("a record did not open again") from None
        if not room.agrees(plaintext):
            raise ArithmeticError("a record did not open to what was sealed")
        self._crc = crc = crc32(room.checked, self._crc)
        self.records = sequence + 1
        CRC.pack_into(record, HEAD_BYTES + size + TAG_BYTES, crc)
        return record


class RecordOpener:
    """Opens records; the order is the scanner's business, the sequence is authenticated here."""

    __slots__ = ("_aes", "_header_hash", "_nonce_head", "_nonce_tail")

    def __init__(self, header: Header, keys: Keys) -> None:
        self._aes = AESGCM(keys.record_key)
        self._nonce_head = int.from_bytes(keys.nonce_base[:4], "little")
        self._nonce_tail = keys.nonce_base[4:]
        self._header_hash = header.hash

    def open(self, head: bytes, ciphertext: bytes) -> bytes:
        """The plaintext; raises SpoolCorrupt when the record is not what was sealed here."""
        sequence = int.from_bytes(head[4:8], "little")
        nonce = (self._nonce_head ^ sequence).to_bytes(4, "little") + self._nonce_tail
        try:
            return self._aes.decrypt(nonce, ciphertext, self._header_hash + head)
        except InvalidTag:
            raise SpoolCorrupt(f"record {sequence} does not authenticate") from None


def pack_media(base_time_us: int, rows: bytes, payload: bytes | memoryview) -> bytes:
    """The plaintext of a media record from raw rows (16 bytes each) and their payload."""
    return b"".join((_MEDIA.pack(base_time_us, len(rows) // ROW_BYTES, len(payload)), rows, payload))


def unpack_media(plaintext: bytes) -> Media:
    """Raises SpoolCorrupt when lengths, sizes or the order of streams do not fit."""
    if len(plaintext) < _MEDIA.size:
        raise SpoolCorrupt("a media record is too short")
    base, count, size = _MEDIA.unpack_from(plaintext)
    if _MEDIA.size + count * ROW_BYTES + size != len(plaintext):
        raise SpoolCorrupt("a media record has wrong lengths")
    rows = np.frombuffer(plaintext, PACKET_ROW, count, _MEDIA.size)
    payload = np.frombuffer(plaintext, np.uint8, size, _MEDIA.size + count * ROW_BYTES)
    if int(rows["size"].sum(dtype=np.int64)) != size:
        raise SpoolCorrupt("a media record's sizes do not add up")
    return Media(base, rows, payload)


# What is told here is made for it, and never contains itself.
_TO_JSON = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
).encode


def json_plaintext(value: dict[str, Any]) -> bytes:
    """The plaintext of an event or end record. Raises ValueError for what JSON cannot hold (NaN among it)."""
    return _TO_JSON(value).encode("utf-8")


def parse_json(plaintext: bytes) -> dict[str, Any]:
    """The object of an event or end record."""
    try:
        value = json.loads(plaintext)
    except (ValueError, RecursionError):
        raise SpoolCorrupt("a record is not JSON") from None
    if not isinstance(value, dict):
        raise SpoolCorrupt("a record is not a JSON object")
    return value


class Run(NamedTuple):
    """The rows of one stream in a media record: how many, the bytes of their payload, and where the raw rows
    stand (from byte ``first`` to ``last``)."""

    stream: int
    packets: int
    payload_bytes: int
    first: int
    last: int


Even = tuple[bytes, int]
"""Of rows whose payloads are all of one size: the stream of each row, and that size."""


def runs_of(rows: bytes, payload_bytes: int, even: Even | None = None) -> tuple[Run, ...]:
    """Which rows of a media record are whose. ``rows`` is raw (16 bytes each), ``even`` what is known of it.

    Raises ValueError when the rows are not sorted by stream or their sizes do not add up to
    ``payload_bytes``.
    """
    if even is None or len(even[0]) > _REMEMBERED_ROWS:
        # Strings of bytes find borders and sizes some ten times faster than NumPy does for 100 rows.
        streams, low, high = rows[_STREAM_AT::ROW_BYTES], rows[_SIZE_AT::ROW_BYTES], rows[_HIGH_AT::ROW_BYTES]
        count = len(streams)
        same = low == low[:1] * count and high == high[:1] * count
        even = (streams, low[0] | high[0] << 8) if same and 0 < count <= _REMEMBERED_ROWS else None
    runs, total = _by_stream(streams, low, high) if even is None else _of_one_size(*even)
    if total != payload_bytes or (even is not None and len(even[0]) * ROW_BYTES != len(rows)):
        raise ValueError("the sizes of the rows do not add up to the payload")
    return runs


def _by_stream(streams: bytes, low: bytes, high: bytes) -> tuple[tuple[Run, ...], int]:
    """The runs, and the bytes of all payload, from the streams and the two bytes of the sizes of all rows."""
    count = len(streams)
    long = high.count(0) < count
    runs = []
    row = total = 0
    before = -1
    while row < count:
        stream = streams[row]
        last = streams.rindex(stream) + 1
        if stream <= before or streams.count(stream, row, last) != last - row:
            raise ValueError("rows are not sorted by stream")
        size = sum(low[row:last]) + (sum(high[row:last]) << 8 if long else 0)
        runs.append(Run(stream, last - row, size, row * ROW_BYTES, last * ROW_BYTES))
        row, before, total = last, stream, total + size
    return tuple(runs), total


@lru_cache(maxsize=256)
def _of_one_size(streams: bytes, size: int) -> tuple[tuple[Run, ...], int]:
    """The same where all packets are of one size: as a rule a second then is laid out as the one before, and
    most calls alike."""
    count = len(streams)
    return _by_stream(streams, bytes([size & 0xFF]) * count, bytes([size >> 8]) * count)


class _Stream:
    """What one stream got."""

    __slots__ = ("digest", "packets", "payload_bytes")

    def __init__(self) -> None:
        self.packets = self.payload_bytes = 0
        self.digest = hashlib.sha256()


class StreamTally:
    """Counts and hashes what each stream got; the writer puts it into the end record, a reader compares."""

    __slots__ = ("_streams",)

    def __init__(self) -> None:
        self._streams: dict[int, _Stream] = {}

    def add(self, rows: bytes, runs: Iterable[Run], tag: bytes) -> None:
        """Add a media record: its raw rows, whose they are (:func:`runs_of`), and the tag that it was sealed
        with, which stands for the payload."""
        for stream, packets, payload_bytes, first, last in runs:
            tally = self._streams.get(stream)
            if tally is None:
                tally = self._streams[stream] = _Stream()
            tally.packets += packets
            tally.payload_bytes += payload_bytes
            tally.digest.update(rows[first:last] + tag)

    def figures(self) -> list[dict[str, Any]]:
        """The ``streams`` list of the end record."""
        return [
            {
                "stream": number,
                "packets": stream.packets,
                "payload_bytes": stream.payload_bytes,
                "sha256": stream.digest.hexdigest(),
            }
            for number, stream in sorted(self._streams.items())
        ]


def end_plaintext(
    records: int, refused_packets: int, tally: StreamTally, summary: dict[str, Any] | bytes
) -> bytes:
    """The plaintext of the end record after ``records`` records; ``summary`` may be given as its JSON."""
    figures = {"records": records, "refused_packets": refused_packets, "streams": tally.figures()}
    told = summary if isinstance(summary, bytes) else json_plaintext(summary)
    # The summary is the last in order of the keys, and the longest: it is put into JSON once.
    return b"".join((json_plaintext(figures)[:-1], b',"summary":', told, b"}"))


def check_end(end: dict[str, Any], records: int, tally: StreamTally) -> list[str]:
    """What the end record says otherwise than what was read; empty when all agrees."""
    problems = []
    if end.get("records") != records:
        problems.append(f"the end record counts {end.get('records')} records, there are {records}")
    if end.get("streams") != tally.figures():
        problems.append("the end record's streams are not those that were read")
    if not isinstance(end.get("summary"), dict):
        problems.append("the end record has no summary")
    return problems
