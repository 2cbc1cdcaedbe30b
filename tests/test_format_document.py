"""docs/format.md is enough to open a recording from: this decryptor was written from it and uses
`cryptography` only.

Nothing here imports the program, but for the last tests, which ask the program to agree with the document.
"""

import base64
import hashlib
import json
import re
import struct
import zlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

DOCUMENT = (Path(__file__).parent.parent / "docs" / "format.md").read_text(encoding="utf-8")


# The stand-alone decryptor


class Corrupt(Exception):
    pass


def key_id(name, public):
    return hashlib.sha256(b"recorderd/1 key id" + name.encode() + b"\0" + public).digest()[:16]


def read_identity(line):
    """(KEM id, key id, HPKE suite, private key) of a line of an identity file."""
    tag, name, ident, text = line.split()
    assert tag == "recorderd-identity-1"
    private = base64.b64decode(text)
    if name == "mlkem768-x25519":
        expanded = hashlib.shake_256(private).digest(96)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
        public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        number, kem, key = 0x647A, hpke.KEM.MLKEM768_X25519, hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
    else:
        assert name == "x25519"
        key = X25519PrivateKey.from_private_bytes(private)
        public = key.public_key().public_bytes_raw()
        number, kem = 0x0020, hpke.KEM.X25519
    assert key_id(name, public).hex() == ident
    return number, key_id(name, public), hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM), key


def read_header(data):
    magic, version, slots, length, core_length = struct.unpack_from("<8sHHII", data)
    if magic != bytes.fromhex("895245430D0A1A0A") or (version, slots > 0) not in ((1, True), (2, False)):
        raise Corrupt("no recording")
    if (
        length > len(data)
        or zlib.crc32(data[: length - 4]) != struct.unpack("<I", data[length - 4 : length])[0]
    ):
        raise Corrupt("header")
    at = 20 + core_length
    core, salt, commitment = data[20:at], data[at : at + 32], data[at + 32 : at + 64]
    return core, salt, commitment, read_slots(data[at + 64 : length - 4], slots), data[:length]


def read_slots(data, count):
    found, at = [], 0
    for _ in range(count):
        ident, kem, size = struct.unpack_from("<16sHH", data, at)
        found.append((ident, kem, data[at + 20 : at + 20 + size]))
        at += 20 + size
    if at != len(data):
        raise Corrupt("slots")
    return found


def read_slot_file(data, header=None):
    """(generation, slots) of a slot file, which has to be of the recording with this header."""
    magic, version, count, length, core_length = struct.unpack_from("<8sHHII", data)
    if magic != bytes.fromhex("894B45590D0A1A0A") or version != 1 or length != len(data):
        raise Corrupt("no slot file")
    if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise Corrupt("slot file")
    at = 20 + core_length
    core = data[20:at]
    salt, commitment, header_hash, generation = struct.unpack_from("<32s32s32sI", data, at)
    mine = (core, salt, commitment, header_hash)
    if header is not None and mine != (*header[:3], hashlib.sha256(header[4]).digest()):
        raise Corrupt("slot file of another recording")
    return generation, read_slots(data[at + 100 : -4], count)


def unlock(header, identity, slot_file=None):
    core, salt, commitment, slots, _ = header
    number, ident, suite, private = identity
    more = [] if slot_file is None else read_slot_file(slot_file, header)[1]
    for slot_id, kem, wrapped in [*slots, *more]:
        if slot_id == ident and kem == number:
            info = b"recorderd/1 data key" + hashlib.sha256(core + salt + commitment).digest()
            data_key = suite.decrypt(wrapped, private, info)
            break
    else:
        raise Corrupt("not for this identity")

    def derive(label, length):
        return HKDF(SHA256(), length, salt, label + hashlib.sha256(core).digest()).derive(data_key)

    if derive(b"recorderd/1 commitment", 32) != commitment:
        raise Corrupt("commitment")
    return data_key, derive(b"recorderd/1 record key", 32), derive(b"recorderd/1 record nonce", 12)


def records(data, header, record_key, nonce_base):
    """(type, milliseconds, plaintext, offset, nonce, crc, tag) of the intact prefix; whatever stops it ends
    the iteration."""
    raw = header[4]
    header_hash = hashlib.sha256(raw).digest()
    crc = struct.unpack("<I", raw[-4:])[0]
    at, sequence = len(raw), 0
    while at + 16 + 16 + 4 <= len(data):
        head = data[at : at + 16]
        length, number, elapsed, kind = struct.unpack("<IIIB3x", head)
        end = at + 16 + length
        if end + 4 > len(data):
            return
        ciphertext = data[at + 16 : end]
        crc = zlib.crc32(head + ciphertext, crc)
        if number != sequence or crc != struct.unpack("<I", data[end : end + 4])[0]:
            return
        masked = struct.unpack("<I", nonce_base[:4])[0] ^ sequence
        nonce = struct.pack("<I", masked) + nonce_base[4:]
        plaintext = AESGCM(record_key).decrypt(nonce, ciphertext, header_hash + head)
        yield kind, elapsed, plaintext, at, nonce, crc, ciphertext[-16:]
        at, sequence = end + 4, sequence + 1


