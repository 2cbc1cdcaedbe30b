"""Wrapping keys anew: others can open a recording, and not a byte of it changes."""

import hashlib
import os
import shutil
import signal

import pytest

from recorderd.errors import DiskFull, KeysMissing, NoSuchRecording, SpoolCorrupt, UsageError, WrongKey
from recorderd.spool.durable import FULL
from recorderd.spool.keys import Identity
from recorderd.spool.layout import Spool
from recorderd.spool.reader import Recording
from recorderd.spool.recovery import recover
from recorderd.spool.rewrap import Rewrapping, import_slots, rewrap_file, rewrap_in_spool, slot_files_in
from recorderd.spool.slot_files import read_slots
from recorderd.spool.verify import verify
from tests.forked import forked, told_by
from tests.spool_builder import fill, make_desk, summary

NEW = Identity("x25519", bytes(range(32)))
STRANGER = Identity("x25519", bytes(range(1, 33)))
HYBRID = Identity("mlkem768-x25519", bytes(range(32)))


@pytest.fixture
def desk(tmp_path):
    return make_desk(tmp_path)


def task(desk, *, drop_old=False, identity=None, recipient=None):
    return Rewrapping([identity or desk.identity], [(recipient or NEW).recipient()], drop_old)


def opens(path, identity):
    with Recording.open(path, [identity]) as recording:
        assert recording.status == "complete"


def in_the_header(desk, number=0):
    writer = desk.start(number, detached=False)
    fill(writer, 2)
    return writer.seal(summary(number))


@pytest.mark.parametrize("drop_old", [False, True])
def test_another_key_opens_it_and_the_recording_is_what_it_was(desk, drop_old):
    sealed = desk.record()
    made = rewrap_in_spool(desk.spool, sealed.recording, task(desk, drop_old=drop_old))
    assert made is not None
    assert made.generation == 2
    assert hashlib.sha256(sealed.path.read_bytes()).hexdigest() == sealed.sha256
    opens(sealed.path, NEW)
    if drop_old:
        with pytest.raises(WrongKey, match=NEW.recipient().id.hex()):
            Recording.open(sealed.path, [desk.identity])
    else:
        opens(sealed.path, desk.identity)
    verdict = verify(desk.spool, sealed.recording, desk.signer.public, [NEW])
    assert (verdict.problems, verdict.slots) == ([], "detached, generation 2")


def test_what_would_change_nothing_writes_nothing(desk):
    sealed = desk.record()
    path = desk.spool.slot_path(sealed.recording)
    before = path.read_bytes()
    again = task(desk, recipient=desk.identity, drop_old=True)
    assert rewrap_in_spool(desk.spool, sealed.recording, again) is None
    assert path.read_bytes() == before


def test_dropping_takes_the_identitys_own_key_only(desk):
    escrow = STRANGER.recipient()
    writer = desk.start(recipients=[desk.recipient, escrow])
    sealed = writer.seal({})
    made = rewrap_in_spool(desk.spool, sealed.recording, task(desk, drop_old=True))
    assert made is not None
    assert made.recipients == (escrow.id.hex(), NEW.recipient().id.hex())


def test_a_header_with_slots_gets_more_of_them_beside_it(desk):
    sealed = in_the_header(desk)
    made = rewrap_in_spool(desk.spool, sealed.recording, task(desk))
    assert made is not None
    assert (made.generation, made.recipients) == (1, (NEW.recipient().id.hex(),))
    for identity in (desk.identity, NEW):
        opens(sealed.path, identity)
    # The new one may let further ones in, though its slot is beside the header.
    more = task(desk, identity=NEW, recipient=STRANGER)
    assert rewrap_in_spool(desk.spool, sealed.recording, more).generation == 2
    opens(sealed.path, STRANGER)
    verdict = verify(desk.spool, sealed.recording, desk.signer.public, [NEW])
    assert (verdict.problems, verdict.slots) == ([], "header and detached, generation 2")


