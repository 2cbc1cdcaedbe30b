"""Capture files as batches of frames: pcap and pcapng, plain or packed with gzip."""

import gzip
from collections.abc import Iterator
from os import PathLike, fspath

from recorderd.capture.pcap import MAGICS, read_pcap
from recorderd.capture.pcapng import MAGIC, read_pcapng
from recorderd.capture.window import Damage, Window
from recorderd.errors import CaptureFileError
from recorderd.wire.frames import Frames

GZIP = b"\x1f\x8b"


def open_capture(path: str | PathLike[str]) -> Iterator[Frames]:
    """The frames of a capture file in the order of the file, in batches of some thousands.

    Memory is bounded whatever the size of the file. Each batch is of one link type, and its matrix is written
    to no more.

    Raises:
        CaptureFileError: ``FILE: what, at byte N`` at the first damage, after all frames before it were
        yielded; N
            counts unpacked bytes. The file is opened when the first batch is asked for.
    """
    name = fspath(path)
    try:
        with open(name, "rb") as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield from _frames(Window(unpacked))
            else:
                yield from _frames(Window(file))
    except Damage as damage:
        raise CaptureFileError(f"{name}: {damage}, at byte {damage.at}") from damage
    except OSError as error:
        raise CaptureFileError(f"{name}: {error.strerror or error}") from error


def _frames(window: Window) -> Iterator[Frames]:
    magic = window.need(4, "its first four bytes")
    if magic in MAGICS:
        return read_pcap(window)
    if magic == MAGIC:
        return read_pcapng(window)
    raise Damage("neither pcap nor pcapng", 0)
