import shutil

import pytest

from recorderd.errors import NoSuchRecording, SpoolError, WrongKey
from recorderd.spool.keys import Identity
from recorderd.spool.recovery import recover
from recorderd.spool.verify import host_public, verify
from tests.spool_builder import fill, make_desk


@pytest.fixture
def desk(tmp_path):
    return make_desk(tmp_path)


@pytest.fixture
def small(desk):
    """A small sealed recording; its files are put back for each change."""
    return desk.record(windows=2, packets=2, size=4)


def both(desk, recording, **more):
    """Verdicts without and with the key."""
    public = desk.signer.public
    return (
        verify(desk.spool, recording, public, **more),
        verify(desk.spool, recording, public, [desk.identity], **more),
    )


def found(desk, sealed, path):
    """Both ways find something wrong, and name the file."""
    for verdict in both(desk, sealed.recording):
        assert not verdict.ok
        assert verdict.status == "corrupt"
        assert any(str(path) in problem or str(sealed.path) in problem for problem in verdict.problems)


def test_a_sealed_recording_is_right(desk, small):
    without, with_key = both(desk, small.recording, expected_sha256=small.sha256)
    assert without.ok
    assert with_key.ok
    assert (without.status, without.state, without.with_key) == ("complete", "sealed", False)
    assert with_key.with_key
    assert without.as_json()["sha256"] == small.sha256


def test_every_flipped_byte_of_the_recording_is_found(desk, small):
    data = small.path.read_bytes()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        small.path.write_bytes(damaged)
        found(desk, small, small.path)


def test_every_truncation_of_the_recording_is_found(desk, small):
    data = small.path.read_bytes()
    for length in range(len(data)):
        small.path.write_bytes(data[:length])
        found(desk, small, small.path)


def test_every_flipped_byte_of_the_manifest_is_found(desk, small):
    data = small.manifest_path.read_bytes()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        small.manifest_path.write_bytes(damaged)
        verdict = verify(desk.spool, small.recording, desk.signer.public)
        assert str(small.manifest_path) in verdict.problems[0]


def test_every_truncation_of_the_manifest_is_found(desk, small):
    data = small.manifest_path.read_bytes()
    for length in range(len(data)):
        small.manifest_path.write_bytes(data[:length])
        assert not verify(desk.spool, small.recording, desk.signer.public).ok


@pytest.mark.parametrize("more", [b"\0", b"x" * 5000])
def test_bytes_added_are_found(desk, small, more):
    small.path.write_bytes(small.path.read_bytes() + more)
    found(desk, small, small.path)


def test_missing_files_are_found(desk, small):
    copy = small.manifest_path.read_bytes()
    small.manifest_path.unlink()
    found(desk, small, small.manifest_path)
    small.manifest_path.write_bytes(copy)
    small.path.unlink()
    found(desk, small, small.path)
    small.manifest_path.unlink()
    verdict = verify(desk.spool, small.recording, desk.signer.public, expected_sha256=small.sha256)
    assert not verdict.ok
    with pytest.raises(NoSuchRecording):
        verify(desk.spool, small.recording, desk.signer.public)


def test_swapped_recordings_are_found(desk):
    one, two = desk.record(0), desk.record(1)
    shutil.copy(two.path, one.path)
    found(desk, one, one.path)
    shutil.copy(two.manifest_path, one.manifest_path)
    found(desk, one, one.path)


def test_an_older_copy_is_found_by_the_index(desk, small):
    for verdict in both(desk, small.recording, expected_sha256="0" * 64):
        assert "index" in verdict.problems[0]


def recovered(desk, torn=b"torn"):
    writer = desk.start()
    fill(writer, 3, 2, 4)
    writer.abandon()
    with writer.path.open("ab") as file:
        file.write(torn)
    return recover(desk.spool, None, desk.signer)[0]


def test_a_recovered_recording_is_right_as_far_as_it_goes(desk):
    recording = recovered(desk)
    for verdict in both(desk, recording.recording):
        assert verdict.ok
        assert (verdict.status, verdict.state) == ("recovered-prefix", "recovered")


def test_every_flipped_byte_and_truncation_of_a_recovered_recording_is_found(desk):
    """The torn tail too: the host has signed the hash of all of it."""
    recording = recovered(desk, torn=b"\x05\0\0\0torn")
    data = recording.path.read_bytes()
    public = desk.signer.public
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        recording.path.write_bytes(damaged)
        assert not verify(desk.spool, recording.recording, public).ok
        recording.path.write_bytes(data[:at])
        assert not verify(desk.spool, recording.recording, public).ok


def test_a_call_in_progress_is_told_as_such(desk):
    writer = desk.start()
    verdict = verify(desk.spool, writer.recording_id, desk.signer.public)
    assert (verdict.ok, verdict.status) == (True, "in-progress")


def test_a_wrong_key_is_told_at_once(desk, small):
    with pytest.raises(WrongKey):
        verify(desk.spool, small.recording, desk.signer.public, [Identity("x25519", bytes(32))])


def test_another_hosts_key_does_not_vouch(desk, small, tmp_path):
    other = make_desk(tmp_path / "other")
    verdict = verify(desk.spool, small.recording, other.signer.public)
    assert "another host" in verdict.problems[0]


def test_an_id_is_no_path(desk):
    for name in ("../../etc/passwd", "20261121T200501Z-0123456789/..", "", "a\0b"):
        with pytest.raises(NoSuchRecording):
            verify(desk.spool, name, desk.signer.public)


def test_progress_ends_at_the_size(desk, small):
    seen = []
    verify(desk.spool, small.recording, desk.signer.public, progress=lambda *each: seen.append(each))
    assert seen[-1] == (small.bytes, small.bytes)


def test_the_hosts_public_key_is_asked_for_clearly(desk, tmp_path):
    assert host_public(desk.spool).id == desk.signer.public.id
    desk.spool.host_public_path.unlink()
    with pytest.raises(SpoolError, match="nothing can be verified"):
        host_public(desk.spool)