def test_the_slots_of_a_header_cannot_be_dropped(desk):
    sealed = in_the_header(desk)
    with pytest.raises(UsageError, match="header stay"):
        rewrap_in_spool(desk.spool, sealed.recording, task(desk, drop_old=True))
    assert not desk.spool.slot_path(sealed.recording).exists()


def test_damaged_slots_beside_a_header_with_slots_keep_nobody_out(desk):
    sealed = in_the_header(desk)
    rewrap_in_spool(desk.spool, sealed.recording, task(desk))
    desk.spool.slot_path(sealed.recording).write_bytes(b"damaged")
    opens(sealed.path, desk.identity)
    assert not verify(desk.spool, sealed.recording, desk.signer.public).ok


def test_who_cannot_open_it_cannot_let_others(desk):
    sealed = desk.record()
    with pytest.raises(WrongKey):
        rewrap_in_spool(desk.spool, sealed.recording, task(desk, identity=STRANGER))
    path = desk.spool.slot_path(sealed.recording)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(SpoolCorrupt, match="checksum"):
        rewrap_in_spool(desk.spool, sealed.recording, task(desk))
    path.unlink()
    with pytest.raises(KeysMissing):
        rewrap_in_spool(desk.spool, sealed.recording, task(desk))
    with pytest.raises(NoSuchRecording):
        rewrap_in_spool(desk.spool, "20261121T200501Z-ffffffffff", task(desk))


def test_a_weaker_key_than_those_before_is_refused(desk):
    sealed = desk.record()
    rewrap_in_spool(desk.spool, sealed.recording, task(desk, recipient=HYBRID, drop_old=True))
    with pytest.raises(UsageError, match="weaker"):
        rewrap_in_spool(desk.spool, sealed.recording, task(desk, identity=HYBRID, recipient=NEW))


def test_a_call_in_progress_is_left_alone(desk):
    writer = desk.start()
    with pytest.raises(UsageError, match="still being recorded"):
        rewrap_in_spool(desk.spool, writer.recording_id, task(desk))
    copy = desk.spool.path / "copy.key"
    shutil.copy(desk.spool.slot_path(writer.recording_id), copy)
    rewrap_file(copy, task(desk))
    with pytest.raises(UsageError, match="still being recorded"):
        import_slots(desk.spool, copy)


def test_a_full_disk_leaves_the_generation_before(desk, monkeypatch):
    sealed = desk.record()

    def full(*_):
        raise OSError(min(FULL), "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull):
        rewrap_in_spool(desk.spool, sealed.recording, task(desk, drop_old=True))
    opens(sealed.path, desk.identity)
    assert not list(desk.spool.path.rglob("*.tmp"))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_every_act_on_the_disk_one_generation_stands(tmp_path, moment):
    """Never none, never half of one, and the recording opens to one key or the other."""
    seen, operation = set(), 0
    while True:
        operation += 1
        desk = make_desk(tmp_path / str(operation))
        sealed = desk.record()

        def act(tell, desk=desk, sealed=sealed, at=operation):
            die_at(at, moment)
            rewrap_in_spool(desk.spool, sealed.recording, task(desk, drop_old=True))
            tell(b"done ")

        told = told_by(*forked(act))
        recover(desk.spool, None, desk.signer)
        assert not list(desk.spool.path.rglob("*.tmp"))
        slots = read_slots(desk.spool.slot_path(sealed.recording))
        assert slots is not None
        seen.add(slots.generation)
        opens(sealed.path, desk.identity if slots.generation == 1 else NEW)
        if b"done" in told:
            assert slots.generation == 2
            break
    assert seen == {1, 2}
    assert operation > 5


def die_at(operation: int, moment: str) -> None:
    left = [operation]

    def wrap(name):
        real = getattr(os, name)

        def act(*arguments, **keywords):
            left[0] -= 1
            if left[0] == 0:
                if moment == "after":
                    real(*arguments, **keywords)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)

        setattr(os, name, act)

    for name in ("open", "write", "fsync", "rename", "close"):
        wrap(name)


# Where the recordings are not


