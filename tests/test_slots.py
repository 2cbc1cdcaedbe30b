"""The key slots in a file of their own: built and read, beside a recording and without it."""

import contextlib
import errno
import os
import shutil
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.config import load_config
from recorderd.errors import DiskFull, KeysMissing, SpoolCorrupt, SpoolError, WrongKey
from recorderd.service.engine import Engine
from recorderd.service.opening import engine_settings, open_archive
from recorderd.service.replay import replay
from recorderd.spool.header import Core, KeySlot, new_header
from recorderd.spool.index import Index
from recorderd.spool.keys import Identity
from recorderd.spool.layout import Spool
from recorderd.spool.manifest import load_manifest
from recorderd.spool.reader import Recording
from recorderd.spool.recovery import recover, recover_some
from recorderd.spool.slots import MAGIC, new_detached, parse_slots, slots_of
from recorderd.spool.verify import verify
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript
from tests.spool_builder import fill, make_desk, summary

CORE = Core("20261121T200501Z-0123456789", "pbx", 0)
DATA_KEY = bytes(range(32))
SALT = bytes(range(32, 64))


def fake(key, info):
    return KeySlot(bytes(16), 32, key[:8] + info[:8])


@pytest.fixture
def desk(tmp_path):
    return make_desk(tmp_path)


# The file


def test_what_is_built_is_read_back():
    header, slots, keys = new_detached(CORE, DATA_KEY, SALT, [fake, fake])
    assert header.detached
    assert header.commitment == keys.commitment
    assert parse_slots(slots.raw) == slots
    assert slots.belongs_to(header)
    assert slots.commits_to(DATA_KEY)
    assert not slots.commits_to(bytes(32))
    assert (slots.generation, slots.recording) == (1, CORE.recording)
    assert slots.wrap_info == header.wrap_info
    later = slots.next(slots.slots[:1])
    assert (parse_slots(later.raw), later.generation) == (later, 2)
    assert later.belongs_to(header)


def test_a_header_with_slots_may_have_more_of_them_beside_it():
    header, _ = new_header(CORE, DATA_KEY, SALT, [fake])
    assert not header.detached
    slots = slots_of(header, [fake(DATA_KEY, b"")])
    assert parse_slots(slots.raw).belongs_to(header)
    assert not slots.belongs_to(new_detached(CORE, DATA_KEY, SALT, [fake])[0])


def test_no_slots_or_too_many_cannot_be():
    header, slots, _ = new_detached(CORE, DATA_KEY, SALT, [fake])
    for number in (0, 33):
        with pytest.raises(ValueError, match="1 to 32"):
            slots_of(header, [fake(DATA_KEY, b"")] * number)
        with pytest.raises(ValueError, match="1 to 32"):
            slots.next([fake(DATA_KEY, b"")] * number)
    with pytest.raises(ValueError, match="too long"):
        slots.next([KeySlot(bytes(16), 32, bytes(65_000))] * 2)


def test_every_flip_truncation_and_addition_is_found():
    _, slots, _ = new_detached(CORE, DATA_KEY, SALT, [fake, fake])
    for at in range(len(slots.raw)):
        for bit in range(8):
            damaged = bytearray(slots.raw)
            damaged[at] ^= 1 << bit
            with pytest.raises(SpoolCorrupt, match="key slots"):
                parse_slots(bytes(damaged))
        with pytest.raises(SpoolCorrupt, match="key slots"):
            parse_slots(slots.raw[:at])
    with pytest.raises(SpoolCorrupt, match="bytes were added"):
        parse_slots(slots.raw + b"\0")


@given(st.binary(max_size=300))
def test_any_bytes_are_slots_or_corrupt(data):
    with contextlib.suppress(SpoolCorrupt):
        parse_slots(data)
    with contextlib.suppress(SpoolCorrupt):
        parse_slots(MAGIC + data)


