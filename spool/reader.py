"""Opens recordings: authenticates all of one, says what it is, and gives out its packets (docs/format.md).

A reader answers ``complete``, ``recovered-prefix`` or ``corrupt``; what it gives out is authenticated in
every case.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from recorderd.errors import NoSuchRecording, SpoolCorrupt, SpoolError
from recorderd.spool.container import (
    TAG_BYTES,
    Kind,
    Media,
    RecordOpener,
    StreamTally,
    check_end,
    parse_json,
    runs_of,
    unpack_media,
)
from recorderd.spool.durable import disk_error
from recorderd.spool.header import Header, KeySlot, derive_keys
from recorderd.spool.keys import Identity, open_header
from recorderd.spool.layout import MANIFEST_SUFFIX, PART_SUFFIX, RECORD_SUFFIX, is_recording_id
from recorderd.spool.manifest import RECOVERED, SEALED, Manifest, load_manifest
from recorderd.spool.scan import Scanner, read_header
from recorderd.spool.slot_files import slots_beside

COMPLETE = "complete"
RECOVERED_PREFIX = "recovered-prefix"
CORRUPT = "corrupt"


class RecordFile:
    """The bytes of a recording file, by place. Raises NoSuchRecording or SpoolError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NoSuchRecording(f"{path}: no such file") from None
        except OSError as error:
            raise SpoolError(f"{path}: {error.strerror}") from None
        self.size = os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes; fewer only at the end of the file. Raises SpoolError when the disk
        cannot."""
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise SpoolError(f"{self.path}: {error.strerror} at byte {offset}") from None

    def sync(self) -> None:
        """Make what others wrote into the file durable. Raises SpoolError or DiskFull."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise disk_error(error, self.path) from None

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "RecordFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Recording:
    """An opened recording. All of it was read and authenticated once when :meth:`open` returns.

    ``status`` is one of the three answers and ``problems`` says why it is not the best. ``events`` are the
    event records in order, ``summary`` is that of the end record (None without one), ``streams`` the figures
    read.
    """

    def __init__(self, file: RecordFile, header: Header, opener: RecordOpener) -> None:
        self.header = header
        self.events: list[dict[str, Any]] = []
        self.summary: dict[str, Any] | None = None
        self.refused_packets = 0
        self.streams: list[dict[str, Any]] = []
        self.media_records = 0
        self.intact_bytes = 0
        self.status = RECOVERED_PREFIX
        self.problems: tuple[str, ...] = ()
        self._file = file
        self._opener = opener
        self._good_records = 0  # those that authenticate

    @classmethod
    def open(
        cls,
        path: Path,
        identities: Iterable[Identity],
        manifest: Manifest | None = None,
        *,
        expected_id: str | None = None,
    ) -> "Recording":
        """Open and authenticate a recording; memory does not grow with its length, but for its events.

        A file that holds another recording than ``expected_id`` (by default the one that it is named after,
        if any) is refused as SpoolCorrupt.

        ``manifest`` is by default the one beside the file, where there is one; its signature is not checked
        here (see :mod:`recorderd.spool.verify`). Raises WrongKey, NoSuchRecording, SpoolError, and
        SpoolCorrupt where not even the header can be read.
        """
        file = RecordFile(path)
        try:
            try:
                header = read_header(file.read)
                check_name(path, header, expected_id)
                data_key = open_header(header, identities, _more_slots(path, header))
            except SpoolCorrupt as error:
                raise type(error)(f"{path}: {error}") from None
            keys = derive_keys(data_key, header.salt, header.core.to_bytes())
            recording = cls(file, header, RecordOpener(header, keys))
            recording._authenticate(manifest or _manifest_beside(path))
        except BaseException:
            file.close()
            raise
        return recording

    @property
    def id(self) -> str:
        """The recording id."""
        return self.header.core.recording

    def media(self) -> Iterator[Media]:
        """The media records in order: base time in microseconds, rows PACKET_ROW[n], payload u8[total]."""
        for kind, plaintext in self._records():
            if kind == Kind.MEDIA:
                yield unpack_media(plaintext)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Recording":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _records(self) -> Iterator[tuple[int, bytes]]:
        scanner = Scanner(self._file.read, self._file.size, self.header)
        for record in scanner:
            if record.sequence >= self._good_records:
                return
            yield record.kind, self._opener.open(record.head, record.ciphertext)

    def _authenticate(self, manifest: Manifest | None) -> None:
        scanner = Scanner(self._file.read, self._file.size, self.header)
        tally = StreamTally()
        problems: list[str] = []
        end: dict[str, Any] | None = None
        try:
            for record in scanner:
                plaintext = self._opener.open(record.head, record.ciphertext)
                if record.kind == Kind.MEDIA:
                    _tally(tally, unpack_media(plaintext), record.ciphertext[-TAG_BYTES:])
                    self.media_records += 1
                elif record.kind == Kind.EVENT:
                    self.events.append(parse_json(plaintext))
                elif record.kind == Kind.END:
                    end = parse_json(plaintext)
                self._good_records += 1
            self.intact_bytes = scanner.intact_bytes
        except SpoolCorrupt as error:
            problems.append(str(error))
        self.streams = tally.figures()
        if end is not None:
            problems += check_end(end, self._good_records - 1, tally)
            self.summary = end["summary"] if isinstance(end.get("summary"), dict) else None
            refused = end.get("refused_packets")
            self.refused_packets = refused if isinstance(refused, int) else 0
        problems += self._against(manifest, scanner, end is not None)
        if problems:
            self.status = CORRUPT
        elif end is not None:
            self.status = COMPLETE
        else:
            problems.append(f"no end record; {scanner.tail_bytes} bytes behind the intact prefix are torn")
        self.problems = tuple(problems)

    def _against(self, manifest: Manifest | None, scanner: Scanner, ended: bool) -> list[str]:
        """What damage there is, and what the manifest says otherwise."""
        stated = manifest is not None and manifest.state == RECOVERED
        agrees = manifest is not None and manifest.intact_bytes == scanner.intact_bytes
        problems = []
        damage = scanner.damage()
        # After a power cut blocks may be lost in any order; the host has stated which prefix there is.
        if damage is not None and not (stated and agrees and not ended):
            problems.append(damage)
        if manifest is None:
            return problems
        if manifest.header_sha256 != self.header.hash.hex():
            problems.append("the manifest is of another file")
        elif not agrees:
            problems.append(
                f"the manifest states {manifest.intact_bytes} intact bytes, there are {scanner.intact_bytes}"
            )
        elif manifest.state == SEALED and not ended:
            problems.append("the manifest states a sealed recording, but there is no end record")
        return problems


