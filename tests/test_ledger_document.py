"""The known answers of docs/ledger.md, by the stand-alone verifier and by recorderd."""

import hashlib
import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from recorderd.spool.ledger import ledger_key
from recorderd.spool.ledger_bundles import pack
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.merkle import Leaves, consistency_path, inclusion_path, leaf_hash, root
from recorderd.spool.note import Checkpoint, sign_checkpoint
from recorderd.spool.signing import HostKey
from tests.standalone import alone

DOCS = Path(__file__).parent.parent / "docs"
TEXT = (DOCS / "ledger.md").read_text()
KEY = HostKey(Ed25519PrivateKey.from_private_bytes(bytes(range(0x80, 0xA0))))


def block(name: str, text: str = TEXT) -> str:
    found = re.search(rf"^```{name}\n(.*?)^```$", text, re.M | re.S)
    assert found is not None
    return found[1]


def value(name: str) -> list[bytes]:
    found = re.search(rf"^\| {re.escape(name)} \| (.*) \|$", TEXT, re.M)
    assert found is not None
    return [bytes.fromhex(text) for text in re.findall(r"`([0-9a-f]+)`", found[1])]


ENTRIES = [line.encode() for line in block("entries").splitlines()]


def test_the_entries_are_as_they_are_written() -> None:
    assert [Entry.from_bytes(data).to_bytes() for data in ENTRIES] == ENTRIES
    hashes = [leaf_hash(data) for data in ENTRIES]
    assert hashes == [value(f"leaf hash {number}")[0] for number in range(3)]
    assert [root(hashes[:size]) for size in (1, 2, 3)] == [
        value(f"root of the first {n}")[0] for n in (1, 2, 3)
    ]
    assert inclusion_path(1, 3, Leaves(hashes)) == value("inclusion proof of entry 1 among 3")
    assert consistency_path(2, 3, Leaves(hashes)) == value("consistency proof from 2 to 3")
    assert hashlib.sha256(pack(ENTRIES)).digest() == value("SHA-256 of the bundle")[0]
    recording = Entry.from_bytes(ENTRIES[1]).fields
    manifest = block("manifest", (DOCS / "format.md").read_text()).encode()
    assert recording["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()


def test_the_checkpoint_is_what_the_key_signs() -> None:
    key = ledger_key(KEY.public)
    checkpoint = Checkpoint(key.name, 3, value("root of the first 3")[0])
    assert sign_checkpoint(checkpoint, key.public, KEY.sign).decode() == block("checkpoint")
    assert [key.hash] == value("key hash")


def test_another_program_believes_it() -> None:
    pem = KEY.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    size, signed = alone.open_checkpoint(block("checkpoint").encode(), alone.Host(pem))
    alone.check_inclusion(ENTRIES[1], 1, size, value("inclusion proof of entry 1 among 3"), signed)
    before = value("root of the first 2")[0]
    alone.check_consistency((2, before), (size, signed), value("consistency proof from 2 to 3"))
