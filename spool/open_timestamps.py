"""Checkpoints anchored in the Bitcoin block chain by OpenTimestamps: proofs made with calendars, and
completed by them once a block has them.

A proof is complete where it leads to the Merkle root of a block; that this block is in the chain only a
Bitcoin node can tell. The library is an extra (`[ots]`): it is imported where used.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from recorderd.errors import ConfigError, RecorderError, RemoteError
from recorderd.spool.durable import disk_error
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from recorderd.spool.ledger import FOLDER, Ledger
from recorderd.spool.ledger_keeping import add_alert
from recorderd.spool.ledger_stamps import Stamped, Stamps

AGAIN_S: Final = 1_800.0
"""How often calendars are asked again, for what is not complete or has failed."""


class Calendars(Protocol):
    """What of the configuration is needed here."""

    @property
    def calendars(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def every_s(self) -> float: ...  # noqa: D102
    @property
    def timeout_s(self) -> float: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Anchors:
    """What a proof leads to: numbers of Bitcoin blocks with the Merkle root (hex, as block explorers show it)
    that each must have, and the calendars that have promised more."""

    blocks: tuple[tuple[int, str], ...]
    pending: tuple[str, ...]


def anchors(note: bytes, proof: bytes) -> Anchors:
    """What a proof of this note leads to. Raises RemoteError for a damaged one, or one of something else."""
    _, notary = _library()
    found = list(_read(note, proof).timestamp.all_attestations())
    return Anchors(
        tuple(
            sorted(
                (each.height, message[::-1].hex())
                for message, each in found
                if isinstance(each, notary.BitcoinBlockHeaderAttestation)
            )
        ),
        tuple(sorted(each.uri for _, each in found if isinstance(each, notary.PendingAttestation))),
    )


def make_proof(note: bytes, calendars: Sequence[str], timeout_s: float) -> bytes:
    """Have calendars promise to anchor a note: one at least. Raises RemoteError where none does."""
    core, _ = _library()
    timestamp = core.Timestamp(hashlib.sha256(note).digest())
    failures = []
    for url in calendars:
        try:
            timestamp.merge(_calendar(url).submit(timestamp.msg, timeout_s))
        except Exception as error:  # the library raises Exception itself
            failures.append(f"{url}: {error}")
    if len(failures) == len(calendars):
        raise RemoteError("; ".join(failures))
    return _written(core.DetachedTimestampFile(_hash_op(), timestamp))


def complete(note: bytes, proof: bytes, calendars: Sequence[str], timeout_s: float) -> bytes:
    """Ask the calendars that promised something, of those given, for what they know by now; the proof with
    that. Raises RemoteError for a proof that is damaged."""
    _, notary = _library()
    detached = _read(note, proof)
    for node in list(_nodes(detached.timestamp)):
        for each in list(node.attestations):
            if isinstance(each, notary.PendingAttestation) and each.uri.rstrip("/") in _known(calendars):
                try:
                    node.merge(_calendar(each.uri).get_timestamp(node.msg, timeout_s))
                except Exception:  # noqa: S112 - in no block yet, or not to be reached: asked again later
                    continue
    return _written(detached)


class Anchorer:
    """Has checkpoints of a spool anchored, every so often, and completes the proofs. One thread's own."""

    def __init__(self, spool: Spool, settings: Calendars, index: Index | None = None) -> None:
        """``index`` takes the alerts. Raises ConfigError where the library is missing."""
        _library()
        self._spool, self._settings, self._index = spool, settings, index
        self._ledger = Ledger(spool.path / FOLDER)
        self._stamps = Stamps(self._ledger.path)
        self._looked: float | None = None
        self._told = ""

    def anchor_due(self, now_s: float | None = None) -> None:
        """Do what is due. What calendars or the disk do wrong is an alert, and tried again later."""
        now = time.time() if now_s is None else now_s
        if self._looked is not None and 0 <= now - self._looked < min(AGAIN_S, self._settings.every_s):
            return
        self._looked = now
        try:
            self.complete_all()
            newest = max((_mtime(each.ots_path) for each in self._proofs()), default=None)
            if newest is None or not 0 <= now - newest < self._settings.every_s:
                self.anchor_now()
            self._told = ""
        except RecorderError as error:
            self._tell(error, now)

    def anchor_now(self) -> Stamped | None:
        """Have the newest checkpoint anchored, unless it is; None where there is none. Raises RemoteError,
        SpoolCorrupt, SpoolError, DiskFull."""
        note, stated = self._ledger.note(), self._ledger.stated()
        if note is None or stated is None:
            return None
        stamped = self._stamps.of(stated.size)
        if not stamped.ots_path.exists():
            proof = make_proof(note, self._settings.calendars, self._settings.timeout_s)
            self._put(stamped.note_path, note)
            self._put(stamped.ots_path, proof)
        return stamped

    def complete_all(self) -> list[tuple[Stamped, Anchors]]:
        """Complete what can be; every proof with what it leads to. Raises as :meth:`anchor_now`."""
        found = []
        for each in self._proofs():
            try:
                note, proof = each.note_path.read_bytes(), each.ots_path.read_bytes()
            except OSError as error:
                raise disk_error(error, each.ots_path) from None
            known = anchors(note, proof)
            if not known.blocks:
                settings = self._settings
                better = complete(note, proof, settings.calendars, settings.timeout_s)
                if better != proof:
                    self._put(each.ots_path, better)
                    known = anchors(note, better)
            found.append((each, known))
        return found

    def _proofs(self) -> list[Stamped]:
        names = (path.name.partition(".")[0] for path in self._stamps.folder.glob("*.checkpoint.ots"))
        return [self._stamps.of(size) for size in sorted(int(name) for name in names if name.isdecimal())]

    def _put(self, path: Path, data: bytes) -> None:
        try:
            self._stamps.put(path, data)
        except OSError as error:
            raise disk_error(error, path) from None

    def _tell(self, error: RecorderError, now: float) -> None:
        if self._index is not None and str(error) != self._told:
            self._told = str(error)
            alert = {"kind": "timestamp", "time_ns": int(now * 1e9), "fields": {"error": str(error)}}
            add_alert(self._spool, self._index, alert)


