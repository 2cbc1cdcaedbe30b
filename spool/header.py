"""The header of a recording and the key schedule that hangs on it (docs/format.md, "The header").

Pure: bytes in, values out. The random parts (data key, salt) are arguments.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from recorderd.errors import SpoolCorrupt
from recorderd.spool.canonical import canonical_json
from recorderd.spool.crc import crc32

# As PNG's: a byte above 127, a carriage return with a line feed, and an end of file show what a text-mode
# transfer did to a file.
MAGIC = b"\x89REC\r\n\x1a\n"
# The version tells where the key slots are: in the header itself, or detached in a file beside it, which can
# be destroyed where the recording cannot.
SELF_CONTAINED = 1
DETACHED = 2
SUITE = "aes-256-gcm hkdf-sha256"
DATA_KEY_BYTES = 32
MAX_HEADER = 65_536
MAX_CORE = 4_096
MAX_SLOTS = 32

_FIXED = struct.Struct("<8sHHII")
_SLOT = struct.Struct("<16sHH")
_CRC = struct.Struct("<I")
_DIGEST = 32
FIXED_BYTES = _FIXED.size


class Previous(NamedTuple):
    """The segment of the same call before this one: its id, its segment number, and the SHA-256 (hex) of
    its whole file."""

    recording: str
    segment: int
    sha256: str


class Core(NamedTuple):
    """What a recording is; bound to all its bytes."""

    recording: str
    host: str
    started_us: int
    previous: Previous | None = None

    @property
    def segment(self) -> int:
        """0 for the first segment of a call."""
        return 0 if self.previous is None else self.previous.segment + 1

    @property
    def previous_json(self) -> dict[str, str] | None:
        """``previous`` as it stands in core and manifest."""
        if self.previous is None:
            return None
        return {"recording": self.previous.recording, "sha256": self.previous.sha256}

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            {
                "host": self.host,
                "previous": self.previous_json,
                "recording": self.recording,
                "segment": self.segment,
                "started_us": self.started_us,
                "suite": SUITE,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Core":
        """Raises SpoolCorrupt for anything but what :meth:`to_bytes` writes, so that one core has one
        spelling."""
        try:
            value = json.loads(data)
            before = value["previous"]
            previous = None
            if before is not None:
                segment = _typed(value["segment"], int) - 1
                previous = Previous(_typed(before["recording"], str), segment, _typed(before["sha256"], str))
            core = cls(
                recording=_typed(value["recording"], str),
                host=_typed(value["host"], str),
                started_us=_typed(value["started_us"], int),
                previous=previous,
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SpoolCorrupt(f"header: the core is not readable ({type(error).__name__})") from None
        if previous is not None and previous.segment < 0:
            raise SpoolCorrupt("header: the first segment has no previous one")
        if value.get("suite") != SUITE:
            raise SpoolCorrupt(f"header: unknown suite {value.get('suite')!r}")
        if core.to_bytes() != data:
            raise SpoolCorrupt("header: the core is not canonical")
        return core


class KeySlot(NamedTuple):
    """The data key, wrapped for one recipient. ``key_id`` has 16 bytes, ``kem`` is the number of the HPKE
    registry."""

    key_id: bytes
    kem: int
    wrapped: bytes


class Header(NamedTuple):
    """A parsed or built header; ``raw`` is all its bytes."""

    core: Core
    salt: bytes
    commitment: bytes
    slots: tuple[KeySlot, ...]
    raw: bytes

    @property
    def detached(self) -> bool:
        """The key slots are in a file of their own; ``slots`` is empty."""
        return not self.slots

    @property
    def hash(self) -> bytes:
        """SHA-256 of the whole header; part of every record's additional data."""
        return hashlib.sha256(self.raw).digest()

    @property
    def crc(self) -> int:
        """The checksum at the header's end, from which the records' running CRC starts."""
        return int(_CRC.unpack(self.raw[-4:])[0])

    @property
    def wrap_info(self) -> bytes:
        """The ``info`` that bound the wrapped keys to this core."""
        return wrap_info(self.core.to_bytes(), self.salt, self.commitment)


class Keys(NamedTuple):
    """What a data key becomes: AES-256 key, 12-byte nonce base, 32-byte commitment."""

    record_key: bytes
    nonce_base: bytes
    commitment: bytes


def derive_keys(data_key: bytes, salt: bytes, core: bytes) -> Keys:
    """The key schedule: HKDF-SHA256 (RFC 5869) from data key, salt and core."""
    core_hash, sha256 = hashlib.sha256(core).digest(), SHA256()
    extracted = HKDF.extract(sha256, salt, data_key)  # the first step, the same for all three

    def derive(label: bytes, length: int) -> bytes:
        return HKDFExpand(sha256, length, label + core_hash).derive(extracted)

    return Keys(
        record_key=derive(b"recorderd/1 record key", 32),
        nonce_base=derive(b"recorderd/1 record nonce", 12),
        commitment=derive(b"recorderd/1 commitment", _DIGEST),
    )


