"""The host's signing key where systemd provides it."""

import os

import pytest

from recorderd.errors import SpoolError
from recorderd.spool.signing import HostKey, HostPublic, is_credential


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    """The folder of a service's credentials; read-only, as systemd has it."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def test_a_credential_is_read_and_its_public_half_told(tmp_path, credentials):
    made = HostKey.load_or_create(tmp_path / "host.key")
    (credentials / "host.key").write_bytes((tmp_path / "host.key").read_bytes())
    os.chmod(credentials, 0o500)
    public_path = tmp_path / "spool.pub"
    key = HostKey.load_or_create(credentials / "host.key", public_path)
    assert key.id == made.id
    assert HostPublic.load(public_path).verifies(key.sign(b"message"), b"message")
    assert [path.name for path in credentials.iterdir()] == ["host.key"]


def test_a_credential_is_never_made(tmp_path, credentials):
    with pytest.raises(SpoolError, match="the credential is missing; see LoadCredential"):
        HostKey.load_or_create(credentials / "host.key", tmp_path / "host.pub")
    assert list(credentials.iterdir()) == []
    assert not (tmp_path / "host.pub").exists()


def test_what_systemd_provides_is_known_outside_of_the_service(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    path = tmp_path.__class__("/run/credentials/recorderd-capture.service/host.key")
    assert is_credential(path)
    assert not is_credential(tmp_path / "host.key")
    with pytest.raises(SpoolError, match="credential"):
        HostKey.load_or_create(path, tmp_path / "host.pub")


def test_another_signing_key_than_the_recordings_is_told_at_the_start(tmp_path):
    HostKey.load_or_create(tmp_path / "host.key")
    with pytest.raises(SpoolError, match="not the public half"):
        HostKey.load_or_create(tmp_path / "other.key", tmp_path / "host.pub")
