"""Host keys as they are pasted into a configuration, read against what OpenSSH says of them."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.config.host_keys import HostKey, parse_host_key

KINDS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def line(kind: str) -> str:
    return asyncssh.generate_private_key(kind).export_public_key().decode().strip()


def test_a_key_line_gives_the_fingerprint_that_openssh_shows(line: str, kind: str, tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen")
    (tmp_path / "key.pub").write_text(line)
    command = ["ssh-keygen", "-l", "-f", str(tmp_path / "key.pub")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]
    assert parse_host_key(line) == HostKey(shown, KINDS[kind])
    assert parse_host_key(shown) == HostKey(shown)


def test_lines_of_known_hosts_and_of_ssh_keyscan_do_as_well(line: str) -> None:
    key = parse_host_key(line)
    for before in ("host.example ", "[host.example]:2222,192.0.2.1 ", "|1|c2FsdA==|aGFzaA== "):
        assert parse_host_key(before + line) == key
    assert parse_host_key(line + " root@host") == key


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: "@cert-authority * " + line,
        lambda line: "@revoked * " + line,
        lambda line: "# " + line,
        lambda line: line[:60],
        lambda line: line.split()[0],
        lambda line: line.split()[1],
        lambda line: line.replace(line.split()[0], "ssh-dss"),
        lambda line: line.replace(line.split()[1], "A" + line.split()[1]),
        lambda line: "ssh-ed25519 " + line.split()[1] if not line.startswith("ssh-ed25519") else "",
    ],
)
def test_what_is_no_hosts_key_is_refused(line: str, spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(ValueError, match=r"must be a fingerprint|is no whole"):
        parse_host_key(spoil(line))


@pytest.mark.parametrize("text", ["", "SHA256:", "SHA256:abc", "MD5:00:11", "SHA256:" + "a" * 44, "any", "*"])
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a fingerprint"):
        parse_host_key(text)


@given(st.text(max_size=100) | st.text(max_size=100).map("ssh-ed25519 {}".format))
def test_any_text_gives_a_key_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_host_key(text)
