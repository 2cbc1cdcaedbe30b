"""The stand-alone verifier and our own: every byte that is changed, and everything that is cut, is found by
both. The stand-alone one tries one in seven of these, and all with ``--thorough``."""

import base64
import json
import shutil
import sys
from pathlib import Path

import pytest

from recorderd.errors import RecorderError
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_check import check_ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import call_entry, recording_entry
from recorderd.spool.ledger_proof import prove
from recorderd.spool.ledger_stamps import Stamps
from recorderd.spool.merkle import consistency_path
from recorderd.spool.signing import HostKey
from recorderd.spool.verify import verify
from tests.spool_builder import Desk, make_desk
from tests.standalone import SAMPLED, SOURCE, alone
from tests.test_ledger_service import call_row
from tests.time_authority import make_authority


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A spool with one small recording in its ledger, which is signed and stamped."""
    desk = make_desk(tmp_path_factory.mktemp("desk"))
    sealed = desk.record(windows=1, packets=1)
    ledger = Ledger(desk.spool.path / "ledger")
    ledger.append([Entry("started", 1, "pbx.example")])
    ledger.checkpoint(desk.signer)
    ledger.append([recording_entry(sealed.recording, "sealed", sealed.path, sealed.sha256, sealed.bytes, 2)])
    ledger.append([call_entry(call_row(1, recording=sealed.recording), 3)])
    ledger.checkpoint(desk.signer)
    return desk


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory):
    return make_authority(tmp_path_factory.mktemp("authority") / "tsa")


def recording(desk: Desk) -> Path:
    (path,) = desk.spool.recordings.rglob("*.rec")
    return path


def verdict(desk: Desk, *arguments: object) -> int:
    """What the stand-alone verifier says."""
    words = ["--host-key", desk.spool.host_public_path, *arguments]
    return alone.main([str(word) for word in words])


def ours(desk: Desk) -> bool:
    """What recorderd says of the recording."""
    try:
        return verify(desk.spool, recording(desk).stem, desk.signer.public).ok
    except RecorderError:
        return False


def ours_of_the_ledger(desk: Desk) -> bool:
    """What recorderd says of the ledger."""
    return check_ledger(desk.spool.path / "ledger", desk.signer.public).ok


def damages(data: bytes, most: int | None = None):
    """Every byte changed, and every length cut to; of both about ``most`` where given."""
    step = 1 if most is None else max(1, len(data) // most)
    for at in range(0, len(data), step):
        yield f"byte {at}", data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
    for size in range(0, len(data), step):
        yield f"cut to {size}", data[:size]
    yield "one more", data + b"\0"


@pytest.fixture
def copy(desk: Desk, tmp_path: Path) -> Desk:
    """One that may be damaged."""
    shutil.copytree(desk.spool.path, tmp_path / "spool")
    spool = type(desk.spool)(tmp_path / "spool")
    return Desk(spool, desk.identity_file, desk.identity, desk.recipient, desk.signer)


def test_what_is_right_is_right(desk: Desk, capsys) -> None:
    assert verdict(desk, recording(desk)) == 0
    assert verdict(desk, "--ledger", desk.spool.path / "ledger") == 0
    assert ours(desk)
    assert ours_of_the_ledger(desk)
    told = capsys.readouterr().out
    assert "3 entries, 3 of them signed" in told
    assert "NOT CHECKED whether it was set back" in told


@pytest.mark.parametrize("suffix", [".rec", ".json", ".key"])
def test_damage_of_a_recording_is_found_by_both(copy: Desk, suffix: str, thorough: bool) -> None:
    path = recording(copy)
    target = path.with_suffix(suffix)
    data = target.read_bytes()
    for number, (what, damaged) in enumerate(damages(data)):
        target.write_bytes(damaged)
        assert not ours(copy), what
        if thorough or not number % SAMPLED:
            assert verdict(copy, path) == 1, what
    target.write_bytes(data)
    assert verdict(copy, path) == 0


@pytest.mark.parametrize("name", ["tile/entries/000", "checkpoint", "history"])
def test_damage_of_the_ledger_is_found_by_both(copy: Desk, name: str, thorough: bool) -> None:
    target = copy.spool.path / "ledger" / name
    data = target.read_bytes()
    for number, (what, damaged) in enumerate(damages(data)):
        if name == "tile/entries/000" and what == "one more":
            continue  # behind what is signed: a torn end
        target.write_bytes(damaged)
        assert not ours_of_the_ledger(copy), what
        if thorough or not number % SAMPLED:
            assert verdict(copy, "--ledger", copy.spool.path / "ledger") == 1, what
    target.write_bytes(data)
    assert verdict(copy, "--ledger", copy.spool.path / "ledger") == 0


def test_a_recording_without_a_manifest_is_walked_alone(copy: Desk, capsys) -> None:
    path = recording(copy)
    path.with_suffix(".json").unlink()
    assert verdict(copy, path) == 0
    assert "no manifest" in capsys.readouterr().out
    data = path.read_bytes()
    for what, damaged in damages(data, 300):
        path.write_bytes(damaged)
        assert verdict(copy, path) == 1, what


def proof_of(desk: Desk, folder: Path, *leaves: int) -> Path:
    path = recording(desk)
    ledger = Ledger(desk.spool.path / "ledger")
    proof = prove(ledger, desk.signer.public, path.stem, leaves or (1, 2), path.with_suffix(".json"))
    (folder / "proof.json").write_text(json.dumps(proof))
    return folder / "proof.json"


def test_a_proof_is_believed_and_a_changed_one_is_not(copy: Desk, tmp_path: Path, capsys) -> None:
    path, proof = recording(copy), proof_of(copy, tmp_path)
    assert verdict(copy, "--proof", proof, path) == 0
    path.with_suffix(".json").unlink()  # that in the proof serves
    assert verdict(copy, "--proof", proof, path) == 0
    told = capsys.readouterr().out
    assert "entry 1 of 3: recording" in told
    assert "NOT CHECKED when: no authority" in told
    value = json.loads(proof.read_text())
    for key in ("checkpoint", "manifest"):
        for what, damaged in damages(value[key].encode(), 100):
            proof.write_text(json.dumps({**value, key: damaged.decode("latin-1")}))
            assert verdict(copy, "--proof", proof, path) == 1, (key, what)
    for number in range(2):
        entry = value["entries"][number]
        changes = [{"leaf": entry["leaf"] + 1}, {"entry": entry["entry"].replace("e", "f", 1)}]
        changes += [{"path": entry["path"][:-1]}, {"path": [*entry["path"], "00" * 32]}]
        changes += [{"path": ["00" * 32, *entry["path"][1:]]}]
        for change in changes:
            entries = [*value["entries"]]
            entries[number] = {**entry, **change}
            proof.write_text(json.dumps({**value, "entries": entries}))
            assert verdict(copy, "--proof", proof, path) == 1, (number, change)


def test_a_proof_of_another_recording_is_refused(copy: Desk, tmp_path: Path) -> None:
    proof, mine, other = proof_of(copy, tmp_path), recording(copy), copy.record(number=7)
    assert verdict(copy, "--proof", proof, other.path) == 1
    mine.with_suffix(".json").unlink()
    shutil.move(other.path, mine)
    assert verdict(copy, "--proof", proof, mine) == 1


def test_another_key_is_refused(copy: Desk, tmp_path: Path) -> None:
    HostKey.load_or_create(tmp_path / "other.key")
    proof = proof_of(copy, tmp_path)
    for what in (["--proof", proof], ["--ledger", copy.spool.path / "ledger"], [recording(copy)]):
        words = ["--host-key", tmp_path / "other.pub", *what]
        assert alone.main([str(word) for word in words]) == 1


# Time stamps


def test_a_stamp_in_a_proof_is_checked(copy: Desk, tmp_path: Path, authority, capsys) -> None:
    ledger = Ledger(copy.spool.path / "ledger")
    stamps = Stamps(ledger.path)
    stamps.put(stamps.of(3).note_path, ledger.note() or b"")
    stamps.put(stamps.of(3).token_path, authority.stamp(ledger.note() or b""))
    path, proof = recording(copy), proof_of(copy, tmp_path)
    assert verdict(copy, "--proof", proof, "--ca", authority.ca, path) == 0
    assert "time stamp: all this existed on 20" in capsys.readouterr().out
    assert verdict(copy, "--proof", proof, path) == 0
    assert "NOT CHECKED when: --ca is missing" in capsys.readouterr().out
    value = json.loads(proof.read_text())
    other = authority.stamp(b"something else")
    proof.write_text(json.dumps({**value, "stamps": [base64.b64encode(other).decode()]}))
    assert verdict(copy, "--proof", proof, "--ca", authority.ca, path) == 1


@pytest.mark.parametrize("kind", [{}, {"key": "ec"}, {"ess": "sha1"}, {"ess": "sha512"}])
def test_stamps_of_all_kinds_are_read(tmp_path: Path, kind: dict[str, str]) -> None:
    authority = make_authority(tmp_path / "tsa", **kind)
    roots = alone.x509.load_pem_x509_certificates(authority.ca.read_bytes())
    assert alone.stamped(authority.stamp(b"note"), b"note", roots).year > 2000


def test_a_certificate_for_something_else_is_refused(tmp_path: Path, authority) -> None:
    token = authority.stamp(b"note")
    stranger = make_authority(tmp_path / "stranger")
    with pytest.raises(alone.Wrong, match="not by an authority"):
        alone.stamped(token, b"note", alone.x509.load_pem_x509_certificates(stranger.ca.read_bytes()))


def test_no_byte_of_a_stamp_can_be_changed_and_move_its_time(authority) -> None:
    """Some bytes are not signed (the certificates that came along, the status text): those may change."""
    token = authority.stamp(b"note")
    roots = alone.x509.load_pem_x509_certificates(authority.ca.read_bytes())
    when = alone.stamped(token, b"note", roots)
    refused = 0
    for what, damaged in damages(token):
        try:
            assert alone.stamped(damaged, b"note", roots) == when, what
        except alone.Wrong:
            refused += 1
    assert refused > 150


# Consistency


def test_two_checkpoints_are_compared_by_a_proof(desk: Desk, tmp_path: Path) -> None:
    ledger = Ledger(desk.spool.path / "ledger")
    old, new = (note.decode() for note in ledger.history.notes())
    path = [each.hex() for each in consistency_path(1, 3, ledger.tiles)]
    asked = tmp_path / "consistency"
    for change, code in (({}, 0), ({"path": path[1:]}, 1), ({"old": new, "new": old}, 1), ({"path": []}, 1)):
        asked.write_text(json.dumps({"old": old, "new": new, "path": path, **change}))
        assert verdict(desk, "--consistency", asked) == code, change


def test_it_imports_nothing_of_ours() -> None:
    source = SOURCE.read_text()
    imported = {
        line.split()[1].partition(".")[0]
        for line in source.splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported <= {*sys.stdlib_module_names, "cryptography"}


def test_what_cannot_be_read_is_another_answer(desk: Desk, tmp_path: Path) -> None:
    assert verdict(desk, tmp_path / "none.rec") == 2
    with pytest.raises(SystemExit) as left:
        verdict(desk)
    assert left.value.code == 2
