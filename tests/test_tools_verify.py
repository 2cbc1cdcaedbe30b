import pytest

from recorderd.errors import NoSuchRecording, SpoolCorrupt, SpoolError, UsageError, WrongKey
from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity
from tests.spool_builder import make_desk
from tests.tools_runner import recorderctl


@pytest.fixture
def desk(tmp_path):
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        for number in range(3):
            desk.enter(index, desk.record(number), number)
    return desk


def run(desk, *arguments):
    return recorderctl("--spool", desk.spool.path, "verify", *arguments)


def damage(desk, number):
    path = desk.spool.record_path(list(desk.spool.records())[number])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


def test_all_is_well(desk):
    answer = run(desk, "--all")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[-1] == "3 checked, 0 damaged"
    answer = run(desk, "--all", "--json")
    assert (answer.code, answer.json["ok"], answer.json["checked"]) == (0, True, 3)
    assert {each["status"] for each in answer.json["recordings"]} == {"complete"}


def test_with_a_key_every_record_is_authenticated(desk):
    answer = run(desk, "--all", "--identity", desk.identity_file)
    assert answer.out.count("every record authenticated") == 3
    assert all(
        each["with_key"]
        for each in run(desk, "--all", "--identity", desk.identity_file, "--json").json["recordings"]
    )


def test_one_of_several(desk):
    first = next(desk.spool.records())
    assert run(desk, first, "--json").json["checked"] == 1
    assert run(desk, first[:16], "--json").json["recordings"][0]["id"] == first


@pytest.mark.parametrize("key", [False, True])
def test_a_flipped_byte_names_the_file_and_fails(desk, key):
    path = damage(desk, 1)
    options = ["--identity", desk.identity_file] if key else []
    answer = run(desk, "--all", *options)
    assert answer.code == SpoolCorrupt.exit_code
    assert answer.out.splitlines()[-1] == "3 checked, 1 damaged"
    problems = [line for line in answer.err.splitlines() if line.startswith("recorderctl: ")]
    assert problems
    assert all(line.startswith(f"recorderctl: {path}: ") for line in problems)
    assert len(set(problems)) == len(problems)
    answer = run(desk, "--all", "--json", *options)
    assert answer.error["code"] == SpoolCorrupt.exit_code
    assert str(path) in answer.error["message"]
    assert [each["ok"] for each in answer.json["recordings"]] == [True, False, True]


def test_a_flipped_byte_of_the_manifest_names_it(desk):
    path = desk.spool.manifest_path(next(desk.spool.records()))
    path.write_bytes(path.read_bytes().replace(b"1000", b"1001"))
    answer = run(desk, "--all")
    assert answer.code == SpoolCorrupt.exit_code
    assert f"recorderctl: {path}: " in answer.err


def test_a_recording_that_is_gone_is_missed(desk):
    first = next(desk.spool.records())
    desk.spool.record_path(first).unlink()
    desk.spool.manifest_path(first).unlink()
    answer = run(desk, "--all", "--json")
    assert answer.error["code"] == SpoolCorrupt.exit_code
    assert first in answer.error["message"]


def test_files_are_checked_without_the_index_too(desk):
    desk.spool.index_path.write_bytes(b"destroyed" * 1000)
    answer = run(desk, "--all")
    assert answer.code == 0
    assert "index.db" in answer.err
    for path in desk.spool.path.glob("index.db*"):
        path.unlink()
    assert run(desk, "--all", "--json").json["checked"] == 3
    assert not desk.spool.index_path.exists()


def test_calls_in_progress_are_no_damage(desk):
    writer = desk.start(7)
    answer = run(desk, "--all")
    assert answer.code == 0
    assert f"{writer.recording_id}  ok  in progress" in answer.out


def test_wrong_keys_and_unknown_recordings_are_told(desk, tmp_path):
    generate_identity(tmp_path / "stranger", "x25519")
    assert run(desk, "--all", "--identity", tmp_path / "stranger").code == WrongKey.exit_code
    assert run(desk, "--all", "--identity", tmp_path / "identity.pub").code == WrongKey.exit_code
    assert run(desk, "20261121T200501Z-ffffffffff").code == NoSuchRecording.exit_code


def test_the_hosts_key_may_come_from_elsewhere(desk, tmp_path):
    copy = tmp_path / "trusted.pem"
    copy.write_bytes(desk.spool.host_public_path.read_bytes())
    assert run(desk, "--all", "--host-key", copy).code == 0
    other = make_desk(tmp_path / "other")
    assert run(desk, "--all", "--host-key", other.spool.host_public_path).code == SpoolCorrupt.exit_code
    answer = run(desk, "--all", "--host-key", other.spool.host_public_path)
    assert "hint: give --host-key the host.pub of the recorder" in answer.err
    for wrong in (desk.spool.host_key_path, desk.identity_file, tmp_path / "nothing", tmp_path):
        error = run(desk, "--all", "--host-key", wrong, "--json").error
        assert error["code"] == UsageError.exit_code
        assert str(wrong) in error["message"]
        assert "takes the host.pub" in error["message"]
    desk.spool.host_public_path.unlink()
    answer = run(desk, "--all")
    assert answer.code == SpoolError.exit_code
    assert "--host-key" in answer.err
    assert run(desk, "--all", "--host-key", copy).code == 0


def test_ids_or_all(desk):
    first = next(desk.spool.records())
    assert run(desk).code == run(desk, first, "--all").code == 2