def packets(plaintext):
    base, count, size = struct.unpack_from("<QII", plaintext)
    rows = [struct.unpack_from("<IIIHBB", plaintext, 16 + 16 * row) for row in range(count)]
    at = 16 + 16 * count
    assert len(plaintext) == at + size == at + sum(row[3] for row in rows)
    for time, seq, timestamp, length, stream, kind in rows:
        yield stream, base + time, seq, timestamp, kind & 127, kind >> 7, plaintext[at : at + length]
        at += length


def stream_hashes(media):
    digests = {}
    for plaintext, tag in media:
        _, count, _ = struct.unpack_from("<QII", plaintext)
        raw = [plaintext[16 + 16 * row : 32 + 16 * row] for row in range(count)]
        for stream in sorted({row[14] for row in raw}):
            digest = digests.setdefault(stream, hashlib.sha256())
            digest.update(b"".join(row for row in raw if row[14] == stream) + tag)
    return {stream: digest.hexdigest() for stream, digest in digests.items()}


def judge(data, identity, slot_file=None):
    """(answer, opened records)."""
    try:
        header = read_header(data)
        _, record_key, nonce_base = unlock(header, identity, slot_file)
        opened = list(records(data, header, record_key, nonce_base))
    except Exception:
        return "corrupt", []
    if not opened or opened[-1][0] != 4:
        return "recovered-prefix", opened
    end = json.loads(opened[-1][2])
    hashes = stream_hashes([(record[2], record[6]) for record in opened if record[0] == 1])
    whole = opened[-1][3] + 16 + len(opened[-1][2]) + 16 + 4 == len(data)
    right = end["records"] == len(opened) - 1
    right = right and {each["stream"]: each["sha256"] for each in end["streams"]} == hashes
    return ("complete" if whole and right else "corrupt"), opened


# What the document states


def block(name):
    found = re.search(rf"```{name}\n(.*?)\n```", DOCUMENT, re.DOTALL)
    assert found is not None, f"docs/format.md has no block {name}"
    return found[1]


def table_value(name):
    found = re.search(rf"^\| {re.escape(name)} \| `([^`]*)` \|$", DOCUMENT, re.MULTILINE)
    assert found is not None, f"docs/format.md has no row {name}"
    return found[1]


FILE = bytes.fromhex(block("recording"))
DETACHED = bytes.fromhex(block("detached"))
SLOTS = bytes.fromhex(block("slots-1")), bytes.fromhex(block("slots-2"))
IDENTITIES = [read_identity(line) for line in block("identities").splitlines()]


@pytest.mark.parametrize("identity", IDENTITIES, ids=["mlkem768-x25519", "x25519"])
def test_the_key_schedule_is_as_stated(identity):
    header = read_header(FILE)
    core, salt, commitment, _, raw = header
    data_key, record_key, nonce_base = unlock(header, identity)
    assert core.decode() == table_value("core")
    assert hashlib.sha256(core).hexdigest() == table_value("SHA-256 of the core")
    assert data_key.hex() == table_value("data key")
    assert salt.hex() == table_value("salt")
    assert commitment.hex() == table_value("commitment")
    info = b"recorderd/1 data key" + hashlib.sha256(core + salt + commitment).digest()
    assert info.hex() == table_value("info")
    assert record_key.hex() == table_value("record key")
    assert nonce_base.hex() == table_value("nonce base")
    assert hashlib.sha256(raw).hexdigest() == table_value("header_hash")
    value = json.loads(core)
    assert json.dumps(value, sort_keys=True, separators=(",", ":")).encode() == core
    assert set(value) == {"host", "previous", "recording", "segment", "started_us", "suite"}


@pytest.mark.parametrize("identity", IDENTITIES, ids=["mlkem768-x25519", "x25519"])
def test_the_records_are_as_stated(identity):
    answer, opened = judge(FILE, identity)
    assert answer == "complete"
    names = {1: "media", 2: "event", 4: "end"}
    for number, (kind, _, plaintext, at, nonce, crc, _) in enumerate(opened):
        text = plaintext.hex() if kind == 1 else plaintext.decode()
        row = f"| {number}, {names[kind]} | {at} | `{nonce.hex()}` | `{crc:08x}` | `{text}` |"
        assert row in DOCUMENT
    assert [record[1] for record in opened] == [0, 1500, 1500]


