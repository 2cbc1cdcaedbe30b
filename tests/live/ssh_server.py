"""A real OpenSSH server on a loopback port, with keys and a folder of its own."""

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from recorderd.config.remotes_sftp import SftpRemote
from tests.live.loopback import HOST, free_tcp_port, listens
from tests.live.process import Program, until

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

needs_sshd = pytest.mark.skipif(
    SSHD is None or os.geteuid() != 0, reason="needs root and Debian's openssh-server"
)


def key_pair(path: Path, kind: str = "ssh-ed25519") -> asyncssh.SSHKey:
    """Write a private key (mode 0600) to ``path`` and the public one to ``path.pub``."""
    key = asyncssh.generate_private_key(kind)
    path.touch(0o600)
    path.write_bytes(key.export_private_key())
    Path(f"{path}.pub").write_bytes(key.export_public_key())
    return key


class SshServer(Program):
    """sshd for one user, root, who may do nothing but SFTP in ``folder``."""

    def __init__(self, folder: Path, *, options: str = "", sftp: str = "internal-sftp") -> None:
        self.folder, self.port = folder, free_tcp_port()
        self.recordings = folder / "recordings"
        self.recordings.mkdir(parents=True)
        self.identity = folder / "identity"
        key_pair(self.identity)
        self.host_key = folder / "host_key"
        key_pair(self.host_key)
        Path("/run/sshd").mkdir(exist_ok=True)
        (folder / "sshd_config").write_text(
            f"ListenAddress {HOST}:{self.port}\n"
            f"HostKey {self.host_key}\n"
            f"PidFile {folder}/pid\n"
            f"AuthorizedKeysFile {self.identity}.pub\n"
            "PermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\n"
            "UsePAM no\n"
            # The folders of pytest are everybody's to enter.
            "StrictModes no\n"
            f"Subsystem sftp {sftp}\n"
            f"ForceCommand {sftp}\n"
            "AllowTcpForwarding no\n"
            f"{options}"
        )
        assert SSHD is not None
        super().__init__([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], folder / "sshd.log")

    def start(self) -> None:
        """Start, and wait until it listens and whoever looked is no session of it any more."""
        super().start()
        until(self.listens, f"sshd on port {self.port}: {self.log()}", 30)
        until(lambda: not self.sessions(), "the end of the connection that looked", 30)

    def listens(self) -> bool:
        assert self.running, self.log()
        return listens(self.port)

    def kill(self) -> None:
        """Kill the server with all its connections."""
        self.cut()
        super().kill()

    def sessions(self) -> list[int]:
        """The processes that serve connections now."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def cut(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send the processes that serve connections a signal; new connections are taken as before."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):  # it may end by itself meanwhile
                os.kill(pid, how)

    def remote(self, **more: Any) -> SftpRemote:
        """How a recorder would be configured for it."""
        settings = {
            "name": "away",
            "type": "sftp",
            "host": HOST,
            "port": self.port,
            "user": "root",
            "path": str(self.recordings),
            "identity_file": self.identity,
            "host_keys": [Path(f"{self.host_key}.pub").read_text()],
            "timeout_s": 20.0,
        }
        return SftpRemote.model_validate({**settings, **more})
