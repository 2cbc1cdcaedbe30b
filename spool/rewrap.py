"""Wraps the data key of recordings anew: for further recipients, or others, while the recordings stay as they
are (docs/format.md, "The slot file").

It needs a private identity, which no recording host has. So it is done on slot files that were copied from
there, and what comes of it is taken in by the host, which can tell whether it belongs there and is later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recorderd.errors import NoSuchRecording, SpoolCorrupt, UsageError
from recorderd.spool.header import Header
from recorderd.spool.keys import DEFAULT_SUITE, SUITES, Identity, Recipient, open_header
from recorderd.spool.layout import SLOT_SUFFIX, Spool
from recorderd.spool.reader import RecordFile, check_name
from recorderd.spool.scan import read_header
from recorderd.spool.slot_files import changing, put_slots, read_slots, slot_path_of
from recorderd.spool.slots import SlotFile, slots_of


@dataclass(frozen=True, slots=True)
class Rewrapping:
    """What is to be done: the data keys that ``identities`` open are wrapped for ``recipients`` as well, and
    with ``drop_old`` no longer for the identities' own keys."""

    identities: Sequence[Identity]
    recipients: Sequence[Recipient]
    drop_old: bool = False

    def of(self, header: Header | None, slots: SlotFile | None) -> SlotFile | None:
        """The next generation of the key slots of a recording, of which header or slot file is given, or
        both; None where it would be no other.

        Raises WrongKey where no identity opens it, SpoolCorrupt where a slot is damaged, and UsageError where
        it cannot be done.
        """
        of = header if slots is None else slots
        if of is None:
            raise ValueError("neither header nor slot file")
        inside = () if header is None else header.slots
        beside = () if slots is None else slots.slots
        data_key = open_header(of, self.identities, inside if of is slots else ())
        old = {one.recipient().id for one in self.identities} - {one.id for one in self.recipients}
        if self.drop_old and any(slot.key_id in old for slot in inside):
            raise UsageError(
                f"{of.core.recording}: the key slots in its header stay: what is sealed is never changed"
            )
        kept = [slot for slot in beside if not (self.drop_old and slot.key_id in old)]
        known = {slot.key_id for slot in (*inside, *kept)}
        new = [one for one in self.recipients if one.id not in known]
        if not new and len(kept) == len(beside):
            return None
        strong = any(slot.kem == SUITES[DEFAULT_SUITE].kem for slot in (*inside, *beside))
        for one in new:
            if strong and one.suite != DEFAULT_SUITE:
                # One weak recipient would make the others' strength useless.
                raise UsageError(f"{one.id.hex()}: a key of {one.suite}, weaker than what is sealed already")
        wrapped = [*kept, *(one.wrap(data_key, of.wrap_info) for one in new)]
        return slots_of(of, wrapped) if isinstance(of, Header) else of.next(wrapped)


def rewrap_in_spool(spool: Spool, recording_id: str, task: Rewrapping) -> SlotFile | None:
    """Put the next generation beside a finished recording; None where it would be no other.

    Raises as :meth:`Rewrapping.of` does, and NoSuchRecording, DiskFull, SpoolError.
    """
    path = spool.record_path(recording_id)
    if not spool.folder(recording_id).is_dir():
        raise NoSuchRecording(f"{recording_id}: no such recording in {spool.path}")
    with changing(path.parent):
        header, slots = present_slots(spool, recording_id)
        new = task.of(header, slots)
        if new is not None:
            put_slots(slot_path_of(path), new)
    return new


def rewrap_file(path: Path, task: Rewrapping) -> SlotFile | None:
    """The same for a slot file without its recording."""
    with changing(path.parent):
        slots = read_slots(path)
        if slots is None:
            raise NoSuchRecording(f"{path}: no such file")
        new = task.of(None, slots)
        if new is not None:
            put_slots(path, new)
    return new


def import_slots(spool: Spool, path: Path) -> SlotFile | None:
    """Take in the slot file at ``path``: a later generation of that of a finished recording here; returns it,
    or None where it is here already.

    Raises SpoolCorrupt for one that is damaged, of another recording, or not later, NoSuchRecording, DiskFull
    and SpoolError.
    """
    given = read_slots(path)
    if given is None:
        raise NoSuchRecording(f"{path}: no such file")
    folder = spool.folder(given.recording)
    if not folder.is_dir():
        raise NoSuchRecording(f"{given.recording}: no such recording in {spool.path}")
    with changing(folder):
        header, slots = present_slots(spool, given.recording)
        if slots is not None and slots.raw == given.raw:
            return None
        of_this = given.belongs_to(header) if header is not None else _same(given, slots)
        if not of_this:
            raise SpoolCorrupt(f"{path}: key slots: they are of another recording")
        if slots is not None and given.generation <= slots.generation:
            raise SpoolCorrupt(
                f"{path}: key slots: generation {given.generation}, where {slots.generation} is here already"
            )
        if slots is None and header is not None and header.detached:
            # Destroyed, perhaps, and then for good: `restore` brings back what was lost.
            raise SpoolCorrupt(f"{path}: key slots: those of {given.recording} were destroyed or are missing")
        put_slots(slot_path_of(spool.record_path(given.recording)), given)
    return given


def slot_files_in(folder: Path) -> Iterator[Path]:
    """Every slot file in a folder and those below it, in order of their names."""
    yield from sorted(path for path in folder.rglob(f"*{SLOT_SUFFIX}") if path.is_file())


def present_slots(spool: Spool, recording_id: str) -> tuple[Header | None, SlotFile | None]:
    """Header and slot file of a finished recording, as far as they are here.

    Raises NoSuchRecording where neither is, UsageError where it is still being recorded, and SpoolCorrupt
    and SpoolError.
    """
    path = spool.record_path(recording_id)
    slots = read_slots(slot_path_of(path))
    header = None
    if path.exists():
        try:
            with RecordFile(path) as file:
                header = read_header(file.read)
            check_name(path, header)
        except SpoolCorrupt as error:
            raise SpoolCorrupt(f"{path}: {error}") from None
        if slots is not None and not slots.belongs_to(header):
            raise SpoolCorrupt(f"{slot_path_of(path)}: key slots: they are of another recording")
    elif spool.part_path(recording_id).exists():
        raise UsageError(f"{recording_id}: still being recorded; try again when it is over")
    if header is None and slots is None:
        raise NoSuchRecording(f"{recording_id}: no such recording in {spool.path}")
    return header, slots


def _same(one: SlotFile, other: SlotFile | None) -> bool:
    """Whether both are of the same recording."""

    def of(slots: SlotFile) -> tuple[object, ...]:
        return slots.header_hash, slots.core, slots.salt, slots.commitment

    return other is not None and of(one) == of(other)
