"""Writes one recording: sealed from its first byte, appended only, finished by an authenticated end
(docs/format.md, "How it is written").

One :class:`RecordingWriter` belongs to one call and is used by one thread at a time. Nothing here waits for
the disk but :meth:`RecordingWriter.flush` and :meth:`RecordingWriter.seal`; whoever writes many recordings
makes them durable together (:meth:`recorderd.spool.layout.Spool.flush`).
"""

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.errors import RecorderError, SpoolError
from recorderd.spool.begin import Begun, begin
from recorderd.spool.container import (
    MAX_ELAPSED,
    ROW_BYTES,
    TAG,
    Even,
    Kind,
    RecordSealer,
    Rows,
    SealingRoom,
    StreamTally,
    end_plaintext,
    json_plaintext,
    pack_media,
    runs_of,
)
from recorderd.spool.durable import FULL, disk_error, sync_file, sync_folder, write_all, write_file, write_new
from recorderd.spool.header import Core, Previous
from recorderd.spool.keys import Recipient
from recorderd.spool.layout import MANIFEST_SUFFIX, PART_SUFFIX, RECORD_SUFFIX, Spool
from recorderd.spool.manifest import SEALED, Manifest
from recorderd.spool.signing import HostKey


class _Rooms(threading.local):
    """A writer is used by one thread at a time, and a thread makes one record at a time."""

    def __init__(self) -> None:
        self.room = SealingRoom()


_ROOMS: Final = _Rooms()

# Inside the class `bytes` is the size of the recording.
Bytes = bytes


class Sealed(NamedTuple):
    """A finished recording. ``sha256`` (hex) and ``bytes`` are of the whole file, ``stem`` is what the paths
    of its files begin with, ``summary`` the JSON of what was sealed as such, ``manifest_sha256`` (hex) of the
    whole manifest."""

    recording: str
    stem: str
    sha256: str
    bytes: int
    records: int
    summary: Bytes
    manifest_sha256: str

    @property
    def path(self) -> Path:
        """The recording."""
        return Path(self.stem + RECORD_SUFFIX)

    @property
    def manifest_path(self) -> Path:
        """The signed statement beside it."""
        return Path(self.stem + MANIFEST_SUFFIX)