def test_the_packets_are_as_stated():
    _, opened = judge(FILE, IDENTITIES[0])
    media = [record[2] for record in opened if record[0] == 1]
    found = [packet for plaintext in media for packet in packets(plaintext)]
    assert len(found) == 3
    for stream, time, seq, timestamp, payload_type, marker, payload in found:
        row = f"| {stream} | {time} | {seq} | {timestamp} | {payload_type} | {marker} | `{payload.hex()}` |"
        assert row in DOCUMENT


def test_the_hash_of_a_stream_is_as_stated():
    """From the document's own numbers, nothing decrypted."""
    found = re.search(
        r"SHA-256 of stream 1 runs over its row `(\w{32})` and the record's tag `(\w{32})`", DOCUMENT
    )
    assert found is not None
    row, tag = found.groups()
    _, opened = judge(FILE, IDENTITIES[0])
    assert row in opened[1][2].hex()
    assert bytes.fromhex(tag) == opened[1][6]
    stated = {each["stream"]: each["sha256"] for each in json.loads(opened[2][2])["streams"]}
    assert hashlib.sha256(bytes.fromhex(row + tag)).hexdigest() == stated[1]


def test_cut_short_it_is_the_stated_prefix():
    found = re.search(
        r"first (\d+) bytes .* `recovered-prefix` of two records .* ends at byte (\d+)", DOCUMENT
    )
    assert found is not None
    answer, opened = judge(FILE[: int(found[1])], IDENTITIES[0])
    assert answer == "recovered-prefix"
    assert len(opened) == 2
    assert opened[-1][3] + 16 + len(opened[-1][2]) + 16 + 4 == int(found[2])


def test_no_changed_byte_leaves_it_complete():
    for at in range(len(FILE)):
        damaged = bytearray(FILE)
        damaged[at] ^= 1 << (at % 8)
        assert judge(bytes(damaged), IDENTITIES[1])[0] != "complete", at


def test_a_detached_recording_opens_with_its_slot_file_only():
    header = read_header(DETACHED)
    post_quantum, x25519 = IDENTITIES
    assert header[3] == []
    assert hashlib.sha256(header[4]).hexdigest() == table_value("header_hash of the detached recording")
    assert header[2].hex() == table_value("its commitment")
    assert hashlib.sha256(SLOTS[0]).hexdigest() == table_value("SHA-256 of slots-1")
    assert [read_slot_file(each, header)[0] for each in SLOTS] == [1, 2]
    for slot_file, opens, does_not in ((SLOTS[0], x25519, post_quantum), (SLOTS[1], post_quantum, x25519)):
        answer, opened = judge(DETACHED, opens, slot_file)
        assert (answer, [record[0] for record in opened]) == ("complete", [2, 4])
        assert json.loads(opened[1][2])["summary"] == {"from": "1001"}
        assert judge(DETACHED, does_not, slot_file)[0] == "corrupt"
        assert judge(DETACHED, opens)[0] == "corrupt"
        data_key = unlock(header, opens, slot_file)[0]
        assert data_key == bytes(range(0xA0, 0xC0))


@pytest.mark.parametrize("slot_file", SLOTS, ids=["generation 1", "generation 2"])
def test_every_change_of_a_slot_file_is_found(slot_file):
    for at in range(len(slot_file)):
        damaged = bytearray(slot_file)
        damaged[at] ^= 1 << (at % 8)
        for data in (bytes(damaged), slot_file[:at]):
            with pytest.raises((Corrupt, struct.error)):
                read_slot_file(data)
    with pytest.raises(Corrupt):
        read_slot_file(slot_file + b"\0")


def test_a_slot_file_of_another_recording_does_not_pass():
    with pytest.raises(Corrupt, match="another"):
        read_slot_file(SLOTS[0], read_header(FILE))


def test_a_passphrase_opens_the_locked_identity():
    tag, name, ident, number, text = block("locked").split()
    assert tag == "recorderd-identity-scrypt-1"
    data = base64.b64decode(text)
    found = re.search(r"under the passphrase `([^`]+)`", DOCUMENT)
    assert found is not None
    key = hashlib.scrypt(
        found[1].encode(), salt=data[:16], n=1 << int(number), r=8, p=1, dklen=32, maxmem=1 << 28
    )
    additional = f"recorderd/1 identity {name} {ident} {number}".encode()
    private = AESGCM(key).decrypt(data[16:28], data[28:], additional)
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    assert key_id(name, public).hex() == ident
    assert private == base64.b64decode(block("identities").splitlines()[1].split()[3])


