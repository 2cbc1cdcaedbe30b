"""The key slots of a recording in a file of their own, ``<id>.key`` (docs/format.md, "The slot file").

Destroying every copy of it makes the recording unreadable for ever, also where a lock keeps the recording.
It can be replaced by a later *generation* with other recipients, while the recording stays as it is.

Pure: bytes in, values out.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

from recorderd.errors import SpoolCorrupt
from recorderd.spool.crc import crc32
from recorderd.spool.header import (
    MAX_CORE,
    MAX_SLOTS,
    Core,
    Header,
    Keys,
    KeySlot,
    Wrap,
    build_header,
    check_count,
    derive_keys,
    pack_slots,
    unpack_slots,
    wrap_info,
)

MAGIC = b"\x89KEY\r\n\x1a\n"
VERSION = 1
FIRST = 1
"""The generation that is written with the recording."""
MAX_GENERATION = 0xFFFFFFFF
MAX_BYTES = 65_536

_FIXED = struct.Struct("<8sHHII")
_BINDING = struct.Struct("<32s32s32sI")
_CRC = struct.Struct("<I")


class SlotFile(NamedTuple):
    """Who can open a recording. ``header_hash`` is that of the recording's header, of which core, salt and
    commitment are repeated here: so slots can be unwrapped, checked and wrapped anew where the recording is
    not. ``raw`` is all the bytes of the file."""

    core: Core
    salt: bytes
    commitment: bytes
    header_hash: bytes
    generation: int
    slots: tuple[KeySlot, ...]
    raw: bytes

    @property
    def recording(self) -> str:
        """The recording id."""
        return self.core.recording

    @property
    def recipients(self) -> tuple[str, ...]:
        """Key ids in hex, in order."""
        return tuple(slot.key_id.hex() for slot in self.slots)

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole file, in hex."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def wrap_info(self) -> bytes:
        """The ``info`` that binds a wrapped key to this recording."""
        return wrap_info(self.core.to_bytes(), self.salt, self.commitment)

    def commits_to(self, data_key: bytes) -> bool:
        """Whether this is the recording's data key."""
        return derive_keys(data_key, self.salt, self.core.to_bytes()).commitment == self.commitment

    def belongs_to(self, header: Header) -> bool:
        """Whether it is of the recording with this header."""
        # The hash covers the rest; but what is read from here has to be what the hash is of.
        mine = self.header_hash, self.core, self.salt, self.commitment
        return mine == (header.hash, header.core, header.salt, header.commitment)

    def next(self, slots: Sequence[KeySlot]) -> "SlotFile":
        """The generation after this one, with other slots. Raises ValueError where there can be none."""
        return _slot_file(self, self.core.to_bytes(), tuple(slots), self.generation + 1)


def new_detached(
    core: Core, data_key: bytes, salt: bytes, wraps: Sequence[Wrap]
) -> tuple[Header, SlotFile, Keys]:
    """A header without key slots, and beside it the slot file with the data key wrapped by each of
    ``wraps``."""
    core_bytes = core.to_bytes()
    keys = derive_keys(data_key, salt, core_bytes)
    info = wrap_info(core_bytes, salt, keys.commitment)
    raw = build_header(core_bytes, salt, keys.commitment, ())
    header = Header(core, salt, keys.commitment, (), raw)
    slots = tuple(wrap(data_key, info) for wrap in wraps)
    return header, _slot_file(header, core_bytes, slots, FIRST), keys


def slots_of(header: Header, slots: Sequence[KeySlot]) -> SlotFile:
    """The first slot file of a recording with this header. Raises ValueError for no slots, or too many."""
    return _slot_file(header, header.core.to_bytes(), tuple(slots), FIRST)


def _slot_file(of: Header | SlotFile, core: bytes, slots: tuple[KeySlot, ...], generation: int) -> SlotFile:
    check_count(slots)
    if not FIRST <= generation <= MAX_GENERATION:
        raise ValueError("there can be no further generation")
    header_hash = of.hash if isinstance(of, Header) else of.header_hash
    packed = pack_slots(slots)
    length = _FIXED.size + len(core) + _BINDING.size + len(packed) + _CRC.size
    if length > MAX_BYTES:
        raise ValueError("the slot file would be too long")
    body = b"".join(
        (
            _FIXED.pack(MAGIC, VERSION, len(slots), length, len(core)),
            core,
            _BINDING.pack(of.salt, of.commitment, header_hash, generation),
            packed,
        )
    )
    raw = body + _CRC.pack(crc32(body))
    return SlotFile(of.core, of.salt, of.commitment, header_hash, generation, slots, raw)


def parse_slots(data: bytes) -> SlotFile:
    """The slot file in these bytes, which are all of it. Raises SpoolCorrupt; nothing is authenticated
    here."""
    if len(data) < _FIXED.size:
        raise SpoolCorrupt("key slots: cut short")
    magic, version, count, length, core_length = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise SpoolCorrupt("key slots: not a slot file (wrong magic)")
    if version != VERSION:
        raise SpoolCorrupt(f"key slots: version {version} is unknown")
    at = _FIXED.size + core_length
    if not 1 <= count <= MAX_SLOTS or core_length > MAX_CORE or length > MAX_BYTES:
        raise SpoolCorrupt("key slots: lengths out of range")
    if length != len(data) or length < at + _BINDING.size + _CRC.size:
        raise SpoolCorrupt("key slots: cut short, or bytes were added")
    if crc32(data[:-4]) != _CRC.unpack(data[-4:])[0]:
        raise SpoolCorrupt("key slots: wrong checksum")
    salt, commitment, header_hash, generation = _BINDING.unpack_from(data, at)
    if generation < FIRST:
        raise SpoolCorrupt("key slots: generation 0")
    try:
        core = Core.from_bytes(data[_FIXED.size : at])
        slots = unpack_slots(data[at + _BINDING.size : -4], count)
    except SpoolCorrupt as error:
        raise SpoolCorrupt(f"key slots: {str(error).removeprefix('header: ')}") from None
    return SlotFile(core, salt, commitment, header_hash, generation, slots, bytes(data))