def wrap_info(core: bytes, salt: bytes, commitment: bytes) -> bytes:
    """The ``info`` of HPKE that binds a wrapped key to one recording."""
    return b"recorderd/1 data key" + hashlib.sha256(core + salt + commitment).digest()


# Called with a data key and the ``info`` of HPKE.
Wrap = Callable[[bytes, bytes], KeySlot]


def new_header(core: Core, data_key: bytes, salt: bytes, wraps: Sequence[Wrap]) -> tuple[Header, Keys]:
    """Build a header with the data key wrapped by each of ``wraps``; see also
    :func:`recorderd.spool.slots.new_detached`."""
    core_bytes = core.to_bytes()
    keys = derive_keys(data_key, salt, core_bytes)
    info = wrap_info(core_bytes, salt, keys.commitment)
    slots = tuple(wrap(data_key, info) for wrap in wraps)
    check_count(slots)
    raw = build_header(core_bytes, salt, keys.commitment, slots)
    return Header(core, salt, keys.commitment, slots, raw), keys


def check_count(slots: Sequence[KeySlot]) -> None:
    """Raises ValueError for none, or more than there may be."""
    if not 1 <= len(slots) <= MAX_SLOTS:
        raise ValueError(f"a recording has 1 to {MAX_SLOTS} recipients, not {len(slots)}")


def build_header(core: bytes, salt: bytes, commitment: bytes, slots: tuple[KeySlot, ...]) -> bytes:
    """The header's bytes, checksum included."""
    slot_bytes = pack_slots(slots)
    length = FIXED_BYTES + len(core) + 2 * _DIGEST + len(slot_bytes) + 4
    if len(core) > MAX_CORE or length > MAX_HEADER:
        raise ValueError("the header would be too long")
    version = SELF_CONTAINED if slots else DETACHED
    body = _FIXED.pack(MAGIC, version, len(slots), length, len(core)) + core + salt + commitment + slot_bytes
    return body + _CRC.pack(crc32(body))


def pack_slots(slots: Iterable[KeySlot]) -> bytes:
    """Key slots as they stand in a header or in a slot file."""
    return b"".join(_SLOT.pack(slot.key_id, slot.kem, len(slot.wrapped)) + slot.wrapped for slot in slots)


def unpack_slots(data: bytes, count: int) -> tuple[KeySlot, ...]:
    """``count`` key slots that fill ``data`` exactly. Raises SpoolCorrupt."""
    slots, at = [], 0
    for _ in range(count):
        if at + _SLOT.size > len(data):
            raise SpoolCorrupt("a key slot is cut short")
        key_id, kem, size = _SLOT.unpack_from(data, at)
        at += _SLOT.size
        slots.append(KeySlot(key_id, kem, data[at : at + size]))
        at += size
    if at != len(data):
        raise SpoolCorrupt("the key slots do not fill their place")
    return tuple(slots)


def header_length(start: bytes) -> int:
    """The length of the whole header, from its first 20 bytes. Raises SpoolCorrupt where it is none of
    ours."""
    if len(start) < FIXED_BYTES:
        raise SpoolCorrupt("header: cut short")
    magic, version, slots, length, core_length = _FIXED.unpack(start[:FIXED_BYTES])
    if magic != MAGIC:
        raise SpoolCorrupt("header: not a recording (wrong magic)")
    if version not in (SELF_CONTAINED, DETACHED):
        raise SpoolCorrupt(f"header: version {version} is unknown")
    wanted = range(1, MAX_SLOTS + 1) if version == SELF_CONTAINED else range(1)
    if slots not in wanted or core_length > MAX_CORE:
        raise SpoolCorrupt("header: lengths out of range")
    if not FIXED_BYTES + core_length + 2 * _DIGEST + 4 <= length <= MAX_HEADER:
        raise SpoolCorrupt("header: lengths out of range")
    return int(length)


def parse_header(data: bytes) -> Header:
    """Parse the header at the start of ``data``. Raises SpoolCorrupt; nothing is authenticated here."""
    length = header_length(data)
    if len(data) < length:
        raise SpoolCorrupt("header: cut short")
    raw = bytes(data[:length])
    if crc32(raw[:-4]) != _CRC.unpack(raw[-4:])[0]:
        raise SpoolCorrupt("header: wrong checksum")
    _, _, count, _, core_length = _FIXED.unpack(raw[:FIXED_BYTES])
    at = FIXED_BYTES + core_length
    core = Core.from_bytes(raw[FIXED_BYTES:at])
    salt, commitment = raw[at : at + _DIGEST], raw[at + _DIGEST : at + 2 * _DIGEST]
    try:
        slots = unpack_slots(raw[at + 2 * _DIGEST : -4], count)
    except SpoolCorrupt as error:
        raise SpoolCorrupt(f"header: {error}") from None
    return Header(core, salt, commitment, slots, raw)


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value