def _read(note: bytes, proof: bytes) -> Any:
    core, _ = _library()
    from opentimestamps.core.serialize import BytesDeserializationContext, DeserializationError

    try:
        detached = core.DetachedTimestampFile.deserialize(BytesDeserializationContext(proof))
    except (DeserializationError, ValueError, RecursionError) as error:
        raise RemoteError(f"not a proof of OpenTimestamps: {type(error).__name__}") from None
    if detached.file_digest != hashlib.sha256(note).digest():
        raise RemoteError("the proof of OpenTimestamps is of something else")
    return detached


def _written(detached: Any) -> bytes:
    from opentimestamps.core.serialize import BytesSerializationContext

    context = BytesSerializationContext()
    detached.serialize(context)
    return bytes(context.getbytes())


def _nodes(timestamp: Any) -> Iterator[Any]:
    yield timestamp
    for each in timestamp.ops.values():
        yield from _nodes(each)


def _known(calendars: Sequence[str]) -> set[str]:
    return {url.rstrip("/") for url in calendars}


def _mtime(path: Path) -> float:
    return path.stat().st_mtime


def _calendar(url: str) -> Any:
    from opentimestamps.calendar import RemoteCalendar

    return RemoteCalendar(url.rstrip("/") + "/", user_agent="recorderd")


def _hash_op() -> Any:
    from opentimestamps.core.op import OpSHA256

    return OpSHA256()


def _library() -> tuple[Any, Any]:
    """The modules of timestamps and of attestations, where the library is there."""
    try:
        from opentimestamps.core import notary, timestamp
    except ImportError:
        raise ConfigError(
            "ledger.opentimestamps: the package opentimestamps is missing (pip install 'recorderd[ots]')"
        ) from None
    return timestamp, notary
