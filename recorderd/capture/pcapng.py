"""Reading pcapng files (draft-ietf-opsawg-pcapng): either byte order, several interfaces, any resolution."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.capture.records import (
    LINK_TYPES,
    MAX_CAPTURED,
    Found,
    Shape,
    as_frames,
    find_records,
    heads,
)
from recorderd.capture.window import Damage, Window
from recorderd.wire.columns import column
from recorderd.wire.frames import Frames, LinkType

MAGIC = b"\x0a\x0d\x0d\x0a"
SECTION, INTERFACE, OBSOLETE, SIMPLE, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
PACKETS = frozenset({OBSOLETE, SIMPLE, ENHANCED})
BYTE_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
RESOLUTION, OFFSET = 9, 14  # options of an interface

HEAD = 28  # of enhanced and obsolete packet blocks; a simple one has 12
LEAST = {ENHANCED: 32, OBSOLETE: 32, SIMPLE: 16}
MAX_PACKET_BLOCK = MAX_CAPTURED + (1 << 18)  # with its options
MAX_BLOCK = 16 << 20
MAX_INTERFACES = 65536
MAX_SECONDS = 9_000_000_000  # since the epoch (the year 2255): what nanoseconds in 64 bits can still tell


class _Interface(NamedTuple):
    """``link`` is None for a link type that we do not know. ``ticks`` (10 ** n or 2 ** n) make a second."""

    link: LinkType | None
    number: int
    snaplen: int
    ticks: int
    offset_s: int


@dataclass(slots=True, eq=False)
class _Section:
    """What the blocks of a section share."""

    order: str = "<"
    interfaces: list[_Interface] = field(default_factory=list)
    last_time: int = 0
    unknown: dict[int, int] = field(default_factory=dict)
    """Packets passed over, by link type."""


class _Packets(NamedTuple):
    """Packet blocks of any kind: one array of length n a field."""

    at: NDArray[np.int64]
    block: NDArray[np.int64]
    interface: NDArray[np.int64]
    time_ns: NDArray[np.int64]
    captured: NDArray[np.int64]
    wirelen: NDArray[np.uint32]


def read_pcapng(window: Window) -> Iterator[Frames]:
    """The frames of a pcapng file, in batches of one link type, in the order of the file.

    Raises:
        Damage: after all frames before the damage; also at the end, if packets had to be passed over because
        their
            interface is of a link type that is not supported.
    """
    section = _Section()
    shape = _shape(section.order)
    while window.end - window.at >= 4 or window.more():
        if window.data[window.at : window.at + 4].tobytes() == MAGIC:
            section = _read_section(window, section)
            shape = _shape(section.order)
            continue
        found = find_records(shape, window)
        if len(found.at):
            yield from _frames(window, section, found)
        window.at = found.end
        if found.absurd:
            raise Damage("a packet block of an absurd length", window.position)
        if len(found.at):
            continue
        if found.stopped:
            _read_block(window, section)
        elif not window.more():
            break
    if window.end > window.at:
        raise Damage("the file ends within a block", window.position)
    if section.unknown:
        number, count = next(iter(section.unknown.items()))
        raise Damage(
            f"passed over {count} packets of link type {number}, which is not supported", window.position
        )


def _shape(order: str) -> Shape:
    return Shape(
        struct.Struct(order + "II"),
        length_at=4,
        length_type=order + "u4",
        extra=0,
        align=4,
        kinds=PACKETS,
        smallest=min(LEAST.values()),
        largest=MAX_PACKET_BLOCK,
    )


def _read_section(window: Window, before: _Section) -> _Section:
    head = window.need(28, "a section header")
    order = BYTE_ORDERS.get(head[8:12])
    if order is None:
        raise Damage("a section header without its byte order", window.position)
    section = _Section(order, last_time=before.last_time, unknown=before.unknown)
    _skip(window, section)
    return section


def _read_block(window: Window, section: _Section) -> None:
    """A block that is no packet: interfaces are noted, the others passed over."""
    kind = struct.unpack(section.order + "I", window.need(12, "a block")[:4])[0]
    place = window.position
    body = _skip(window, section, wanted=kind == INTERFACE)
    if kind == INTERFACE:
        if len(body) < 8 or len(section.interfaces) >= MAX_INTERFACES:
            raise Damage("an interface block too short, or one too many", place)
        section.interfaces.append(_interface(section.order, body))


def _skip(window: Window, section: _Section, *, wanted: bool = False) -> bytes:
    """Pass over the block that begins here; returns its body if ``wanted``."""
    length = struct.unpack(section.order + "I", window.need(12, "a block")[4:8])[0]
    if length < 12 or length % 4 or length > MAX_BLOCK:
        raise Damage("a block of an absurd length", window.position)
    block = window.need(length, "a block")
    if block[-4:] != block[4:8]:
        raise Damage("a block whose two lengths differ", window.position)
    window.at += length
    return block[8:-4] if wanted else b""


def _interface(order: str, body: bytes) -> _Interface:
    number, snaplen = struct.unpack(order + "H2xI", body[:8])
    resolution, offset_s, at = 6, 0, 8
    while at + 4 <= len(body):
        code, length = struct.unpack(order + "HH", body[at : at + 4])
        value = body[at + 4 : at + 4 + length]
        if code == RESOLUTION and len(value) == 1:
            resolution = value[0]
        elif code == OFFSET and len(value) == 8:
            offset_s = struct.unpack(order + "q", value)[0]
        at += 4 + length + -length % 4
        if code == 0:
            break
    ticks = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    return _Interface(LINK_TYPES.get(number), number, snaplen, ticks, offset_s)


def _frames(window: Window, section: _Section, found: Found) -> Iterator[Frames]:
    packets, damage = _packets(window, section, found)
    links = np.array([-1 if item.link is None else item.link for item in section.interfaces] or [-1])
    link = links[packets.interface] if len(packets.at) else np.empty(0, np.int64)
    edges = np.flatnonzero(np.diff(link)) + 1
    for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(link)], strict=True):
        if start == stop:
            continue
        if link[start] < 0:
            number = section.interfaces[int(packets.interface[start])].number
            section.unknown[number] = section.unknown.get(number, 0) + stop - start
            continue
        rows = slice(start, stop)
        yield from as_frames(
            LinkType(int(link[start])),
            packets.time_ns[rows],
            window.data,
            packets.at[rows],
            packets.captured[rows],
            packets.wirelen[rows],
        )
    if damage is not None:
        raise damage


def _packets(window: Window, section: _Section, found: Found) -> tuple[_Packets, Damage | None]:
    """The columns of packet blocks, up to the first one that is damaged, and what is wrong with that."""
    order = section.order
    head = heads(window.data, found.at, HEAD, found.stride)
    kind, _, third, high, low, captured, wirelen = (
        column(head, at, order + "u4") for at in range(0, HEAD, 4)
    )
    kind = kind.astype(np.int64)
    simple, obsolete = kind == SIMPLE, kind == OBSOLETE
    interface = third.astype(np.int64)
    if obsolete.any():
        interface[obsolete] = column(head, 8, order + "u2")[obsolete]
    start = np.where(simple, 12, HEAD)
    room = found.length - start - 4
    captured = captured.astype(np.int64)
    if simple.any():
        interface[simple] = 0
        wirelen = np.where(simple, third, wirelen)
        snaplen = section.interfaces[0].snaplen if section.interfaces else 0
        most = np.minimum(third.astype(np.int64), snaplen or MAX_CAPTURED)
        captured = np.where(simple, np.minimum(most, room), captured)
    trailer = column(heads(window.data, found.at + found.length - 4, 4, found.stride), 0, order + "u4")
    wrong = {
        "a packet block whose two lengths differ": trailer != found.length,
        "a packet longer than its block": captured > np.minimum(room, MAX_CAPTURED),
        "a packet of an interface that was not described": interface >= len(section.interfaces),
        "a packet of no length": (captured == 0) & (wirelen == 0),
    }
    bad = np.flatnonzero(np.logical_or.reduce(list(wrong.values())))
    good = int(bad[0]) if len(bad) else len(found.at)
    damage = None
    if len(bad):
        what = next(text for text, mask in wrong.items() if mask[good])
        damage = Damage(what, window.position_of(int(found.at[good])))
    ticks = (high.astype(np.uint64) << np.uint64(32)) | low
    time_ns = _times(section, interface[:good], ticks[:good], simple[:good])
    packets = _Packets(
        (found.at + start)[:good], found.at[:good], interface[:good], time_ns, captured[:good], wirelen[:good]
    )
    return packets, damage


def _times(
    section: _Section, interface: NDArray[np.int64], ticks: NDArray[np.uint64], simple: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Nanoseconds since the epoch. A simple block has no time: it gets that of the packet before it."""
    time_ns = np.zeros(len(ticks), np.int64)
    if len(interface) and (interface == interface[0]).all():
        time_ns = _nanoseconds(ticks, section.interfaces[int(interface[0])])
    else:
        _fill_times(section, interface, ticks, time_ns)
    if simple.any():
        known = np.where(simple, -1, np.arange(len(ticks)))
        latest = np.maximum.accumulate(known)
        time_ns = np.where(latest >= 0, time_ns[latest], section.last_time)
    if len(time_ns):
        section.last_time = int(time_ns[-1])
    return time_ns


