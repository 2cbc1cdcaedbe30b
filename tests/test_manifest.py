import json
import shutil
import subprocess
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.errors import SpoolCorrupt
from recorderd.spool.manifest import Manifest, load_manifest, parse_manifest
from recorderd.spool.signing import HostKey
from tests.spool_builder import make_desk


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return make_desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def data(desk):
    return desk.record().manifest_path.read_bytes()


@pytest.fixture(scope="module")
def public(desk):
    return desk.signer.public


def test_it_reads_back(desk, data, public):
    manifest = parse_manifest(data, public)
    assert manifest.state == "sealed"
    assert manifest.host == "pbx.example"
    assert manifest.signed(desk.signer) == data
    assert manifest.summary["from"] == "1000"


def test_people_and_tools_can_read_it(data):
    value = json.loads(data)
    assert value["manifest"]["recording"] in data.decode("ascii")
    assert data.endswith(b"\n")


def test_every_flipped_bit_is_found(data, public):
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(SpoolCorrupt):
            parse_manifest(bytes(damaged), public)


def test_every_truncation_and_addition_is_found(data, public):
    for length in range(len(data)):
        with pytest.raises(SpoolCorrupt):
            parse_manifest(data[:length], public)
    for more in (b"\n", b" ", b"\0", data):
        with pytest.raises(SpoolCorrupt):
            parse_manifest(data + more, public)


def test_the_same_json_written_otherwise_is_not_the_same_file(data, public):
    value = json.loads(data)
    for other in (
        json.dumps(value),
        json.dumps(value, separators=(",", ":")) + "\n",
        json.dumps(value, indent=1),
    ):
        if other.encode() != data:
            with pytest.raises(SpoolCorrupt):
                parse_manifest(other.encode(), public)
    upper = data[:-80] + data[-80:].upper()
    with pytest.raises(SpoolCorrupt):
        parse_manifest(upper, public)


def test_another_hosts_statement_is_refused(desk, data, public, tmp_path):
    stranger = HostKey.load_or_create(tmp_path / "host.key")
    forged = parse_manifest(data, public)._replace(sha256="0" * 64).signed(stranger)
    assert parse_manifest(forged, stranger.public).sha256 == "0" * 64
    with pytest.raises(SpoolCorrupt, match="another host"):
        parse_manifest(forged, public)
    # The right key id before the wrong signature.
    relabelled = forged.replace(stranger.public.id.hex().encode(), public.id.hex().encode())
    with pytest.raises(SpoolCorrupt, match="signature"):
        parse_manifest(relabelled, public)


def test_a_signature_counts_for_manifests_only(desk, data, public):
    """The signed message begins with what it is, so that no other signed statement passes for a manifest."""
    body = data[len(b'{"manifest":') : data.rindex(b',"signature"')]
    signature = desk.signer.sign(body).hex().encode()
    tail = data[data.rindex(b',"signature"') :]
    forged = (
        b'{"manifest":' + body + tail.replace(json.loads(data)["signature"]["ed25519"].encode(), signature)
    )
    with pytest.raises(SpoolCorrupt, match="signature"):
        parse_manifest(forged, public)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_corrupt(data):
    tail = b',"signature":{"ed25519":"' + b"0" * 128 + b'","key":"' + b"0" * 32 + b'"}}\n'
    for candidate in (data, b'{"manifest":' + data + tail):
        with suppress(SpoolCorrupt):
            assert isinstance(parse_manifest(candidate, None), Manifest)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"state": "perhaps"},
        {"bytes": "12"},
        {"records": True},
        {"summary": []},
        {"unknown": 1},
        {"sha256": None},
    ],
)
def test_a_statement_of_another_form_is_refused(desk, data, change):
    value = {**json.loads(data)["manifest"], **change}
    body = json.dumps(value).encode()
    signature = desk.signer.sign(b"recorderd/1 manifest\n" + body).hex()
    tail = f',"signature":{{"ed25519":"{signature}","key":"{desk.signer.public.id.hex()}"}}}}\n'
    with pytest.raises(SpoolCorrupt, match=r"readable|version"):
        parse_manifest(b'{"manifest":' + body + tail.encode(), desk.signer.public)


def test_peers_text_stays_ascii_on_disk(desk):
    manifest = Manifest(
        "r", "höst", 0, None, 0, 0, 0, "sealed", 0, "", 0, 0, "", (), {"from": "李\x1b[31m\n\u202e\ud800"}
    )
    data = manifest.signed(desk.signer)
    assert data.isascii()
    assert data.count(b"\n") == 1
    assert b"\x1b" not in data
    assert parse_manifest(data, desk.signer.public) == manifest


def test_the_file_is_named_in_errors(desk, tmp_path):
    with pytest.raises(SpoolCorrupt, match=r"nothing\.json: the manifest is missing"):
        load_manifest(tmp_path / "nothing.json", None)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(SpoolCorrupt, match=r"bad\.json: not a manifest"):
        load_manifest(tmp_path / "bad.json", None)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(SpoolCorrupt, match=r"folder\.json"):
        load_manifest(tmp_path / "folder.json", None)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_checks_the_signature_as_documented(desk, data, tmp_path):
    tail = len(b',"signature":{"ed25519":"","key":""}}\n') + 128 + 32
    (tmp_path / "message").write_bytes(b"recorderd/1 manifest\n" + data[len(b'{"manifest":') : -tail])
    (tmp_path / "signature").write_bytes(bytes.fromhex(json.loads(data)["signature"]["ed25519"]))
    command = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        str(desk.spool.host_public_path),
        "-rawin",
    ]
    command += ["-in", str(tmp_path / "message"), "-sigfile", str(tmp_path / "signature")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "Verified Successfully" in done.stdout) == (0, True), done.stderr