@given(st.data())
def test_any_bytes_under_a_right_checksum_are_slots_or_corrupt(data):
    """Who forges a slot file makes its checksum right."""
    _, slots, _ = new_detached(CORE, DATA_KEY, SALT, [fake, fake])
    forged = bytearray(slots.raw[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        forged[data.draw(st.integers(0, len(forged) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(forged) + zlib.crc32(forged).to_bytes(4, "little")
    with contextlib.suppress(SpoolCorrupt):
        assert parse_slots(raw).raw == raw


# Beside a recording


def test_a_file_under_any_name_finds_its_slots_by_its_id(desk, tmp_path):
    sealed = desk.record()
    copy = tmp_path / "a copy.rec"
    shutil.copy(sealed.path, copy)
    with pytest.raises(KeysMissing):
        Recording.open(copy, [desk.identity])
    shutil.copy(desk.spool.slot_path(sealed.recording), tmp_path)
    with Recording.open(copy, [desk.identity]) as recording:
        assert recording.status == "complete"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".", "\0", "x" * 300])
def test_an_id_that_is_none_leads_nowhere(desk, tmp_path, name):
    header, _, _ = new_detached(Core(name, "pbx", 0), DATA_KEY, SALT, [fake])
    path = tmp_path / "any.rec"
    path.write_bytes(header.raw)
    with pytest.raises(KeysMissing):
        Recording.open(path, [desk.identity])


def test_a_recording_has_its_slots_beside_it_from_the_first_byte(desk):
    writer = desk.start()
    path = desk.spool.slot_path(writer.recording_id)
    slots = parse_slots(path.read_bytes())
    assert slots.recipients == writer.recipients == (desk.recipient.id.hex(),)
    with Recording.open(writer.path, [desk.identity]) as running:
        assert running.header.detached
    sealed = writer.seal(summary())
    manifest = load_manifest(sealed.manifest_path, desk.signer.public)
    assert (manifest.slots_sha256, manifest.recipients) == (slots.sha256, slots.recipients)
    verdict = verify(desk.spool, sealed.recording, desk.signer.public, [desk.identity])
    assert (verdict.ok, verdict.slots) == (True, "detached")


def test_without_its_slot_file_nobody_opens_it(desk):
    sealed = desk.record()
    slot_path = desk.spool.slot_path(sealed.recording)
    slot_path.unlink()
    with pytest.raises(KeysMissing, match="destroyed or are missing: nobody can open it"):
        Recording.open(sealed.path, [desk.identity])
    verdict = verify(desk.spool, sealed.recording, desk.signer.public)
    assert (verdict.ok, verdict.slots) == (False, "missing")
    assert str(slot_path) in verdict.problems[0]


def test_the_form_of_before_needs_no_file_beside_it(desk):
    writer = desk.start(detached=False)
    fill(writer, 2)
    sealed = writer.seal(summary())
    assert not desk.spool.slot_path(sealed.recording).exists()
    manifest = load_manifest(sealed.manifest_path, desk.signer.public)
    assert (manifest.slots_sha256, manifest.recipients) == (None, (desk.recipient.id.hex(),))
    verdict = verify(desk.spool, sealed.recording, desk.signer.public, [desk.identity])
    assert (verdict.ok, verdict.slots) == (True, "header")


def test_every_damage_of_the_slot_file_is_found_beside_the_recording(desk):
    sealed = desk.record()
    path = desk.spool.slot_path(sealed.recording)
    data = path.read_bytes()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        for bad in (damaged, data[:at]):
            path.write_bytes(bad)
            verdict = verify(desk.spool, sealed.recording, desk.signer.public)
            assert verdict.slots == "damaged"
            assert str(path) in verdict.problems[0]
    with pytest.raises(SpoolCorrupt, match="key slots"):
        Recording.open(sealed.path, [desk.identity])


def test_slots_of_another_recording_are_found(desk):
    one, two = desk.record(0), desk.record(1)
    shutil.copy(desk.spool.slot_path(two.recording), desk.spool.slot_path(one.recording))
    verdict = verify(desk.spool, one.recording, desk.signer.public)
    assert "of another recording" in verdict.problems[0]
    with pytest.raises(SpoolCorrupt, match="another recording"):
        Recording.open(one.path, [desk.identity])


def test_a_first_generation_that_was_not_the_recorders_is_found(desk):
    """Its checksum is right; the manifest states another."""
    sealed = desk.record()
    path = desk.spool.slot_path(sealed.recording)
    slots = parse_slots(path.read_bytes())
    with Recording.open(sealed.path, [desk.identity]) as recording:
        path.write_bytes(slots_of(recording.header, [*slots.slots, *slots.slots]).raw)
    verdict = verify(desk.spool, sealed.recording, desk.signer.public)
    assert "SHA-256 is not the one in the manifest" in verdict.problems[0]


def test_slots_that_open_to_another_key_are_no_way_to_other_audio(desk):
    """A forged generation can keep people out; it cannot make them hear something else."""
    sealed = desk.record()
    path = desk.spool.slot_path(sealed.recording)
    slots = parse_slots(path.read_bytes())
    path.write_bytes(slots.next([desk.recipient.wrap(bytes(32), slots.wrap_info)]).raw)
    with pytest.raises(SpoolCorrupt, match=f"key slot for {desk.recipient.id.hex()} is damaged"):
        Recording.open(sealed.path, [desk.identity])


def test_a_stranger_is_told_whose_it_is(desk):
    sealed = desk.record()
    with pytest.raises(WrongKey, match=desk.recipient.id.hex()):
        Recording.open(sealed.path, [Identity("x25519", bytes(32))])


# Crashes and full disks


def files(desk):
    return sorted(path.name for path in desk.spool.recordings.rglob("*.*"))


def test_a_recording_that_cannot_begin_leaves_no_slots(desk, monkeypatch):
    real = os.open

    def full(path, flags, mode=0o777, **more):
        if str(path).endswith(".part"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(DiskFull):
        desk.start()
    assert files(desk) == []


def test_the_slots_of_another_are_never_touched(desk):
    writer = desk.start()
    before = desk.spool.slot_path(writer.recording_id).read_bytes()
    with pytest.raises(SpoolError, match="exists"):
        desk.start()
    assert desk.spool.slot_path(writer.recording_id).read_bytes() == before


def test_what_is_discarded_leaves_nothing(desk):
    desk.start().discard()
    assert files(desk) == []


@pytest.mark.parametrize("torn", [0, 100, None])
def test_slots_of_a_recording_that_never_began_are_removed(desk, torn):
    sealed = desk.record(0)
    writer = desk.start(1)
    writer.abandon()
    writer.path.unlink()
    path = desk.spool.slot_path(writer.recording_id)
    path.write_bytes(path.read_bytes()[:torn])
    assert recover(desk.spool, None, desk.signer) == []
    assert not path.exists()
    assert desk.spool.slot_path(sealed.recording).exists()


def test_slots_of_a_dead_writer_are_removed_beside_living_ones(desk):
    dead, living = desk.start(0), desk.start(1)
    dead.abandon()
    dead.path.unlink()
    with Index.open(desk.spool) as index:
        assert recover_some(desk.spool, [dead.recording_id], index, desk.signer) == []
    assert not desk.spool.slot_path(dead.recording_id).exists()
    assert desk.spool.slot_path(living.recording_id).exists()


def test_slots_are_kept_of_a_recording_that_is_elsewhere(desk):
    """Its file and manifest may have made room here: the slots are the only way back into it."""
    with Index.open(desk.spool) as index:
        sealed = desk.record()
        desk.enter(index, sealed)
        sealed.path.unlink()
        sealed.manifest_path.unlink()
        recover(desk.spool, index, desk.signer)
        assert desk.spool.slot_path(sealed.recording).exists()


@pytest.mark.parametrize("torn", [None, 0, 100])
def test_a_part_without_intact_slots_is_set_aside(desk, torn):
    writer = desk.start()
    fill(writer, 2)
    writer.abandon()
    path = desk.spool.slot_path(writer.recording_id)
    if torn is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:torn])
    (found,) = recover(desk.spool, None, desk.signer)
    assert (found.state, found.path) == ("damaged", desk.spool.damaged_path(writer.recording_id))
    assert "its key slots did not survive" in str(found)
    assert found.path.exists()
    assert recover(desk.spool, None, desk.signer) == []


def test_a_recovered_recording_states_its_slots(desk):
    writer = desk.start()
    fill(writer, 2)
    writer.abandon()
    recover(desk.spool, None, desk.signer)
    manifest = load_manifest(desk.spool.manifest_path(writer.recording_id), desk.signer.public)
    slots = parse_slots(desk.spool.slot_path(writer.recording_id).read_bytes())
    assert (manifest.slots_sha256, manifest.recipients) == (slots.sha256, writer.recipients)


# The configuration


@pytest.mark.parametrize("where", ["detached", "header", None])
def test_the_configuration_says_where_the_slots_are(desk, tmp_path, where):
    simulator = PbxSimulator(seed=5)
    simulator.add(CallScript(talk_s=1))
    capture = tmp_path / "calls.pcap"
    simulator.write(capture)
    slots = f", slots: {where}" if where else ""
    (tmp_path / "c.yaml").write_text(
        f"spool: {{path: recorded}}\nencryption: {{recipients: [identity.pub], suite: x25519{slots}}}\n"
    )
    config = load_config(tmp_path / "c.yaml")
    with open_archive(config) as archive:
        engine = Engine(archive, engine_settings(config, live=False))
        assert replay([capture], engine) == []
    spool = Spool(tmp_path / "recorded")
    (name,) = spool.records()
    assert spool.slot_path(name).exists() == (where != "header")
    with Recording.open(spool.record_path(name), [desk.identity]) as recording:
        assert recording.status == "complete"
        assert recording.header.detached == (where != "header")