def copied(desk, folder):
    """The slot files alone, as they are carried to the machine of a key holder."""
    for path in slot_files_in(desk.spool.recordings):
        target = folder / path.relative_to(desk.spool.recordings)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder


def test_slot_files_are_wrapped_anew_elsewhere_and_taken_in(desk, tmp_path):
    recordings = [desk.record(number) for number in range(3)]
    folder = copied(desk, tmp_path / "elsewhere")
    for path in slot_files_in(folder):
        assert rewrap_file(path, task(desk, drop_old=True)).generation == 2
    for sealed, path in zip(recordings, slot_files_in(folder), strict=True):
        assert import_slots(desk.spool, path).recording == sealed.recording
        assert import_slots(desk.spool, path) is None
        opens(sealed.path, NEW)
        with pytest.raises(WrongKey):
            Recording.open(sealed.path, [desk.identity])
        assert verify(desk.spool, sealed.recording, desk.signer.public, [NEW]).ok


def test_a_key_that_was_not_committed_to_is_not_passed_on(desk, tmp_path):
    """The holder's machine has no recording, and still wraps only the key that the recording has."""
    desk.record()
    (path,) = slot_files_in(copied(desk, tmp_path / "elsewhere"))
    slots = read_slots(path)
    path.write_bytes(slots.next([desk.recipient.wrap(bytes(32), slots.wrap_info)]).raw)
    with pytest.raises(SpoolCorrupt, match="damaged"):
        rewrap_file(path, task(desk))


def test_only_a_later_generation_of_this_recording_is_taken_in(desk, tmp_path):
    one, two = desk.record(0), desk.record(1)
    folder = copied(desk, tmp_path / "elsewhere")
    first, second = slot_files_in(folder)
    before = desk.spool.slot_path(one.recording).read_bytes()
    original = read_slots(first)
    # Another first generation, right in itself.
    first.write_bytes(original.next(original.slots).next(original.slots).raw)
    rewrap_in_spool(desk.spool, two.recording, task(desk))
    with pytest.raises(SpoolCorrupt, match="generation 1, where 2 is here"):
        import_slots(desk.spool, second)
    other = make_desk(tmp_path / "other")
    same_name = other.start(0, recording_id=one.recording)
    foreign = tmp_path / "foreign.key"
    slots = read_slots(other.spool.slot_path(same_name.recording_id))
    foreign.write_bytes(slots.next(slots.slots).raw)
    with pytest.raises(SpoolCorrupt, match="another recording"):
        import_slots(desk.spool, foreign)
    damaged = tmp_path / "damaged.key"
    damaged.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(SpoolCorrupt, match=r"damaged\.key"):
        import_slots(desk.spool, damaged)
    with pytest.raises(NoSuchRecording):
        import_slots(Spool(tmp_path / "empty"), first)
    assert desk.spool.slot_path(one.recording).read_bytes() == before
    assert import_slots(desk.spool, first).generation == 3


def test_what_was_destroyed_does_not_come_back_by_an_import(desk, tmp_path):
    sealed = desk.record()
    (path,) = slot_files_in(copied(desk, tmp_path / "elsewhere"))
    rewrap_file(path, task(desk))
    desk.spool.slot_path(sealed.recording).unlink()
    with pytest.raises(SpoolCorrupt, match="destroyed or are missing"):
        import_slots(desk.spool, path)
    assert not desk.spool.slot_path(sealed.recording).exists()


def test_slots_of_an_evicted_recording_are_taken_in(desk, tmp_path):
    """Its file made room, and is on a remote only; the keys are here."""
    sealed = desk.record()
    (path,) = slot_files_in(copied(desk, tmp_path / "elsewhere"))
    rewrap_file(path, task(desk))
    audio = sealed.path.read_bytes()
    sealed.path.unlink()
    assert import_slots(desk.spool, path).generation == 2
    assert rewrap_in_spool(desk.spool, sealed.recording, task(desk, recipient=STRANGER)).generation == 3
    sealed.path.write_bytes(audio)
    opens(sealed.path, STRANGER)
