"""Reading pcap files (draft-ietf-opsawg-pcap): microseconds or nanoseconds, either byte order."""

import struct
from collections.abc import Iterator

import numpy as np

from recorderd.capture.records import (
    LINK_TYPES,
    MAX_BATCH,
    Found,
    Shape,
    as_frames,
    find_records,
    heads,
)
from recorderd.capture.window import Damage, Window
from recorderd.wire.frames import Frames, LinkType

MAGICS = {
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\x3c\x4d": (">", 1),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
}
"""A file's first bytes: its byte order, and how many nanoseconds its fractions of a second count."""

FILE_HEADER, RECORD_HEADER = 24, 16


def read_pcap(window: Window) -> Iterator[Frames]:
    """The frames of a pcap file, in batches.

    Raises:
        Damage: after all frames before the damage.
    """
    header = window.need(FILE_HEADER, "its header")
    order, unit_ns = MAGICS[header[:4]]
    # The upper half tells the length of frame check sequences; the IP packets end before them by themselves.
    number = struct.unpack(order + "I", header[20:24])[0] & 0xFFFF
    if number not in LINK_TYPES:
        raise Damage(f"link type {number} is not supported", 20)
    window.at += FILE_HEADER
    # The fields are the fraction of a second, which takes the place of a kind, and the captured length.
    shape = Shape(struct.Struct(order + "4xII"), length_at=8, length_type=order + "u4", extra=RECORD_HEADER)
    while True:
        found = find_records(shape, window)
        if len(found.at):
            yield from _frames(window, found, order, unit_ns, LINK_TYPES[number])
        window.at = found.end
        if found.absurd:
            raise Damage("a record of an absurd length", window.position)
        # A batch that is not full ended where the memory does.
        if len(found.at) < MAX_BATCH and not window.more():
            if window.end > window.at:
                raise Damage("the file ends within a record", window.position)
            return


def _frames(window: Window, found: Found, order: str, unit_ns: int, link: LinkType) -> Iterator[Frames]:
    fields = heads(window.data, found.at, RECORD_HEADER, found.stride).view(order + "u4")
    time_ns = fields[:, 0].astype(np.int64)
    time_ns *= 1_000_000_000
    time_ns += np.multiply(fields[:, 1], unit_ns, dtype=np.int64)
    wirelen = fields[:, 3].astype(np.uint32)
    good = len(found.at)
    if not found.length.all():
        # A frame of nothing that was nothing on the wire is a hole in the file, such as a crash leaves.
        holes = np.flatnonzero((found.length == 0) & (wirelen == 0))
        good = int(holes[0]) if len(holes) else good
    if good:
        start, length = found.at[:good] + RECORD_HEADER, found.length[:good]
        yield from as_frames(link, time_ns[:good], window.data, start, length, wirelen[:good], found.stride)
    if good < len(found.at):
        raise Damage("a record of no length", window.position_of(int(found.at[good])))
