"""Identities behind a passphrase: what opens them, and what damage does."""

import pytest

from recorderd.errors import ConfigError, WrongKey
from recorderd.spool.keys import Identity, generate_identity, load_identities, load_recipients
from recorderd.spool.locked_identity import Locked, lock, unlock

PRIVATE = bytes(range(32))
IDENTITY = Identity("x25519", PRIVATE)
CHEAP = 14


def line(passphrase=b"words", log2_n=CHEAP):
    ident = IDENTITY.recipient().id.hex()
    return lock("x25519", ident, PRIVATE, passphrase, bytes(16), bytes(12), log2_n)


def test_the_passphrase_opens_and_no_other_does():
    fields = line().split()
    assert unlock(fields, b"words") == PRIVATE
    for wrong in (b"", b"word", b"words\n", b"Words"):
        with pytest.raises(Locked, match="passphrase is wrong"):
            unlock(fields, wrong)


def test_no_plaintext_is_in_the_file(tmp_path):
    generate_identity(tmp_path / "id", "x25519", b"words")
    (identity,) = load_identities([tmp_path / "id"], lambda _: b"words")
    assert identity.line().split()[3] not in (tmp_path / "id").read_text()
    assert identity.recipient() == load_recipients([tmp_path / "id.pub"])[0]


@pytest.mark.parametrize("field", range(1, 4))
def test_what_stands_beside_the_key_is_bound_to_it(field):
    fields = line().split()
    fields[field] = {1: "mlkem768-x25519", 2: "0" * 32, 3: "15"}[field]
    with pytest.raises(Locked, match="passphrase is wrong, or the file is damaged"):
        unlock(fields, b"words")


@pytest.mark.parametrize("number", ["", "-1", "0", "13", "21", "31", "9" * 5000, "1e1", "٣"])
def test_a_file_cannot_demand_any_amount_of_memory(number):
    fields = line().split()
    fields[3] = number
    with pytest.raises(Locked, match="LOG2N"):
        unlock(fields, b"words")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-4],
        lambda text: text.rsplit(" ", 1)[0],
        lambda text: text + " more",
        lambda text: text[:-8] + "!!!!!!!!",
        lambda text: text.replace("x25519", "rot13"),
        lambda text: text.replace("identity-scrypt-1", "identity-scrypt-2"),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(tmp_path, damage):
    (tmp_path / "id").write_text("# comment\n" + damage(line()))
    with pytest.raises(WrongKey, match="id:2: "):
        load_identities([tmp_path / "id"], lambda _: b"words")


def test_each_file_is_asked_for_once(tmp_path):
    (tmp_path / "id").write_text(f"{line()}\n{line()}\n")
    (tmp_path / "open").write_text(IDENTITY.line())
    asked = []

    def ask(path):
        asked.append(path)
        return b"words"

    assert load_identities([tmp_path / "id", tmp_path / "open"], ask) == (IDENTITY,)
    assert asked == [tmp_path / "id"]


def test_without_somebody_to_ask_it_is_a_wrong_key(tmp_path):
    (tmp_path / "id").write_text(line())
    with pytest.raises(WrongKey, match="a passphrase protects this identity"):
        load_identities([tmp_path / "id"])


def test_it_is_a_private_key_to_the_recorder_too(tmp_path):
    (tmp_path / "id").write_text(line())
    with pytest.raises(ConfigError, match="a private identity"):
        load_recipients([tmp_path / "id"])