class RecordingWriter:
    """A recording in progress. Made by :meth:`create`; ends with :meth:`seal`, or :meth:`abandon` where that
    failed."""

    def __init__(self, spool: Spool, begun: Begun, signer: HostKey) -> None:
        stem, descriptor, header, slots, keys = begun
        self.recording_id = header.core.recording
        self.size = len(header.raw)  # bytes on disk, whole records only
        self.refused_packets = 0
        self._spool = spool
        self._stem = stem  # what the paths of all files of the recording begin with
        self._descriptor = descriptor
        self._header, self._slots = header, slots
        self._signer = signer
        self._sealer = RecordSealer(header, keys)
        self._tally = StreamTally()
        self._digest = hashlib.sha256(header.raw)
        self._started_us = header.core.started_us
        self._elapsed_ms = 0
        self._held: bytes | None = None  # a sealed record that the disk had no room for
        self._ended = False  # the end record was sealed
        self._summary = b""  # the JSON of what is sealed in the end record, once that is made
        self._manifest: Manifest | None = None  # what the host states, once the end record is written
        self._manifest_sha256 = ""
        self._failure: RecorderError | None = None
        self._blocked = False  # one of the three above: the hot path asks only this

    @classmethod
    def create(
        cls,
        spool: Spool,
        recording_id: str,
        *,
        started_ns: int,
        host: str,
        recipients: Sequence[Recipient],
        signer: HostKey,
        previous: Previous | None = None,
        detached: bool = True,
    ) -> "RecordingWriter":
        """Create ``<id>.rec.part`` with its header, and before it ``<id>.key`` with the key slots, unless
        they are not to be ``detached``. ``started_ns`` is in ns since 1970.

        All of it is durable after the next flush. Raises DiskFull or SpoolError; no file is left behind then.
        """
        core = Core(recording_id, host, started_ns // 1000, previous)
        return cls(spool, begin(spool, core, recipients, detached=detached), signer)

    @property
    def path(self) -> Path:
        """The file, while the call runs."""
        return Path(self._stem + PART_SUFFIX)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Key ids (hex) of those who can open the recording."""
        slots = self._header.slots if self._slots is None else self._slots.slots
        return tuple(slot.key_id.hex() for slot in slots)

    def media(
        self,
        base_time_us: int,
        rows: Rows | bytes | memoryview,
        payload: NDArray[np.uint8] | bytes | memoryview,
        even: Even | None = None,
    ) -> None:
        """Append a window of packets: ``rows`` PACKET_ROW[n] sorted by (stream, seq), ``payload`` u8[sum of
        sizes]; either may be given as its bytes, or a view of them. ``even`` is what is known of the rows.

        When this returns, the kernel has the record: it survives the death of the process (and a power cut
        after the next :meth:`flush` or :meth:`~recorderd.spool.layout.Spool.flush`).

        Raises DiskFull: the first record refused is kept and goes to the disk before anything else once there
        is room; of the further ones the packets are counted in ``refused_packets``. Raises SpoolError when
        the file cannot be written to any more, and ValueError where rows and payload do not fit each other.
        """
        raw_rows = rows if isinstance(rows, bytes) else rows.tobytes()
        if self._blocked:
            self._clear_way(len(raw_rows) // ROW_BYTES)
        raw_payload = payload.tobytes() if isinstance(payload, np.ndarray) else payload
        runs = runs_of(raw_rows, len(raw_payload), even)
        elapsed = (base_time_us - self._started_us) // 1000
        record = self._seal(Kind.MEDIA, elapsed, pack_media(base_time_us, raw_rows, raw_payload))
        # Also where the disk is full: what was sealed is written later, or nothing after it.
        self._tally.add(raw_rows, runs, bytes(record[TAG]))
        self._append(record)

    def event(self, event: dict[str, Any]) -> None:
        """Append an event: at least ``event`` (text) and ``time_us`` (integer). Raises as :meth:`media`
        does."""
        if not isinstance(event.get("event"), str) or not isinstance(event.get("time_us"), int):
            raise ValueError("an event has a text `event` and an integer `time_us`")
        plaintext = json_plaintext(event)
        if self._blocked:
            self._clear_way(0)
        self._append(self._seal(Kind.EVENT, (event["time_us"] - self._started_us) // 1000, plaintext))

    def flush(self) -> None:
        """Make what was written to this recording alone durable, its name apart.

        Raises SpoolError or DiskFull; the writer takes nothing more after that.
        """
        if self._failure is not None:
            self._clear_way(0)
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            # A second fdatasync on this descriptor could succeed without the data being anywhere.
            raise self.fail(disk_error(error, self.path)) from None

    def loss(self) -> SpoolError | None:
        """Ask the kernel whether it lost something of this recording; why it is not to be believed, or None.

        Waits for the disk. Changes nothing here, so any thread may ask.
        """
        try:
            os.fdatasync(self._descriptor)
            self._sync_slots()
        except OSError as error:
            return SpoolError(f"{self.path}: the disk lost what was written: {error.strerror}")
        return None

    def _sync_slots(self) -> None:
        """Make the key slots durable, without which nobody opens the recording. Raises OSError."""
        if self._slots is None:
            return
        path = self._spool.slot_path(self.recording_id)
        try:
            sync_file(path)
        except OSError:
            write_file(path, self._slots.raw)

    def end(
        self, summary: dict[str, Any], *, public: dict[str, Any] | None = None, now_ns: int | None = None
    ) -> None:
        """Write the end record and the signed manifest; neither is durable yet.

        ``summary`` goes into the end record, where only the key holder reads it, ``public`` (by default the
        same) into the manifest. ``now_ns`` is the time of writing.

        Raises DiskFull: call again when there is room. Raises SpoolError: the file stays a ``.part``, which
        :func:`recorderd.spool.recovery.recover_part` finishes.
        """
        manifest = self._state(summary, public, now_ns)
        path = self._stem + MANIFEST_SUFFIX
        try:
            # Under its final name: beside a .part it states nothing but what its hash agrees with.
            write_new(path, self._signed(manifest, summary))
        except OSError as error:
            raise disk_error(error, path) from None

    def finish(self) -> Sealed:
        """Give the recording its final name; for one whose end is written and flushed.

        The name needs no flush: a ``.part`` beside a manifest of its very bytes is as good. Raises
        SpoolError.
        """
        if self._manifest is None or self._failure is not None:
            self._clear_way(0)
            raise SpoolError(f"{self.path}: the recording has no end yet")
        record_path = self._stem + RECORD_SUFFIX
        try:
            os.rename(self._stem + PART_SUFFIX, record_path)  # noqa: PTH104 - as in write_new
        except OSError as error:
            raise self.fail(disk_error(error, record_path)) from None
        sealed = Sealed(
            self.recording_id,
            self._stem,
            self._manifest.sha256,
            self.size,
            self._sealer.records,
            self._summary,
            self._manifest_sha256,
        )
        self.abandon()
        return sealed

    def seal(
        self, summary: dict[str, Any], *, public: dict[str, Any] | None = None, now_ns: int | None = None
    ) -> Sealed:
        """End this recording alone, durably: what :meth:`end` writes, a flush of each file, the final name.

        Also for one whose :meth:`end` was called and the flush after it failed: what the kernel may have
        lost of the manifest is written anew, and of the recording it is asked again by the descriptor that it
        has to tell every loss. Arguments and errors are those of :meth:`end`.
        """
        manifest = self._state(summary, public, now_ns)
        self.flush()
        path = self._spool.manifest_path(self.recording_id)
        try:
            self._sync_slots()
            write_file(path, self._signed(manifest, summary))
            sync_folder(path.parent.parent)
        except OSError as error:
            raise disk_error(error, path) from None
        sealed = self.finish()
        with contextlib.suppress(OSError):  # a `.part` beside its manifest is as good
            sync_folder(path.parent)
        return sealed

    @property
    def waiting(self) -> Bytes | None:
        """The record, as it is sealed, that goes to the disk once there is room; before anything else."""
        return self._held

    @property
    def failure(self) -> RecorderError | None:
        """Why nothing more can be written, where that is so."""
        return self._failure

    def as_previous(self) -> Previous:
        """How a segment that goes on with this one names it: by the hash of what was written."""
        return Previous(self.recording_id, self._header.core.segment, self._digest.hexdigest())

    def fail(self, failure: RecorderError) -> RecorderError:
        """Take nothing more: what was written may not be on the disk. Returns ``failure``."""
        self._failure = failure.anew()
        self._blocked = True
        return failure

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.fail(SpoolError(f"{self._stem}{PART_SUFFIX}: the recording was closed"))

    def discard(self) -> None:
        """Close the file of a recording that never began, and leave nothing of it."""
        self.abandon()
        self.path.unlink(missing_ok=True)
        if self._slots is not None:
            self._spool.slot_path(self.recording_id).unlink(missing_ok=True)

    def _state(self, summary: dict[str, Any], public: dict[str, Any] | None, now_ns: int | None) -> Manifest:
        """Write the end record, unless that was done, and say what the manifest says."""
        if self._blocked and not self._ended:
            self._clear_way(0)
        if not self._ended:
            counts = self._sealer.records, self.refused_packets
            told = json_plaintext(summary)
            end = end_plaintext(*counts, self._tally, told)
            record = self._seal(Kind.END, self._elapsed_ms, end)
            self._ended = self._blocked = True
            self._summary = told
            self._append(record)
        elif self._held is not None or self._failure is not None:
            self._clear_way(0)
        if self._manifest is None:
            self._manifest = Manifest.of_file(
                self._header,
                state=SEALED,
                size=self.size,
                sha256=self._digest.hexdigest(),
                records=self._sealer.records,
                intact_bytes=self.size,
                elapsed_ms=self._elapsed_ms,
                written_us=(time.time_ns() if now_ns is None else now_ns) // 1000,
                summary=summary if public is None else public,
                slots=self._slots,
            )
        return self._manifest

    def _signed(self, manifest: Manifest, summary: dict[str, Any]) -> Bytes:
        """The manifest's file; ``summary`` is what was sealed."""
        data = manifest.signed(self._signer, self._summary if manifest.summary is summary else None)
        self._manifest_sha256 = hashlib.sha256(data).hexdigest()
        return data

    def _seal(self, kind: Kind, elapsed_ms: int, plaintext: bytes) -> memoryview:
        """The next record, which has to reach the file before any other, and before this thread makes one."""
        if elapsed_ms > self._elapsed_ms:
            self._elapsed_ms = min(elapsed_ms, MAX_ELAPSED)
        try:
            return self._sealer.seal_in(_ROOMS.room, kind, elapsed_ms, plaintext)
        except ArithmeticError as error:
            raise self.fail(SpoolError(f"{self.path}: {error}; memory or processor is at fault")) from None

    def _append(self, record: bytes | memoryview) -> None:
        """One write; the rest only where the kernel took a part. A refused record leaves nothing behind, and
        is held back: it is sealed, so its nonce is used, and it is written as it is, or never.
        """
        try:
            written = os.write(self._descriptor, record)
            if written != len(record):
                write_all(self._descriptor, record[written:])
        except OSError as error:
            try:
                os.ftruncate(self._descriptor, self.size)
            except OSError as second:
                raise self.fail(disk_error(second, self.path)) from None
            if error.errno not in FULL:
                raise self.fail(disk_error(error, self.path)) from None
            self._held, self._blocked = bytes(record), True
            raise disk_error(error, self.path) from None
        self.size += len(record)
        self._digest.update(record)

    def _clear_way(self, packets: int) -> None:
        """Write what was held back, or say why nothing can be written; ``packets`` are refused then."""
        try:
            if self._failure is not None:
                raise self._failure.anew()
            if self._held is not None:
                self._append(self._held)
                self._held = None
        except RecorderError:
            self.refused_packets += packets
            raise
        if self._ended:
            return
        self._blocked = False
