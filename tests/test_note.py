"""Checkpoints in the form of C2SP signed-note and tlog-checkpoint."""

import base64
import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from recorderd.errors import SpoolCorrupt
from recorderd.spool.ledger import ledger_key
from recorderd.spool.merkle import EMPTY
from recorderd.spool.note import Checkpoint, Key, key_hash, open_checkpoint, sign_checkpoint, unsigned
from recorderd.spool.signing import HostKey, HostPublic
from tests.standalone import alone

HOST = HostKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
KEY = ledger_key(HOST.public)


def signed(checkpoint: Checkpoint, host: HostKey = HOST) -> bytes:
    return sign_checkpoint(checkpoint, host.public.key.public_bytes_raw(), host.sign)


NOTE = signed(Checkpoint(KEY.name, 703, bytes(range(32))))


def test_the_key_hash_is_that_of_other_programs() -> None:
    """The key and the note that the documentation of Go's sumdb/note has."""
    public = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:]
    assert key_hash("PeterNeumann", public).hex() == "c74f20a3"
    text = b"If you think cryptography is the answer to your problem,\n"
    text += b"then you don't know what your problem is.\n"
    line = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    signature = base64.b64decode(line)
    assert signature[:4] == key_hash("PeterNeumann", public)
    assert HostPublic(Ed25519PublicKey.from_public_bytes(public)).verifies(signature[4:], text)


def test_a_checkpoint_has_its_form() -> None:
    text, signature = NOTE.decode().split("\n\n")
    assert text.split("\n") == [KEY.name, "703", base64.b64encode(bytes(range(32))).decode()]
    assert signature.startswith(f"\u2014 {KEY.name} ")
    assert KEY.name == "recorderd.ledger/" + HOST.id.hex()
    assert open_checkpoint(NOTE, KEY) == Checkpoint(KEY.name, 703, bytes(range(32))) == unsigned(NOTE)
    assert KEY.verifier_key().split("+", 2)[1] == KEY.hash.hex()


def test_every_changed_byte_and_every_other_length_is_found() -> None:
    for at in range(len(NOTE)):
        for bit in range(8):
            changed = NOTE[:at] + bytes([NOTE[at] ^ 1 << bit]) + NOTE[at + 1 :]
            with pytest.raises(SpoolCorrupt):
                open_checkpoint(changed, KEY)
        with pytest.raises(SpoolCorrupt):
            open_checkpoint(NOTE[:at], KEY)
        with pytest.raises(SpoolCorrupt):
            open_checkpoint(NOTE[:at] + b"\n" + NOTE[at:], KEY)


def test_another_key_and_another_origin_are_refused() -> None:
    stranger = HostKey(Ed25519PrivateKey.generate())
    with pytest.raises(SpoolCorrupt, match="another ledger"):
        open_checkpoint(signed(Checkpoint(ledger_key(stranger.public).name, 1, EMPTY), stranger), KEY)
    with pytest.raises(SpoolCorrupt, match="not signed by this host"):
        open_checkpoint(signed(Checkpoint(KEY.name, 1, EMPTY), stranger), KEY)


def test_what_a_witness_adds_is_passed_over() -> None:
    line = base64.b64encode(bytes(76)).decode()
    witnessed = NOTE + f"\u2014 witness.example/1 {line}\n".encode()
    assert open_checkpoint(witnessed, KEY).size == 703
    pem_host = alone.Host.__new__(alone.Host)
    pem_host.key, pem_host.raw = HOST.public.key, HOST.public.key.public_bytes_raw()
    pem_host.id, pem_host.origin = HOST.id.hex(), KEY.name
    assert alone.open_checkpoint(witnessed, pem_host) == (703, bytes(range(32)))


OTHER_FORMS = (
    *(
        "{name}\n07\n{root}\n",
        "{name}\n+7\n{root}\n",
        "{name}\n\u0667\n{root}\n",
        "{name}\n7\n{root}\nmore\n",
    ),
    *("{name}\n7\nAAAA\n", "{name}\n7\n{root}==\n", "\n7\n{root}\n", "{name}\n" + "9" * 30 + "\n{root}\n"),
    *("{name}\n7 \n{root}\n", "{name}\r\n7\n{root}\n", "{name}\n-1\n{root}\n", "{name}\n1_0\n{root}\n"),
)


@pytest.mark.parametrize("text", OTHER_FORMS)
def test_other_forms_are_refused_even_when_they_are_signed(text: str) -> None:
    body = text.format(name=KEY.name, root=base64.b64encode(EMPTY).decode())
    signature = base64.b64encode(KEY.hash + HOST.sign(body.encode())).decode()
    with pytest.raises(SpoolCorrupt):
        open_checkpoint(f"{body}\n\u2014 {KEY.name} {signature}\n".encode(), KEY)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_checkpoint_or_none(data: bytes) -> None:
    for candidate in (data, NOTE[:40] + data, NOTE + data):
        with contextlib.suppress(SpoolCorrupt):
            assert open_checkpoint(candidate, KEY).size == 703


@given(st.integers(0, 1 << 62), st.binary(min_size=32, max_size=32))
def test_what_is_signed_is_read_again(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(KEY.name, size, root)
    assert open_checkpoint(signed(checkpoint), Key(KEY.name, KEY.public, KEY.verifies)) == checkpoint