def _fill_times(
    section: _Section, interface: NDArray[np.int64], ticks: NDArray[np.uint64], time_ns: NDArray[np.int64]
) -> None:
    """The times of packets of several interfaces, each in its own resolution."""
    for number in np.unique(interface).tolist():
        chosen = interface == number
        time_ns[chosen] = _nanoseconds(ticks[chosen], section.interfaces[number])


def _nanoseconds(ticks: NDArray[np.uint64], interface: _Interface) -> NDArray[np.int64]:
    if interface.offset_s == 0 and 10**9 % interface.ticks == 0:
        # Nearly every file: whole nanoseconds a tick, which needs none of the slow divisions below.
        most = np.uint64(MAX_SECONDS * interface.ticks)
        return (np.minimum(ticks, most) * np.uint64(10**9 // interface.ticks)).astype(np.int64)
    if interface.ticks > 2**63:
        # So fine that all 64 bits are less than a second or two; one by one, because nobody does this.
        seconds = np.array([int(tick) // interface.ticks for tick in ticks], np.int64)
        fraction = np.array([int(tick) * 10**9 // interface.ticks % 10**9 for tick in ticks], np.int64)
    else:
        per_second = np.uint64(interface.ticks)
        seconds = np.minimum(ticks // per_second, np.uint64(MAX_SECONDS)).astype(np.int64)
        rest = ticks % per_second
        if interface.ticks <= 10**9:
            fraction = (rest * np.uint64(10**9) // per_second).astype(np.int64)
        else:
            fraction = (rest.astype(np.float64) * (1e9 / interface.ticks)).astype(np.int64)
    offset_s = min(max(interface.offset_s, -MAX_SECONDS), MAX_SECONDS)
    return np.clip(seconds + offset_s, 0, MAX_SECONDS) * 10**9 + fraction
