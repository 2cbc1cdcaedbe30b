import multiprocessing
import stat

import pytest

from recorderd.errors import ConfigError, SpoolCorrupt, SpoolError, UsageError, WrongKey
from recorderd.spool.header import Core, KeySlot, new_header
from recorderd.spool.keys import (
    SUITES,
    Identity,
    Recipient,
    generate_identity,
    load_identities,
    load_recipients,
    open_header,
)
from recorderd.spool.signing import HostKey, HostPublic

CORE = Core("20261121T200501Z-0123456789", "pbx", 0)
DATA_KEY = bytes(range(32))
both_suites = pytest.mark.parametrize("suite", list(SUITES))


def header_for(*recipients: Recipient):
    return new_header(CORE, DATA_KEY, bytes(32), [recipient.wrap for recipient in recipients])[0]


# Files


@both_suites
def test_a_generated_identity_opens_what_its_recipient_seals(tmp_path, suite):
    made = generate_identity(tmp_path / "id", suite)
    (recipient,) = load_recipients([tmp_path / "id.pub"])
    (identity,) = load_identities([tmp_path / "id"])
    assert recipient == made == identity.recipient()
    assert open_header(header_for(recipient), [identity]) == DATA_KEY


def test_the_default_is_post_quantum(tmp_path):
    assert generate_identity(tmp_path / "id").suite == "mlkem768-x25519"


def test_the_private_file_is_the_owners_alone(tmp_path):
    generate_identity(tmp_path / "id", "x25519")
    assert stat.S_IMODE((tmp_path / "id").stat().st_mode) == 0o600
    assert "identity-1 " not in (tmp_path / "id.pub").read_text()


def test_two_identities_differ(tmp_path):
    assert generate_identity(tmp_path / "a", "x25519") != generate_identity(tmp_path / "b", "x25519")


@pytest.mark.parametrize("existing", ["id", "id.pub"])
def test_a_key_is_never_overwritten(tmp_path, existing):
    (tmp_path / existing).write_text("precious")
    with pytest.raises(UsageError, match="never overwritten"):
        generate_identity(tmp_path / "id", "x25519")
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "precious"


def test_a_key_in_a_missing_folder_is_one_clear_error(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        generate_identity(tmp_path / "nowhere" / "id", "x25519")


def test_an_unknown_suite_is_refused(tmp_path):
    with pytest.raises(UsageError, match="rot13"):
        generate_identity(tmp_path / "id", "rot13")


def test_files_may_hold_several_keys_and_comments(tmp_path):
    for name in "abc":
        generate_identity(tmp_path / name, "x25519")
    lines = [(tmp_path / f"{name}.pub").read_text() for name in "ab"]
    (tmp_path / "all").write_text("# vault\n\n" + lines[0] + "  \t\n# escrow\r\n" + lines[1] + lines[0])
    recipients = load_recipients([tmp_path / "all", tmp_path / "c.pub", tmp_path / "c.pub"])
    assert len(recipients) == 3


def test_the_configured_suite_is_demanded_of_every_recipient(tmp_path):
    generate_identity(tmp_path / "weak", "x25519")
    assert load_recipients([tmp_path / "weak.pub"], suite="x25519")
    with pytest.raises(ConfigError, match=r"weak\.pub:1: .*x25519.*mlkem768-x25519"):
        load_recipients([tmp_path / "weak.pub"], suite="mlkem768-x25519")


def damaged_lines(line: str):
    tag, suite, ident, key = line.split()
    return {
        "empty file": "\n# nothing\n",
        "another tag": f"ssh-rsa {suite} {ident} {key}",
        "too few fields": f"{tag} {suite} {ident}",
        "too many fields": f"{tag} {suite} {ident} {key} comment",
        "unknown suite": f"{tag} rot13 {ident} {key}",
        "not base64": f"{tag} {suite} {ident} {key[:-2]}!!",
        "cut short": f"{tag} {suite} {ident} {key[: len(key) // 8 * 4]}",
        # A and B differ in a bit that X25519 leaves out of its private keys.
        "one character changed": f"{tag} {suite} {ident} {'Q' if key[0] in 'AB' else 'A'}{key[1:]}",
        "another id": f"{tag} {suite} {'0' * 32} {key}",
    }


@both_suites
@pytest.mark.parametrize("damage", list(damaged_lines("a b c AAAA")))
def test_a_damaged_key_file_is_refused_with_its_place(tmp_path, suite, damage):
    generate_identity(tmp_path / "id", suite)
    public = (tmp_path / "id.pub").read_text()
    private = next(line for line in (tmp_path / "id").read_text().splitlines() if line[0] != "#")
    (tmp_path / "bad.pub").write_text(damaged_lines(public)[damage])
    (tmp_path / "bad").write_text("# comment\n" + damaged_lines(private)[damage])
    with pytest.raises(ConfigError, match=r"bad\.pub"):
        load_recipients([tmp_path / "bad.pub"])
    with pytest.raises(WrongKey, match="bad"):
        load_identities([tmp_path / "bad"])


def test_swapped_files_are_told_apart(tmp_path):
    generate_identity(tmp_path / "id", "x25519")
    with pytest.raises(ConfigError, match=r"id:2: a private identity"):
        load_recipients([tmp_path / "id"])
    with pytest.raises(WrongKey, match=r"id\.pub:1: a public recipient"):
        load_identities([tmp_path / "id.pub"])


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"\0" * 10_000])
def test_files_that_are_no_key_files(tmp_path, content):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="file"):
        load_recipients([path])
    with pytest.raises(WrongKey, match="file"):
        load_identities([path])