def check_name(path: Path, header: Header, expected_id: str | None = None) -> None:
    """Raises SpoolCorrupt where a file holds another recording than the one that it is named after."""
    name = path.name.removesuffix(PART_SUFFIX).removesuffix(RECORD_SUFFIX)
    if expected_id is None and is_recording_id(name):
        expected_id = name
    if expected_id not in (None, header.core.recording):
        raise SpoolCorrupt(f"holds the recording {header.core.recording}, not {expected_id}")


def _more_slots(path: Path, header: Header) -> tuple[KeySlot, ...]:
    """The key slots beside a recording. Damaged ones keep nobody from those in the header."""
    try:
        slots = slots_beside(path, header)
    except SpoolCorrupt:
        if header.detached:
            raise
        return ()
    return () if slots is None else slots.slots


def _tally(tally: StreamTally, media: Media, tag: bytes) -> None:
    rows = media.rows.tobytes()
    try:
        runs = runs_of(rows, len(media.payload))
    except ValueError as error:
        raise SpoolCorrupt(f"a media record: {error}") from None
    tally.add(rows, runs, tag)


def _manifest_beside(path: Path) -> Manifest | None:
    if path.name.endswith(PART_SUFFIX):
        return None  # a call in progress has none yet
    if not path.name.endswith(RECORD_SUFFIX):
        return None
    beside = path.with_name(path.name[: -len(RECORD_SUFFIX)] + MANIFEST_SUFFIX)
    return load_manifest(beside, None) if beside.exists() else None
