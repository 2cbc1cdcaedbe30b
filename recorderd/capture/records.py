"""Finding the records of a capture file fast: each tells only where the next begins.

A G.711 capture is long runs of records of one size. That the next thousand have the size of this one is
checked for all at once, in a strided look at their length fields; it is no guess in the end, because each
record that has the size leads to the next place looked at. Where sizes vary too much for that, a plain loop
goes on for a while.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.capture.window import Window
from recorderd.wire.columns import bounded_slices
from recorderd.wire.frames import Frames, LinkType

MAX_CAPTURED = 262144  # bytes of one frame: the largest snap length that tcpdump and Wireshark accept
MAX_BATCH = 16384  # records
MAX_MATRIX = 32 << 20  # bytes of one batch's frames as a matrix

# 12 and 14 are what some BSDs wrote for raw IP before it had a number of its own.
LINK_TYPES = {int(link): link for link in LinkType} | {12: LinkType.RAW, 14: LinkType.RAW}

SHORT: Final = 512
"""Bytes of a frame that are enough for any usual voice packet."""
MANY, FEW = 1000, 10
"""Long frames go apart where there are so many of all, and one in so many is long at most."""
USUAL, SAMPLED = 4000, 16
"""Of so many records one in so many is looked at for what length is usual."""

LOOK = 512  # records looked at first
WORTH = 8  # a run shorter than this is no faster than the loop
PLAIN = 1024  # records that the loop takes at most before another look


class Shape(NamedTuple):
    """Where a file format's records have what leads to the next one.

    ``fields`` unpacks two numbers from a record's beginning: its kind and its length. The record is ``extra``
    bytes longer than that length and a multiple of ``align``. ``kinds`` tells which are records (all, when it
    is empty).
    """

    fields: struct.Struct
    length_at: int
    length_type: str
    extra: int
    align: int = 1
    kinds: frozenset[int] = frozenset()
    smallest: int = 0
    largest: int = MAX_CAPTURED


class Found(NamedTuple):
    """Whole records that follow each other: where each begins and its length field, and where the last one
    ends.

    ``stride`` is how far they are from each other where that is the same throughout, else 0. ``stopped``
    tells that what comes there is no record, not just more than is in memory; ``absurd`` that it has a length
    that none can have.
    """

    at: NDArray[np.int64]
    length: NDArray[np.int64]
    end: int
    stride: int = 0
    stopped: bool = False
    absurd: bool = False


def find_records(shape: Shape, window: Window) -> Found:
    """The whole records from where the window is, up to a batch."""
    at, end = window.at, window.end
    starts: list[NDArray[np.int64]] = []
    room, patience, reason = MAX_BATCH, 1, ""
    while room > 0:
        places, at, reason = _plain(shape, window.raw, at, end, min(room, PLAIN), patience)
        starts.append(np.array(places, np.int64))
        room -= len(places)
        if reason or room == 0:
            break
        # The last record leads to this place, and tells what size to look for.
        size = at - places[-1]
        run = _run_length(shape, window.data, at, min((end - at) // size, room), size)
        starts.append(np.arange(at, at + run * size, size, dtype=np.int64))
        at += run * size
        room -= run
        patience = 1 if run >= WORTH else min(patience * 4, PLAIN)
    edges = np.concatenate([*starts, np.array([at])])
    length = edges[1:] - edges[:-1]
    stride = int(length[0]) if len(length) and (length == length[0]).all() else 0
    length -= shape.extra
    return Found(edges[:-1], length, at, stride, stopped=reason == "kind", absurd=reason == "length")


def _plain(
    shape: Shape, raw: memoryview, at: int, end: int, most: int, patience: int
) -> tuple[list[int], int, str]:
    """Up to ``most`` records one by one, and after ``patience`` of them until two are of one size; also where
    the last one ends, and why there can be no more.
    """
    unpack, last = shape.fields.unpack_from, end - shape.fields.size
    kinds, smallest, largest, extra, align = (
        shape.kinds,
        shape.smallest,
        shape.largest,
        shape.extra,
        shape.align,
    )
    places: list[int] = []
    reason, before = "", -1
    for number in range(most):
        if at > last:
            reason = "end"
            break
        kind, length = unpack(raw, at)
        if kinds and kind not in kinds:
            reason = "kind"
            break
        if not smallest <= length <= largest or (align > 1 and length % align):
            reason = "length"
            break
        places.append(at)
        at += length + extra
        if length == before and number >= patience:
            break
        before = length
    if at > end:  # the last one is not all there
        at, reason = places.pop(), "end"
    return places, at, reason


def _run_length(shape: Shape, data: NDArray[np.uint8], at: int, whole: int, size: int) -> int:
    """How many of ``whole`` records from here on have the size (and kind) of the one before."""
    known, look = 0, LOOK
    while known < whole:
        count = min(look, whole - known)
        other = _strided(data, at + shape.length_at, shape.length_type, size, count) != size - shape.extra
        if shape.kinds:
            kind = _strided(data, at - size, shape.length_type, size, count + 1)
            other |= kind[1:] != kind[0]
        first = int(other.argmax())
        if other[first]:
            return known + first
        known += count
        at += count * size
        look *= 4
    return known


def _strided(data: NDArray[np.uint8], at: int, dtype: str, stride: int, count: int) -> NDArray[np.uint32]:
    """A number of four bytes at ``at`` and every ``stride`` bytes from there: no copy."""
    return np.ndarray((count,), dtype, data, at, (stride,))


def heads(data: NDArray[np.uint8], at: NDArray[np.int64], length: int, stride: int = 0) -> NDArray[np.uint8]:
    """The ``length`` bytes at each place, ascending: uint8 (len(at), length), a copy.

    ``stride`` is how far the places are from each other, where that is known to be the same throughout.
    """
    return np.ascontiguousarray(_items(data, at, length, stride)).view(np.uint8).reshape(len(at), length)


def _items(data: NDArray[np.uint8], at: NDArray[np.int64], length: int, stride: int) -> NDArray[np.void]:
    """The same as items, which NumPy copies whole; no copy where the places are as far from each other
    throughout.
    """
    if not stride and len(at) > 1:
        step = int(at[1] - at[0])
        if at[-1] - at[0] == step * (len(at) - 1) and (at[1:] - at[:-1] == step).all():
            stride = step
    if stride:
        return np.ndarray((len(at),), f"V{length}", data, int(at[0]), (stride,))
    every: NDArray[np.void] = np.ndarray((len(data) - length + 1,), f"V{length}", data, 0, (1,))
    return every[at]


def as_frames(
    link: LinkType,
    time_ns: NDArray[np.int64],
    data: NDArray[np.uint8],
    at: NDArray[np.int64],
    captured: NDArray[np.int64],
    wirelen: NDArray[np.uint32],
    stride: int = 0,
) -> Iterator[Frames]:
    """Frames that begin at ``at`` in the file, in batches; none is shorter on the wire than was captured.

    ``stride`` is how far they are from each other, where they are known to be all of one length.
    """
    # Within the memory of a window such a matrix is no larger than that.
    parts = [_Batch(slice(None))] if stride else _batches(captured)
    for part in parts:
        caplen = captured[part.rows].astype(np.int32)
        on_wire = caplen
        if not (wirelen[part.rows].view(np.int32) == caplen).all():
            on_wire = np.minimum(wirelen[part.rows], np.uint32(0x7FFFFFFF)).astype(np.int32)
            on_wire = np.maximum(on_wire, caplen)
        width = max(int(caplen[0] if stride else caplen.max()), 1)
        rows = _items(data, at[part.rows], width, stride)[:, np.newaxis].view(np.uint8)
        yield Frames(link, time_ns[part.rows], rows, caplen, on_wire, part.unfinished)


class _Batch(NamedTuple):
    rows: slice | NDArray[np.intp]
    unfinished: bool = False


def _batches(lengths: NDArray[np.int64]) -> Iterator[_Batch]:
    """Records in the order of the file, or the few long ones among many short ones before these.

    A matrix is as wide as its longest row: a SIP message among a thousand voice packets would make seven
    times their bytes of it.
    """
    if len(lengths) >= MANY and lengths.max() > lengths.min():
        for short in _short(lengths):
            long = np.flatnonzero(lengths > short)
            if 0 < len(long) * FEW < len(lengths):
                for part in bounded_slices(lengths[long], MAX_MATRIX):
                    yield _Batch(long[part], unfinished=True)
                yield _Batch(np.flatnonzero(lengths <= short))
                return
    for part in bounded_slices(lengths, MAX_MATRIX):
        yield _Batch(part)


def _short(lengths: NDArray[np.int64]) -> Iterator[int]:
    """Lengths to part the records at, the best first."""
    if len(lengths) >= USUAL:
        # With nothing longer than most are, all that is left is media as a rule, and is used where it is.
        sample = np.sort(lengths[::SAMPLED])
        yield int(sample[len(sample) // 2])
    yield SHORT