def test_an_identity_does_not_print_its_secret(tmp_path):
    identity = Identity("x25519", bytes(range(32)))
    for text in (repr(identity), str(identity), f"{[identity]}"):
        assert "AAEC" not in text
        assert "\\x01" not in text


# Wrapping


def test_the_hybrid_is_the_published_one():
    """draft-connolly-cfrg-xwing-kem-08, appendix C, first vector: the public key of a seed."""
    seed = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    public = Identity("mlkem768-x25519", seed).recipient().public
    assert public.hex().startswith("e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5b19cfc3d")
    assert public.hex().endswith("eff389b27dce59844570216223593d4ba32d9abac8cd049040ef6534")
    assert len(public) == 1216


def test_each_recipient_opens_and_a_stranger_does_not():
    vault, escrow, stranger = (Identity("x25519", bytes([number]) * 32) for number in (1, 2, 3))
    header = header_for(vault.recipient(), escrow.recipient())
    assert open_header(header, [vault]) == open_header(header, [stranger, escrow]) == DATA_KEY
    for wrong in ([stranger], []):
        with pytest.raises(WrongKey, match=vault.recipient().id.hex()):
            open_header(header, wrong)


@both_suites
def test_a_wrapped_key_opens_for_its_core_only(suite):
    identity = Identity(suite, bytes(range(32)))
    slot = identity.recipient().wrap(DATA_KEY, b"info")
    assert identity.unwrap(slot, b"info") == DATA_KEY
    assert identity.unwrap(slot, b"other") is None


@both_suites
def test_no_changed_byte_of_a_wrapped_key_opens(suite):
    identity = Identity(suite, bytes(range(32)))
    slot = identity.recipient().wrap(DATA_KEY, b"info")
    step = max(1, len(slot.wrapped) // 80)
    for at in [*range(0, len(slot.wrapped), step), len(slot.wrapped) - 1]:
        wrapped = bytearray(slot.wrapped)
        wrapped[at] ^= 1
        assert identity.unwrap(KeySlot(slot.key_id, slot.kem, bytes(wrapped)), b"info") is None
    for length in range(0, len(slot.wrapped), step):
        assert identity.unwrap(KeySlot(slot.key_id, slot.kem, slot.wrapped[:length]), b"info") is None


def test_a_key_that_was_not_committed_to_is_corrupt():
    """Otherwise one file could open to different audio for different recipients."""
    identity = Identity("x25519", bytes(range(32)))
    recipient = identity.recipient()
    header, _ = new_header(CORE, DATA_KEY, bytes(32), [lambda key, info: recipient.wrap(bytes(32), info)])
    with pytest.raises(SpoolCorrupt, match=recipient.id.hex()):
        open_header(header, [identity])


def test_key_ids_tell_suites_apart():
    assert Recipient("x25519", bytes(32)).id != Recipient("mlkem768-x25519", bytes(32)).id
    assert len(Recipient("x25519", bytes(32)).id) == 16


# The host's key


def test_the_host_key_is_made_once(tmp_path):
    first = HostKey.load_or_create(tmp_path / "host.key")
    again = HostKey.load_or_create(tmp_path / "host.key")
    public = HostPublic.load(tmp_path / "host.pub")
    assert first.public.id == again.public.id == public.id
    assert public.verifies(first.sign(b"message"), b"message")
    assert not public.verifies(first.sign(b"message"), b"massage")
    assert not public.verifies(b"short", b"message")
    assert stat.S_IMODE((tmp_path / "host.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["host.key", "host.pub"]


def test_the_public_half_can_stand_elsewhere(tmp_path):
    key = HostKey.load_or_create(tmp_path / "secret", tmp_path / "known.pem")
    assert HostPublic.load(tmp_path / "known.pem").id == key.public.id


def make_key(path, queue):
    queue.put(HostKey.load_or_create(path).public.id)


def test_processes_that_start_together_share_one_key(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=make_key, args=(tmp_path / "host.key", queue)) for _ in range(6)]
    for worker in workers:
        worker.start()
    ids = {queue.get(timeout=30) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(ids) == 1
    assert HostPublic.load(tmp_path / "host.pub").id in ids


def test_what_is_no_host_key_is_one_clear_error(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    other = X25519PrivateKey.generate()
    (tmp_path / "a.key").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "a.pub").write_bytes(
        other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "b.key").write_text("-----BEGIN NONSENSE-----")
    (tmp_path / "b.pub").write_text("")
    for name in "ab":
        with pytest.raises(SpoolError, match=name):
            HostKey.load_or_create(tmp_path / f"{name}.key")
        with pytest.raises(SpoolError, match=name):
            HostPublic.load(tmp_path / f"{name}.pub")
    with pytest.raises(SpoolError, match="No such file"):
        HostPublic.load(tmp_path / "nowhere.pub")
    with pytest.raises(SpoolError, match="No such file"):
        HostKey.load_or_create(tmp_path / "nowhere" / "host.key")


def test_a_host_key_does_not_print_its_secret(tmp_path):
    key = HostKey.load_or_create(tmp_path / "host.key")
    secret = key.key.private_bytes_raw()
    assert secret.hex() not in repr(key)