@pytest.mark.parametrize(
    ("name", "file", "records"), [("manifest", FILE, 3), ("manifest-detached", DETACHED, 2)]
)
def test_the_manifest_is_signed_as_stated(name, file, records):
    data = block(name).encode("ascii") + b"\n"
    assert data.count(b"\n") == 1
    tail = len(b',"signature":{"ed25519":"","key":""}}\n') + 128 + 32
    body, signature = data[len(b'{"manifest":') : -tail], json.loads(data)["signature"]
    public = re.search(r"its public key `([0-9a-f]{64})`", DOCUMENT)
    assert public is not None
    raw = bytes.fromhex(public[1])
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(0x80, 0xA0)))
    assert private.public_key().public_bytes_raw() == raw
    key = Ed25519PublicKey.from_public_bytes(raw)
    key.verify(bytes.fromhex(signature["ed25519"]), b"recorderd/1 manifest\n" + body)
    assert signature["key"] == key_id("ed25519", raw).hex()
    stated = json.loads(body)
    assert stated["sha256"] == hashlib.sha256(file).hexdigest()
    assert stated["bytes"] == stated["intact_bytes"] == len(file)
    assert stated["records"] == records
    documented = re.findall(
        r"^\| ((?:`\w+`(?:, )?)+) \|", DOCUMENT.split("## The manifest")[1].split("## Keys")[0], re.M
    )
    keys = {key for cell in documented for key in re.findall(r"`(\w+)`", cell)}
    if file is FILE:  # of an earlier recorder
        keys.remove("slots_sha256")
    else:
        assert stated["slots_sha256"] == hashlib.sha256(SLOTS[0]).hexdigest()
    assert set(stated) == keys


def test_the_public_keys_are_as_stated():
    rows = dict(re.findall(r"^\| `([\w-]+)` \|[^`]*`([0-9a-f]{64})` \|$", DOCUMENT, re.M))
    for line in block("identities").splitlines():
        _, name, _, text = line.split()
        private = base64.b64decode(text)
        if name == "x25519":
            public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
            assert public.hex() == rows[name]
        else:
            expanded = hashlib.shake_256(private).digest(96)
            mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).public_key().public_bytes_raw()
            x25519 = X25519PrivateKey.from_private_bytes(expanded[64:]).public_key().public_bytes_raw()
            assert hashlib.sha256(mlkem + x25519).hexdigest() == rows[name]


# The program agrees


def test_the_program_reads_the_document(tmp_path):
    from recorderd.spool.keys import load_identities
    from recorderd.spool.reader import Recording

    keys = tmp_path / "identities"
    keys.write_text(block("identities") + "\n")
    recording_id = json.loads(table_value("core"))["recording"]
    path = tmp_path / f"{recording_id}.rec"
    path.write_bytes(FILE)
    (tmp_path / f"{recording_id}.json").write_text(block("manifest") + "\n")
    for identity in load_identities([keys]):
        with Recording.open(path, [identity]) as recording:
            assert recording.status == "complete"
            assert recording.id == recording_id
            assert [media.rows["seq"].tolist() for media in recording.media()] == [[65535, 65536, 7]]
            assert recording.summary == {"from": "1001"}


@pytest.mark.parametrize("generation", [1, 2])
def test_the_program_reads_the_detached_recording(tmp_path, generation):
    from recorderd.errors import KeysMissing
    from recorderd.spool.keys import load_identities
    from recorderd.spool.reader import Recording

    keys = tmp_path / "identity"
    keys.write_text(block("locked" if generation == 1 else "identities") + "\n")
    identities = load_identities([keys], ask=lambda _: b"correct horse battery staple")
    recording_id = json.loads(read_header(DETACHED)[0])["recording"]
    path = tmp_path / f"{recording_id}.rec"
    path.write_bytes(DETACHED)
    (tmp_path / f"{recording_id}.json").write_text(block("manifest-detached") + "\n")
    with pytest.raises(KeysMissing, match="destroyed or are missing"):
        Recording.open(path, identities)
    (tmp_path / f"{recording_id}.key").write_bytes(SLOTS[generation - 1])
    with Recording.open(path, identities) as recording:
        assert recording.status == "complete"
        assert recording.summary == {"from": "1001"}


@pytest.mark.parametrize("detached", [True, False], ids=["detached", "header"])
@pytest.mark.parametrize("suite", ["mlkem768-x25519", "x25519"])
def test_the_decryptor_reads_the_program(tmp_path, suite, detached):
    """What the program writes today is what the document describes."""
    from tests.spool_builder import fill, make_desk

    desk = make_desk(tmp_path, suite)
    writer = desk.start(detached=detached)
    fill(writer, windows=2)
    sealed = writer.seal({})
    slot_file = sealed.path.with_suffix(".key").read_bytes() if detached else None
    identity = read_identity(desk.identity.line())
    answer, opened = judge(sealed.path.read_bytes(), identity, slot_file)
    assert answer == "complete"
    assert [record[0] for record in opened] == [2, 2, 1, 1, 4]
