"""What a remote needs to be secret, and what it needs to be installed."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.errors import ConfigError
from recorderd.spool.stores import RemoteOutage, open_store
from recorderd.spool.stores.private_files import read_private, read_private_line
from recorderd.spool.stores.words import words


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text("open sesame\n")
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert read_private(secret) == b"open sesame\n"
    assert read_private_line(secret) == "open sesame"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_one_that_others_can_touch_is_refused(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    with pytest.raises(RemoteOutage, match=f"{mode:04o}.*must be 0600"):
        read_private(secret)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_whose_file_it_may_be(secret: Path) -> None:
    os.chown(secret, 12345, 12345)
    assert read_private(secret), "root looks at what is the service's"
    os.seteuid(12346)
    try:
        with pytest.raises(RemoteOutage):
            read_private(secret)
    finally:
        os.seteuid(0)


def test_what_systemd_hands_over_shows_the_rights_of_an_acl(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secret.parent))
    assert read_private_line(secret) == "open sesame"
    (secret.parent / "below").mkdir()
    other = secret.rename(secret.parent / "below" / "secret")
    with pytest.raises(RemoteOutage):
        read_private(other)


@pytest.mark.parametrize("text", [b"", b"\n", b"one\ntwo\n", b"\xff\n", b"a\x1b[2J\n"])
def test_a_password_is_one_line(secret: Path, text: bytes) -> None:
    secret.write_bytes(text)
    with pytest.raises(RemoteOutage, match="one line"):
        read_private_line(secret)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RemoteOutage, match=str(tmp_path / "none")):
        read_private(tmp_path / "none")


@pytest.mark.parametrize(("kind", "package"), [("sftp", "asyncssh"), ("webdav", "urllib3")])
def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, kind: str, package: str) -> None:
    for name in [*sys.modules]:
        if name.split(".")[0] == package or name.startswith(f"recorderd.spool.stores.{kind}"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=f"away: type {kind} needs the Python package {package}"):
        open_store(SimpleNamespace(name="away", type=kind))


@given(st.text(max_size=2000))
def test_what_a_remote_says_is_one_harmless_line(text: str) -> None:
    shown = words(text)
    assert shown.isprintable()
    assert len(shown) <= 200
